"""SparsityPlan: the one knob. Which share of its windows each Swin block pair leaves out.

A plan is written as text, stages parted by ``|`` and block pairs by ``,``::

    0.3|0|0.1,0.2,0.2|0        Swin-T: 1, 1, 3 and 1 pairs

The plain and the shifted block of a pair share a ratio. Within a stage the ratios never fall, so a
window that was left out once never comes back (SparseViT, section 3.3). Ratios may fall only where
the plan itself says so::

    falling:0.3|0|0.5,0.2,0.2|0
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import InitVar, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsevit3d.errors import InputError
from sparsevit3d.files import write_json

if TYPE_CHECKING:
    from torch import Tensor

RATIO_GRID = tuple(step / 10 for step in range(9))  # the search space: 0, 0.1 .. 0.8
FALLING = "falling:"


class PlanError(InputError):
    """A plan that breaks a rule. The message names the stage, the pair and the rule."""


def pairs_per_stage(depths: Sequence[int]) -> tuple[int, ...]:
    """How many block pairs each stage has. The last pair of an odd stage is one plain block."""
    return tuple((depth + 1) // 2 for depth in depths)


def kept_count(windows: int, ratio: float) -> int:
    """Count how many of an image's ``windows`` a block computes.

    The count is ``max(1, floor(windows * (1 - ratio)))``, in exact decimals. In floats 10 * (1 -
    0.8) is 1.9999999999999996, which would keep 1 window of 10 instead of 2.
    """
    return max(1, math.floor(windows * (1 - Fraction(repr(float(ratio))))))


@dataclass(frozen=True)
class SparsityPlan:
    """One ratio in [0, 1) for each block pair of each stage.

    Args:
        ratios (tuple of tuple of float): The share of windows left out: ``ratios[stage][pair]``.
        may_fall (bool): Permits ratios that fall within a stage. Default: False.

    Raises:
        PlanError: A ratio, a stage or the whole plan breaks a rule.
    """

    ratios: tuple[tuple[float, ...], ...]
    may_fall: InitVar[bool] = False

    def __post_init__(self, may_fall: bool) -> None:
        checked = tuple(
            _checked_stage(
                stage, [_number(stage, pair, value) for pair, value in enumerate(values)], may_fall
            )
            for stage, values in enumerate(self.ratios)
        )
        if not checked:
            raise PlanError(
                "a plan needs at least one stage. Write stages parted by '|', such as "
                "0.3|0|0.1,0.2,0.2|0."
            )
        object.__setattr__(self, "ratios", checked)

    @classmethod
    def parse(cls, text: str) -> SparsityPlan:
        """Read the text that ``str(plan)`` wrote."""
        ratios = text.strip().removeprefix(FALLING)
        stages = tuple(tuple(stage.split(",")) for stage in ratios.split("|"))
        return cls(stages, may_fall=ratios != text.strip())  # type: ignore[arg-type]

    @classmethod
    def uniform(cls, ratio: float, depths: Sequence[int]) -> SparsityPlan:
        """Give every pair of a network with ``depths`` blocks per stage the same ratio."""
        return cls(tuple((ratio,) * pairs for pairs in pairs_per_stage(depths)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SparsityPlan:
        """Read a plan file.

        Raises PlanError with the file's name for anything but a whole, valid plan.
        """
        try:
            document = json.loads(Path(path).read_text())
        except FileNotFoundError:
            raise PlanError(f"{path}: no such plan file.") from None
        except (ValueError, OSError) as error:
            raise PlanError(f"{path}: not a plan file ({error}).") from error
        if not isinstance(document, dict) or not isinstance(document.get("plan"), str):
            raise PlanError(f'{path}: not a plan file; it holds {{"plan": "0.3|0|0.1,0.2,0.2|0"}}.')
        try:
            return cls.parse(document["plan"])
        except PlanError as error:
            raise PlanError(f"{path}: {error}") from None

    def save(self, path: str | os.PathLike[str], **origin: Any) -> None:
        """Write the plan as JSON, whole or not at all.

        ``origin`` (budget, score, seed ...) is kept beside the plan.
        """
        write_json(Path(path), {"plan": str(self), **origin})

    def check(self, depths: Sequence[int]) -> None:
        """Check that the plan fits a network with ``depths`` blocks per stage.

        Raises PlanError unless the plan has one ratio for each block pair of the network.
        """
        expected = pairs_per_stage(depths)
        if len(self.ratios) != len(expected):
            raise PlanError(
                f"plan {self} has {len(self.ratios)} stages. The network has {len(expected)}"
            )
        for stage, (ratios, pairs) in enumerate(zip(self.ratios, expected, strict=True)):
            if len(ratios) != pairs:
                raise PlanError(
                    f"plan {self}: stage {stage} has {len(ratios)} pairs. The network has "
                    f"{pairs} there."
                )

    @property
    def is_dense(self) -> bool:
        return not any(ratio for stage in self.ratios for ratio in stage)

    @property
    def falls(self) -> bool:
        """Whether ratios fall within a stage."""
        return any(list(stage) != sorted(stage) for stage in self.ratios)

    def __str__(self) -> str:
        return (FALLING if self.falls else "") + "|".join(
            ",".join(repr(ratio).removesuffix(".0") for ratio in stage) for stage in self.ratios
        )


def agreed_plan(carried: SparsityPlan | None, wanted: SparsityPlan | None) -> SparsityPlan | None:
    """Agree on one plan for weights that carry a plan and a network that wants one.

    Dense (None) gives way. Raises PlanError where the two plans differ.
    """
    if None not in (carried, wanted) and carried != wanted:
        raise PlanError(
            f"the weights were made under plan {carried}, but {wanted} is wanted. Leave one of "
            "them out."
        )
    return carried or wanted


def plan_of_state(state: Tensor) -> SparsityPlan | None:
    """The plan that a state dict carries as ``_extra_state``. None: dense.

    Raises PlanError where the state is damaged.
    """
    try:
        text = bytes(int(character) for character in state.tolist()).decode("ascii")
    except (TypeError, ValueError, OverflowError):
        raise PlanError("the state dict's _extra_state holds no plan.") from None
    plan = SparsityPlan.parse(text)
    return None if plan.is_dense else plan


def _number(stage: int, pair: int, value: Any) -> float:
    try:
        ratio = float(value)
    except (TypeError, ValueError):
        raise PlanError(f"stage {stage}, pair {pair}: {value!r} is not a number.") from None
    if not 0 <= ratio < 1:  # NaN fails here too
        raise PlanError(f"stage {stage}, pair {pair}: ratio {value} is outside [0, 1).")
    return ratio + 0.0  # no negative zero


def _checked_stage(stage: int, ratios: list[float], may_fall: bool) -> tuple[float, ...]:
    if not ratios:
        raise PlanError(f"stage {stage}: no block pairs.")
    for pair in range(1, len(ratios)):
        if ratios[pair] < ratios[pair - 1] and not may_fall:
            raise PlanError(
                f"stage {stage}, pair {pair}: ratio {ratios[pair]} falls below "
                f"{ratios[pair - 1]}. Within a stage ratios "
                f"never decrease, unless the plan begins with '{FALLING}'."
            )
    return tuple(ratios)


# The search space (section 3.3): random plans, mutants and crossovers. All randomness comes from
# the caller's generator. ``grid`` lists the possible ratios, in rising order.


def sample_plan(
    rng: random.Random, depths: Sequence[int], grid: Sequence[float] = RATIO_GRID
) -> SparsityPlan:
    """Draw a plan uniformly from the grid.

    Each stage is one of its non-decreasing sequences, all equally likely.
    """

    def stage(pairs: int) -> tuple[float, ...]:
        # Non-decreasing sequences correspond to plain subsets. Draw steps from a spread grid, then
        # take the spread out again.
        steps = sorted(rng.sample(range(len(grid) + pairs - 1), pairs))
        return tuple(grid[step - spread] for spread, step in enumerate(steps))

    return SparsityPlan(tuple(stage(pairs) for pairs in pairs_per_stage(depths)))


def mutate_plan(
    rng: random.Random, plan: SparsityPlan, rate: float, grid: Sequence[float] = RATIO_GRID
) -> SparsityPlan:
    """Redraw each ratio with probability ``rate``, then sort each stage to make a plan again."""
    return SparsityPlan(
        tuple(
            tuple(sorted(rng.choice(grid) if rng.random() < rate else ratio for ratio in stage))
            for stage in plan.ratios
        )
    )


def cross_plans(rng: random.Random, one: SparsityPlan, other: SparsityPlan) -> SparsityPlan:
    """Take each stage whole from one parent or the other. So a stage still never decreases."""
    return SparsityPlan(
        tuple(rng.choice(pair) for pair in zip(one.ratios, other.ratios, strict=True)),
        may_fall=True,
    )


def every_plan(depths: Sequence[int], grid: Sequence[float] = RATIO_GRID) -> Iterator[SparsityPlan]:
    """Yield all plans of the grid, in a fixed order."""
    stages = [
        itertools.combinations_with_replacement(grid, pairs) for pairs in pairs_per_stage(depths)
    ]
    return map(SparsityPlan, itertools.product(*stages))
