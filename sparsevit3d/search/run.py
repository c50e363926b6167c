"""A search from its request to its answer: budget, algorithm, journal and plan files.

Plan files say where they came from.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sparsevit3d.backbone import backbone_of
from sparsevit3d.cost.latency import measure_latency
from sparsevit3d.cost.latency_table import LatencyTable, Machine, MeasuredTable, table_for
from sparsevit3d.cost.macs import count_macs, kept_windows
from sparsevit3d.errors import InputError
from sparsevit3d.progress import Progress, no_progress
from sparsevit3d.search.algorithms import (
    Algorithm,
    Evolution,
    RandomSearch,
    Settings,
    UniformSearch,
)
from sparsevit3d.search.budget import Budget, Limit
from sparsevit3d.search.detector_cost import DetectorCost
from sparsevit3d.search.finals import forget
from sparsevit3d.search.journal import Journal, ScoreCache
from sparsevit3d.search.loop import measured, run
from sparsevit3d.search.objective import Question
from sparsevit3d.search.workers import Judge
from sparsevit3d.stages.provenance import PACKAGES, write_provenance
from sparsevit3d.stages.runner import load_detector
from sparsevit3d.swin.plan import SparsityPlan
from sparsevit3d.swin.sparse_swin import SparseSwin

ALGORITHMS = ("evolution", "random", "uniform", "front")
SHARE = "share of dense MACs"
GMACS = "GMACs"
MS = "ms"
JOURNAL = "journal.jsonl"
TABLE = "latency_table.json"
FRONT = "front"  # in the work dir


@dataclass(frozen=True)
class Request:
    """What to search for: the plan that scores best among those that keep to every limit.

    Args:
        algorithm (str): One of ALGORITHMS. Default: "evolution".
        settings (Settings): Sizes of the search. Default: ``Settings()``.
        max_macs (float or None): MACs of one image through the backbone, as a share of the dense
            count. Default: None.
        max_gmacs (float or None): The same MACs in 10 ** 9. Default: None.
        max_ms (float or None): Milliseconds of the backbone on ``machine``. Default: None.
        latency (str): "predicted" from a table or "measured" plan by plan. Default: "predicted".
        machine (Machine or None): The machine that ``max_ms`` is meant for. Default: None.
        of (str): What the limits count: the "backbone", or the whole "detector" on keyframes of the
            split that plans are judged on. Then every plan is run, and ``max_ms`` is meant for the
            machine that searches. Default: "backbone".
        start (tuple of str): Plans of the first generation. Default: none.
    """

    algorithm: str = "evolution"
    settings: Settings = field(default_factory=Settings)
    max_macs: float | None = None
    max_gmacs: float | None = None
    max_ms: float | None = None
    latency: str = "predicted"
    machine: Machine | None = None
    of: str = "backbone"
    start: tuple[str, ...] = ()


def limits(
    max_macs: float | None, max_gmacs: float | None, max_ms: float | None
) -> dict[str, float]:
    """The limits that are set, by unit. If none is set, a limit that all plans keep to."""
    every = {SHARE: max_macs, GMACS: max_gmacs, MS: max_ms}
    return {unit: most for unit, most in every.items() if most is not None} or {SHARE: 1.0}


def search(
    question: Question,
    request: Request,
    work_dir: Path,
    judge: Judge,
    progress: Progress = no_progress,
    minutes: float | None = None,
) -> Path:
    """Run the search in ``work_dir`` and return the plan file.

    Interrupted and called again, the search goes on from its journal. So it does when its
    ``minutes`` are over. Then the plan file has the best plan so far.

    Raises InputError for a budget that no plan meets, for a folder of another search, and for a
    folder where another search is at work.
    """
    net = backbone_of(load_detector(question.config, question.weights, None))
    work_dir.mkdir(parents=True, exist_ok=True)
    seed = question.config.randomness.seed
    with closing(
        Journal(work_dir / JOURNAL, asdict(request) | question.identity | {"seed": seed})
    ) as journal:
        if journal.is_new:  # files of an earlier search do not belong to this one
            for old in (work_dir / TABLE, *(work_dir / FRONT).glob("plan_*.json")):
                old.unlink(missing_ok=True)
            forget(work_dir)
        try:
            if request.of == "detector":
                budget = budget_of_detector(question, request, journal)
            else:
                budget = make_budget(
                    net, question.config.image_size, request, work_dir, journal, progress
                )
            algorithm = make_algorithm(net, budget, request, question.config.image_size, seed)
        except InputError:
            if journal.is_new:  # so that the next attempt may be made in the same place
                journal.path.unlink()
            raise
        write_provenance(
            work_dir,
            question.config,
            stage="search",
            weights=question.weights,
            request=asdict(request),
        )
        cache = ScoreCache(question.key)
        done = run(algorithm, journal, judge, question.by, cache, progress, minutes)
        uniform = largest_uniform(algorithm) if done else None
    return write_answer(algorithm, question, request, work_dir, done, uniform)


def make_budget(
    net: SparseSwin,
    image_size: tuple[int, int],
    request: Request,
    work_dir: Path,
    journal: Journal,
    progress: Progress,
) -> Budget:
    """Make the limits of ``request``, those with the cheapest checks first.

    Measured costs go into the journal. Raises InputError where no plan meets the limits, or where a
    budget of time has no machine.
    """
    width, height = image_size

    def macs(plan: SparsityPlan) -> float:
        return count_macs(net, (height, width), plan)

    dense = macs(SparsityPlan.uniform(0, net.depths))
    counts: dict[str, Callable[[SparsityPlan], float]] = {
        SHARE: lambda plan: macs(plan) / dense,
        GMACS: lambda plan: macs(plan) / 1e9,
    }
    wanted = limits(request.max_macs, request.max_gmacs, request.max_ms)
    counted = [Limit(unit, wanted[unit], cost) for unit, cost in counts.items() if unit in wanted]
    Budget(*counted).cheapest(net.depths)  # before anything is timed
    if request.max_ms is None:
        return Budget(*counted)
    if request.machine is None:
        raise InputError("a budget of time needs a machine that it is meant for.")
    if request.latency == "predicted":
        table = _table(net, request.machine, work_dir, progress)
        return Budget(*counted, Limit(MS, request.max_ms, table.predict, table.fastest()))
    return Budget(*counted, Limit(MS, request.max_ms, _measured(net, request.machine, journal)))


def budget_of_detector(question: Question, request: Request, journal: Journal) -> Budget:
    """Make the limits of ``request`` for the whole detector. All costs go into the journal.

    Raises InputError where no plan meets the limits.
    """
    costs = DetectorCost(question)
    gmacs = measured(journal, GMACS, costs.gmacs)
    dense = gmacs(SparsityPlan.uniform(0, costs.net.depths))
    every = {SHARE: lambda plan: gmacs(plan) / dense, GMACS: gmacs}
    every[MS] = measured(journal, MS, costs.ms)
    wanted = limits(request.max_macs, request.max_gmacs, request.max_ms)
    budget = Budget(*(Limit(unit, wanted[unit], every[unit]) for unit in every if unit in wanted))
    budget.cheapest(costs.net.depths)
    return budget


def _table(net: SparseSwin, machine: Machine, work_dir: Path, progress: Progress) -> LatencyTable:
    """The table that this search began with, even if the cache has a newer one.

    A table that was damaged since is taken from the cache or measured again. Raises InputError for
    a device that is not a CPU.
    """
    if not machine.device.startswith("cpu"):
        raise InputError(
            f"latency on {machine.device} cannot be predicted, because a GPU replays a pass as a "
            "whole. Say --latency measured."
        )
    path = work_dir / TABLE
    found = MeasuredTable.load(path)
    if found is None:
        found = table_for(net, machine, progress)
        found.save(path)
    return found.table


def _measured(
    net: SparseSwin, machine: Machine, journal: Journal
) -> Callable[[SparsityPlan], float]:
    def measure(plan: SparsityPlan) -> float:
        with machine.takes(net) as (placed, _):
            placed.plan = plan
            return measure_latency(placed, machine.shape).p50_ms

    return measured(journal, MS, measure)


def make_algorithm(
    net: SparseSwin, budget: Budget, request: Request, image_size: tuple[int, int], seed: int
) -> Algorithm:
    kinds: dict[str, type[Algorithm]] = {
        "evolution": Evolution,
        "random": RandomSearch,
        "uniform": UniformSearch,
    }
    if request.algorithm == "front":
        from sparsevit3d.search.front import Front

        kinds["front"] = Front
    width, height = image_size
    return kinds[request.algorithm](
        net.depths,
        budget,
        request.settings,
        seed,
        same=partial(kept_windows, net, (height, width)),
        start=[SparsityPlan.parse(plan) for plan in request.start],
    )


def largest_uniform(algorithm: Algorithm) -> SparsityPlan | None:
    """The plan with one ratio everywhere that keeps most within the budget, if there is one."""
    plans = (SparsityPlan.uniform(ratio, algorithm.depths) for ratio in algorithm.grid)
    return next(filter(algorithm.budget.allows, plans), None)


def write_answer(
    algorithm: Algorithm,
    question: Question,
    request: Request,
    work_dir: Path,
    done: bool,
    uniform: SparsityPlan | None = None,
) -> Path:
    """Write ``plan.json``, the best plan of all. It tells whether the search is done.

    ``uniform`` is told beside it, as what every search has to beat. A search for the front also
    writes ``front/``, a plan file for each of its plans.
    """
    origin = {
        "budget": {limit.unit: limit.most for limit in algorithm.budget.limits},
        "score": question.by,
        "split": question.split,
        "evaluated": len(algorithm.scores),
        "done": done,
        "uniform": uniform and {"plan": str(uniform), "costs": algorithm.budget.costs(uniform)},
        "search": asdict(request),
        "seed": question.config.randomness.seed,
        "weights": {"path": str(question.weights), "sha256": question.identity["weights"]},
        "data": {"root": question.config.data_root, "sha256": question.identity["data"]},
        "versions": {name: version(name) for name in (*PACKAGES, "sparsevit3d")},
    }
    if request.max_ms is not None and (request.of, request.latency) == ("backbone", "predicted"):
        table = MeasuredTable.load(work_dir / TABLE)
        origin["latency_table"] = table and asdict(table.accuracy)

    def save(plan: SparsityPlan, path: Path) -> Path:
        facts: dict[str, Any] = {
            "costs": algorithm.budget.costs(plan),
            question.by: algorithm.scores[plan],
        }
        plan.save(path, **facts, **origin)
        return path

    if request.algorithm == "front":
        from sparsevit3d.search.front import Front

        assert isinstance(algorithm, Front)
        (work_dir / FRONT).mkdir(exist_ok=True)
        for number, plan in enumerate(algorithm.front()):
            save(plan, work_dir / FRONT / f"plan_{number:02d}.json")
    return save(algorithm.best, work_dir / "plan.json")
