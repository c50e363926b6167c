"""Build one HTML file to explore keyframes, cameras, stages and plans.

The points of the charts open their masks. The file needs no network.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from numpy.typing import NDArray

from sparsevit3d.errors import InputError
from sparsevit3d.files import whole_path
from sparsevit3d.stages.views import Boxes, CameraView, Keyframe
from sparsevit3d.swin.trace import BlockTrace
from visualize.frames import COLOURS, clear_boxes, in_layout, jpeg, shrink
from visualize.geometry import box_lines
from visualize.layout import camera_ahead
from visualize.masks import stage_blocks
from visualize.recall import Tally, find_objects

TEMPLATE = "report.html"
WIDTH = 800  # pixels of a frame
QUALITY = 72  # of a frame's JPEG


@dataclass(frozen=True)
class ReportedPlan:
    """What is known of a plan beforehand."""

    name: str
    share: float  # share of the dense backbone's MACs
    score: float | None = None  # score of the plan in a search


class Report:
    """Keyframes collected one after the other, each under all plans, for one HTML file.

    Only the data that goes into the file is kept.

    Args:
        title (str): title of the report.
        plans (Sequence[ReportedPlan]): the plans to show. Plans with a score are joined as the
            front.
        judged (Sequence[Mapping[str, float]]): all plans of a search for the chart of scores, each
            with "share" and "score". The default is none.
        score (str): name of the scores. The default is "mAP".
    """

    def __init__(
        self,
        title: str,
        plans: Sequence[ReportedPlan],
        judged: Sequence[Mapping[str, float]] = (),
        score: str = "mAP",
    ) -> None:
        if not plans:
            raise InputError("a report needs a plan at least.")
        self.title = title
        self.plans = plans
        self.judged = judged
        self.score = score
        self._tallies = [Tally() for _ in plans]
        self._frames: list[dict[str, Any]] = []
        self._stages: list[dict[str, Any]] = []
        self._start = 0  # place of the camera that looks ahead

    def add(self, looks: Sequence[Keyframe]) -> None:
        """Add one moment: ``looks`` holds a keyframe under each plan, in the plans' order."""
        first = looks[0]
        objects = find_objects(first)
        for tally, look in zip(self._tallies, looks, strict=True):
            tally.add(look, objects)
        self._stages = [
            {"stage": trace.stage, "grid": list(trace.grid)} for trace in stage_blocks(first.trace)
        ]
        cameras = []
        order = in_layout(first.views)
        self._start = order.index(camera_ahead(first.views))
        for number in order:
            small = [shrink(look.views[number], WIDTH) for look in looks]
            plans = [
                _of_plan(view, stage_blocks(look.trace), number)
                for view, look in zip(small, looks, strict=True)
            ]
            cameras.append(_of_camera(small[0], stage_blocks(first.trace)) | {"plans": plans})
        self._frames.append({"name": first.name, "cameras": cameras})

    def save(self, path: Path) -> Path:
        """Save the report, whole or not at all, and return its path.

        Raises InputError if there is nothing to show.
        """
        if not self._frames:
            raise InputError(f"{path}: there is no keyframe to report on.")
        recalls = [tally.as_dict()["stages"] for tally in self._tallies]
        data = {
            "title": self.title,
            "score": self.score,
            "plans": [
                {"name": plan.name, "share": plan.share, "score": plan.score, "recall": recall}
                for plan, recall in zip(self.plans, recalls, strict=True)
            ],
            "judged": list(self.judged),
            "stages": self._stages,
            "colours": COLOURS,
            "frames": self._frames,
            "start": self._start,
        }
        templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
        page = templates.get_template(TEMPLATE).render(
            title=self.title, data=json.dumps(data).replace("<", "\\u003c")
        )
        with whole_path(path) as partial:
            partial.write_text(page, encoding="utf-8")
        return path


def _of_camera(view: CameraView, blocks: Sequence[BlockTrace]) -> dict[str, Any]:
    """Return what a camera shows under every plan.

    The result holds the frame, the truth, and where the windows of each stage lie.
    """
    height, width = view.image.shape[:2]
    return {
        "channel": view.channel,
        "image": f"data:image/jpeg;base64,{base64.b64encode(jpeg(view.image, QUALITY)).decode()}",
        "size": [width, height],
        "truth": _lines(view, view.truth),
        "windows": [_edges(view, trace) for trace in blocks],
    }


def _of_plan(view: CameraView, blocks: Sequence[BlockTrace], number: int) -> dict[str, Any]:
    """Return the result of one plan: the boxes found, and the windows of each stage.

    A stage has the windows kept and the importance of all windows.
    """
    return {
        "found": _lines(view, clear_boxes(view.predictions)),
        "kept": [_text(np.packbits(trace.kept[number], bitorder="little")) for trace in blocks],
        "importance": [
            None if trace.scores is None else _text(_bytes(trace.scores, number))
            for trace in blocks
        ],
    }


def _edges(view: CameraView, trace: BlockTrace) -> dict[str, list[float]]:
    """Return the lines between plain windows in frame pixels, as far as the network saw."""
    columns, rows = (
        np.arange(count + 1) * trace.window * trace.stride for count in trace.grid[::-1]
    )
    width, height = view.network_size
    across = [view.to_frame((min(x, width), 0, 0, 0))[0] for x in columns]
    down = [view.to_frame((0, min(y, height), 0, 0))[1] for y in rows]
    return {"x": [round(x, 2) for x in across], "y": [round(y, 2) for y in down]}


def _bytes(scores: NDArray[np.floating], number: int) -> NDArray[np.uint8]:
    """Scale one camera's scores to 0 to 255, on a scale that all cameras share."""
    low = float(scores.min())
    high = float(scores.max())
    return np.asarray(np.round(255 * (scores[number] - low) / max(high - low, 1e-12)), np.uint8)


def _text(values: NDArray[np.uint8]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _lines(view: CameraView, boxes: Boxes) -> list[dict[str, Any]]:
    """Return the boxes that are at least partly in the frame, as lines in frame pixels."""
    height, width = view.image.shape[:2]
    rows = []
    for name, corners in zip(boxes.names, boxes.corners, strict=True):
        lines = box_lines(corners, view.intrinsic, (width, height))
        if len(lines):
            rows.append({"name": name, "lines": lines.round(1).reshape(-1, 4).tolist()})
    return rows
