"""The whole front of accuracy against cost in one search: NSGA-II (Deb et al., 2002) of pymoo.

Space and budget are those of the other algorithms. pymoo only selects. This file defines plans,
mutants and crossovers as evolution does, and says which plans may be asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.sampling import Sampling

from sparsevit3d.search.algorithms import Algorithm
from sparsevit3d.swin.plan import SparsityPlan, cross_plans, mutate_plan

Plans = NDArray[np.object_]


class Front(Algorithm):
    """Trade the score for the first limit's cost, and keep to the other limits.

    Args:
        *args: Positional arguments of Algorithm.
        **kwargs: Keyword arguments of Algorithm.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        bred = self.settings.population - self.settings.parents
        self._nsga = NSGA2(
            pop_size=self.settings.population,
            n_offsprings=bred,
            sampling=_Fresh(self),
            crossover=_Cross(self),
            mutation=_Mutate(self),
            eliminate_duplicates=_New(self),
            seed=self.random.getrandbits(32),
        )
        self._nsga.setup(
            Problem(n_var=1, n_obj=2), termination=("n_gen", self.settings.generations + 1)
        )
        self._judging: Population | None = None

    def front(self) -> list[SparsityPlan]:
        """The plans told so far that no other beats in both score and cost, the cheapest first."""
        return pareto_front(self.scores, {plan: self._cost(plan) for plan in self.scores})

    def tell(self, scores: Mapping[SparsityPlan, float]) -> None:
        super().tell(scores)
        if self._judging is not None:
            plans = [row[0] for row in self._judging.get("X")]
            self._judging.set("F", np.array([[-scores[plan], self._cost(plan)] for plan in plans]))
            self._nsga.tell(infills=self._judging)

    def _cost(self, plan: SparsityPlan) -> float:
        return self.budget.cost(plan, self.budget.limits[0])

    def _next(self) -> list[SparsityPlan]:
        self._judging = self._nsga.ask()
        return [] if self._judging is None else [row[0] for row in self._judging.get("X")]


def pareto_front(
    scores: Mapping[SparsityPlan, float], costs: Mapping[SparsityPlan, float]
) -> list[SparsityPlan]:
    """The plans that no other beats in both score and cost, the cheapest first."""
    front: list[SparsityPlan] = []
    for plan in sorted(scores, key=lambda plan: (costs[plan], -scores[plan])):
        if not front or scores[plan] > scores[front[-1]]:
            front.append(plan)
    return front


class _Fresh(Sampling):
    def __init__(self, search: Front) -> None:
        super().__init__()
        self.search = search

    def _do(self, problem: Problem, n_samples: int, **kwargs: Any) -> Plans:
        plans = self.search.first() or [self.search.cheapest]
        return _column(plans)


class _Cross(Crossover):
    def __init__(self, search: Front) -> None:
        # The other half of the offspring are mutants of one parent.
        super().__init__(n_parents=2, n_offsprings=1, prob=0.5)
        self.search = search

    def _do(self, problem: Problem, X: Plans, **kwargs: Any) -> Plans:
        return _column(
            [
                cross_plans(self.search.random, one[0], other[0])
                for one, other in zip(*X, strict=True)
            ]
        )[None]


class _Mutate(Mutation):
    def __init__(self, search: Front) -> None:
        super().__init__(prob=0.7)
        self.search = search

    def _do(self, problem: Problem, X: Plans, **kwargs: Any) -> Plans:
        rate = self.search.settings.mutation
        return _column(
            [mutate_plan(self.search.random, row[0], rate, self.search.grid) for row in X]
        )


class _New(DuplicateElimination):
    """Also strike out plans that were asked for before, and plans that break the budget."""

    def __init__(self, search: Front) -> None:
        super().__init__()
        self.search = search

    def _do(
        self, pop: Population, other: Population | None, is_duplicate: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        search = self.search
        seen = set() if other is None else {search.same(row[0]) for row in other.get("X")}
        for number, (plan,) in enumerate(pop.get("X")):
            is_duplicate[number] |= (
                search.same(plan) in seen
                or not search.is_new(plan)
                or not search.budget.allows(plan)
            )
            if other is None:
                seen.add(search.same(plan))
        return is_duplicate


def _column(plans: list[SparsityPlan]) -> Plans:
    column = np.empty((len(plans), 1), object)
    column[:, 0] = plans
    return column
