"""Run a search: ask an algorithm, judge what it asks for, and have every fact in the journal before the next is sought."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmengine.config import Config

from sparsevit3d.latency_table import LatencyTable, Machine, load_table
from sparsevit3d.macs import count_macs
from sparsevit3d.plan import SparsityPlan
from sparsevit3d.search.budget import Budget, Limit, SearchError
from sparsevit3d.search.evolution import Algorithm, Evolution, RandomSearch, Settings, UniformSearch
from sparsevit3d.search.journal import Journal, ScoreCache
from sparsevit3d.search.objective import Question
from sparsevit3d.search.workers import Judge
from sparsevit3d.sparse_swin import SparseSwin
from sparsevit3d.stages.experiment import claim, load_detector, write_provenance
from sparsevit3d.stages.files import write_json
from sparsevit3d.stages.hooks import backbone_of

ALGORITHMS = ("evolution", "random", "uniform", "front")
SHARE, GMACS, MS = "share of dense MACs", "GMACs", "ms"
Progress = Callable[[int, int, str], None]  # plans judged, plans at most, a note


@dataclass(frozen=True)
class Request:
    """What to search for: the plan that scores best among those that keep to every limit.

    ``max_macs``: of one image through the backbone, as a share of the dense count; ``max_gmacs`` the same in 10 ** 9; ``max_ms``: of the
    backbone on ``machine``, "predicted" from a table or "measured" plan by plan.
    """

    algorithm: str = "evolution"
    settings: Settings = Settings()
    max_macs: float | None = 0.6
    max_gmacs: float | None = None
    max_ms: float | None = None
    latency: str = "predicted"
    machine: Machine | None = None


def search(
    question: Question, request: Request, work_dir: Path, judge: Judge, progress: Progress = lambda done, total, note: None
) -> Path:
    """Run it in ``work_dir`` and return the plan file. Interrupted and called again, it goes on from its journal.

    Raises SearchError for a budget that no plan meets, ExperimentError for a folder of another search or one where another is at work.
    """
    net = backbone_of(load_detector(question.config, question.weights, None))
    asked = {"search": json.loads(json.dumps(asdict(request))), "judged by": question.identity}
    work_dir.mkdir(parents=True, exist_ok=True)
    with closing(Journal(work_dir / "journal.jsonl", asked)) as journal:
        write_provenance(work_dir, question.config, stage="search", weights=question.weights, request=asdict(request))
        budget = make_budget(net, question.config, request, work_dir, journal)
        algorithm = make_algorithm(net, budget, request, question.config.randomness.seed)
        run(algorithm, journal, judge, question.by, ScoreCache(question.key), progress)
        return write_answer(algorithm, question, request, work_dir)


def run(algorithm: Algorithm, journal: Journal, judge: Judge, by: str, cache: ScoreCache | None, progress: Progress) -> None:
    """The search itself: what the journal knows is not judged again."""
    while plans := algorithm.ask():
        for plan in plans:
            if plan not in journal.scores and cache is not None and plan in cache.scores:
                journal.add_score(plan, cache.scores[plan], algorithm.generation)
        for plan, metrics in judge([plan for plan in plans if plan not in journal.scores]):
            journal.add_score(plan, metrics, algorithm.generation)
            if cache is not None:
                cache.add(plan, metrics)
            best = max(row[by] for row in journal.scores.values())
            progress(len(journal.scores), algorithm.settings.evaluations, f"generation {algorithm.generation}, best {by} {best:.3f}")
        algorithm.tell({plan: journal.scores[plan][by] for plan in plans})
