"""Train, adapt, finetune: the same loop under different plans.

A stage can be killed at any moment. Called again with the same arguments, it goes on from the last
whole checkpoint. It ends with the weights of a run that was never interrupted, because an epoch
follows from that checkpoint, the seed and the epoch's number.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.hooks import Hook

from data_tools.images import ImageError
from sparsevit3d.errors import InputError
from sparsevit3d.files import fingerprint, sole_owner
from sparsevit3d.stages.checkpoints import (
    checkpoint_name,
    list_checkpoints,
    read_checkpoint,
    read_state,
    way_on,
)
from sparsevit3d.stages.config import info_file
from sparsevit3d.stages.hooks import ProgressHook
from sparsevit3d.stages.look import PictureHook, Pictures
from sparsevit3d.stages.provenance import (
    REQUEST,
    claim,
    claimed_by,
    experiment_of,
    request_of,
    unclaim,
    write_provenance,
)
from sparsevit3d.stages.runner import build_runner, join_processes
from sparsevit3d.swin.plan import SparsityPlan

STAGES = ("train", "adapt", "finetune")


def train(
    config: Config, work_dir: Path, weights: Path | None = None, draw: Pictures | None = None
) -> Path:
    """Train the dense detector, from scratch or on from ``weights``. Returns the checkpoint.

    Here and in the other stages, ``draw`` makes the pictures that go to TensorBoard after each
    epoch.
    """
    return _run(config, work_dir, "train", weights, None, draw)


def adapt(config: Config, work_dir: Path, weights: Path, draw: Pictures | None = None) -> Path:
    """Adapt ``weights`` to sparsity (section 3.3): a random plan each iteration.

    Returns the checkpoint, which is dense.
    """
    return _run(config, work_dir, "adapt", weights, None, draw)


def finetune(
    config: Config, work_dir: Path, weights: Path, plan: SparsityPlan, draw: Pictures | None = None
) -> Path:
    """Train ``weights`` on under one plan. Returns the checkpoint, which carries the plan."""
    plan.check(config.model.backbone.depths)
    return _run(config, work_dir, "finetune", weights, plan, draw)


def _run(
    config: Config,
    work_dir: Path,
    stage: str,
    weights: Path | None,
    plan: SparsityPlan | None,
    draw: Pictures | None,
) -> Path:
    """Run a stage to its end, from where it stopped if it has run before.

    A finished stage returns at once.
    """
    join_processes()
    config = copy.deepcopy(config)
    last = work_dir / checkpoint_name(config.train_cfg.max_epochs)
    request = {
        "stage": stage,
        "config": experiment_of(config),
        "data": fingerprint(info_file(config.train_dataloader.dataset)),
        "processes": get_world_size(),
    }
    if weights is not None:
        read_state(weights)
        request |= {"weights": fingerprint(weights), "plan": plan and str(plan)}
        config.custom_hooks.append(
            {"type": "StartHook", "weights": str(weights), "plan": plan and str(plan)}
        )
    if stage == "adapt":
        config.custom_hooks.append({"type": "RandomPlanHook", "seed": config.randomness.seed})
    with ExitStack() as held:
        done: list[Path] = []
        if is_main_process():
            work_dir.mkdir(parents=True, exist_ok=True)
            held.enter_context(
                sole_owner(
                    work_dir,
                    lambda: print(
                        f"{work_dir}: another process is at work here. Waiting for it.", flush=True
                    ),
                )
            )
            done = list_checkpoints(work_dir)
            _claim(work_dir, request, done)
            if last not in done:
                write_provenance(work_dir, config, stage=stage, weights=weights, plan=plan)
        agreed = [done]
        # All processes go on from what the first one found.
        broadcast_object_list(agreed)
        (done,) = agreed
        if last not in done:
            if weights is not None or done:
                config.model.backbone.init_cfg = None  # its weights are about to be replaced
            # Adaptation has no plan of its own. Pictures show one of the many plans that it meets.
            shown = (
                SparsityPlan.uniform(0.5, config.model.backbone.depths)
                if stage == "adapt"
                else None
            )
            _train(
                config,
                work_dir,
                done[-1] if done else None,
                [PictureHook(draw, shown)] if draw else [],
            )
    return last


def _claim(work_dir: Path, request: dict[str, Any], done: list[Path]) -> None:
    """Make ``work_dir`` this request's, and check that the last checkpoint, if any, is whole."""
    found = claimed_by(work_dir)
    if done and found is None:
        raise InputError(
            f"{work_dir}: holds checkpoints, but no {REQUEST} that says which stage began them. "
            "Use another --work-dir."
        )
    if not done and found is not None and found.get("stage") in STAGES:
        unclaim(work_dir)  # by an attempt that saved no checkpoint
    claim(work_dir, request)
    try:
        for checkpoint in done[-1:]:
            _must_be_own(checkpoint)
    except InputError as error:
        start = f"from {done[-2].name}" if len(done) > 1 else "from the beginning"
        raise InputError(
            f"{error}\nOnce it is removed, the same command goes on {start}."
        ) from error


def _must_be_own(checkpoint: Path) -> None:
    """Raise InputError for a checkpoint that is damaged or that another experiment wrote."""
    content = read_checkpoint(checkpoint)
    # Checkpoints of earlier versions do not say whose they are.
    if content.get("request") not in (None, request_of(checkpoint.parent)):
        raise InputError(f"{checkpoint}: is of another experiment than its folder. Remove it.")


def _train(config: Config, work_dir: Path, start: Path | None, hooks: Sequence[Hook]) -> None:
    runner = None
    try:
        runner = build_runner(config, work_dir, resume_from=start)
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()
    except (ImageError, OSError) as error:
        raise InputError(
            f"{work_dir}: stopped by {str(error).removesuffix('.')}. Once this is mended, "
            f"{way_on(work_dir)}"
        ) from error
    finally:
        for hook in runner.hooks if runner else ():
            if isinstance(hook, ProgressHook):
                hook.after_train(runner)
