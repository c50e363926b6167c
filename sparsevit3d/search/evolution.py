"""Evolutionary search under a hard budget (SparseViT, section 3.3). Pure: it asks for plans and is told what they score.

The first population is drawn by rejection sampling. Each generation keeps the best as parents and makes mutants and crossovers of
them, rejecting what breaks the budget. All randomness comes from one seeded generator, so the same answers give the same questions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sparsevit3d.plan import RATIO_GRID, SparsityPlan, cross_plans, mutate_plan, sample_plan

ATTEMPTS = 2000  # rejections before a draw gives up


class SearchError(ValueError):
    """A search that cannot begin: a budget that no plan meets (the message says what the cheapest costs), or sizes that cannot breed."""


@dataclass(frozen=True)
class Settings:
    """Sizes of the search. The released search uses a population of 100 and 25 parents."""

    population: int = 12
    parents: int = 4
    generations: int = 4
    mutation: float = 0.3  # chance that a mutant redraws one ratio

    def __post_init__(self) -> None:
        if not (self.generations >= 1 and 2 <= self.parents <= self.population and 0 < self.mutation <= 1):
            raise SearchError(f"{self}: needs generations >= 1, 2 <= parents <= population, 0 < mutation <= 1")


class Evolution:
    """``ask`` for a plan, ``tell`` its score, until ``ask`` returns None; ``best`` is the best ever seen.

    ``cost(plan)`` must not exceed ``budget``. No plan is asked for twice. A generation may stay smaller than wished where the
    budget leaves few new plans.
    """

    def __init__(
        self,
        depths: Sequence[int],
        cost: Callable[[SparsityPlan], float],
        budget: float,
        settings: Settings = Settings(),
        seed: int = 0,
    ) -> None:
        self.depths, self.cost, self.budget, self.settings = tuple(depths), cost, budget, settings
        cheapest = SparsityPlan.uniform(RATIO_GRID[-1], depths)
        if not cost(cheapest) <= budget:  # nor does any plan meet a budget that is no number
            raise SearchError(f"no plan meets a budget of {budget:.4g}; the cheapest costs {cost(cheapest):.4g}")
        self.random = random.Random(seed)
        self.scores: dict[SparsityPlan, float] = {}
        self.generation = 0
        self._asked: set[SparsityPlan] = set()
        self._queue = self._fresh(settings.population)
        if not self._queue:  # a budget so tight that no draw met it
            self._queue.append(cheapest)
            self._asked.add(cheapest)

    @property
    def best(self) -> SparsityPlan:
        return max(self.scores, key=self.scores.__getitem__)

    @property
    def total(self) -> int:
        """How many plans the search will ask for at most."""
        children = self.settings.population - self.settings.parents
        return self.settings.population + (self.settings.generations - 1) * children

    def ask(self) -> SparsityPlan | None:
        if not self._queue and self.generation + 1 < self.settings.generations:
            self.generation += 1
            self._queue = self._children()
        return self._queue.pop(0) if self._queue else None

    def tell(self, plan: SparsityPlan, score: float) -> None:
        self.scores[plan] = score

    def _children(self) -> list[SparsityPlan]:
        """Half mutants, half crossovers of the best; what is missing to a full generation is drawn afresh."""
        parents = sorted(self.scores, key=self.scores.__getitem__, reverse=True)[: self.settings.parents]
        wanted = self.settings.population - len(parents)
        rate, choose = self.settings.mutation, self.random.choice
        mutants = self._draw(lambda: mutate_plan(self.random, choose(parents), rate), wanted - wanted // 2)
        crossed = self._draw(lambda: cross_plans(self.random, choose(parents), choose(parents)), wanted // 2)
        return mutants + crossed + self._fresh(wanted - len(mutants) - len(crossed))

    def _fresh(self, wanted: int) -> list[SparsityPlan]:
        return self._draw(lambda: sample_plan(self.random, self.depths), wanted)

    def _draw(self, make: Callable[[], SparsityPlan], wanted: int) -> list[SparsityPlan]:
        """Rejection sampling: new plans within the budget, as many as ATTEMPTS draws yield."""
        found: list[SparsityPlan] = []
        for _ in range(ATTEMPTS):
            if len(found) == wanted:
                break
            plan = make()
            if plan not in self._asked and self.cost(plan) <= self.budget:
                self._asked.add(plan)
                found.append(plan)
        return found
