"""Convolutions at some places of a detector's maps, of all images and levels at once.

A 3 x 3 convolution gathers the nine neighbours of each place and multiplies. So layers that see
their neighbourhood alone can be computed where a result is wanted, and as far around as the layers
after them see.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from sparsevit3d.detector.norm import LayerNorm2d, group_norm_rows_

# Values that a layer gathers at once. These few MB stay in a processor's cache.
GATHERED = 1 << 20
Sizes = tuple[tuple[int, int], ...]  # (height, width) of each level


class Grid(NamedTuple):
    """All places of the maps of a batch. Each map has a border one place wide, which is empty.

    A place is a number: level by level, image by image, row by row, borders included.

    Args:
        images (int): Images of the batch.
        sizes (tuple): (height, width) of each level's map.
        inside (Tensor): (places,) whether a place is on a map, and not empty.
        rows (Tensor): (places,) the place's row among those of the maps laid end to end, levels one
            after the other. The number of rows marks the border.
        level (Tensor): (places,) the level.
        image (Tensor): (places,) the image.
        point (Tensor): (places, 2) column and row on the map.
        around (Tensor): (levels, 9) steps to a place's neighbours, row by row.
    """

    images: int
    sizes: Sizes
    inside: Tensor
    rows: Tensor
    level: Tensor
    image: Tensor
    point: Tensor
    around: Tensor

    @property
    def total(self) -> int:
        """Count the places on the maps."""
        return self.images * sum(height * width for height, width in self.sizes)

    def part(self, places: Tensor) -> Tensor:
        """(n,) places to (n,) parts. A level of an image is one."""
        return self.level[places] * self.images + self.image[places]

    def neighbours(self, places: Tensor) -> Tensor:
        """(n,) places to (n, 9)."""
        return places[:, None] + self.around[self.level[places]]

    def widen(self, places: Tensor, steps: int = 1) -> Tensor:
        """Add the places within ``steps`` of ``places``, those inside. The result is sorted."""
        for _ in range(steps):
            marked = torch.zeros_like(self.inside)
            marked[self.neighbours(places).flatten()] = True
            places = (marked & self.inside).nonzero().squeeze(1)
        return places

    def of_maps(self, masks: Sequence[Tensor]) -> Tensor:
        """List the places where ``masks``, (images, height, width) bool of each level, are True."""
        return _flat(masks).nonzero().squeeze(1)

    def only(self, masks: Sequence[Tensor]) -> Grid:
        """The same places, of which those outside ``masks``, as in :meth:`of_maps`, are empty."""
        return self._replace(inside=_flat(masks))


def _flat(masks: Sequence[Tensor]) -> Tensor:
    return torch.cat([F.pad(mask, (1, 1, 1, 1)).flatten() for mask in masks])


@lru_cache(maxsize=16)
def grid_of(images: int, sizes: Sizes, device: torch.device) -> Grid:
    """Build the grid of a batch's maps, or take the cached one."""
    total = images * sum(height * width for height, width in sizes)
    with torch.inference_mode(False):
        rows = []
        image = []
        point = []
        first = 0
        for height, width in sizes:
            row = first + torch.arange(images * height * width).view(images, height, width)
            rows.append(F.pad(row, (1, 1, 1, 1), value=total))
            y = torch.arange(-1, height + 1)[:, None].expand(rows[-1].shape)
            x = torch.arange(-1, width + 1).expand(rows[-1].shape)
            point.append(torch.stack([x, y], -1).flatten(0, 2))
            image.append(torch.arange(images)[:, None, None].expand(rows[-1].shape).flatten())
            first += images * height * width
        widths = torch.tensor([width + 2 for _, width in sizes])
        steps = torch.arange(-1, 2)
        around = (widths[:, None, None] * steps[:, None] + steps).flatten(1)
        level = torch.arange(len(sizes)).repeat_interleave(
            torch.tensor([len(one) for one in image])
        )
        place = torch.cat([one.flatten() for one in rows]).to(device)
        return Grid(
            images,
            sizes,
            place < total,
            place,
            level.to(device),
            torch.cat(image).to(device),
            torch.cat(point).to(device),
            around.to(device),
        )


def grid_of_maps(maps: Sequence[Tensor]) -> Grid:
    """Build the grid of ``maps``, (images, C, height, width) of each level."""
    sizes = tuple((one.shape[2], one.shape[3]) for one in maps)
    return grid_of(len(maps[0]), sizes, maps[0].device)


class Rows(NamedTuple):
    """Channels at some places.

    Args:
        values (Tensor): (n + 1, C), a row for each place, and zeros for what lies outside.
        slots (Tensor): (places of the grid,) which row a place has. n: it has none.
    """

    values: Tensor
    slots: Tensor

    @classmethod
    def of_maps(cls, maps: Sequence[Tensor], grid: Grid) -> Rows:
        """Take all places of ``maps``, (images, C, height, width) of each level."""
        rows = [one.permute(0, 2, 3, 1).flatten(0, 2) for one in maps]
        rows.append(rows[0].new_zeros(1, rows[0].shape[1]))
        return cls(torch.cat(rows), grid.rows)

    @classmethod
    def at(cls, places: Tensor, values: Tensor, grid: Grid) -> Rows:
        """Put ``values`` (n, C) at ``places`` (n,)."""
        slots = torch.full_like(grid.rows, len(places))
        slots[places] = torch.arange(len(places), device=places.device)
        return cls(F.pad(values, (0, 0, 0, 1)), slots)

    def at_places(self, places: Tensor) -> Tensor:
        """(n,) places to (n, C)."""
        return self.values.index_select(0, self.slots[places])

    def around(self, places: Tensor, grid: Grid) -> Tensor:
        """(n,) places to (n, 9): which rows their neighbours have."""
        return self.slots[grid.neighbours(places)]


def is_local(layer: nn.Module) -> bool:
    """Whether :func:`apply` can compute ``layer``: :func:`is_plain`, and blind to far places."""
    return is_plain(layer) and not has_group_norm(layer)


def has_group_norm(layer: Any) -> bool:
    """Whether a plain layer's results depend on all others of its part."""
    return layer.with_norm and isinstance(layer.norm, nn.GroupNorm)


def is_plain(layer: nn.Module) -> bool:
    """Whether :func:`apply_within` can compute ``layer``: a 3 x 3 convolution with a known norm."""
    if not isinstance(layer, ConvModule) or layer.order != ("conv", "norm", "act"):
        return False
    conv = layer.conv
    return (
        type(conv) is nn.Conv2d
        and conv.kernel_size == (3, 3)
        and conv.stride == conv.padding == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and (not layer.with_norm or isinstance(layer.norm, LayerNorm2d | nn.GroupNorm))
        and (not layer.with_activation or isinstance(layer.activate, nn.ReLU))
        and not layer.with_spectral_norm
        and not layer.with_explicit_padding
    )


def apply(layer: ConvModule, x: Rows, places: Tensor, grid: Grid) -> Tensor:
    """Compute a local layer at ``places``, (n,) to (n, channels).

    ``x`` needs to have the places and their neighbours.
    """
    return apply_beside([layer], x, places, grid)[0]


def apply_beside(layers: Sequence[ConvModule], x: Rows, places: Tensor, grid: Grid) -> list[Tensor]:
    """Compute local layers of the same input at ``places``. Its values are gathered once."""
    own = _convolve(layers, x.values, x.around(places, grid))
    return [_finish(layer, one) for layer, one in zip(layers, own, strict=True)]


class Within(NamedTuple):
    """Some places and their neighbours among themselves.

    Args:
        around (Tensor): (n, 9) which rows the neighbours have, as :meth:`Rows.around` tells.
        part (Tensor): (n,) which part a place belongs to, as :meth:`Grid.part` tells.
        parts (int): How many parts there are.
    """

    around: Tensor
    part: Tensor
    parts: int


def apply_within(layers: Sequence[ConvModule], x: Rows, within: Within) -> Rows:
    """Compute plain layers one after the other at the very places that ``x`` has, in their order.

    Group norm takes the statistics of these places.
    """
    for layer in layers:
        values = _convolve([layer], x.values, within.around)[0]
        if has_group_norm(layer):
            values = group_norm_rows_(layer.norm, values, within.part, within.parts)
            values = values.relu_() if layer.with_activation else values
        else:
            values = _finish(layer, values)
        x = x._replace(values=F.pad(values, (0, 0, 0, 1)))
    return x


def _convolve(layers: Sequence[ConvModule], values: Tensor, around: Tensor) -> list[Tensor]:
    """Compute convolutions of ``values``, whose rows ``around`` (n, 9) are neighbours."""
    convs = [layer.conv for layer in layers]
    weight = torch.cat([conv.weight.permute(0, 2, 3, 1).flatten(1) for conv in convs])
    bias = torch.cat(
        [values.new_zeros(len(conv.weight)) if conv.bias is None else conv.bias for conv in convs]
    )
    inputs = weight.shape[1]
    parts = [
        F.linear(values.index_select(0, some.flatten()).view(len(some), inputs), weight, bias)
        for some in around.split(max(1, GATHERED // inputs))
    ]
    found = parts[0] if len(parts) == 1 else torch.cat(parts)
    return list(found.split([conv.out_channels for conv in convs], 1))


def _finish(layer: ConvModule, x: Tensor) -> Tensor:
    """Normalise a local layer's convolved rows (n, channels), and activate them."""
    if layer.with_norm:
        norm = layer.norm
        x = F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return x.relu() if layer.with_activation else x


def apply_all(layers: Sequence[ConvModule], x: Rows, places: Tensor, grid: Grid) -> Tensor:
    """Compute local layers one after the other at ``places``, (n,) to (n, channels).

    ``x`` needs to have what lies within ``len(layers)`` steps of them.
    """
    if not layers:
        return x.at_places(places)
    *before, last = layers
    if before:
        wider = grid.widen(places)
        x = Rows.at(wider, apply_all(before, x, wider, grid), grid)
    return apply(last, x, places, grid)


def point_wise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Compute a 1 x 1 convolution of rows, (n, C) to (n, channels)."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)
