"""Evolutionary search under a hard budget (SparseViT, section 3.3), and what it has to be better
than.

Pure: an algorithm asks for plans, a generation at a time, and is told what they score, until it
asks for none. The plans of a generation do not depend on each other's scores, so they can be judged
at once, in any order. All randomness comes from one seeded generator: the same answers give the
same questions. No plan is asked for twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from sparsevit3d.errors import InputError
from sparsevit3d.search.budget import Budget
from sparsevit3d.swin.plan import RATIO_GRID, SparsityPlan, cross_plans, mutate_plan, sample_plan

ATTEMPTS = 2000  # rejections before a draw gives up


@dataclass(frozen=True)
class Settings:
    """Sizes of the search. The released search uses a population of 100 and 25 parents."""

    population: int = 12
    parents: int = 4
    generations: int = 4
    mutation: float = 0.3  # chance that a mutant redraws one ratio

    def __post_init__(self) -> None:
        if not (
            self.generations >= 1
            and 2 <= self.parents <= self.population
            and 0 < self.mutation <= 1
        ):
            raise InputError(
                f"{self}: needs generations >= 1, 2 <= parents <= population, 0 < mutation <= 1"
            )

    @property
    def evaluations(self) -> int:
        """How many plans a search judges at most."""
        return self.population + (self.generations - 1) * (self.population - self.parents)


class Algorithm:
    """What all of them share: the space, the budget, what was asked and what it scored."""

    def __init__(
        self,
        depths: Sequence[int],
        budget: Budget,
        settings: Settings = Settings(),
        seed: int = 0,
        grid: Sequence[float] = RATIO_GRID,
        same: Callable[[SparsityPlan], Hashable] = lambda plan: plan,
    ) -> None:
        """``same``: what plans that are one to the network have in common; of those only one is
        asked for.

        Raises InputError for a budget that no plan meets.
        """
        self.depths = tuple(depths)
        self.budget = budget
        self.settings = settings
        self.grid = tuple(grid)
        self.cheapest = budget.cheapest(depths, grid)
        self.random = random.Random(seed)
        self.scores: dict[SparsityPlan, float] = {}  # higher is better
        self.generation = 0  # from 1 once the first has been asked for
        self.same = same
        self._asked: set[Hashable] = set()

    @property
    def evaluations(self) -> int:
        """How many plans it asks for at most."""
        return self.settings.evaluations

    @property
    def best(self) -> SparsityPlan:
        """The best ever told of; of equals the one asked for first."""
        return max(self.scores, key=self.scores.__getitem__)

    def ask(self) -> list[SparsityPlan]:
        """The plans of the next generation, all within the budget and new; none: the search is
        over.
        """
        plans = self._next() if self.generation < self.settings.generations else []
        if not plans and not self._asked:  # a budget so tight that no draw met it
            plans = [self.cheapest]
        self._asked.update(map(self.same, plans))
        self.generation += bool(plans)
        return plans

    def tell(self, scores: Mapping[SparsityPlan, float]) -> None:
        """What the plans of the last ``ask`` scored, all of them."""
        self.scores.update(scores)

    def _next(self) -> list[SparsityPlan]:
        raise NotImplementedError

    def fresh(self, wanted: int) -> list[SparsityPlan]:
        return self._draw(lambda: sample_plan(self.random, self.depths, self.grid), wanted)

    def _draw(
        self, make: Callable[[], SparsityPlan], wanted: int, besides: Sequence[SparsityPlan] = ()
    ) -> list[SparsityPlan]:
        """Rejection sampling: new plans within the budget, as many as ATTEMPTS draws yield."""
        found: list[SparsityPlan] = []
        seen = set(map(self.same, besides))
        for _ in range(ATTEMPTS):
            if len(found) == wanted:
                break
            plan = make()
            if self.is_new(plan) and self.same(plan) not in seen and self.budget.allows(plan):
                found.append(plan)
                seen.add(self.same(plan))
        return found

    def is_new(self, plan: SparsityPlan) -> bool:
        """Was it never asked for, nor one that is the same?"""
        return self.same(plan) not in self._asked


class Evolution(Algorithm):
    """The first generation is drawn afresh; each later one is bred from the best ever seen: half of
    it mutants, half crossovers.

    A generation may stay smaller than wished where the budget leaves few new plans.
    """

    def _next(self) -> list[SparsityPlan]:
        if not self.generation:
            return self.fresh(self.settings.population)
        parents = sorted(self.scores, key=self.scores.__getitem__, reverse=True)[
            : self.settings.parents
        ]
        wanted = self.settings.population - len(parents)
        choose = self.random.choice
        rate = self.settings.mutation
        plans = self._draw(
            lambda: mutate_plan(self.random, choose(parents), rate, self.grid), wanted - wanted // 2
        )
        plans += self._draw(
            lambda: cross_plans(self.random, choose(parents), choose(parents)), wanted // 2, plans
        )
        return plans + self._draw(
            lambda: sample_plan(self.random, self.depths, self.grid), wanted - len(plans), plans
        )


class RandomSearch(Algorithm):
    """As many plans as evolution would judge, in as large generations, each drawn afresh."""

    def _next(self) -> list[SparsityPlan]:
        bred = self.settings.population - self.settings.parents
        return self.fresh(bred if self.generation else self.settings.population)


class UniformSearch(Algorithm):
    """The same ratio everywhere: every one that the budget allows, once."""

    @property
    def evaluations(self) -> int:
        return len(self.grid)

    def _next(self) -> list[SparsityPlan]:
        plans = [SparsityPlan.uniform(ratio, self.depths) for ratio in reversed(self.grid)]
        # of those that are the same, the one that claims least
        different = {self.same(plan): plan for plan in plans}
        return [
            plan
            for plan in plans
            if plan in different.values() and self.is_new(plan) and self.budget.allows(plan)
        ]
