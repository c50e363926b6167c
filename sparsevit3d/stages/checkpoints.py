"""Checkpoints of tensors and plain types: which there are, what is in them, and all of it into a model or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparsevit3d.plan import PlanError
from sparsevit3d.stages.files import ExperimentError


def checkpoint_name(epoch: int) -> str:
    return f"epoch_{epoch:04d}.pth"


def list_checkpoints(folder: Path) -> list[Path]:
    """A work dir's checkpoints, oldest first."""
    return sorted(folder.glob("epoch_????.pth"))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, tensors and plain types alone. Raises ExperimentError for anything else."""
    if not path.is_file():
        raise ExperimentError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage happens to hit
        raise ExperimentError(f"{path}: damaged, or no checkpoint of ours ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ExperimentError(f"{path}: holds no 'state_dict'; give a checkpoint that train, adapt or finetune wrote")
    return content


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """All of a checkpoint's weights and its plan, or ExperimentError: half a detector, or one that forgot its plan, is not loaded."""
    state = read_checkpoint(checkpoint)["state_dict"]
    try:
        model.load_state_dict(state)
    except (RuntimeError, PlanError) as error:
        raise ExperimentError(f"{checkpoint}: does not fit the model of this config\n{error}") from error


def plain(value: Any) -> Any:
    """``value`` with everything left out that is not a tensor, a plain number, text or a container of these."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if _is_plain(item)}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value if _is_plain(item))
    return value


def _is_plain(value: Any) -> bool:
    # By exact type, for numpy's float64 passes for a float and cannot be loaded.
    return isinstance(value, dict) or type(value) in (list, tuple, int, float, bool, str, type(None), torch.Tensor)
