"""What an arm scores and costs, and which steps lead to these results."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.accuracy import oracle, scenes
from benchmarks.accuracy.steps import (
    DISTILLATION,
    Adapted,
    Cost,
    Finetuned,
    Searched,
    checkpoint_of,
    plan_of,
)
from benchmarks.accuracy.study import DENSE, OWN_INPUT, Arm, Group
from benchmarks.accuracy.workspace import THREADS, Step, Workspace, machine
from data_tools.schema import CAMERAS
from sparsevit3d.backbone import backbone_of
from sparsevit3d.cost.latency import time_calls
from sparsevit3d.cost.macs import count_macs
from sparsevit3d.files import fingerprint, write_json, write_text
from sparsevit3d.stages.benchmark import count_gmacs
from sparsevit3d.stages.config import use_split
from sparsevit3d.stages.evaluate import Evaluator
from sparsevit3d.stages.look import Keyframes, load_keyframe
from sparsevit3d.stages.runner import load_detector
from sparsevit3d.swin.plan import RATIO_GRID, SparsityPlan
from visualize.recall import Tally

SPLIT = "val"
ORACLE = "OracleHook"
HIGH = (0.5, 0.6, 0.7, 0.8)  # ratios that are tried in one stage alone
LOOKED_AT = 40  # keyframes to measure which true objects the kept windows hold


@dataclass(frozen=True)
class Scored(Step):
    """The arm's score on scenes that no stage has opened, and the data for its intervals."""

    group: str
    finetuned: Finetuned

    @property
    def product(self) -> Path:
        return Path(
            "results",
            f"{self.group}_{self.finetuned.arm.folder}_{self.finetuned.adapted.seed}.json",
        )

    @property
    def needs(self) -> tuple[Step, ...]:
        return (self.finetuned,)

    def run(self, workspace: Workspace) -> None:
        arm = self.finetuned.arm
        own = self.finetuned.adapted
        checkpoint = checkpoint_of(workspace, self.finetuned)
        plan = plan_of(workspace, self.finetuned)
        submission = workspace.folder / self.finetuned.product.parent / "results_nusc.json"
        evaluator = Evaluator(
            own.config(workspace), checkpoint, SPLIT, submission.parent / "score", submission
        )
        if ORACLE in own.hooks:
            oracle.attach(
                evaluator.runner.model,
                oracle.Oracle(Path(evaluator.runner.cfg.test_evaluator.ann_file)),
            )
        score = evaluator(plan)
        (metric,) = evaluator.runner.test_evaluator.metrics
        net = workspace.net(own.size, own.changes)
        tally = Tally()
        keyframes = Keyframes(evaluator.runner.cfg, evaluator.runner.model.eval(), SPLIT)
        for number in [] if plan.is_dense else keyframes.spread(LOOKED_AT):
            tally.add(keyframes.look(number, plan))
        document = {
            "arm": arm.name,
            "group": self.group,
            "seed": own.seed,
            "input": list(own.seen),
            "plan": str(plan),
            "gmacs": count_macs(net, own.seen[::-1], plan) / 1e9,
            "score": score,
            "weights": fingerprint(checkpoint),
            "epochs": workspace.study.epochs,
            "windows": None if plan.is_dense else tally.as_dict(),
            **scenes.examine(metric.truth, submission),
        }
        # Thousands of numbers, none of which is read alone, so the file is not indented.
        write_text(workspace.folder / self.product, json.dumps(document) + "\n")


@dataclass(frozen=True)
class Swept(Step):
    """What a ratio costs adapted weights before they are finetuned, on the scenes of ``search``.

    A ratio is tried in all stages and in one stage alone.
    """

    adapted: Adapted

    @property
    def product(self) -> Path:
        return Path("results", f"ratios_{self.adapted.seed}.json")

    @property
    def needs(self) -> tuple[Step, ...]:
        return (self.adapted,)

    def run(self, workspace: Workspace) -> None:
        submission = workspace.folder / f"seed{self.adapted.seed}" / "ratios" / "results_nusc.json"
        config = self.adapted.config(workspace)
        checkpoint = checkpoint_of(workspace, self.adapted)
        evaluator = Evaluator(config, checkpoint, "search", submission.parent, submission)
        (metric,) = evaluator.runner.test_evaluator.metrics
        rows: list[dict[str, Any]] = []
        dense: dict[str, NDArray[np.float64]] = {}
        for plan in plans_of_ratios(evaluator.net.depths):
            score = evaluator(plan)
            draws = {
                name: np.array(of)
                for name, of in scenes.examine(metric.truth, submission)["draws"].items()
            }
            dense = dense or draws
            first = rows[0] if rows else score
            found = {
                name: scenes.interval([score[name] - first[name]], [draws[name] - dense[name]])
                for name in draws
            }
            rows.append(
                {
                    "plan": str(plan),
                    **{name: score[name] for name in draws},
                    "points from dense": found,
                }
            )
        write_json(
            workspace.folder / self.product,
            {"seed": self.adapted.seed, "weights": fingerprint(checkpoint), "plans": rows},
        )


def plans_of_ratios(depths: Sequence[int]) -> Iterator[SparsityPlan]:
    """Yield each ratio in all stages, starting with 0, then the high ratios in one stage alone."""
    for ratio in RATIO_GRID:
        yield SparsityPlan.uniform(ratio, depths)
    for alone in range(len(depths)):
        for ratio in HIGH:
            uniform = SparsityPlan.uniform(ratio, depths).ratios
            yield SparsityPlan(
                tuple(
                    pairs if stage == alone else (0.0,) * len(pairs)
                    for stage, pairs in enumerate(uniform)
                )
            )


@dataclass(frozen=True)
class Timed(Step):
    """Times of backbones and whole detectors for the six images of a keyframe.

    All contenders take turns.
    """

    group: str
    arms: tuple[Finetuned, ...]
    alone = True

    @property
    def product(self) -> Path:
        return Path("results", f"times_{self.group}.json")

    @property
    def needs(self) -> tuple[Step, ...]:
        return self.arms

    def done(self, workspace: Workspace) -> bool:
        """Whether all of these arms and seeds were timed.

        If fewer were timed together, all are timed again.
        """
        if not super().done(workspace):
            return False
        ms = self.read(workspace, "backbone, ms")
        return all(str(step.adapted.seed) in ms.get(step.arm.name, {}) for step in self.arms)

    def run(self, workspace: Workspace) -> None:
        calls: dict[tuple[str, Finetuned], Callable[[], object]] = {}
        gmacs: dict[str, float] = {}  # of an image through neck and head, which no plan changes
        for step in self.arms:
            config = step.adapted.config(workspace)
            use_split(config, SPLIT)
            model = load_detector(config, checkpoint_of(workspace, step), plan_of(workspace, step))
            batch = model.data_preprocessor(load_keyframe(config, 0)[0])
            images = batch["inputs"]["imgs"]
            calls["backbone, ms", step] = partial(backbone_of(model), images)
            calls["image to boxes, ms", step] = partial(
                model.predict, batch["inputs"], batch["data_samples"]
            )
            counted = count_gmacs(model, images)
            gmacs[step.arm.name] = (counted["neck"] + counted["head"]) / len(images)
        times = time_calls(
            {str(number): call for number, call in enumerate(calls.values())},
            torch.empty(0),
            runs=20,
        )
        found: dict[str, dict[str, dict[int, float]]] = {}
        for (part, step), latency in zip(calls, times.values(), strict=True):
            found.setdefault(part, {}).setdefault(step.arm.name, {})[step.adapted.seed] = (
                latency.p50_ms
            )
        document = {
            "machine": machine(workspace.usual_size).name,
            "threads": THREADS,
            "images": len(CAMERAS),
            **found,
            "neck and head, GMACs": gmacs,
            "spread, at the median and at worst": [
                function(latency.spread for latency in times.values())
                for function in (statistics.median, max)
            ],
        }
        write_json(workspace.folder / self.product, document)


def steps_of_group(workspace: Workspace, group: Group) -> list[Step]:
    """List the steps of a group, seed by seed and arm by arm, in an order that can be run.

    The arms of other groups that the group is compared with are included. Steps whose product
    exists are left out, together with the steps that led to them.
    """
    names = dict.fromkeys(name for arm in group.arms for name in (*arm.against, arm.name))
    arms = [workspace.study.arm(name) for name in names]
    ends: list[Step] = [
        Scored(workspace.study.group_of(arm).name, finetuned_of(workspace, arm, seed))
        for seed in group.seeds
        for arm in arms
    ]
    if group.ratios is not None:
        ends += [
            Swept(finetuned_of(workspace, workspace.study.arm(group.ratios), seed).adapted)
            for seed in group.seeds
        ]
    if group.timed:
        timed = [arm for arm in arms if ORACLE not in arm.hooks]  # the oracle's time says nothing
        ends.append(
            Timed(
                group.name,
                tuple(finetuned_of(workspace, arm, seed) for arm in timed for seed in group.seeds),
            )
        )
    return list(dict.fromkeys(step for end in ends for step in _with_needs(end, workspace)))


def _with_needs(step: Step, workspace: Workspace) -> Iterator[Step]:
    if not step.done(workspace):
        for need in step.needs:
            yield from _with_needs(need, workspace)
        yield step


def finetuned_of(workspace: Workspace, arm: Arm, seed: int) -> Finetuned:
    kind = DENSE if arm.plan == DENSE else arm.adapt
    teacher = (
        finetuned_of(workspace, workspace.study.arm(DENSE), seed)
        if DISTILLATION in arm.hooks
        else None
    )
    adapted = Adapted(
        seed,
        workspace.size(arm),
        kind,
        arm.changes,
        arm.hooks,
        arm.base == OWN_INPUT,
        arm.rows,
        teacher,
    )
    if arm.plan == DENSE:
        depths = workspace.config(0, workspace.usual_size).model.backbone.depths
        return Finetuned(arm, adapted, SparsityPlan.uniform(0, depths))
    if "|" in arm.plan:
        return Finetuned(arm, adapted, SparsityPlan.parse(arm.plan))
    if arm.plan in {other.name for other in workspace.study.arms()}:
        return Finetuned(
            arm, adapted, finetuned_of(workspace, workspace.study.arm(arm.plan), seed).plan
        )
    smaller = workspace.study.budgets[arm.budget].smaller
    # The cost of a changed net would be measured in another hour than the rival's time. The two
    # could not be compared.
    rival = Cost(smaller) if smaller and not arm.changes else None
    return Finetuned(
        arm, adapted, Searched(adapted, arm.plan, arm.budget, Cost(workspace.usual_size), rival)
    )
