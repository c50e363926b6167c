"""The search itself: ask an algorithm, judge its plans, and write every fact to the journal.

Each fact is in the journal before the next is sought.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic

from sparsevit3d.progress import Progress
from sparsevit3d.search.algorithms import Algorithm
from sparsevit3d.search.journal import Journal, ScoreCache, rankable
from sparsevit3d.search.workers import Judge
from sparsevit3d.swin.plan import SparsityPlan


def run(
    algorithm: Algorithm,
    journal: Journal,
    judge: Judge,
    by: str,
    cache: ScoreCache | None,
    progress: Progress,
    minutes: float | None = None,
) -> bool:
    """Run until the algorithm asks no more, or ``minutes`` are over. Returns whether it is done.

    A plan that the journal or the cache knows is not judged again. ``by`` names the metric to
    maximise. When its time is over, a search waits for the next score, so there is an answer.
    """
    end = math.inf if minutes is None else monotonic() + 60 * minutes
    total = algorithm.evaluations
    best = -float("inf")
    known = cache.scores if cache is not None else {}
    while plans := algorithm.ask():
        generation = algorithm.generation

        def note(
            plan: SparsityPlan, metrics: dict[str, float], generation: int = generation
        ) -> None:
            journal.add_score(plan, metrics, generation, algorithm.budget.costs(plan))

        for plan in plans:
            if plan not in journal.scores and plan in known:
                note(plan, known[plan])
        unknown = [plan for plan in plans if plan not in journal.scores]
        if unknown and algorithm.scores and monotonic() >= end:
            return False
        for plan, metrics in judge(unknown):
            note(plan, metrics)
            if cache is not None:
                cache.add(plan, metrics)
            best = max(best, metrics[by])
            progress(len(journal.scores), total, f"generation {generation}, best {by} {best:.3f}")
            if monotonic() >= end:
                break
        judged = {
            plan: rankable(journal.scores[plan][by]) for plan in plans if plan in journal.scores
        }
        if len(judged) < len(plans):
            algorithm.scores.update(judged)
            return False
        algorithm.tell(judged)
        best = max(algorithm.scores.values())
        progress(len(algorithm.scores), total, f"generation {generation}, best {by} {best:.3f}")
    return True


def measured(
    journal: Journal, unit: str, measure: Callable[[SparsityPlan], float]
) -> Callable[[SparsityPlan], float]:
    """Make a cost that is measured once for each plan, journalled, and from then on read there.

    The cost is asked for between generations, when no worker is busy.
    """

    def cost(plan: SparsityPlan) -> float:
        if (plan, unit) not in journal.costs:
            journal.add_cost(plan, unit, measure(plan))
        return journal.costs[plan, unit]

    return cost
