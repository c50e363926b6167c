"""FCOS3D's head with its norm in the towers alone."""

from __future__ import annotations

from typing import Any

from mmdet3d.models.dense_heads import FCOSMono3DHead
from mmdet3d.registry import MODELS
from torch import nn


@MODELS.register_module()
class TowerNormHead(FCOSMono3DHead):
    """FCOS3D's head whose predictions of boxes have no norm of their own.

    Group norm needs the whole map. So what it normalises must be computed everywhere. The towers
    and the class scores are. Here the layers between the towers and the other predictions have no
    norm. They see their neighbourhood alone, and are computed only where a box may be found.

    Options are those of ``FCOSMono3DHead``. ``norm_cfg`` is the norm of the towers and of the
    layers before the class scores.
    """

    norm_cfg: Any  # FCOSMono3DHead sets it

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
