"""From a head's maps to boxes, without decoding what no box can come of."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from mmdet3d.models.dense_heads import FCOSMono3DHead
from mmengine.structures import InstanceData
from torch import Tensor

from sparsevit3d.detector.mm_private import decode_candidates


def decode(head: Any, maps: Any, metas: list[dict[str, Any]]) -> tuple[list[InstanceData], Any]:
    """``head.predict_by_feat`` in network pixels: the same boxes, from the maps of FCOS3D's head
    more quickly.

    mmdet3d decodes the best ``nms_pre`` locations of every level and then drops those below
    ``score_thr``, which are nearly all. Here they are dropped before, and what remains of an image
    is decoded at once, by the head's own code.
    """
    if type(head) is not FCOSMono3DHead or not head.pred_attrs or not head.use_direction_classifier:
        return head.predict_by_feat(*maps, batch_img_metas=metas, rescale=False)
    # of each: scores, boxes, directions, attributes, centerness, (N, C, H, W) all
    levels = list(zip(*maps, strict=True))
    points = head.get_points(
        [level[0].shape[-2:] for level in levels], maps[0][0].dtype, maps[0][0].device
    )
    candidates = [_candidates(level[0], level[4], head.test_cfg) for level in levels]
    config = copy(head.test_cfg)
    config.nms_pre = -1  # that is done
    found = []
    for image, meta in enumerate(metas):
        at = [of_level[image] for of_level in candidates]
        few: list[Any] = [
            [
                torch.cat(
                    [level[image].flatten(1)[:, one] for level, one in zip(kind, at, strict=True)],
                    1,
                )[..., None]
            ]
            for kind in zip(*levels, strict=True)
        ]
        few.append(
            torch.cat([of_level[one] for of_level, one in zip(points, at, strict=True)])[None]
        )
        found.append(decode_candidates(head, few, meta, config))
    return found, None


def _candidates(scores: Tensor, centerness: Tensor, config: Any) -> list[Tensor]:
    """Of a level's maps, (N, classes, H, W) and (N, 1, H, W), each image's locations that some
    class may find a box at.
    """
    best = (scores.sigmoid() * centerness.sigmoid()).amax(1).flatten(1)
    if 0 < config.get("nms_pre", -1) < best.shape[1]:
        best, places = best.topk(config.nms_pre)
        return [where[score > config.score_thr] for score, where in zip(best, places, strict=True)]
    return [(score > config.score_thr).nonzero().squeeze(1) for score in best]
