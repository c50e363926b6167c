"""FCOS3D's head, computed only where a class may be found.

Class scores are computed everywhere. A box counts with its class score times its centerness, which
is never above the class score. So no box is lost where only the places above ``score_thr`` get
boxes, directions, attributes and centerness.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmdet3d.models.dense_heads import FCOSMono3DHead
from torch import Tensor, nn

from sparsevit3d.detector.places import Rows, apply_all, grid_of, is_local, point_wise

MOST = 0.5  # share of all places from which on the dense head is quicker


class Candidates(NamedTuple):
    """What a head says at places where it may find a box.

    Args:
        image (Tensor): (n,) the image.
        level (Tensor): (n,) the level.
        points (Tensor): (n, 2) x and y in network pixels.
        scores (Tensor): (n, classes) of each class, 0 to 1.
        boxes (Tensor): (n, code size) as the head's coder decodes them.
        directions (Tensor): (n,) class of the direction.
        attributes (Tensor): (n,) class of the attribute.
        centerness (Tensor): (n,) 0 to 1.
    """

    image: Tensor
    level: Tensor
    points: Tensor
    scores: Tensor
    boxes: Tensor
    directions: Tensor
    attributes: Tensor
    centerness: Tensor


def why_dense(head: Any) -> str:
    """Tell why ``head`` has to be computed everywhere, by the config's name. "": it has not."""
    if type(head) is not FCOSMono3DHead:
        return f"bbox_head.type is {type(head).__name__}"
    if not head.pred_attrs or not head.use_direction_classifier:
        return "bbox_head lacks pred_attrs or use_direction_classifier"
    if head.dcn_on_last_conv:
        return "bbox_head.dcn_on_last_conv is True: deformable convolutions see any distance"
    if not all(map(is_local, _layers(head))):
        return "bbox_head.norm_cfg is not LN2d: other norms see the whole map"
    return ""


def _layers(head: Any) -> list[nn.Module]:
    towers = (head.cls_convs, head.conv_cls_prev, head.reg_convs)
    return [layer for part in (*towers, *_branches(head)) for layer in part]


def _branches(head: Any) -> list[Sequence[nn.Module]]:
    """List the layers before each prediction but the class scores."""
    boxes = [branch or () for branch in head.conv_reg_prevs]
    return [
        *boxes,
        head.conv_dir_cls_prev,
        head.conv_attr_prev,
        head.conv_centerness_prev,
    ]


def lazy_head(
    head: Any, maps: Sequence[Tensor], most: float = MOST
) -> Candidates | None:
    """Compute a head that :func:`why_dense` has nothing against, where some class may be found.

    ``maps`` are (N, C, H, W), level by level. None: so many places are left that the dense head is
    quicker.
    """
    seen = []
    logits = []
    for x in maps:
        for layer in head.cls_convs:
            x = layer(x)
        seen.append(x)
        for layer in head.conv_cls_prev:
            x = layer(x)
        logits.append(head.conv_cls(x))
    grid = grid_of(
        len(maps[0]), tuple((x.shape[-2], x.shape[-1]) for x in maps), maps[0].device
    )
    found = [one.amax(1).sigmoid() > head.test_cfg.score_thr for one in logits]
    places = grid.of_maps(found)
    near = grid.widen(places, len(head.reg_convs) + 1)  # of which inputs are read
    if len(near) > most * grid.inside.sum():
        return None
    scores = Rows.of_maps(logits, grid)[places]
    classes = Rows.of_maps(seen, grid)
    wide = grid.widen(places, max(map(len, _branches(head))))
    boxes = Rows.at(wide, apply_all(head.reg_convs, Rows.of_maps(maps, grid), wide, grid), grid)

    def branch(layers: Any, last: nn.Conv2d, x: Rows) -> Tensor:
        return point_wise(last, apply_all(list(layers or ()), x, places, grid))

    raw = torch.cat(
        [
            branch(layers, last, boxes)
            for layers, last in zip(head.conv_reg_prevs, head.conv_regs, strict=True)
        ],
        1,
    )
    level = grid.level[places]
    centerness = branch(
        head.conv_centerness_prev,
        head.conv_centerness,
        boxes if head.centerness_on_reg else classes,
    )
    stride = torch.tensor(head.strides, device=level.device)[level]
    return Candidates(
        grid.image[places],
        level,
        (grid.point[places] * stride[:, None] + stride[:, None] // 2).to(raw),
        scores.sigmoid(),
        _decode(head, raw, scores, level),
        branch(head.conv_dir_cls_prev, head.conv_dir_cls, boxes).argmax(1),
        branch(head.conv_attr_prev, head.conv_attr, classes).argmax(1),
        centerness.sigmoid().squeeze(1),
    )


def _decode(head: Any, boxes: Tensor, logits: Tensor, level: Tensor) -> Tensor:
    """Let the head's coder decode (n, code size) boxes, level by level, which are in order."""
    counts = torch.bincount(level, minlength=len(head.strides)).tolist()
    parts = zip(boxes.split(counts), logits.split(counts), head.scales, head.strides, strict=True)
    return torch.cat(
        [
            head.bbox_coder.decode(
                some[..., None, None], scale, stride, head.training, of_class[..., None, None]
            )[..., 0, 0]
            for some, of_class, scale, stride in parts
        ]
    )
