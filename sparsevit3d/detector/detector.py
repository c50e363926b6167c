"""FCOS3D and PGD on SparseSwin, registered for configs.

A config says ``type="SparseFCOS3D"`` with ``backbone=dict(type="SparseSwin", ...)``.
"""

from __future__ import annotations

from typing import Any

import torch
from mmdet3d.models.detectors import FCOSMono3D
from mmdet3d.registry import MODELS
from torch import Tensor

import sparsevit3d.backbone  # noqa: F401  registers SparseSwin
from sparsevit3d.detector.decode import boxes_of, decode
from sparsevit3d.detector.deform import use_any_memory_format
from sparsevit3d.detector.lazy import lazy_head, why_dense

Maps = list[list[Tensor | None]]  # a head's outputs: kind by kind, level by level (N, C, H, W)
BOXES = 1
DIRECTIONS = 2  # places of boxes and directions among a head's kinds of maps, FCOS3D's and PGD's
CENTRE = 0  # the channel of the boxes' map that says how far to the left the centre lies
AVERAGED = slice(0, 6)  # centre to the left, centre above, depth and size


@MODELS.register_module()
class SparseFCOS3D(FCOSMono3D):
    """mmdet3d's FCOS3D, decoding in network pixels. With PGD's head this is PGD.

    ``FCOSMono3D`` asks its head to divide the predicted centre by the scale factor. The head then
    unprojects the centre with the camera of the *scaled* image. The result is right at full size
    and metres off at any other size. FitCamera moves the camera with the image, so nothing is
    rescaled.

    Under mixed precision the head stays in float32, because at 50 m a depth in bfloat16 has steps
    of 0.25 m. ``test_cfg.flip`` adds test-time augmentation as FCOS3D reports it.

    Args:
        *arguments: Positional arguments of mmdet3d's ``FCOSMono3D``.
        **options: Keyword arguments of mmdet3d's ``FCOSMono3D``.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        use_any_memory_format(self)

    def loss(self, batch_inputs: dict[str, Tensor], batch_data_samples: Any, **kwargs: Any) -> Any:
        features = [feature.float() for feature in self.extract_feat(batch_inputs)]
        with torch.autocast(features[0].device.type, enabled=False):
            return self.bbox_head.loss(features, batch_data_samples, **kwargs)

    def predict(
        self, batch_inputs: dict[str, Tensor], batch_data_samples: Any, rescale: bool = False
    ) -> Any:
        del rescale
        images = batch_inputs["imgs"]
        metas = [sample.metainfo for sample in batch_data_samples]
        if self.test_cfg.get("flip"):
            maps = merge_flipped(
                self._maps(images),
                self._maps(images.flip(-1)),
                images.shape[-1],
                self.bbox_head.strides,
            )
            boxes, boxes_2d = decode(self.bbox_head, maps, metas)
        else:
            boxes, boxes_2d = find_boxes(self.bbox_head, self._features(images), metas)
        return self.add_pred_to_datasample(batch_data_samples, boxes, boxes_2d)

    def _features(self, images: Tensor) -> list[Tensor]:
        return [feature.float() for feature in self.extract_feat({"imgs": images})]

    def _maps(self, images: Tensor) -> Any:
        with torch.autocast(images.device.type, enabled=False):
            return self.bbox_head(self._features(images))


def find_boxes(head: Any, features: list[Tensor], metas: list[dict[str, Any]]) -> Any:
    """Go from the neck's maps to boxes, with as little of the head as that takes.

    ``features`` are (N, C, H, W), level by level. The result is that of ``head.predict_by_feat``.
    """
    with torch.autocast(features[0].device.type, enabled=False):
        candidates = None if why_dense(head) else lazy_head(head, features)
        if candidates is None:
            return decode(head, head(features), metas)
        return boxes_of(head, candidates, metas), None


def merge_flipped(maps: Maps, flipped: Maps, width: int, strides: list[int]) -> Maps:
    """Average an image's maps with those of its mirror image, as FCOS3D does (section 4).

    Yaw, its direction and velocity are not averaged, because they are too inaccurate to gain.
    ``width`` is that of the network's image, in pixels. Where a level's cells do not divide
    ``width``, the mirror's cells stand up to half a cell beside. Offsets take account of the shift,
    scores do not.
    """
    merged: Maps = []
    for kind, (levels, mirrored) in enumerate(zip(maps, flipped, strict=True)):
        merged.append([])
        for own, other, stride in zip(levels, mirrored, strides, strict=True):
            if own is None or other is None or kind == DIRECTIONS:
                merged[-1].append(own)
                continue
            other = other.flip(-1)
            if kind != BOXES:
                merged[-1].append((own + other) / 2)
                continue
            # Cells are at stride * (i + 1/2) and centres at a cell minus its offset, in both
            # images.
            other[:, CENTRE] = own.shape[-1] * stride - width - other[:, CENTRE]
            both = own.clone()
            both[:, AVERAGED] = (own[:, AVERAGED] + other[:, AVERAGED]) / 2
            merged[-1].append(both)
    return merged
