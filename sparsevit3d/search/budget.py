"""What a plan may cost: any number of limits, each in its own unit.

Pure: who counts or measures a cost is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sparsevit3d.errors import InputError
from sparsevit3d.swin.plan import RATIO_GRID, SparsityPlan


@dataclass(frozen=True)
class Limit:
    """``cost(plan)``, in ``unit``, must not exceed ``most``.

    ``cheapest``: the plan that costs least, where that is not the one that prunes the most.
    """

    unit: str
    most: float
    cost: Callable[[SparsityPlan], float]
    cheapest: SparsityPlan | None = None


class Budget:
    """All limits at once.

    Each cost of a plan is asked for at most once, and those after a limit that is broken not at
    all, so the cheapest to know come first.
    """

    def __init__(self, *limits: Limit) -> None:
        self.limits = limits
        self._known: dict[tuple[SparsityPlan, str], float] = {}

    def cost(self, plan: SparsityPlan, limit: Limit) -> float:
        key = (plan, limit.unit)
        if key not in self._known:
            self._known[key] = limit.cost(plan)
        return self._known[key]

    def costs(self, plan: SparsityPlan) -> dict[str, float]:
        """By unit."""
        return {limit.unit: self.cost(plan, limit) for limit in self.limits}

    def allows(self, plan: SparsityPlan) -> bool:
        return all(self.cost(plan, limit) <= limit.most for limit in self.limits)

    def cheapest(self, depths: Sequence[int], grid: Sequence[float] = RATIO_GRID) -> SparsityPlan:
        """A plan that is allowed, if any is.

        Raises InputError where even the cheapest costs too much, by what it costs.
        """
        plans = [
            SparsityPlan.uniform(grid[-1], depths),
            *(limit.cheapest for limit in self.limits if limit.cheapest is not None),
        ]
        for limit in self.limits:
            plan = min(plans, key=partial(self.cost, limit=limit))
            # Nor does any plan meet a limit that is no number
            if not self.cost(plan, limit) <= limit.most:
                raise InputError(
                    f"no plan meets a budget of {limit.most:.4g} {limit.unit}; the cheapest, "
                    f"{plan}, costs {self.cost(plan, limit):.4g}"
                )
        for plan in plans:
            if self.allows(plan):
                return plan
        raise InputError(
            f"no plan was found that meets all of "
            f"{', '.join(f'{limit.most:.4g} {limit.unit}' for limit in self.limits)}"
        )
