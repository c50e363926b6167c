"""Run a search: ask evolution, judge on the ``search`` split, and write every judgement to a journal before the next begins."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from sparsevit3d.macs import count_macs
from sparsevit3d.plan import SparsityPlan
from sparsevit3d.search.evolution import Evolution, Settings
from sparsevit3d.stages.evaluate import Evaluator
from sparsevit3d.stages.experiment import claim, load_detector, use_split, write_provenance
from sparsevit3d.stages.files import ExperimentError, fingerprint
from sparsevit3d.stages.hooks import backbone_of

SPLIT = "search"  # the search never sees the split that scores are reported on


def search(
    config: Config,
    work_dir: Path,
    weights: Path,
    max_macs: float,
    settings: Settings,
    progress: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> Path:
    """Find the plan of the highest mAP that costs at most ``max_macs`` of the dense backbone's MACs; returns the plan file.

    Interrupted and called again, it goes on from its journal. Raises SearchError for a budget that no plan meets.
    """
    width, height = config.image_size
    net = backbone_of(load_detector(config, weights, None))
    dense = count_macs(net, (height, width), SparsityPlan.uniform(0, net.depths))
    evolution = Evolution(
        net.depths,
        lambda plan: count_macs(net, (height, width), plan) / dense,
        max_macs,
        settings,
        config.randomness.seed,
    )
    judged = copy.deepcopy(config)
    use_split(judged, SPLIT)
    request = {
        "stage": "search",
        "config": config.pretty_text,
        "weights": fingerprint(weights),
        "data": fingerprint(Path(judged.test_evaluator.ann_file)),
        "max_macs": max_macs,
        "settings": str(settings),
    }
    answer = work_dir / "plan.json"
    claim(work_dir, request)
    journal = Journal(work_dir / "journal.jsonl", request)
    if not answer.exists():
        write_provenance(work_dir, config, stage="search", weights=weights, max_macs=max_macs, settings=str(settings))
    evaluator: Evaluator | None = None
    while (plan := evolution.ask()) is not None:
        if str(plan) not in journal.scores:
            evaluator = evaluator or Evaluator(config, weights, SPLIT, work_dir)
            journal.add(plan, evaluator(plan))
        evolution.tell(plan, journal.scores[str(plan)]["mAP"])
        best = evolution.scores[evolution.best]
        progress(len(evolution.scores), evolution.total, f"generation {evolution.generation + 1}, best mAP {best:.3f}")
    best_plan = evolution.best
    best_plan.save(
        answer,
        share_of_dense_macs=evolution.cost(best_plan),
        budget=max_macs,
        search_mAP=evolution.scores[best_plan],
        weights=str(weights),
        split=SPLIT,
        evaluated=len(evolution.scores),
    )
    return answer


class Journal:
    """Scores by plan, one JSON line each, on disk before ``add`` returns. Its first line says which search it is of."""

    def __init__(self, path: Path, request: dict[str, Any]) -> None:
        self.path = path
        self.scores: dict[str, dict[str, float]] = {}
        lines = path.read_text().splitlines() if path.exists() else []
        whole = [entry for entry in map(_parse, lines) if entry is not None]
        if whole and whole[0] != request:
            changed = [key for key in request if whole[0].get(key) != request[key]]
            raise ExperimentError(f"{path}: is of another search (its {' and '.join(changed)} differ); use another --work-dir")
        for entry in whole[1:]:
            self.scores[entry["plan"]] = entry["metrics"]
        if len(whole) != len(lines) or not whole:  # a new journal, or one whose last line was cut off
            partial = path.with_name(path.name + ".partial")
            partial.write_text("".join(json.dumps(entry) + "\n" for entry in (whole or [request])))
            partial.replace(path)

    def add(self, plan: SparsityPlan, metrics: dict[str, float]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"plan": str(plan), "metrics": metrics}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.scores[str(plan)] = metrics


def _parse(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
