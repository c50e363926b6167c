"""Losses of what is known."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.losses import SmoothL1Loss
from mmdet3d.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class KnownSmoothL1Loss(SmoothL1Loss):
    """mmdet's smooth L1 loss, where an unknown target, NaN, costs nothing.

    A root may lack velocities. Then the velocity branch gets no gradient, instead of learning zero.
    Arguments are those of mmdet's ``SmoothL1Loss``.
    """

    def forward(self, pred: Tensor, target: Tensor, *arguments: Any, **options: Any) -> Tensor:
        known = torch.where(target.isnan(), pred.detach(), target)
        return super().forward(pred, known, *arguments, **options)
