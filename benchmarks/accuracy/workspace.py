"""The folder in which a study happens, and the base class of its steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdet3d.registry import MODELS
from mmengine.config import Config

from benchmarks.accuracy import ideas, oracle
from benchmarks.accuracy.study import Arm, Changes, Study
from data_tools.schema import CAMERAS
from sparsevit3d.backbone import backbone_of
from sparsevit3d.cost.latency_table import Machine
from sparsevit3d.files import parse_object, read_json
from sparsevit3d.stages.config import load_config
from sparsevit3d.swin.sparse_swin import SparseSwin

REGISTERED = (ideas, oracle)  # modules with the hooks that arms name
Size = tuple[int, int]  # width, height of the network's image
# In a network this small a second thread waits more than it works.
THREADS = 1


@dataclass(frozen=True)
class Workspace:
    """A study and the folder in which the study happens."""

    study: Study
    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def size(self, arm: Arm) -> Size:
        if isinstance(arm.input, tuple):
            return arm.input
        smaller = self.study.budgets[arm.budget].smaller if arm.input == "smaller" else None
        return smaller or self.usual_size

    @property
    def usual_size(self) -> Size:
        width, height = self._read(()).image_size
        return width, height

    def config(
        self,
        seed: int,
        size: Size,
        changes: Changes = (),
        hooks: tuple[str, ...] = (),
        stage: str | None = None,
    ) -> Config:
        """Return the study's experiment at ``stage``, with the changes of an arm."""
        config = self._read((f"image_size=[{size[0]},{size[1]}]", f"randomness.seed={seed}"), stage)
        config.train_cfg.max_epochs = self.study.epochs[stage or "train"]
        for schedule in config.param_scheduler:
            if schedule.by_epoch:
                schedule.end = config.train_cfg.max_epochs
        config.custom_hooks += [{"type": hook} for hook in hooks]
        for key, value in changes:
            *parents, last = key.split(".")
            place: Any = config
            for parent in parents:
                place = place[parent]
            place[last] = list(value) if isinstance(value, tuple) else value
        return config

    def _read(self, options: tuple[str, ...], stage: str | None = None) -> Config:
        return load_config(
            self.study.config, self.data, options=(*self.study.options, *options), stage=stage
        )

    def net(self, size: Size, changes: Changes = ()) -> SparseSwin:
        """Return a detector's backbone with fresh weights, to count and to time."""
        return backbone_of(MODELS.build(self.config(0, size, changes).model)).eval()


@dataclass(frozen=True)
class Step(ABC):
    """One step of a study.

    ``product`` is a file in the work dir. If ``alone`` is set, the step measures times, and nothing
    else may run beside the step.
    """

    alone = False

    @property
    @abstractmethod
    def product(self) -> Path: ...

    @property
    def needs(self) -> tuple[Step, ...]:
        return ()

    def done(self, workspace: Workspace) -> bool:
        return (workspace.folder / self.product).exists()

    def can_begin(self, workspace: Workspace) -> bool:
        return all(need.done(workspace) for need in self.needs)

    def read(self, workspace: Workspace, key: str) -> Any:
        """Return a value of the step's product. Raises InputError if the product is damaged."""
        return read_json(
            workspace.folder / self.product,
            "Remove it, and the same command makes it again.",
            lambda text: parse_object(text)[key],
        )

    @abstractmethod
    def run(self, workspace: Workspace) -> None: ...


def name_of(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def machine(size: Size) -> Machine:
    """Return this machine, with six images at once."""
    width, height = size
    return Machine.here("cpu", "float32", (len(CAMERAS), 3, height, width), THREADS)
