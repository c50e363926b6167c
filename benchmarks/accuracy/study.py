"""The study as data: what is compared, on which data, for how long."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import tomllib
from mmengine.config import Config

from data_tools.synthetic.dataset import Settings as Data
from sparsevit3d.errors import InputError
from sparsevit3d.files import fingerprint
from sparsevit3d.search.algorithms import Settings as Search
from sparsevit3d.search.run import ALGORITHMS
from sparsevit3d.stages.train import STAGES
from sparsevit3d.swin.plan import PlanError, SparsityPlan

DENSE = "dense"
RANDOM_PLANS = "random plans"
OWN_INPUT = "own input"
Changes = tuple[tuple[str, Any], ...]  # dotted config keys and their values
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Arm:
    """One way to spend the iterations that all arms have. ``study.toml`` describes the fields."""

    name: str
    plan: str
    input: str | tuple[int, int] = "same"
    budget: str = "56"
    adapt: str = RANDOM_PLANS
    finetune: str = "the plan"
    base: str = "same"
    changes: Changes = ()
    hooks: tuple[str, ...] = ()
    rows: tuple[int, int] | None = None  # of the image: the first one, and how many
    against: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        return self.name.replace(",", "").replace("%", "").replace(" ", "_").lower()


@dataclass(frozen=True)
class Group:
    name: str
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    timed: bool
    ratios: str | None  # the arm whose adapted weights are tried under one ratio at a time


@dataclass(frozen=True)
class Limits:
    """What a plan may cost.

    The limits are a share of the dense MACs, and the milliseconds of a ``smaller`` dense input,
    (width, height), if there is one.
    """

    share: float
    smaller: tuple[int, int] | None


@dataclass(frozen=True)
class Study:
    config: Path
    data: Data
    epochs: dict[str, int]
    search: Search
    budgets: dict[str, Limits]
    groups: tuple[Group, ...]
    bases: dict[int, Path]  # by seed: weights to begin from, so that no base is trained
    options: tuple[str, ...] = field(default=())  # config values in the form that --set takes
    zoo: dict[str, str] = field(default_factory=dict)  # arms that are published, by their files

    @classmethod
    def load(cls, path: Path) -> Study:
        """Load a study from a TOML file.

        Raises InputError if the file has an unknown entry.
        """
        try:
            table = tomllib.loads(path.read_text())
            budgets = {
                name: Limits(row["share"], _frozen(row.get("smaller")))
                for name, row in table["budgets"].items()
            }
            study = cls(
                ROOT / table["config"],
                Data(**{key: _frozen(value) for key, value in table["data"].items()}),
                {stage: table["epochs"][stage] for stage in STAGES},
                Search(**table["search"]),
                budgets,
                tuple(_group(name, row) for name, row in table["groups"].items()),
                {int(seed): path.parent / base for seed, base in table.get("bases", {}).items()},
                tuple(table.get("options", ())),
                dict(table.get("zoo", {})),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: not a study ({type(error).__name__}: {error}). See "
                "benchmarks/accuracy/study.toml"
            ) from error
        folders = [arm.folder for arm in study.arms()]
        for arm in study.arms():
            if folders.count(arm.folder) > 1:
                raise InputError(
                    f"{path}: arm {arm.name!r}: another has that name, or one that makes the "
                    f"same folder {arm.folder!r}"
                )
            _check(arm, study, path)
        if foreign := set(study.zoo.values()) - {arm.name for arm in study.arms()}:
            raise InputError(f"{path}: zoo: {min(foreign)!r} is no arm")
        for base in study.bases.values():
            if not base.exists():
                raise InputError(
                    f"{path}: base {base}: no such file. Without its line that base is trained"
                )
        for group in study.groups:
            if group.ratios not in {None, *(arm.name for arm in study.arms())}:
                raise InputError(
                    f"{path}: group {group.name!r}: ratios of {group.ratios!r}, which is no arm"
                )
        return study

    def arms(self) -> Iterator[Arm]:
        for group in self.groups:
            yield from group.arms

    def settings(self) -> dict[str, Any]:
        """Return all settings that a step may depend on, by name, as JSON has them."""
        config = Config.fromfile(self.config).to_dict()
        rows = {
            "config": hashlib.sha256(
                json.dumps(config, sort_keys=True, default=str).encode()
            ).hexdigest(),
            "options": self.options,
            "data": asdict(self.data),
            "epochs": self.epochs,
            "search": asdict(self.search),
            **{f"budget {name}": asdict(limits) for name, limits in self.budgets.items()},
            **{f"base {seed}": fingerprint(base) for seed, base in self.bases.items()},
            **{f"arm {arm.name}": asdict(replace(arm, against=())) for arm in self.arms()},
        }
        return dict(json.loads(json.dumps(rows)))

    def group_of(self, arm: Arm) -> Group:
        return next(group for group in self.groups if arm in group.arms)

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms() if arm.name == name)


def _group(name: str, row: dict[str, Any]) -> Group:
    arms = (
        Arm(
            arm,
            **{
                key: _frozen(str(value) if key == "budget" else value) for key, value in own.items()
            },
        )
        for arm, own in row["arms"].items()
    )
    return Group(name, tuple(row["seeds"]), tuple(arms), row.get("timed", False), row.get("ratios"))


def _check(arm: Arm, study: Study, path: Path) -> None:
    names = {other.name for other in study.arms()}
    known: dict[str, set[Any]] = {
        "plan": {DENSE, *ALGORITHMS, *names - {arm.name}},
        "budget": set(study.budgets),
        "adapt": {DENSE, RANDOM_PLANS},
        "finetune": {"the plan", RANDOM_PLANS},
        "base": {"same", OWN_INPUT},
        "input": {"same", *([arm.input] if isinstance(arm.input, tuple) else [])},
    }
    if arm.budget not in study.budgets or study.budgets[arm.budget].smaller:
        known["input"].add("smaller")
    for other in arm.against:
        if other not in names:
            raise InputError(
                f"{path}: arm {arm.name!r} is compared with {other!r}, which is no arm"
            )
    if "|" in arm.plan:
        del known["plan"]
        try:
            SparsityPlan.parse(arm.plan)
        except PlanError as error:
            raise InputError(f"{path}: arm {arm.name!r}: {error}") from error
    for part in fields(arm):
        if part.name in known and getattr(arm, part.name) not in known[part.name]:
            raise InputError(
                f"{path}: arm {arm.name!r}: {part.name} {getattr(arm, part.name)!r}. There are "
                f"{', '.join(sorted(map(str, known[part.name])))}"
            )


def _frozen(value: Any) -> Any:
    """Make a value hashable, so that arms can be compared by their values."""
    if isinstance(value, dict):
        return tuple((key, _frozen(item)) for key, item in value.items())
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
