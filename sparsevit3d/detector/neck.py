"""mmdet's feature pyramid in parts: its last convolutions at some places alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.necks import FPN
from torch import Tensor

from sparsevit3d.detector.places import Grid, Rows, apply, is_local


def why_whole(neck: Any) -> str:
    """Tell why ``neck`` cannot be computed in parts, by the config's name. "": it can."""
    if type(neck) is not FPN:
        return f"neck.type is {type(neck).__name__}"
    if not all(map(is_local, neck.fpn_convs[: neck.num_ins])) or neck.start_level:
        return "neck has other than plain convolutions, or leaves out a map of the backbone"
    if neck.num_outs > neck.num_ins and neck.add_extra_convs != "on_output":
        return f"neck.add_extra_convs is {neck.add_extra_convs!r}, not 'on_output'"
    return ""


def lateral_maps(neck: FPN, features: Sequence[Tensor]) -> list[Tensor]:
    """Compute the pyramid's maps as they are before its last convolutions."""
    maps = [layer(one) for layer, one in zip(neck.lateral_convs, features, strict=True)]
    for level in range(len(maps) - 1, 0, -1):
        upper = F.interpolate(maps[level], size=maps[level - 1].shape[2:], **neck.upsample_cfg)
        maps[level - 1] = maps[level - 1] + upper
    return maps


def added_levels(neck: FPN, laterals: Sequence[Tensor]) -> list[Tensor]:
    """Compute the levels that the neck adds, everywhere."""
    found: list[Tensor] = []
    if neck.num_outs > len(laterals):
        last = neck.fpn_convs[len(laterals) - 1](laterals[-1])
        for layer in neck.fpn_convs[len(laterals) :]:
            last = F.relu(last) if found and neck.relu_before_extra_convs else last
            last = layer(last)
            found.append(last)
    return found


def neck_rows(
    neck: FPN, laterals: Sequence[Tensor], added: Sequence[Tensor], places: Tensor, grid: Grid
) -> Tensor:
    """Compute the neck's results at ``places`` (n,), which are in order: (n, C)."""
    inputs = Rows.of_maps([*laterals, *added], grid)
    counts = torch.bincount(grid.level[places], minlength=len(grid.sizes)).tolist()
    parts = places.split(counts)
    own = [
        apply(layer, inputs, part, grid)
        for layer, part in zip(neck.fpn_convs, parts[: len(laterals)], strict=False)
    ]
    return torch.cat([*own, *(inputs.at_places(part) for part in parts[len(laterals) :])])
