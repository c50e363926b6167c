"""What a plan may cost: any number of limits, each in its own unit.

This file is pure. The caller gives the functions that count or measure a cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sparsevit3d.errors import InputError
from sparsevit3d.swin.plan import RATIO_GRID, SparsityPlan


@dataclass(frozen=True)
class Limit:
    """A limit: ``cost(plan)`` must not exceed ``most``.

    Args:
        unit (str): Name of the unit of the cost.
        most (float): The largest cost allowed, in ``unit``.
        cost (callable): Counts or measures the cost of a plan, in ``unit``.
        cheapest (SparsityPlan or None): The plan that costs least. None: the plan that prunes the
            most. Default: None.
    """

    unit: str
    most: float
    cost: Callable[[SparsityPlan], float]
    cheapest: SparsityPlan | None = None


class Budget:
    """All limits at once.

    Each cost of a plan is asked for at most once. Checking stops at the first broken limit, so list
    the cheapest checks first.

    Args:
        *limits (Limit): The limits, those with the cheapest checks first.
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
        """All costs of a plan, by unit."""
        return {limit.unit: self.cost(plan, limit) for limit in self.limits}

    def allows(self, plan: SparsityPlan) -> bool:
        return all(self.cost(plan, limit) <= limit.most for limit in self.limits)

    def check(self, plan: SparsityPlan) -> None:
        """Raise InputError for a plan that is not allowed, and tell its cost."""
        for limit in self.limits:
            if not self.cost(plan, limit) <= limit.most:
                raise InputError(
                    f"plan {plan} costs {self.cost(plan, limit):.4g} {limit.unit}, and the budget "
                    f"is {limit.most:.4g} {limit.unit}. Leave the plan out, or raise the budget."
                )

    def cheapest(self, depths: Sequence[int], grid: Sequence[float] = RATIO_GRID) -> SparsityPlan:
        """Find a plan that is allowed, if any is.

        Raises InputError where even the cheapest plan costs too much, and tells its cost.
        """
        plans = [
            SparsityPlan.uniform(grid[-1], depths),
            *(limit.cheapest for limit in self.limits if limit.cheapest is not None),
        ]
        for limit in self.limits:
            plan = min(plans, key=partial(self.cost, limit=limit))
            # "not <=" also refuses a limit of NaN, which no plan meets.
            if not self.cost(plan, limit) <= limit.most:
                raise InputError(
                    f"no plan meets a budget of {limit.most:.4g} {limit.unit}. The cheapest, "
                    f"{plan}, costs {self.cost(plan, limit):.4g}"
                )
        for plan in plans:
            if self.allows(plan):
                return plan
        raise InputError(
            "no plan was found that meets all of "
            f"{', '.join(f'{limit.most:.4g} {limit.unit}' for limit in self.limits)}"
        )
