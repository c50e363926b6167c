"""The few figures of the study that the README shows: ``headline.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.study import DENSE
from sparsevit3d.files import read_json, write_json

METRIC = "mAP"


def write_headline(folder: Path, arms: Sequence[Any], differences: Sequence[Any]) -> None:
    """Write the list ``synthetic`` of ``headline.json``. Other lists of that file stay.

    ``arms`` are the rows of the summary, and ``differences`` those between arms. Points of mAP are
    hundredths.
    """
    path = folder / "headline.json"
    document = read_json(path, "Remove it.") if path.exists() else {}
    dense = next((row for row in arms if row["arm"] == DENSE), None)
    if dense is None:
        return
    from_dense = {
        each.arm: [each.low, each.mean, each.high]
        for each in differences
        if each.against == DENSE and each.metric == METRIC
    }
    document["synthetic"] = [
        {
            "arm": row["arm"],
            "map": {
                "mean": 100 * row[METRIC],
                "by_seed": [100 * score for score in row[f"{METRIC} by seed"]],
            },
            "difference_from_dense": from_dense.get(row["arm"]),
            "image_to_boxes_ms": row["image to boxes, ms"],
            "speedup": speedup(row),
            "backbone_macs_share": row["backbone, GMACs"] / dense["backbone, GMACs"],
            "seeds": len(row["seeds"]),
        }
        for row in arms
    ]
    write_json(path, document)


def speedup(row: dict[str, Any]) -> float | None:
    """Dense's time from image to boxes over that of ``row``, both of one run."""
    own = row["image to boxes, ms"]
    dense = row["image to boxes, ms, dense"]
    return dense / own if own and dense else None
