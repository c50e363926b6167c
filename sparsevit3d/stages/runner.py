"""Build mmengine's Runner, and a trained detector, as a config describes them."""

from __future__ import annotations

import copy
import itertools
import logging
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmdet3d.registry import MODELS
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import init_dist
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from sparsevit3d.backbone import backbone_of
from sparsevit3d.stages.checkpoints import load_weights
from sparsevit3d.swin.plan import SparsityPlan

_runners = itertools.count()
# A log that cannot be written, as on a full disk, is no reason for a traceback of its own.
logging.raiseExceptions = False
# Until a Runner opens its own log, mmengine's notices are dropped.
MMLogger.get_instance("sparsevit3d", log_level="ERROR")


def build_runner(config: Config, work_dir: Path, resume_from: Path | None = None) -> Runner:
    """Build mmengine's Runner in ``work_dir``.

    Its log goes to a file. The console shows only progress bars and errors.
    """
    config = copy.deepcopy(config)
    config.work_dir = str(work_dir)
    config.load_from = str(resume_from) if resume_from else None
    config.resume = resume_from is not None
    _fit_machine(config)
    # mmengine keeps runners apart by name, and names them by the second.
    config.experiment_name = f"{work_dir.name}_{next(_runners)}"
    return QuietRunner.from_cfg(config)


def join_processes() -> None:
    """Become one of torchrun's processes, if torchrun started this one."""
    if "RANK" in os.environ and not torch.distributed.is_initialized():
        if torch.cuda.is_available():
            init_dist("pytorch", backend="nccl")
        else:
            torch.distributed.init_process_group("gloo")


def _fit_machine(config: Config) -> None:
    """Adapt to torchrun's processes. Without a GPU, switch to full precision."""
    with_gpu = torch.cuda.is_available()
    launched = "RANK" in os.environ
    if (
        not with_gpu
        and "optim_wrapper" in config
        and config.optim_wrapper.type == "AmpOptimWrapper"
    ):
        config.optim_wrapper.type = "OptimWrapper"
        config.optim_wrapper.pop("dtype", None)
    if launched:
        config.launcher = "pytorch"
    if launched and not with_gpu:
        # Otherwise mmengine expects GPUs.
        config.model_wrapper_cfg = {"type": "MMDistributedDataParallel", "device_ids": None}


class QuietRunner(Runner):
    """A Runner whose log goes to its file alone.

    The console shows only progress bars and errors. Arguments are those of mmengine's Runner.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.ERROR)
        return logger


def load_detector(config: Config, checkpoint: Path, plan: SparsityPlan | None) -> Any:
    """Load the trained detector in eval mode, under ``plan``. None: the checkpoint's own plan."""
    return load_into(MODELS.build(config.model), checkpoint, plan)


def load_into(model: Any, checkpoint: Path, plan: SparsityPlan | None) -> Any:
    """Load the trained weights into a detector, see :func:`load_detector`."""
    load_weights(model, checkpoint)
    if plan is not None:
        backbone_of(model).plan = plan
    return model.to(get_device()).eval()
