"""Evolutionary search under a hard budget (SparseViT, section 3.3), and its rivals.

An algorithm is pure. It asks for plans, a generation at a time, and is told their scores, until it
asks for no more. The plans of a generation do not depend on each other's scores. So they can be
judged at once, in any order. All randomness comes from one seeded generator: the same answers give
the same questions. No plan is asked for twice.
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
    """Sizes of the search. The released search uses a population of 100 and 25 parents.

    Args:
        population (int): Plans of the first generation. Default: 12.
        parents (int): How many of the best plans become parents. Default: 4.
        generations (int): How many, the first included. Default: 4.
        mutation (float): Chance that a mutant redraws one ratio, from 0 to 1. Default: 0.3.

    Raises:
        InputError: The sizes do not fit each other.
    """

    population: int = 12
    parents: int = 4
    generations: int = 4
    mutation: float = 0.3

    def __post_init__(self) -> None:
        if not (
            self.generations >= 1
            and 2 <= self.parents <= self.population
            and 0 < self.mutation <= 1
        ):
            raise InputError(
                f"{self}: needs generations >= 1, 2 <= parents <= population, 0 < mutation <= 1."
            )

    @property
    def evaluations(self) -> int:
        """How many plans a search judges at most."""
        return self.population + (self.generations - 1) * (self.population - self.parents)


class Algorithm:
    """What all algorithms share: the space, the budget, the plans asked for and their scores.

    Args:
        depths (sequence of int): Blocks of each stage of the network.
        budget (Budget): Limits that every plan keeps to.
        settings (Settings): Sizes of the search. Default: ``Settings()``.
        seed (int): Seed of all randomness. Default: 0.
        grid (sequence of float): Possible ratios, in rising order. Default: 0, 0.1 .. 0.8.
        same (callable): Key of a plan. Plans with one key are one to the network, and only one of
            them is asked for. Default: the plan itself.
        start (sequence of SparsityPlan): Plans of the first generation, which chance fills up.
            Default: none.

    Raises:
        InputError: No plan meets the budget. Or one to start with does not, or there are more of
            them than the first generation has.
    """

    def __init__(
        self,
        depths: Sequence[int],
        budget: Budget,
        settings: Settings = Settings(),
        seed: int = 0,
        grid: Sequence[float] = RATIO_GRID,
        same: Callable[[SparsityPlan], Hashable] = lambda plan: plan,
        start: Sequence[SparsityPlan] = (),
    ) -> None:
        """Begin with no plan asked for. Raises InputError: see the class."""
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
        self.start = list({same(plan): plan for plan in start}.values())
        if len(self.start) > settings.population:
            raise InputError(
                f"{len(self.start)} plans to start with are more than a first generation of "
                f"{settings.population}. Use a larger population."
            )
        for plan in self.start:
            plan.check(self.depths)
            budget.check(plan)

    @property
    def evaluations(self) -> int:
        """How many plans the algorithm asks for at most."""
        return self.settings.evaluations

    @property
    def best(self) -> SparsityPlan:
        """The plan with the highest score so far. If several are equal, the one asked for first."""
        return max(self.scores, key=self.scores.__getitem__)

    def ask(self) -> list[SparsityPlan]:
        """Ask for the plans of the next generation, all within the budget and new.

        No plans: the search is over.
        """
        plans = self._next() if self.generation < self.settings.generations else []
        if not plans and not self._asked:  # the budget is so tight that no draw met it
            plans = [self.cheapest]
        self._asked.update(map(self.same, plans))
        self.generation += bool(plans)
        return plans

    def tell(self, scores: Mapping[SparsityPlan, float]) -> None:
        """Tell the scores of all plans of the last ``ask``."""
        self.scores.update(scores)

    def _next(self) -> list[SparsityPlan]:
        raise NotImplementedError

    def fresh(self, wanted: int, besides: Sequence[SparsityPlan] = ()) -> list[SparsityPlan]:
        return self._draw(lambda: sample_plan(self.random, self.depths, self.grid), wanted, besides)

    def first(self) -> list[SparsityPlan]:
        """The first generation: the plans to start with, and fresh ones."""
        missing = self.settings.population - len(self.start)
        return [*self.start, *self.fresh(missing, self.start)]

    def _draw(
        self, make: Callable[[], SparsityPlan], wanted: int, besides: Sequence[SparsityPlan] = ()
    ) -> list[SparsityPlan]:
        """Draw new plans within the budget by rejection, as many as ATTEMPTS draws yield."""
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
        """Whether neither the plan nor one that is the same was asked for."""
        return self.same(plan) not in self._asked


class Evolution(Algorithm):
    """Breed each generation from the best plans ever seen.

    The first generation is drawn afresh. Half of each later one are mutants, half are crossovers. A
    generation may stay smaller than wished where the budget leaves few new plans. Arguments are
    those of Algorithm.
    """

    def _next(self) -> list[SparsityPlan]:
        if not self.generation:
            return self.first()
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
        return plans + self.fresh(wanted - len(plans), plans)


class RandomSearch(Algorithm):
    """Draw as many plans as evolution would judge, in as large generations, each drawn afresh.

    Arguments are those of Algorithm.
    """

    def _next(self) -> list[SparsityPlan]:
        bred = self.settings.population - self.settings.parents
        return self.fresh(bred) if self.generation else self.first()


class UniformSearch(Algorithm):
    """Try the same ratio everywhere: every ratio that the budget allows, once.

    Arguments are those of Algorithm.
    """

    @property
    def evaluations(self) -> int:
        return len(self.grid)

    def _next(self) -> list[SparsityPlan]:
        plans = [SparsityPlan.uniform(ratio, self.depths) for ratio in reversed(self.grid)]
        # If several plans are the same, keep the one with the smallest ratio.
        different = {self.same(plan): plan for plan in plans}
        return [
            plan
            for plan in plans
            if plan in different.values() and self.is_new(plan) and self.budget.allows(plan)
        ]
