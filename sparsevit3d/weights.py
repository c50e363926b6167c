"""Swin checkpoints from elsewhere, by format."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sparsevit3d.sparse_swin import SparseSwin

# mmdet's names and ours. Its channel order of patch merging (channel, row, column) is ours as well.
_MMDET_NAMES = (
    (r"patch_embed\.projection\.(weight|bias)", r"patch_embed.\1"),
    (r"patch_embed\.norm\.(weight|bias)", r"patch_norm.\1"),
    (r"(stages\.\d+\.blocks\.\d+\.norm[12]\.(?:weight|bias))", r"\1"),
    (r"(stages\.\d+\.blocks\.\d+\.attn\.)w_msa\.((?:qkv|proj)\.(?:weight|bias)|relative_position_bias_table)", r"\1\2"),
    (r"(stages\.\d+\.blocks\.\d+\.)ffn\.layers\.0\.0\.(weight|bias)", r"\1fc1.\2"),
    (r"(stages\.\d+\.blocks\.\d+\.)ffn\.layers\.1\.(weight|bias)", r"\1fc2.\2"),
    (r"stages\.(\d+)\.downsample\.(norm\.weight|norm\.bias|reduction\.weight)", r"merges.\1.\2"),
    (r"norm(\d+)\.(weight|bias)", r"norms.\1.\2"),
)
_DERIVED = re.compile(r"stages\.\d+\.blocks\.\d+\.attn\.w_msa\.relative_position_index")  # computed from the window size


class WeightsError(ValueError):
    """Weights that do not fit; the message names every tensor that is missing, left over or of another shape."""


def load_swin_weights(net: SparseSwin, source: str | os.PathLike[str] | Mapping[str, Tensor]) -> list[str]:
    """Load a Swin checkpoint in mmdet's layout, a whole detector's included; returns the names of the tensors loaded.

    Nothing is loaded unless every backbone tensor fits. Raises WeightsError otherwise.
    """
    where, state = _read(source)
    if any(name.startswith("backbone.") for name in state):
        state = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    if "patch_embed.projection.weight" not in state:
        raise WeightsError(f"{where}: not in mmdet's Swin layout (no tensor patch_embed.projection.weight)")
    converted, unknown = {}, []
    for name, value in state.items():
        if (ours := _our_name(name)) is not None:
            converted[ours] = value
        elif not _DERIVED.fullmatch(name):
            unknown.append(name)

    own = {name: value for name, value in net.state_dict().items() if not name.endswith("_extra_state")}
    faults = [f"left over: {name}" for name in unknown]
    faults += [f"left over: {name}" for name in converted if name not in own and not name.startswith("norms.")]
    faults += [f"missing: {name}" for name in own if name not in converted and not name.startswith("norms.")]
    faults += [
        f"{name}: shape {tuple(converted[name].shape)}, the network's is {tuple(own[name].shape)}"
        for name in own.keys() & converted.keys()
        if converted[name].shape != own[name].shape
    ]
    if faults:
        raise WeightsError(f"{where}: does not fit this network\n  " + "\n  ".join(sorted(faults)))
    # Output norms differ by use: a classifier's checkpoint has none, a detector's may have other stages'.
    loaded = {name: value for name, value in converted.items() if name in own}
    net.load_state_dict(loaded, strict=False)
    return sorted(loaded)


def _read(source: str | os.PathLike[str] | Mapping[str, Tensor]) -> tuple[str, Mapping[str, Tensor]]:
    if isinstance(source, Mapping):
        return "the state dict given", source
    if not Path(source).is_file():
        raise WeightsError(f"{source}: no such file")
    try:
        document = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage happens to hit
        raise WeightsError(f"{source}: damaged, or no weights ({str(error).splitlines()[0]})") from error
    if not isinstance(document, Mapping):
        raise WeightsError(f"{source}: holds {type(document).__name__}, not a state dict")
    return str(source), document.get("state_dict", document)


def _our_name(name: str) -> str | None:
    for pattern, ours in _MMDET_NAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(ours)
    return None
