"""FCOS3D's head with its norm in the towers alone."""

from __future__ import annotations

from typing import Any

import torch
from mmdet3d.models.dense_heads import FCOSMono3DHead
from mmdet3d.registry import MODELS
from torch import Tensor, nn

DEPTH = 2  # the place of depth among the values of a box
NEAREST = 4.0  # metres: nearer objects count as if they stood here


@MODELS.register_module()
class TowerNormHead(FCOSMono3DHead):
    """FCOS3D's head whose predictions of boxes have no norm of their own.

    Group norm needs the whole map. So what it normalises must be computed everywhere. The towers
    and the class scores are. Here the layers between the towers and the other predictions have no
    norm. They see their neighbourhood alone, and are computed only where a box may be found.

    Args:
        depth_unit (float or None): The loss counts an error of depth as a share of the depth, times
            so many metres. So the loss of an object at this depth stays as it is. None: in metres,
            as in FCOS3D. Far objects then outweigh those that are scored. Default: None.
        **options: Those of ``FCOSMono3DHead``. ``norm_cfg`` is the norm of the towers and of the
            layers before the class scores.
    """

    norm_cfg: Any  # FCOSMono3DHead sets it

    def __init__(self, depth_unit: float | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.depth_unit = depth_unit

    def add_sin_difference(self, boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
        """Prepare found and true boxes, (N, values), for the loss of their difference."""
        found, true = FCOSMono3DHead.add_sin_difference(boxes1, boxes2)
        if self.depth_unit is None:
            return found, true
        scale = torch.ones_like(true)
        scale[:, DEPTH] = self.depth_unit / true[:, DEPTH].clamp(NEAREST)
        return found * scale, true * scale

    def _init_predictor(self) -> None:
        super()._init_predictor()
        strides = (1,) * len(self.cls_branch)
        self.conv_cls_prev = super()._init_branch(self.cls_branch, strides)

    def _init_branch(self, *args: Any, **options: Any) -> nn.ModuleList:
        norm = self.norm_cfg
        self.norm_cfg = None
        try:
            return super()._init_branch(*args, **options)
        finally:
            self.norm_cfg = norm
