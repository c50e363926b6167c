"""Load Swin checkpoints from elsewhere, whole or not at all.

A layout is recognised by the names of its tensors. The names are then translated to ours.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsevit3d.errors import InputError, first_line
from sparsevit3d.swin.plan import PlanError, agreed_plan, plan_of_state
from sparsevit3d.swin.seal import is_broken, read_safetensors, way_to_weights
from sparsevit3d.swin.sparse_swin import SparseSwin

# Patterns and replacements for re.sub, applied one after the other.
Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]


class Layout(NamedTuple):
    """How a library writes a Swin down.

    Args:
        library (str): The library's name.
        landmark (str): A pattern that matches one name of this layout and no name of the layouts
            after it in LAYOUTS.
        to_ours (tuple): Pairs for re.sub that turn the library's names into ours, one after the
            other.
        channel_last (bool): Whether patch merging joins (column, row, channel). mmdet and we join
            (channel, row, column).
    """

    library: str
    landmark: str
    to_ours: Rules
    channel_last: bool


_MICROSOFT: Rules = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^layers\.", "stages."),
    (r"\.mlp\.fc", ".fc"),
    (r"^norm(\d+)\.", r"norms.\1."),
)
# From 0.9 on a timm stage begins with the patch merging that Microsoft's stage ends with.
# features_only writes layers_0 for layers.0.
_TIMM: Rules = (
    (r"^layers_", "layers."),
    (r"^layers\.(\d+)\.downsample", lambda match: f"stages.{int(match[1]) - 1}.downsample"),
    *_MICROSOFT,
)
_TORCHVISION: Rules = (
    (r"^features\.0\.0\.", "patch_embed.projection."),
    (r"^features\.0\.2\.", "patch_embed.norm."),
    (r"^features\.([2468])\.", lambda match: f"stages.{int(match[1]) // 2 - 1}.downsample."),
    (r"^features\.([1357])\.", lambda match: f"stages.{int(match[1]) // 2}.blocks."),
    (r"\.mlp\.0\.", ".fc1."),
    (r"\.mlp\.3\.", ".fc2."),
)
_MMDET: Rules = (
    (r"\.w_msa\.", "."),
    (r"\.ffn\.layers\.0\.0\.", ".fc1."),
    (r"\.ffn\.layers\.1\.", ".fc2."),
    (r"^norm(\d+)\.", r"norms.\1."),
)
# The layout of mmsegmentation and mmpretrain as well.
MMDET = Layout("mmdet", r"stages\.0\.blocks\.0\.attn\.w_msa\.qkv\.weight", _MMDET, False)
LAYOUTS = (
    MMDET,
    Layout("torchvision", r"features\.0\.0\.weight", _TORCHVISION, True),
    # The layout of timm before 0.9 as well.
    Layout("Microsoft", r"layers\.0\.downsample\.norm\.weight", _MICROSOFT, True),
    Layout("timm", r"patch_embed\.proj\.weight", _TIMM, True),
    Layout("sparsevit3d", r"stages\.0\.blocks\.0\.attn\.qkv\.weight", (), False),
)
# A backbone does not use a classifier's head, nor tables that follow from window and image size.
_NO_WEIGHTS = re.compile(r"head\..*|.*\.relative_position_index|.*\.attn_mask")
# Output norms differ by use. Few networks learn their importance.
_OPTIONAL = ("norms.", "importance.", "density.")


class WeightsError(InputError):
    """Weights that do not fit.

    The message names every tensor that is missing, left over or of another shape.
    """


@dataclass(frozen=True)
class LoadedWeights:
    """What :func:`load_swin_weights` did.

    Tensors are called by their names in the network, the ignored ones as in the checkpoint.

    Args:
        layout (str): The library whose layout the checkpoint has.
        loaded (tuple of str): Tensors that were loaded.
        resized (tuple of str): Loaded relative position tables that came from another window size.
        untouched (tuple of str): Tensors of the network that the checkpoint lacks.
        ignored (tuple of str): Tensors of the checkpoint that are not the backbone's.
    """

    layout: str
    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    untouched: tuple[str, ...]
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{len(self.loaded)} tensors from {self.layout}'s layout"
        for what, names in (
            ("resized", self.resized),
            ("not in the checkpoint", self.untouched),
            ("ignored", self.ignored),
        ):
            if names:
                more = " ..." if len(names) > 3 else ""
                text += f". {len(names)} {what}: {', '.join(names[:3])}{more}"
        return text


def load_swin_weights(
    net: SparseSwin, source: str | os.PathLike[str] | Mapping[str, Tensor]
) -> LoadedWeights:
    """Load Swin weights in the layout of mmdet, Microsoft, timm or torchvision, or our own.

    The checkpoint may be a backbone's, a classifier's or a detector's. ``source`` is a local file
    (torch's or safetensors) or a state dict. Relative position tables of another window size are
    resized (bicubic). A classifier's final norm becomes the last stage's output norm. The plan of a
    pruned checkpoint of ours comes along.

    Nothing is loaded unless every tensor of the backbone fits, and the plan too if the network has
    one. Nothing is loaded of a checkpoint of ours whose seal is broken. Otherwise this raises
    WeightsError.

    The features are the library's own wherever the library runs the same Swin. On maps no larger
    than a window Microsoft, timm and torchvision do not shift. timm rolls a map before padding the
    map. On both points our code follows mmdet.
    """
    where, state = _read(source)
    layout, prefix = _recognise(where, state)
    carried = state.pop(f"{prefix}_extra_state", None)
    own = {
        name: value for name, value in net.state_dict().items() if not name.endswith("_extra_state")
    }
    fitted, resized, ignored, faults = _fit(own, state, layout, prefix, len(net.depths))
    absent = sorted(own.keys() - fitted.keys())
    faults += [f"missing: {name}" for name in absent if not name.startswith(_OPTIONAL)]
    if faults:
        lines = "\n  ".join(sorted(faults))
        raise WeightsError(
            f"{where}: {layout.library}'s layout, but it does not fit this network\n  {lines}"
        )
    try:
        net.plan = agreed_plan(None if carried is None else plan_of_state(carried), net.plan)
    except PlanError as error:
        raise WeightsError(f"{where}: {error}") from None
    net.load_state_dict(fitted, strict=False)
    return LoadedWeights(
        layout.library,
        tuple(sorted(fitted)),
        tuple(sorted(resized)),
        tuple(absent),
        tuple(sorted(ignored)),
    )


def _fit(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], layout: Layout, prefix: str, stages: int
) -> tuple[dict[str, Tensor], list[str], list[str], list[str]]:
    """Match the checkpoint's tensors to our names and shapes.

    Returns the fitted tensors, the names of resized ones, the names of ignored ones, and what does
    not fit.
    """
    fitted: dict[str, Tensor] = {}
    resized = []
    ignored = []
    faults = []
    for theirs, value in state.items():
        name = translated(theirs.removeprefix(prefix), layout, stages)
        if not theirs.startswith(prefix):
            ignored.append(theirs)
        elif name in fitted:
            faults.append(f"left over: {theirs}, for {name} was there before")
        elif name in own:
            fitted[name] = _reshaped(name, value, own[name], layout)
            if fitted[name].shape != own[name].shape:
                faults.append(
                    f"{theirs}: shape {tuple(value.shape)}, the network's is "
                    f"{tuple(own[name].shape)}"
                )
            if fitted[name].shape != value.shape:
                resized.append(name)
        elif _NO_WEIGHTS.fullmatch(name) or name.startswith(_OPTIONAL):
            ignored.append(theirs)
        else:
            faults.append(f"left over: {theirs}")
    return fitted, resized, ignored, faults


def translated(name: str, layout: Layout, stages: int) -> str:
    """Translate a tensor's ``name`` in ``layout`` to ours, for a network of ``stages`` stages."""
    for pattern, ours in layout.to_ours:
        name = re.sub(pattern, ours, name)
    return re.sub(r"^norm\.", f"norms.{stages - 1}.", name)  # a classifier's final norm


def _reshaped(name: str, value: Tensor, own: Tensor, layout: Layout) -> Tensor:
    """A tensor in our channel order. A relative position table is resized to our window size."""
    if ".downsample." in name and layout.channel_last and value.shape[-1:] == own.shape[-1:]:
        order = torch.arange(value.shape[-1]).view(2, 2, -1).permute(2, 1, 0).flatten()
        return value[..., order]
    if name.endswith("relative_position_bias_table") and value.shape != own.shape:
        side = isqrt(value.shape[0] if value.ndim else 0)
        wanted = isqrt(len(own))
        if side and value.shape == (side**2, own.shape[1]):
            table = F.interpolate(
                value.float().T.reshape(1, -1, side, side), (wanted, wanted), mode="bicubic"
            )
            return table.reshape(-1, wanted**2).T.to(value.dtype)
    return value


def _read(source: str | os.PathLike[str] | Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    where, document = (
        ("the state dict given", source)
        if isinstance(source, Mapping)
        else (str(source), _read_file(source))
    )
    # Checkpoints of mmengine and Microsoft hold more than weights.
    for key in ("state_dict", "model"):
        if isinstance(document, Mapping) and isinstance(document.get(key), Mapping):
            document = document[key]  # type: ignore[assignment]
    if not isinstance(document, Mapping):
        raise WeightsError(f"{where}: holds {type(document).__name__}, not a state dict")
    state = {
        name: value
        for name, value in document.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not state:
        raise WeightsError(f"{where}: holds no tensors by name")
    return where, state


def _read_file(path: str | os.PathLike[str]) -> Mapping[str, Tensor]:
    if not Path(path).is_file():
        raise WeightsError(
            f"{path}: no such file. Weights are read from local files, so download them first."
        )
    try:
        content = (
            read_safetensors(path)
            if Path(path).suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except ImportError as error:
        raise WeightsError(f"{path}: to read it, install the package safetensors") from error
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: damaged, or it holds more than tensors and plain types. "
            f"{way_to_weights(str(path))}"
        ) from error
    except Exception as error:  # both libraries raise whatever the damage happens to hit
        raise WeightsError(f"{path}: damaged, or no weights ({first_line(error)})") from error
    if isinstance(content, dict) and is_broken(content):
        raise WeightsError(
            f"{path}: damaged, its content is not what was written. Use another one, or make it "
            "anew."
        )
    return content


def _recognise(where: str, state: Mapping[str, Tensor]) -> tuple[Layout, str]:
    """Find the layout, and the prefix of every name of the backbone, such as ``backbone.``"""
    found: dict[str, Layout] = {}
    for layout in LAYOUTS:
        for name in state:
            if match := re.fullmatch(rf"((?:.*\.)?){layout.landmark}", name):
                found.setdefault(match[1], layout)
    if not found:
        known = ", ".join(layout.library for layout in LAYOUTS)
        raise WeightsError(
            f"{where}: no Swin in a layout known here ({known}). Its tensors are "
            f"{', '.join(list(state)[:4])} ..."
        )
    if len(found) > 1:
        raise WeightsError(
            f"{where}: holds {len(found)} Swins ({', '.join(sorted(found))}). Give the state "
            "dict of one"
        )
    ((prefix, layout),) = found.items()
    return layout, prefix
