"""FCOS3D's head, computed only where a box may be found.

Class scores are computed everywhere. A box counts with its class score times its centerness, which
is never above the class score. So centerness is computed only where a class passes ``score_thr``,
and boxes, directions and attributes only where the product passes it. No box is lost. Group norm
needs all places of a level. So a tower with group norm is computed wherever class scores are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmdet3d.models.dense_heads import FCOSMono3DHead
from torch import Tensor, nn

from sparsevit3d.detector.head import TowerNormHead
from sparsevit3d.detector.norm import group_norm_where
from sparsevit3d.detector.places import (
    Grid,
    Rows,
    apply_all,
    apply_beside,
    grid_of_maps,
    has_group_norm,
    is_local,
    is_plain,
    point_wise,
)

HEADS = (FCOSMono3DHead, TowerNormHead)


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


class Towers(NamedTuple):
    """What a head's towers give, as far around as the predictions read.

    Args:
        inputs (Rows): The neck's maps.
        classes (Rows): The results of ``cls_convs``.
        boxes (Rows): Those of ``reg_convs``. None: they wait until candidates are known.
    """

    inputs: Rows
    classes: Rows
    boxes: Rows | None


def why_dense(head: Any) -> str:
    """Tell why ``head`` has to be computed everywhere, by the config's name. "": it has not."""
    if type(head) not in HEADS:
        return f"bbox_head.type is {type(head).__name__}"
    if not head.pred_attrs or not head.use_direction_classifier:
        return "bbox_head lacks pred_attrs or use_direction_classifier"
    if not (head.test_cfg or {}).get("use_rotate_nms"):
        return "test_cfg.use_rotate_nms is False"
    if head.dcn_on_last_conv:
        return "bbox_head.dcn_on_last_conv is True: deformable convolutions see any distance"
    if not all(map(is_plain, layers_of(head))):
        return "bbox_head.norm_cfg is neither GN nor LN2d"
    if not all(is_local(layer) for branch in _branches(head) for layer in branch):
        return (
            "bbox_head.norm_cfg is GN before predictions too, where it sees the whole map: set "
            "bbox_head.type='TowerNormHead'"
        )
    return ""


def layers_of(head: Any) -> list[Any]:
    """List all 3 x 3 layers of a head."""
    towers = (head.cls_convs, head.conv_cls_prev, head.reg_convs)
    return [layer for part in (*towers, *_branches(head)) for layer in part]


def needs_all(layers: Sequence[Any]) -> bool:
    """Whether some layer needs the whole map."""
    return any(map(has_group_norm, layers))


def _branches(head: Any) -> list[Sequence[nn.Module]]:
    """List the layers before each prediction but the class scores."""
    boxes = [branch or () for branch in head.conv_reg_prevs]
    return [
        *boxes,
        head.conv_dir_cls_prev,
        head.conv_attr_prev,
        head.conv_centerness_prev,
    ]


def lazy_head(head: Any, maps: Sequence[Tensor], computed: Sequence[Tensor] = ()) -> Candidates:
    """Compute a head that :func:`why_dense` has nothing against, where some class may be found.

    ``maps`` are the neck's, (N, C, H, W), level by level. For ``computed`` see :func:`head_where`.
    """
    grid = grid_of_maps(maps)
    masks: Sequence[Tensor | None] = [None] * len(maps)
    if computed:
        known = masks_of(maps, computed)
        grid = grid.only(known)
        masks = known
    inputs = [only(x, mask) for x, mask in zip(maps, masks, strict=True)]
    classes = _through(head.cls_convs, inputs, masks)
    logits = list(map(head.conv_cls, _through(head.conv_cls_prev, classes, masks)))
    found = [one.amax(1).sigmoid() > head.test_cfg.score_thr for one in logits]
    places = grid.of_maps(
        [one if mask is None else one & mask for one, mask in zip(found, masks, strict=True)]
    )
    scores = Rows.of_maps(logits, grid).at_places(places)
    boxes = None
    if needs_all(head.reg_convs):
        boxes = Rows.of_maps(_through(head.reg_convs, inputs, masks), grid)
    towers = Towers(Rows.of_maps(inputs, grid), Rows.of_maps(classes, grid), boxes)
    return candidates_at(head, grid, places, scores, towers)


def _through(
    layers: Sequence[Any], maps: Sequence[Tensor], masks: Sequence[Tensor | None]
) -> list[Tensor]:
    """Compute layers one after the other, of each level's map, with zeros outside ``masks``."""
    results = []
    for x, mask in zip(maps, masks, strict=True):
        for layer in layers:
            x = layer(x) if mask is None else _layer_where(layer, x, mask)
        results.append(x)
    return results


def _layer_where(layer: Any, x: Tensor, mask: Tensor) -> Tensor:
    """Compute a plain layer of a map (N, C, H, W) as if ``mask``, (N, H, W) bool, were the map."""
    if not has_group_norm(layer):
        return only(layer(x), mask)
    x = group_norm_where(layer.norm, layer.conv(x), mask)
    return only(layer.activate(x) if layer.with_activation else x, mask)


def masks_of(maps: Sequence[Tensor], computed: Sequence[Tensor]) -> list[Tensor]:
    """Where each of ``maps`` counts, (N, H, W) bool. Levels that the neck adds count everywhere."""
    added = maps[len(computed) :]
    return [*computed, *(torch.ones_like(one[:, 0], dtype=torch.bool) for one in added)]


def only(x: Tensor, mask: Tensor | None) -> Tensor:
    """A map (N, C, H, W) with zeros outside ``mask``, (N, H, W) bool. None: as it is."""
    return x if mask is None else x * mask[:, None]


def candidates_at(
    head: Any, grid: Grid, places: Tensor, logits: Tensor, towers: Towers
) -> Candidates:
    """Compute what the head says at those of ``places`` (n,) where it may find a box.

    ``logits`` are the class scores. First comes the centerness, so that the rest is computed only
    where class score times centerness passes.
    """
    inputs, classes, boxes = towers
    prev = head.conv_centerness_prev
    tower = classes
    if head.centerness_on_reg:
        boxes = boxes or _box_rows(head, grid, places, inputs)
        tower = boxes
    centerness = apply_all(prev, tower, places, grid)
    centerness = point_wise(head.conv_centerness, centerness).sigmoid().squeeze(1)
    scores = logits.sigmoid()
    found = (scores.amax(1) * centerness > head.test_cfg.score_thr).nonzero().squeeze(1)
    places = places[found]
    logits = logits[found]
    boxes = boxes or _box_rows(head, grid, places, inputs)
    own = [*(branch or () for branch in head.conv_reg_prevs), head.conv_dir_cls_prev]
    *raw, directions = (
        point_wise(last, x)
        for last, x in zip(
            (*head.conv_regs, head.conv_dir_cls),
            _apply_branches(own, boxes, places, grid),
            strict=True,
        )
    )
    attributes = point_wise(head.conv_attr, apply_all(head.conv_attr_prev, classes, places, grid))
    level = grid.level[places]
    stride = torch.tensor(head.strides, device=level.device)[level, None]
    return Candidates(
        grid.image[places],
        level,
        (grid.point[places] * stride + stride // 2).to(logits),
        scores[found],
        _decode(head, torch.cat(raw, 1), logits, level),
        directions.argmax(1),
        attributes.argmax(1),
        centerness[found],
    )


def _box_rows(head: Any, grid: Grid, places: Tensor, inputs: Rows) -> Rows:
    """Compute the head's ``reg_convs`` as far around ``places`` as its branches read."""
    wide = grid.widen(places, max(map(len, _branches(head))))
    return Rows.at(wide, apply_all(head.reg_convs, inputs, wide, grid), grid)


def _apply_branches(
    branches: Sequence[Sequence[Any]], x: Rows, places: Tensor, grid: Grid
) -> list[Tensor]:
    """Compute branches of the same input at ``places``. Those of one layer share what they read."""
    single = [branch[0] for branch in branches if len(branch) == 1]
    beside = iter(apply_beside(single, x, places, grid) if single else ())
    return [
        next(beside) if len(branch) == 1 else apply_all(branch, x, places, grid)
        for branch in branches
    ]


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
