"""What an arm consists of: steps, each of which leaves one product in the work dir, whole or not at all.

Arms that begin alike share steps: all of a seed the dense base, those that adapt alike the adapted weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from benchmarks.accuracy import oracle, scenes
from benchmarks.accuracy.study import DENSE, RANDOM_PLANS, Arm, Group, Limits, Study
from sparsevit3d.latency import time_calls
from sparsevit3d.latency_table import Machine, table_for
from sparsevit3d.macs import count_macs, kept_windows
from sparsevit3d.plan import RATIO_GRID, SparsityPlan
from sparsevit3d.search.objective import Question
from sparsevit3d.search.run import Request, search
from sparsevit3d.search.workers import hire
from sparsevit3d.sparse_swin import SparseSwin
from sparsevit3d.stages.evaluate import Evaluator
from sparsevit3d.stages.experiment import load_config
from sparsevit3d.stages.files import fingerprint, write_json
from sparsevit3d.stages.look import Keyframes
from sparsevit3d.stages.submission import CAMERA_ORDER
from sparsevit3d.stages.train import adapt, finetune, train
from visualize.recall import Tally

Backbone = tuple[tuple[str, Any], ...]
SPLIT = "val"
LOOKED_AT = 40  # keyframes, for what windows keep of true objects


@dataclass(frozen=True)
class Room:
    """A study and the folder that it happens in."""

    study: Study
    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def size(self, arm: Arm) -> tuple[int, int]:
        """(width, height) of the network's image."""
        if isinstance(arm.input, tuple):
            return arm.input
        return self.limits(arm).smaller if arm.input == "smaller" else self.usual_size

    @property
    def usual_size(self) -> tuple[int, int]:
        width, height = self._read(()).image_size
        return width, height

    def limits(self, arm: Arm) -> Limits:
        return self.study.budgets[arm.budget]

    def config(self, seed: int, size: tuple[int, int], backbone: Backbone = (), stage: str | None = None) -> Config:
        config = self._read((f"image_size=[{size[0]},{size[1]}]", f"randomness.seed={seed}"), stage)
        config.train_cfg.max_epochs = self.study.epochs[stage or "train"]
        for schedule in config.param_scheduler:
            if schedule.by_epoch:
                schedule.end = config.train_cfg.max_epochs
        own = dict(backbone)
        if own.get("importance") == "oracle":
            config.custom_hooks.append({"type": "OracleHook"})
            del own["importance"]
        config.model.backbone.update(own)
        if "embed_dims" in own:
            config.model.neck.in_channels = [own["embed_dims"] << stage for stage in config.model.backbone.out_indices]
        return config

    def _read(self, options: tuple[str, ...], stage: str | None = None) -> Config:
        return load_config(self.study.config, self.data, options=(*self.study.options, *options), stage=stage)

    def net(self, size: tuple[int, int], backbone: Backbone = ()) -> SparseSwin:
        """With fresh weights, to count and to time."""
        config = self.config(0, size, backbone).model.backbone
        return SparseSwin(**{key: value for key, value in config.items() if key not in ("type", "init_cfg")}).eval()


@dataclass(frozen=True)
class Step:
    """``product`` is a file in the work dir; ``alone``: nothing else may run beside it, for it takes times."""

    alone = False

    @property
    def product(self) -> Path:
        raise NotImplementedError

    @property
    def needs(self) -> tuple[Step, ...]:
        return ()

    def run(self, room: Room) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Cost(Step):
    """Tables of what parts of the backbone take at each size, and how long the dense backbone takes at all of them."""

    sizes: tuple[tuple[int, int], ...]
    alone = True

    @property
    def product(self) -> Path:
        return Path("cost.json")

    def run(self, room: Room) -> None:
        found = {}
        for size in self.sizes:
            net = room.net(size)
            table = table_for(net, machine(size))
            dense = SparsityPlan.uniform(0, net.depths)
            kept = {
                ratio: [stage[0] for stage in kept_windows(net, size[::-1], SparsityPlan.uniform(ratio, net.depths))]
                for ratio in RATIO_GRID
            }
            found[name_of(size)] = {
                "ms": table.table.predict(dense),
                "gmacs": count_macs(net, size[::-1], dense) / 1e9,
                "kept windows by stage and ratio": kept,
                "off by, at the median and at worst": [table.accuracy.median_error, table.accuracy.worst_error],
            }
        write_json(room.folder / self.product, {"machine": machine((0, 0)).name, "images": len(CAMERA_ORDER), "sizes": found})


def name_of(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def machine(size: tuple[int, int]) -> Machine:
    """All cores of this one, six images at once."""
    width, height = size
    return Machine.here("cpu", "float32", (len(CAMERA_ORDER), 3, height, width), threads=len(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class Base(Step):
    """The dense network, from scratch, that all arms of a seed go on from."""

    seed: int
    backbone: Backbone  # what of an arm's own changes the weights' shapes

    @property
    def product(self) -> Path:
        return Path(f"seed{self.seed}", "_".join(("base", *(f"{key}{value}" for key, value in self.backbone))), "checkpoint.json")

    def run(self, room: Room) -> None:
        folder = room.folder / self.product.parent
        note(room, self, train(room.config(self.seed, room.usual_size, self.backbone), folder))


def note(room: Room, step: Step, checkpoint: Path) -> None:
    """A stage's product: where its checkpoint is."""
    write_json(room.folder / step.product, {"checkpoint": checkpoint.name, "sha256": fingerprint(checkpoint)})


def checkpoint_of(room: Room, step: Step) -> Path:
    path = room.folder / step.product
    return path.parent / json.loads(path.read_text())["checkpoint"]


@dataclass(frozen=True)
class Adapted(Step):
    """The base after the stage of adaptation: under random plans, or dense for as long."""

    seed: int
    size: tuple[int, int]
    kind: str
    backbone: Backbone

    @property
    def product(self) -> Path:
        own = "_".join((self.kind.replace(" ", "_"), *(f"{key}_{value}" for key, value in self.backbone)))
        return Path(f"seed{self.seed}", f"adapted_{name_of(self.size)}_{own}", "checkpoint.json")

    @property
    def needs(self) -> tuple[Step, ...]:
        return (Base(self.seed, tuple(pair for pair in self.backbone if pair[0] == "embed_dims")),)

    def run(self, room: Room) -> None:
        folder, start = room.folder / self.product.parent, checkpoint_of(room, self.needs[0])
        config = room.config(self.seed, self.size, self.backbone, "adapt")
        if self.kind == RANDOM_PLANS:
            note(room, self, adapt(config, folder, start))
        else:
            note(room, self, finetune(config, folder, start, SparsityPlan.uniform(0, config.model.backbone.depths)))


@dataclass(frozen=True)
class Searched(Step):
    """A plan of ``algorithm`` for adapted weights, within a budget."""

    adapted: Adapted
    cost: Cost
    algorithm: str
    budget: str

    @property
    def product(self) -> Path:
        return (
            self.adapted.product.parent.with_name(
                self.adapted.product.parent.name.replace("adapted", f"{self.algorithm}_{self.budget}")
            )
            / "plan.json"
        )

    @property
    def needs(self) -> tuple[Step, ...]:
        return (self.adapted, self.cost)

    def run(self, room: Room) -> None:
        limits, own = room.study.budgets[self.budget], self.adapted
        sizes = json.loads((room.folder / self.cost.product).read_text())["sizes"]
        question = Question(room.config(own.seed, own.size, own.backbone), checkpoint_of(room, own))
        request = Request(
            self.algorithm,
            room.study.search,
            max_gmacs=limits.share * sizes[name_of(room.usual_size)]["gmacs"],
            max_ms=sizes[name_of(limits.smaller)]["ms"],
            machine=machine(own.size),
        )
        with closing(hire(question, 1)) as judge:
            search(question, request, room.folder / self.product.parent, judge)


@dataclass(frozen=True)
class Finetuned(Step):
    """The last stage: under a plan, or under random ones again."""

    arm: Arm
    adapted: Adapted
    plan: Searched | None  # None: dense

    @property
    def product(self) -> Path:
        return Path(f"seed{self.adapted.seed}", self.arm.folder, "checkpoint.json")

    @property
    def needs(self) -> tuple[Step, ...]:
        return (self.adapted, self.plan) if self.plan else (self.adapted,)

    def run(self, room: Room) -> None:
        folder, start, own = room.folder / self.product.parent, checkpoint_of(room, self.adapted), self.adapted
        config = room.config(own.seed, own.size, own.backbone, "finetune")
        if self.arm.finetune == RANDOM_PLANS:
            note(room, self, adapt(config, folder, start))
        else:
            note(room, self, finetune(config, folder, start, plan_of(room, self)))


def plan_of(room: Room, step: Finetuned) -> SparsityPlan:
    if step.plan is None:
        return SparsityPlan.uniform(0, room.config(0, room.usual_size).model.backbone.depths)
    return SparsityPlan.load(room.folder / step.plan.product)


@dataclass(frozen=True)
class Scored(Step):
    """The arm's score on scenes that no stage has opened, with all that its intervals follow from."""

    group: str
    finetuned: Finetuned

    @property
    def product(self) -> Path:
        return Path("results", f"{self.group}_{self.finetuned.arm.folder}_{self.finetuned.adapted.seed}.json")

    @property
    def needs(self) -> tuple[Step, ...]:
        return (self.finetuned,)

    def run(self, room: Room) -> None:
        arm, own = self.finetuned.arm, self.finetuned.adapted
        checkpoint, plan = checkpoint_of(room, self.finetuned), plan_of(room, self.finetuned)
        submission = room.folder / self.finetuned.product.parent / "results_nusc.json"
        evaluator = Evaluator(
            room.config(own.seed, own.size, own.backbone), checkpoint, SPLIT, submission.parent / "score", submission
        )
        if ("importance", "oracle") in own.backbone:
            oracle.attach(evaluator.runner.model, Path(evaluator.runner.cfg.test_evaluator.ann_file))
        score = evaluator(plan)
        (metric,) = evaluator.runner.test_evaluator.metrics
        net, tally = room.net(own.size, own.backbone), Tally()
        keyframes = Keyframes(evaluator.runner.cfg, evaluator.runner.model.eval(), SPLIT)
        for number in keyframes.spread(LOOKED_AT):
            tally.add(keyframes.look(number, plan))
        document = {
            "arm": arm.name,
            "group": self.group,
            "seed": own.seed,
            "input": list(own.size),
            "plan": str(plan),
            "gmacs": count_macs(net, own.size[::-1], plan) / 1e9,
            "score": score,
            "weights": fingerprint(checkpoint),
            "epochs": room.study.epochs,
            "windows": None if plan.is_dense else tally.as_dict(),
            **scenes.examine(metric.truth, submission),
        }
        (room.folder / self.product).parent.mkdir(exist_ok=True)
        write_json(room.folder / self.product, document)


@dataclass(frozen=True)
class Timed(Step):
    """What the backbones of a group's arms take, all of them taking turns."""

    group: str
    arms: tuple[Finetuned, ...]
    alone = True

    @property
    def product(self) -> Path:
        return Path("results", f"times_{self.group}.json")

    @property
    def needs(self) -> tuple[Step, ...]:
        return self.arms

    def run(self, room: Room) -> None:
        calls, names = {}, {}
        torch.set_num_threads(machine((0, 0)).threads)
        for step in self.arms:
            size, plan = step.adapted.size, plan_of(room, step)
            name = f"{name_of(size)} {plan}"
            names.setdefault(step.arm.name, {})[step.adapted.seed] = name
            if name not in calls:
                net = room.net(size, step.adapted.backbone)
                net.plan = plan
                calls[name] = partial(net, torch.randn(machine(size).shape, generator=torch.Generator().manual_seed(0)))
        times = time_calls(calls, torch.empty(0), runs=40)
        write_json(
            room.folder / self.product,
            {
                "machine": machine((0, 0)).name,
                "images": len(CAMERA_ORDER),
                "ms": {arm: {seed: times[name].p50_ms for seed, name in of.items()} for arm, of in names.items()},
                "spread": max(latency.spread for latency in times.values()),
            },
        )


def steps_of_group(room: Room, group: Group) -> list[Step]:
    """Seed by seed, arm by arm, in an order in which they can be taken."""
    steps = [step for seed in group.seeds for arm in group.arms for step in steps_of(room, group.name, arm, seed)]
    return [*steps, Timed(group.name, tuple(finetuned_of(room, arm, seed) for arm in group.arms for seed in group.seeds))]


def steps_of(room: Room, group: str, arm: Arm, seed: int) -> Iterator[Step]:
    """In the order in which they can be taken."""
    finetuned = finetuned_of(room, arm, seed)
    yield from _with_needs(Scored(group, finetuned))


def _with_needs(step: Step) -> Iterator[Step]:
    for need in step.needs:
        yield from _with_needs(need)
    yield step


def finetuned_of(room: Room, arm: Arm, seed: int) -> Finetuned:
    kind = DENSE if arm.plan == DENSE else arm.adapt
    adapted = Adapted(seed, room.size(arm), kind, arm.backbone)
    if arm.plan == DENSE:
        return Finetuned(arm, adapted, None)
    if arm.plan in {other.name for other in room.study.arms()}:
        plan = finetuned_of(room, room.study.arm(arm.plan), seed).plan
    else:
        plan = Searched(adapted, cost_of(room), arm.plan, arm.budget)
    return Finetuned(arm, adapted, plan)


def cost_of(room: Room) -> Cost:
    """Of all sizes that the study knows."""
    sizes = {room.size(arm) for arm in room.study.arms()} | {room.usual_size}
    return Cost(tuple(sorted(sizes)))
