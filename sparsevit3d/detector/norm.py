"""A norm over the channels of one place, for heads that are computed at some places alone."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module(name="LN2d")
class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of each pixel of a map, as ConvNeXt has it.

    Configs say ``norm_cfg=dict(type="LN2d")``. Group norm takes its statistics from the whole map,
    so a map with group norm cannot be computed in parts. Here an output depends on its place alone.

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
