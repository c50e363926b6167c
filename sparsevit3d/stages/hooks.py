"""What the stages add to mmengine's Runner.

Plans during training, whole and plain checkpoints, and a progress bar.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.dist import get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import FUNCTIONS, HOOKS, OPTIM_WRAPPERS

from sparsevit3d.backbone import backbone_of
from sparsevit3d.devices import multiplies_bfloat16
from sparsevit3d.errors import InputError
from sparsevit3d.files import whole_path, write_text
from sparsevit3d.stages.checkpoints import (
    checkpoint_name,
    list_checkpoints,
    load_weights,
    seal,
    way_on,
)
from sparsevit3d.stages.provenance import request_of
from sparsevit3d.swin.plan import SparsityPlan, sample_plan
from sparsevit3d.terminal import progress_bar


def plan_of_iteration(seed: int, iteration: int, depths: tuple[int, ...]) -> SparsityPlan:
    """Draw the random plan of one adaptation step.

    This is a pure function, so a resumed run draws the same plans as a run never interrupted.
    """
    return sample_plan(random.Random(f"{seed}/{iteration}"), depths)


@HOOKS.register_module()
class RandomPlanHook(Hook):
    """Sparsity-aware adaptation (section 3.3): train every iteration under another random plan.

    After the iteration the old plan is back.

    Args:
        seed (int): Decides all plans, together with the iteration. Default: 0.
    """

    priority = "HIGH"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        net = backbone_of(runner.model)
        self.found = net.plan
        net.plan = plan_of_iteration(self.seed, runner.iter, net.depths)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        backbone_of(runner.model).plan = self.found


@HOOKS.register_module()
class StartHook(Hook):
    """Begin with all weights of another stage, under ``plan``.

    Args:
        weights (str): Path of the checkpoint to begin with.
        plan (str or None): The plan to train under. None: dense, whatever plan the weights carry.
    """

    priority = "HIGH"  # before EMAHook copies the model

    def __init__(self, weights: str, plan: str | None) -> None:
        self.weights = Path(weights)
        self.plan = plan

    def before_run(self, runner: Any) -> None:
        backbone_of(runner.model).plan = self.plan

    def before_train(self, runner: Any) -> None:
        if runner.iter == 0:
            load_weights(runner.model, self.weights, runner.cfg.get("classes"))
        backbone_of(runner.model).plan = self.plan


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seed the random generators at the start of each epoch.

    Their seed follows from the run's seed, the epoch and the process alone. A checkpoint holds no
    generator's state. So a resumed run draws what an uninterrupted run draws.
    """

    priority = "VERY_HIGH"

    def before_train_epoch(self, runner: Any) -> None:
        digest = hashlib.sha256(f"{runner.seed}/{runner.epoch}/{get_rank()}".encode()).digest()
        set_generators(int.from_bytes(digest[:4], "big"))


@FUNCTIONS.register_module()
def seed_worker(worker: int) -> None:
    """A loader's ``worker_init_fn``, which gives other flips in every epoch.

    mmengine's own begins each epoch with the same flips.
    """
    set_generators(torch.initial_seed() % 2**32)  # torch derives this seed from the epoch's


def set_generators(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  transforms draw from the global generator
    torch.manual_seed(seed)


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Train with forward passes in bfloat16 where torch deems bfloat16 safe.

    Where the device does not multiply in bfloat16, passes run in float32. The loss needs no
    scaling. mmengine's AmpOptimWrapper does the same on accelerators alone. Arguments are those of
    mmengine's OptimWrapper.
    """

    @contextmanager
    def optim_context(self, model: Any) -> Iterator[None]:
        device = torch.device(get_device())
        with (
            super().optim_context(model),
            torch.autocast(device.type, torch.bfloat16, multiplies_bfloat16(device)),
        ):
            yield


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop at the first loss that is not finite, before anything is saved."""

    priority = "HIGH"

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if outputs is not None and not math.isfinite(loss := outputs["loss"].item()):
            raise diverged(runner, f"the loss is {loss}")


def diverged(runner: Any, what: str) -> InputError:
    kept = "".join(f" {path} is whole." for path in list_checkpoints(Path(runner.work_dir))[-1:])
    return InputError(
        f"{runner.work_dir}: {what} at iteration {runner.iter + 1}, in epoch {runner.epoch + 1}. "
        "The same command would meet it again: "
        "use a smaller optim_wrapper.optimizer.lr or optim_wrapper.clip_grad.max_norm, and "
        f"another work dir.{kept}"
    )


@HOOKS.register_module()
class WholeCheckpointHook(Hook):
    """Save after each epoch, whole or not at all, and keep the last two checkpoints.

    A checkpoint holds tensors and plain types under a seal. mmengine's own checkpoints hold pickled
    objects, which torch >= 2.6 rightly refuses to load. As with mmengine's, ``last_checkpoint``
    names the last one, so that ``resume`` of mmengine's Runner finds it.
    """

    priority = "VERY_LOW"  # after all hooks that change what is saved
    kept = 2

    def before_train(self, runner: Any) -> None:
        if runner.iter == 0 and list_checkpoints(Path(runner.work_dir)):
            raise InputError(
                f"{runner.work_dir}: holds checkpoints of another run. Resume that one, or use "
                "another work dir."
            )

    def after_train_epoch(self, runner: Any) -> None:
        folder = Path(runner.work_dir)
        name = checkpoint_name(runner.epoch + 1)
        if not is_main_process():
            return
        try:
            with whole_path(folder / name) as partial:
                runner.save_checkpoint(str(folder), partial.name, by_epoch=True)
            write_text(folder / "last_checkpoint", str(folder / name))
        except OSError as error:
            raise InputError(
                f"{error.filename}: cannot be written ({error.strerror}). Then {way_on(folder)}"
            ) from error
        for old in list_checkpoints(folder)[: -self.kept]:
            old.unlink()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if not all(value.isfinite().all() for value in checkpoint["state_dict"].values()):
            raise diverged(runner, "weights are no longer finite")
        # The smoothed losses of the last few iterations serve the log alone.
        checkpoint["message_hub"]["log_scalars"] = {}
        checkpoint["request"] = request_of(Path(runner.work_dir))
        seal(checkpoint)


@HOOKS.register_module()
class ProgressHook(Hook):
    """Show one bar for the whole of training, with the loss and the time left."""

    priority = "LOW"

    def __init__(self) -> None:
        self.shown = ExitStack()

    def before_train(self, runner: Any) -> None:
        self.update = self.shown.enter_context(progress_bar(Path(runner.work_dir).name))
        self.update(runner.iter, runner.max_iters)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        loss = "" if outputs is None else f"loss {outputs['loss'].item():.2f}"
        self.update(runner.iter + 1, runner.max_iters, loss)

    def after_train(self, runner: Any) -> None:
        """Close the bar.

        Also called where training was cut short, to leave the terminal as it was.
        """
        self.shown.close()
