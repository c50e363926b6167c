"""The steps of an arm, each of which leaves one product in the work dir, whole or not at all.

Arms that begin alike share steps. All arms of a seed share the dense base. Arms that adapt alike
share the adapted weights.
"""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle
from os.path import relpath
from pathlib import Path

from mmengine.config import Config

from benchmarks.accuracy.study import RANDOM_PLANS, Arm, Changes
from benchmarks.accuracy.workspace import Size, Step, Workspace, machine, name_of
from benchmarks.contenders import cut_rows
from data_tools.schema import CAMERAS
from sparsevit3d.cost.latency_table import table_for
from sparsevit3d.cost.macs import count_macs, kept_windows
from sparsevit3d.files import fingerprint, write_json
from sparsevit3d.search.objective import Question
from sparsevit3d.search.run import Request, search
from sparsevit3d.search.workers import hire
from sparsevit3d.stages.checkpoints import WEIGHTS, save_weights
from sparsevit3d.stages.runner import build_runner
from sparsevit3d.stages.train import adapt, finetune, train
from sparsevit3d.swin.plan import RATIO_GRID, SparsityPlan

DISTILLATION = "DistillationHook"
# Changes to these keys change the shapes of the weights, so the base has the changes too.
SHAPES = ("model.backbone.embed_dims", "model.neck.in_channels")


@dataclass(frozen=True)
class Cost(Step):
    """A table of the cost of the backbone's parts at a size, and the cost of the dense backbone."""

    size: Size
    alone = True

    @property
    def product(self) -> Path:
        return Path("results", f"cost_{name_of(self.size)}.json")

    def run(self, workspace: Workspace) -> None:
        net = workspace.net(self.size)
        table = table_for(net, machine(self.size))
        dense = SparsityPlan.uniform(0, net.depths)
        kept = {
            ratio: [
                stage[0]
                for stage in kept_windows(
                    net, self.size[::-1], SparsityPlan.uniform(ratio, net.depths)
                )
            ]
            for ratio in RATIO_GRID
        }
        document = {
            "machine": machine(self.size).name,
            "images": len(CAMERAS),
            "ms": table.table.predict(dense),
            "gmacs": count_macs(net, self.size[::-1], dense) / 1e9,
            "kept windows by stage and ratio": kept,
            "off by, at the median and at worst": [
                table.accuracy.median_error,
                table.accuracy.worst_error,
            ],
        }
        write_json(workspace.folder / self.product, document)


@dataclass(frozen=True)
class Pace(Step):
    """How fast a core trains the dense network, measured before hours of training begin."""

    warm_up = 2
    steps = 8
    alone = True

    @property
    def product(self) -> Path:
        return Path("results", "pace.json")

    def run(self, workspace: Workspace) -> None:
        runner = build_runner(workspace.config(0, workspace.usual_size), workspace.folder / "pace")
        optimizer = runner.build_optim_wrapper(runner.optim_wrapper)
        model = runner.model.train()
        batches = cycle(runner.build_dataloader(runner.cfg.train_dataloader))
        start = 0.0
        for number in range(self.warm_up + self.steps):
            if number == self.warm_up:
                start = time.monotonic()
            model.train_step(next(batches), optimizer)
        seconds = (time.monotonic() - start) / self.steps
        write_json(
            workspace.folder / self.product,
            {"images a second": runner.cfg.train_dataloader.batch_size / seconds},
        )


@dataclass(frozen=True)
class Base(Step):
    """The dense network from which all arms of a seed go on.

    Arms that begin at a size of their own have a base of their own. The base is trained from
    scratch, or copied from the weights that the study names.

    The weights are rounded to half precision, so that they stay the same when they are published.
    """

    seed: int
    changes: Changes = ()
    size: Size | None = None  # None: the usual size

    @property
    def product(self) -> Path:
        size = f"_{name_of(self.size)}" if self.size else ""
        return Path(f"seed{self.seed}", f"base{size}{_suffix(self.changes)}", "checkpoint.json")

    def run(self, workspace: Workspace) -> None:
        folder = workspace.folder / self.product.parent
        base = folder / f"base{WEIGHTS}"
        if self == Base(self.seed) and self.seed in workspace.study.bases:
            shutil.copyfile(workspace.study.bases[self.seed], base)
        else:
            save_weights(
                train(
                    workspace.config(self.seed, self.size or workspace.usual_size, self.changes),
                    folder,
                ),
                base,
            )
        note(workspace, self, base)


def _suffix(changes: Changes, hooks: tuple[str, ...] = ()) -> str:
    """Return the part of a folder's name that names changes and hooks."""
    values = (f"_{key.rpartition('.')[2]}_{value}" for key, value in changes)
    return "".join((*values, *(f"_{hook}" for hook in hooks))).translate(
        str.maketrans(" ", "_", ",()")
    )


def note(workspace: Workspace, step: Step, checkpoint: Path) -> None:
    """Write a stage's product: where its checkpoint is."""
    product = workspace.folder / step.product
    write_json(
        product,
        {"checkpoint": relpath(checkpoint, product.parent), "sha256": fingerprint(checkpoint)},
    )


def checkpoint_of(workspace: Workspace, step: Step) -> Path:
    folder = (workspace.folder / step.product).parent
    return folder / step.read(workspace, "checkpoint")


@dataclass(frozen=True)
class Adapted(Step):
    """The base after the stage of adaptation: under random plans, or dense for as long.

    If the study has no pass of adaptation, this is the base.
    """

    seed: int
    size: Size
    kind: str
    changes: Changes = ()
    hooks: tuple[str, ...] = ()
    own_base: bool = False  # whether the base was trained at this size
    rows: tuple[int, int] | None = None  # of the image: the first one, and how many
    teacher: Step | None = None  # teacher of a DistillationHook

    @property
    def way(self) -> str:
        """The name that tells this adaptation from others of its seed."""
        size = f"{name_of(self.size)}{'_from_the_start' if self.own_base else ''}"
        rows = f"_rows_{self.rows[0]}_{self.rows[1]}" if self.rows else ""
        kind = self.kind.replace(" ", "_")
        return f"{size}{rows}_{kind}{_suffix(self.changes, self.hooks)}"

    @property
    def seen(self) -> Size:
        """The size of the image that the network sees."""
        return (self.size[0], self.rows[1]) if self.rows else self.size

    @property
    def product(self) -> Path:
        return Path(f"seed{self.seed}", f"adapted_{self.way}", "checkpoint.json")

    @property
    def needs(self) -> tuple[Step, ...]:
        shapes = tuple(change for change in self.changes if change[0] in SHAPES)
        base = Base(self.seed, shapes, self.size if self.own_base else None)
        return (base, self.teacher) if self.teacher else (base,)

    def config(self, workspace: Workspace, stage: str | None = None) -> Config:
        config = workspace.config(self.seed, self.size, self.changes, self.hooks, stage)
        if self.teacher:
            (hook,) = (hook for hook in config.custom_hooks if hook["type"] == DISTILLATION)
            hook["weights"] = str(checkpoint_of(workspace, self.teacher))
        if self.rows:
            cut_rows(config, *self.rows)
        return config

    def run(self, workspace: Workspace) -> None:
        folder = workspace.folder / self.product.parent
        start = checkpoint_of(workspace, self.needs[0])
        config = self.config(workspace, "adapt")
        if not workspace.study.epochs["adapt"]:
            note(workspace, self, start)
        elif self.kind == RANDOM_PLANS:
            note(workspace, self, adapt(config, folder, start))
        else:
            note(
                workspace,
                self,
                finetune(
                    config, folder, start, SparsityPlan.uniform(0, config.model.backbone.depths)
                ),
            )


@dataclass(frozen=True)
class Searched(Step):
    """A plan that ``algorithm`` found for adapted weights within a budget.

    The budget is a share of the MACs of ``dense``, and the time of ``rival`` if there is one.
    """

    adapted: Adapted
    algorithm: str
    budget: str
    dense: Cost
    rival: Cost | None

    @property
    def product(self) -> Path:
        return Path(
            f"seed{self.adapted.seed}",
            f"{self.algorithm}_{self.budget}_{self.adapted.way}",
            "plan.json",
        )

    @property
    def needs(self) -> tuple[Step, ...]:
        own = Cost(self.adapted.size)  # the table is measured while nothing else runs
        return (self.adapted, self.dense, *((self.rival, own) if self.rival else ()))

    def run(self, workspace: Workspace) -> None:
        question = Question(self.adapted.config(workspace), checkpoint_of(workspace, self.adapted))
        request = Request(
            self.algorithm,
            workspace.study.search,
            max_gmacs=workspace.study.budgets[self.budget].share
            * self.dense.read(workspace, "gmacs"),
            max_ms=self.rival.read(workspace, "ms") if self.rival else None,
            machine=machine(self.adapted.size),
        )
        with closing(hire(question, 1)) as judge:
            search(question, request, workspace.folder / self.product.parent, judge)


@dataclass(frozen=True)
class Finetuned(Step):
    """The last stage: finetuning under a plan, or under random plans again."""

    arm: Arm
    adapted: Adapted
    plan: Searched | SparsityPlan

    @property
    def product(self) -> Path:
        return Path(f"seed{self.adapted.seed}", self.arm.folder, "checkpoint.json")

    @property
    def needs(self) -> tuple[Step, ...]:
        return (self.adapted, self.plan) if isinstance(self.plan, Searched) else (self.adapted,)

    def run(self, workspace: Workspace) -> None:
        folder = workspace.folder / self.product.parent
        start = checkpoint_of(workspace, self.adapted)
        config = self.adapted.config(workspace, "finetune")
        if self.arm.finetune == RANDOM_PLANS:
            note(workspace, self, adapt(config, folder, start))
        else:
            note(workspace, self, finetune(config, folder, start, plan_of(workspace, self)))


def plan_of(workspace: Workspace, step: Finetuned) -> SparsityPlan:
    if isinstance(step.plan, SparsityPlan):
        return step.plan
    return SparsityPlan.load(workspace.folder / step.plan.product)
