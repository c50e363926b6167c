"""What else could be done with the time that pruning saves, and with the tokens that it leaves out.

Arms of ``benchmarks.importance``. None of them is part of the product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from mmdet3d.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from torch import Tensor, nn

from sparsevit3d.backbone import ConfiguredSparseSwin
from sparsevit3d.detector.transforms import PER_OBJECT
from sparsevit3d.swin.kernels.dispatch import SwinBlock
from sparsevit3d.swin.layers import Choice
from sparsevit3d.swin.windows import WindowTable, token_mask


class ServedBlock(SwinBlock):
    """A block that also changes the tokens outside the chosen windows, cheaply."""

    def compute(self, x: Tensor, table: WindowTable, choice: Choice | None) -> Tensor:
        if choice is None:
            return super().compute(x, table, choice)
        images = len(x) * table.images
        left = ~token_mask(table, choice.windows, images).flatten(1)[..., None]
        change = self.change(x.view(images, -1, x.shape[2]), left)
        out = super().compute(x, table, choice)
        return out + (change * left).view(x.shape)

    def change(self, x: Tensor, left: Tensor) -> Tensor:
        """What the tokens get that are ``left`` out, (images, tokens, 1) bool."""
        raise NotImplementedError


class RepresentativeBlock(ServedBlock):
    """One token stands for all that are left out of an image: their mean, as in ToC3D.

    It goes through the block by itself, and all that are left out get its residual.
    """

    def change(self, x: Tensor, left: Tensor) -> Tensor:
        mean = (x * left).sum(1) / left.sum(1).clamp(min=1)
        channels = x.shape[2]
        value = self.attn.qkv(self.norm1(mean))[:, 2 * channels :]  # it attends to itself alone
        token = mean + self.attn.proj(value)
        token = token + self.fc2(F.gelu(self.fc1(self.norm2(token))))
        return (token - mean)[:, None]


class LinearBlock(ServedBlock):
    """Tokens that are left out go through one linear layer, which begins with zeros."""

    bypass: nn.Linear

    def change(self, x: Tensor, left: Tensor) -> Tensor:
        return self.bypass(self.norm1(x))


class _ServedSwin(ConfiguredSparseSwin):
    """A backbone of such blocks, on its plain path."""

    kind: type[ServedBlock]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, fast=False)
        for stage in self.stages:
            for block in stage.blocks:
                block.__class__ = self.kind


@MODELS.register_module()
class RepresentativeSwin(_ServedSwin):
    kind = RepresentativeBlock


@MODELS.register_module()
class LinearSwin(_ServedSwin):
    kind = LinearBlock

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for stage in self.stages:
            for block in stage.blocks:
                channels = block.norm1.weight.numel()
                block.bypass = nn.Linear(channels, channels)
                nn.init.zeros_(block.bypass.weight)
                nn.init.zeros_(block.bypass.bias)
        self.register_load_state_dict_pre_hook(_begin_with_zeros)


def _begin_with_zeros(net: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Weights that were trained without the linear path begin with zeros in it."""
    for name, value in net.state_dict(prefix=prefix).items():
        if ".bypass." in name:
            state.setdefault(name, value)


@TRANSFORMS.register_module()
class CropRows(BaseTransform):
    """Cut rows from an image that FitCamera has made, and move its camera and objects with it.

    Args:
        first (int): The first row that stays.
        count (int): How many rows stay.
    """

    def __init__(self, first: int, count: int) -> None:
        self.first = first
        self.count = count

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = np.ascontiguousarray(results["img"][self.first : self.first + self.count])
        results["img"] = image
        results["img_shape"] = image.shape[:2]
        results["pad_shape"] = image.shape[:2]
        left, top = results["img_crop_offset"]
        results["img_crop_offset"] = (left, top + self.first)
        results["cam2img"] = results["cam2img"].copy()
        results["cam2img"][1, 2] -= self.first
        if "centers_2d" in results:
            results["centers_2d"] = results["centers_2d"] - np.array([0, self.first], np.float32)
        if "gt_bboxes" in results:
            boxes = results["gt_bboxes"] - np.array([0, self.first] * 2, np.float32)
            boxes[:, 1::2] = boxes[:, 1::2].clip(0, self.count)
            seen = boxes[:, 3] > boxes[:, 1]
            results["gt_bboxes"] = boxes
            for key in PER_OBJECT:
                if key in results:
                    results[key] = results[key][seen]
        return results


def cut_rows(config: Config, first: int, count: int) -> None:
    """Let a detector train and look at ``count`` rows of its images alone."""
    for loader in (config.train_dataloader, config.test_dataloader):
        steps = loader.dataset.pipeline
        fit = next(place for place, step in enumerate(steps) if step.type == "FitCamera")
        steps.insert(fit + 1, {"type": "CropRows", "first": first, "count": count})
