"""FCOS3D and PGD on SparseSwin, registered for configs.

A config says ``type="SparseFCOS3D"`` with ``backbone=dict(type="SparseSwin", ...)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from mmdet3d.models.detectors import FCOSMono3D
from mmdet3d.registry import MODELS
from torch import Tensor

import sparsevit3d.backbone  # registers SparseSwin
import sparsevit3d.detector.rays  # noqa: F401  registers RayPreprocessor
from sparsevit3d.detector.carried import Part, carried_head, carried_neck, head_where, loss_where
from sparsevit3d.detector.decode import check_suppression, decode
from sparsevit3d.detector.deform import use_any_memory_format
from sparsevit3d.detector.lazy import lazy_head, why_dense
from sparsevit3d.detector.neck import why_whole
from sparsevit3d.swin.density import CELL, density_loss
from sparsevit3d.swin.importance import DENSITY, PLACE

Learns = Literal["all", "density"]
Levels = list[Tensor] | Part  # a neck's maps
Maps = list[list[Tensor | None]]  # a head's outputs: kind by kind, level by level (N, C, H, W)
BOXES = 1
DIRECTIONS = 2  # places of boxes and directions among a head's kinds of maps, FCOS3D's and PGD's
CENTRE = 0  # the channel of the boxes' map that says how far to the left the centre lies
DENSITY_WEIGHT = 1e-3
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

    A ``TowerNormHead``, or a head with ``norm_cfg=dict(type="LN2d")``, is computed only where a
    class may be found, which changes nothing. With ``carry``, neck and head are moreover computed
    only where the backbone computed windows. Between these windows their layers see zeros, and
    nothing is found there. The loss is then of these places alone, so a detector has to be trained
    with ``carry`` from adaptation on.

    Args:
        carry (bool): Whether the windows that a plan leaves out are left out by neck and head as
            well. Default: False.
        learns (str): "all", or "density": the backbone's map of objects alone, while all else stays
            as it is. That takes minutes. Default: "all".
        **options: Keyword arguments of mmdet3d's ``FCOSMono3D``.

    Raises:
        ValueError: ``test_cfg`` names no known suppression. Or with ``carry``, neck or head cannot
            be computed in parts. Or "density" is to be learnt, but there is no such map. The
            message names the part of the config.
    """

    def __init__(self, *, carry: bool = False, learns: Learns = "all", **options: Any) -> None:
        super().__init__(**options)
        use_any_memory_format(self)
        check_suppression(self.bbox_head.test_cfg or {}, self.bbox_head.num_classes)
        self.carry = carry
        if carry and (why := why_dense(self.bbox_head) or why_whole(self.neck)):
            raise ValueError(
                f"SparseFCOS3D does not support carry=True here: {why}. Set carry=False, or change "
                "that part of the config."
            )
        self.learns = learns
        if learns not in get_args(Learns):
            raise ValueError(f"learns {learns!r}: there are {', '.join(get_args(Learns))}")
        if learns == DENSITY:
            if self.backbone.importance != DENSITY:
                raise ValueError(f"learns={DENSITY!r} needs backbone.importance={DENSITY!r}")
            self.requires_grad_(False)
            self.backbone.density.requires_grad_(True)

    def loss(self, batch_inputs: dict[str, Tensor], batch_data_samples: Any, **kwargs: Any) -> Any:
        images = batch_inputs["imgs"]
        if self.learns == DENSITY:
            return {"loss_density": self._density_loss(images, batch_data_samples)}
        camera = self._cameras(batch_data_samples)
        features, computed = self.backbone_maps(images, camera)
        levels = [one.float() for one in self.neck(features)]
        with torch.autocast(levels[0].device.type, enabled=False):
            if computed:
                losses = loss_where(self.bbox_head, levels, batch_data_samples, computed)
            else:
                losses = self.bbox_head.loss(levels, batch_data_samples, **kwargs)
        if self.backbone.importance == DENSITY:
            losses["loss_density"] = self._density_loss(images, batch_data_samples)
        elif camera is not None:
            boxes = [one.gt_instances.bboxes for one in batch_data_samples]
            self.backbone.density.count(boxes, camera, images.shape[-2:])
        return losses

    def _cameras(self, samples: Any) -> Tensor | None:
        """(N,) number of each image's camera. None: the backbone does not ask for cameras."""
        if self.backbone.importance != PLACE:
            return None
        if self.test_cfg.get("flip") or any(one.metainfo.get("flip") for one in samples):
            raise ValueError(
                f"backbone.importance={PLACE!r} knows where cameras look, so it needs images as "
                "they are. Set test_cfg.flip=False, and leave RandomFlip3D out of the pipeline."
            )
        places = torch.tensor([one.metainfo["sample_idx"] for one in samples])
        return places % self.backbone.density.cameras

    def _density_loss(self, images: Tensor, samples: Any) -> Tensor:
        """The loss of the backbone's map of objects, so small that clipping does not notice it.

        All gradients share one clip. The map's own steps have the same length at any scale, because
        AdamW divides by it.
        """
        density = self.backbone.log_density(images)
        boxes = [one.gt_instances.bboxes for one in samples]
        return DENSITY_WEIGHT * density_loss(density, boxes, CELL * self.backbone.patch_size)

    def predict(
        self, batch_inputs: dict[str, Tensor], batch_data_samples: Any, rescale: bool = False
    ) -> Any:
        del rescale
        images = batch_inputs["imgs"]
        metas = [sample.metainfo for sample in batch_data_samples]
        camera = self._cameras(batch_data_samples)
        outputs: Any
        if self.test_cfg.get("flip"):
            outputs = merge_flipped(
                self._maps(images),
                self._maps(images.flip(-1)),
                images.shape[-1],
                self.bbox_head.strides,
            )
        else:
            features, computed = self.backbone_maps(images, camera)
            outputs = self.head_outputs(self.neck_maps(features, computed), computed)
        boxes, boxes_2d = decode(self.bbox_head, outputs, metas)
        return self.add_pred_to_datasample(batch_data_samples, boxes, boxes_2d)

    def backbone_maps(
        self, images: Tensor, camera: Tensor | None = None
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """The backbone's maps, (N, C, H, W), and where they count, (N, H, W) bool.

        Without ``carry``, or where the plan leaves nothing out, they count everywhere, and the
        second result is empty. ``camera`` is as in :meth:`SparseSwin.log_density`.
        """
        plan = self.backbone.plan
        if self.carry and plan is not None and not plan.is_dense:
            return self.backbone.forward_computed(images, camera)
        return self.backbone(images, camera), ()

    def neck_maps(self, features: Sequence[Tensor], computed: Sequence[Tensor]) -> Levels:
        """The neck's maps in float32, level by level, or the part of them that is needed."""
        if computed:
            with torch.autocast(features[0].device.type, enabled=False):
                given = [one.float() for one in features]
                part = carried_neck(self.neck, given, computed)
                if part is not None:
                    return part
        return [one.float() for one in self.neck(features)]

    def head_outputs(self, levels: Levels, computed: Sequence[Tensor]) -> Any:
        """What the head says, for :func:`decode`: with as little of the head as boxes take."""
        head = self.bbox_head
        if isinstance(levels, Part):
            return carried_head(head, levels)
        with torch.autocast(levels[0].device.type, enabled=False):
            return head(levels) if why_dense(head) else lazy_head(head, levels, computed)

    def _maps(self, images: Tensor) -> Any:
        features, computed = self.backbone_maps(images)
        levels = [one.float() for one in self.neck(features)]
        with torch.autocast(images.device.type, enabled=False):
            return (
                head_where(self.bbox_head, levels, computed) if computed else self.bbox_head(levels)
            )


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
