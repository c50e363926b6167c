"""Norms of heads that are computed at some places alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module(name="LN2d")
class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of each pixel of a map, as ConvNeXt has it.

    Configs say ``norm_cfg=dict(type="LN2d")``. Group norm takes its statistics from the whole map.
    Here an output depends on its place alone.

    Args:
        num_features (int): Channels of the map.
        eps (float): Added to the variance. Default: 1e-6.
    """

    _abbr_ = "ln"

    def __init__(self, num_features: int, eps: float = 1e-6) -> None:
        super().__init__(num_features, eps)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        rows = F.layer_norm(
            x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return rows.permute(0, 3, 1, 2)


def group_norm_where(norm: nn.GroupNorm, x: Tensor, mask: Tensor) -> Tensor:
    """Normalise a map (N, C, H, W) by the statistics of the places in ``mask``, (N, H, W) bool."""
    groups = x.unflatten(1, (norm.num_groups, -1))
    known = mask[:, None, None].to(x)
    count = (known.sum((3, 4), keepdim=True) * groups.shape[2]).clamp(min=1)
    mean = (groups * known).sum((2, 3, 4), keepdim=True) / count
    centred = groups - mean
    variance = (centred.square() * known).sum((2, 3, 4), keepdim=True) / count
    normal = (centred * (variance + norm.eps).rsqrt()).flatten(1, 2)
    return normal * norm.weight[:, None, None] + norm.bias[:, None, None]


def group_norm_rows_(norm: nn.GroupNorm, x: Tensor, part: Tensor, parts: int) -> Tensor:
    """Normalise rows (n, C) in place, by the statistics of their part: a level of an image, say.

    ``part`` (n,) says which of the ``parts`` parts a row belongs to.
    """
    size = x.shape[1] // norm.num_groups
    counts = torch.bincount(part, minlength=parts).clamp(min=1)[:, None] * size

    def means(values: Tensor) -> Tensor:
        """(n, C) to (parts, C), each channel with the mean of its group."""
        sums = values.new_zeros(parts, values.shape[1]).index_add_(0, part, values)
        return (sums.unflatten(1, (-1, size)).sum(2) / counts).repeat_interleave(size, 1)

    x.sub_(means(x).index_select(0, part))
    scale = (means(x.square()) + norm.eps).rsqrt() * norm.weight
    return x.mul_(scale.index_select(0, part)).add_(norm.bias)
