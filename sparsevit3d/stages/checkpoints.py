"""Checkpoints of tensors and plain types, sealed with a hash.

These functions list checkpoints, read them, and load all of one into a model or nothing. Weights
that are given away are a safetensors file in half precision, under the same seal.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from safetensors.torch import save
from torch import nn

from data_tools.schema import CLASSES
from sparsevit3d.errors import InputError, first_line
from sparsevit3d.files import write_bytes
from sparsevit3d.swin.plan import PlanError
from sparsevit3d.swin.seal import SEAL, digest, is_broken, read_safetensors, way_to_weights

WEIGHTS = ".safetensors"
CLASSIFIER = "bbox_head.conv_cls."  # the layer of a detector that has a row for each class


def checkpoint_name(epoch: int) -> str:
    return f"epoch_{epoch:04d}.pth"


def list_checkpoints(folder: Path) -> list[Path]:
    """List a work dir's checkpoints, oldest first."""
    return sorted(folder.glob("epoch_[0-9][0-9][0-9][0-9].pth"))


def way_on(folder: Path) -> str:
    """Tell what happens when the command with this work dir is given again."""
    done = list_checkpoints(folder)
    return (
        f"the same command goes on from {done[-1]}"
        if done
        else "nothing was saved yet, so the same command begins anew"
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's content, tensors and plain types alone.

    A ``.safetensors`` file holds only its ``state_dict``. Raises InputError for a checkpoint that
    is damaged or that we did not write.
    """
    content = _read(path)
    if not isinstance(content, dict) or not {"state_dict", SEAL} <= content.keys():
        raise InputError(
            f"{path}: holds no 'state_dict' with our seal, so train, adapt or finetune did not "
            "write it. Pretrained weights of a backbone go into the config, as "
            "model.backbone.init_cfg."
        )
    return content


def read_state(path: Path) -> dict[str, Any]:
    """Read a detector's ``state_dict``: a checkpoint's of ours, or a file's of nothing else.

    A file without our seal may hold ``{"state_dict": tensors by name}`` and no more. So come in the
    weights of a detector that was trained elsewhere. Raises InputError for any other file.
    """
    content = _read(path)
    if isinstance(content, dict) and (SEAL in content or content.keys() == {"state_dict"}):
        state = content.get("state_dict")
        if isinstance(state, dict) and all(map(torch.is_tensor, state.values())):
            return state
    raise InputError(
        f"{path}: holds more than a detector's weights, and train, adapt or finetune did not write "
        f"it. {way_to_weights(str(path))}"
    )


def _read(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint.")
    read = (
        read_safetensors
        if path.suffix == WEIGHTS
        else partial(torch.load, map_location="cpu", weights_only=True)
    )
    try:
        content = read(path)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: damaged, or it holds more than tensors and plain types. "
            f"{way_to_weights(str(path))}"
        ) from error
    except Exception as error:  # torch raises whatever the damage happens to hit
        raise InputError(
            f"{path}: damaged, or no checkpoint of ours ({first_line(error)}). Use another one, "
            "or make it anew."
        ) from error
    if isinstance(content, dict) and is_broken(content):
        raise InputError(
            f"{path}: damaged, its content is not what was written. Use another one, or make it "
            "anew."
        )
    return content


def save_weights(checkpoint: Path, path: Path) -> None:
    """Write what running a checkpoint takes, plan included, in half precision.

    The file has a sixth of the checkpoint's size.
    """
    state = read_checkpoint(checkpoint)["state_dict"]
    half = {
        name: state[name].half() if state[name].is_floating_point() else state[name]
        for name in sorted(state)
    }
    tensors = {name: tensor.contiguous() for name, tensor in half.items()}
    write_bytes(path, save(tensors, {SEAL: digest({"state_dict": half})}))


def seal(content: dict[str, Any]) -> None:
    """Make a checkpoint's dict one of ours.

    Everything but its tensors becomes plain, and a hash of the content is added.
    """
    for part in content.keys() - {"state_dict"}:
        content[part] = plain(content[part])
    content[SEAL] = digest(content)


def load_weights(model: nn.Module, checkpoint: Path, classes: Sequence[str] | None = None) -> None:
    """Load all of a checkpoint's weights and its plan, or raise InputError.

    ``checkpoint`` may also hold the weights of a detector from elsewhere, see :func:`read_state`.
    Half a detector, or one that forgot its plan, is not loaded. ``model`` may be wrapped for
    distributed training. If ``model`` detects some ``classes`` and the checkpoint all ten, the
    model gets the weights of its own classes.
    """
    detector: Any = model.module if is_model_wrapper(model) else model
    state = read_state(checkpoint)
    if classes is not None and len(classes) < len(CLASSES):
        state = _of_classes(state, classes)
    try:
        detector.load_state_dict(state)
    except (RuntimeError, PlanError) as error:
        reasons = "\n".join(shorten(line, 400) for line in str(error).splitlines())
        raise InputError(
            f"{checkpoint}: does not fit the model of this config\n{reasons}"
        ) from error


def _of_classes(state: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    rows = [CLASSES.index(name) for name in classes]
    return {
        name: value[rows] if name.startswith(CLASSIFIER) and len(value) == len(CLASSES) else value
        for name, value in state.items()
    }


def plain(value: Any) -> Any:
    """Reduce ``value`` to tensors, plain numbers, text and containers of these.

    Everything else is left out.
    """
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if _is_plain(item)}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value if _is_plain(item))
    return value


def _is_plain(value: Any) -> bool:
    # Compare exact types: numpy's float64 passes for a float and cannot be loaded.
    return isinstance(value, dict) or type(value) in (
        list,
        tuple,
        int,
        float,
        bool,
        str,
        type(None),
        torch.Tensor,
    )
