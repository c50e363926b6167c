"""Run a search: ask an algorithm, judge what it asks for, and have every fact in the journal before the next is sought."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sparsevit3d.latency import measure_latency
from sparsevit3d.latency_table import LatencyTable, Machine, table_for
from sparsevit3d.macs import count_macs
from sparsevit3d.plan import SparsityPlan
from sparsevit3d.search.budget import Budget, Limit, SearchError
from sparsevit3d.search.evolution import Algorithm, Evolution, RandomSearch, Settings, UniformSearch
from sparsevit3d.search.journal import Journal, ScoreCache
from sparsevit3d.search.objective import Question
from sparsevit3d.search.workers import Judge
from sparsevit3d.sparse_swin import SparseSwin
from sparsevit3d.stages.experiment import PACKAGES, load_detector, write_provenance
from sparsevit3d.stages.files import write_json
from sparsevit3d.stages.hooks import backbone_of

ALGORITHMS = ("evolution", "random", "uniform", "front")
SHARE, GMACS, MS = "share of dense MACs", "GMACs", "ms"
Progress = Callable[[int, int, str], None]  # plans judged, plans at most, a note


@dataclass(frozen=True)
class Request:
    """What to search for: the plan that scores best among those that keep to every limit.

    ``max_macs``: of one image through the backbone, as a share of the dense count, ``max_gmacs`` the same in 10 ** 9; ``max_ms``: of the
    backbone on ``machine``, "predicted" from a table or "measured" plan by plan.
    """

    algorithm: str = "evolution"
    settings: Settings = Settings()
    max_macs: float | None = None
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
    work_dir.mkdir(parents=True, exist_ok=True)
    with closing(Journal(work_dir / "journal.jsonl", asdict(request) | question.identity)) as journal:
        write_provenance(work_dir, question.config, stage="search", weights=question.weights, request=asdict(request))
        budget = make_budget(net, question.config.image_size, request, work_dir, journal)
        algorithm = make_algorithm(net, budget, request, question.config.randomness.seed)
        run(algorithm, journal, judge, question.by, ScoreCache(question.key), progress)
    return write_answer(algorithm, question, request, work_dir)


def run(algorithm: Algorithm, journal: Journal, judge: Judge, by: str, cache: ScoreCache | None, progress: Progress) -> None:
    """The search itself: what the journal, or the cache, knows is not judged again."""
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


def make_budget(net: SparseSwin, image_size: tuple[int, int], request: Request, work_dir: Path, journal: Journal) -> Budget:
    """The limits of ``request``, those that are quickly known first. What is measured goes into the journal."""
    width, height = image_size

    def macs(plan: SparsityPlan) -> float:
        return count_macs(net, (height, width), plan)

    dense = macs(SparsityPlan.uniform(0, net.depths))
    limits = []
    if request.max_macs is not None:
        limits.append(Limit(SHARE, request.max_macs, lambda plan: macs(plan) / dense))
    if request.max_gmacs is not None:
        limits.append(Limit(GMACS, request.max_gmacs, lambda plan: macs(plan) / 1e9))
    if request.max_ms is not None:
        if request.machine is None:
            raise SearchError("a budget of time needs a machine that it is meant for")
        cost = _predicted(net, request.machine, work_dir) if request.latency == "predicted" else _measured(net, request.machine, journal)
        limits.append(Limit(MS, request.max_ms, cost))
    if not limits:  # all plans are allowed; what they cost is still worth knowing
        limits.append(Limit(SHARE, 1.0, lambda plan: macs(plan) / dense))
    return Budget(*limits)


def _predicted(net: SparseSwin, machine: Machine, work_dir: Path) -> Callable[[SparsityPlan], float]:
    """By the table that this search began with, even where the machine's has been measured anew since."""
    path = work_dir / "latency_table.json"
    if not path.exists():
        write_json(path, table_for(net, machine).as_dict())
    return LatencyTable.from_dict(json.loads(path.read_text())).predict


def _measured(net: SparseSwin, machine: Machine, journal: Journal) -> Callable[[SparsityPlan], float]:
    """Between generations, when no worker is busy; never twice."""

    def cost(plan: SparsityPlan) -> float:
        if (plan, MS) not in journal.costs:
            with machine.takes(net):
                net.plan = plan
                journal.add_cost(plan, MS, measure_latency(net, machine.shape).p50_ms)
        return journal.costs[plan, MS]

    return cost


def make_algorithm(net: SparseSwin, budget: Budget, request: Request, seed: int) -> Algorithm:
    kinds: dict[str, type[Algorithm]] = {"evolution": Evolution, "random": RandomSearch, "uniform": UniformSearch}
    if request.algorithm == "front":
        from sparsevit3d.search.front import Front

        return Front(net.depths, budget, request.settings, seed)
    return kinds[request.algorithm](net.depths, budget, request.settings, seed)


def write_answer(algorithm: Algorithm, question: Question, request: Request, work_dir: Path) -> Path:
    """``plan.json``, the best of all; of a front also ``front/``, a plan file for each of its plans."""
    limits = {limit.unit: limit.most for limit in algorithm.budget.limits}
    origin = {
        "budget": limits,
        "score": question.by,
        "split": question.split,
        "evaluated": len(algorithm.scores),
        "search": asdict(request),
        "seed": question.config.randomness.seed,
        "weights": {"path": str(question.weights), "sha256": question.identity["weights"]},
        "data": question.identity["data"],
        "versions": {name: version(name) for name in (*PACKAGES, "sparsevit3d")},
    }

    def save(plan: SparsityPlan, path: Path) -> Path:
        facts: dict[str, Any] = {"costs": algorithm.budget.costs(plan), question.by: algorithm.scores[plan]}
        plan.save(path, **facts, **origin)
        return path

    if request.algorithm == "front":
        from sparsevit3d.search.front import Front

        assert isinstance(algorithm, Front)
        (work_dir / "front").mkdir(exist_ok=True)
        for number, plan in enumerate(algorithm.front()):
            save(plan, work_dir / "front" / f"plan_{number:02d}.json")
    return save(algorithm.best, work_dir / "plan.json")
