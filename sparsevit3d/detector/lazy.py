"""FCOS3D's head, computed only where a box may be found.

Class scores are computed everywhere. A box counts with its class score times its centerness, which
is never above the class score. So centerness is computed only where a class passes ``score_thr``,
and boxes, directions and attributes only where the product passes it. No box is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmdet3d.models.dense_heads import FCOSMono3DHead
from torch import Tensor, nn

from sparsevit3d.detector.neck import added_levels, lateral_maps, neck_rows
from sparsevit3d.detector.places import (
    Grid,
    Rows,
    apply_all,
    apply_beside,
    apply_within,
    grid_of_maps,
    is_local,
    point_wise,
)

NOTHING = -20.0  # a logit: a score of 2e-9
KINDS = 5  # of maps: scores, boxes, directions, attributes, centerness
MOST = 0.45  # share of all places from which on dense convolutions are quicker


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
    if not (head.test_cfg or {}).get("use_rotate_nms"):
        return "test_cfg.use_rotate_nms is False"
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
    inputs = []
    seen = []
    logits = []
    found = []
    for x, mask in zip(maps, masks, strict=True):
        x = only(x, mask)
        inputs.append(x)
        for layer in head.cls_convs:
            x = only(layer(x), mask)
        seen.append(x)
        for layer in head.conv_cls_prev:
            x = only(layer(x), mask)
        logits.append(head.conv_cls(x))
        best = logits[-1].amax(1).sigmoid() > head.test_cfg.score_thr
        found.append(best if mask is None else best & mask)
    places = grid.of_maps(found)
    scores = Rows.of_maps(logits, grid).at_places(places)
    return _candidates(
        head, grid, places, scores, Rows.of_maps(seen, grid), Rows.of_maps(inputs, grid)
    )


def masks_of(maps: Sequence[Tensor], computed: Sequence[Tensor]) -> list[Tensor]:
    """Where each of ``maps`` counts, (N, H, W) bool. Levels that the neck adds count everywhere."""
    added = maps[len(computed) :]
    return [*computed, *(torch.ones_like(one[:, 0], dtype=torch.bool) for one in added)]


def only(x: Tensor, mask: Tensor | None) -> Tensor:
    """A map (N, C, H, W) with zeros outside ``mask``, (N, H, W) bool. None: as it is."""
    return x if mask is None else x * mask[:, None]


class Part(NamedTuple):
    """A neck's maps, as far as they are needed.

    Args:
        grid (Grid): All places of the maps. Those that are not needed are empty.
        inputs (Rows): The maps at the places that are not empty, in their order.
    """

    grid: Grid
    inputs: Rows


def carried_neck(
    neck: Any, features: Sequence[Tensor], computed: Sequence[Tensor], most: float = MOST
) -> Part | None:
    """Compute the neck where the backbone computed windows, and nowhere else.

    Levels that the neck adds are computed everywhere. ``features`` are the backbone's maps,
    (N, C, H, W), and ``computed`` says where they count, (N, H, W) bool. None: these are more than
    ``most`` of all places, so dense convolutions are quicker.
    """
    known = grid_of_maps(features)
    if len(known.of_maps(computed)) > most * known.total:
        return None
    laterals = lateral_maps(neck, features)
    added = added_levels(neck, laterals)
    maps = [*laterals, *added]
    grid = grid_of_maps(maps)
    masks = masks_of(maps, computed)
    places = grid.of_maps(masks)
    rows = neck_rows(neck, laterals, added, places, grid)
    return Part(grid.only(masks), Rows.at(places, rows, grid))


def carried_head(head: Any, part: Part) -> Candidates:
    """Compute class scores where the neck was computed, and the rest where a class is found.

    Everywhere else nothing is found.
    """
    grid, inputs = part
    places = grid.inside.nonzero().squeeze(1)
    around = inputs.around(places, grid)
    classes = apply_within(head.cls_convs, inputs, around)
    logits = apply_within(head.conv_cls_prev, classes, around).values[:-1]
    logits = point_wise(head.conv_cls, logits)
    found = (logits.amax(1).sigmoid() > head.test_cfg.score_thr).nonzero().squeeze(1)
    return _candidates(head, grid, places[found], logits[found], classes, inputs)


def head_where(head: Any, levels: Sequence[Tensor], computed: Sequence[Tensor]) -> Any:
    """What ``head`` says if it is computed in the windows that the backbone computed, and no more.

    Between them, its layers see zeros, and class scores say "nothing here". ``levels`` are the
    neck's maps, (N, C, H, W). ``computed`` is (N, H, W) bool, level by level. Levels that the neck
    adds come last and are computed everywhere. The result is that of ``head``, kind by kind.
    """
    now: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _, given, result: only(result, now[-1]))
        for layer in _layers(head)
    ]
    found = []
    try:
        for x, mask, scale, stride in zip(
            levels, masks_of(levels, computed), head.scales, head.strides, strict=True
        ):
            now.append(mask)
            scores, *others = head.forward_single(only(x, mask), scale, stride)[:KINDS]
            found.append((scores.masked_fill(~mask[:, None], NOTHING), *others))
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(map(list, zip(*found, strict=True)))


def loss_where(
    head: Any, levels: Sequence[Tensor], samples: Any, computed: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Compute the losses of ``head.loss`` of the places that the backbone computed alone.

    Elsewhere the head says "nothing here", and the truth says so too. For ``levels`` and
    ``computed`` see :func:`head_where`.
    """
    targets = head.get_targets

    def targets_where(*arguments: Any) -> Any:
        labels, *others = targets(*arguments)
        labels = [
            one.masked_fill(~mask.flatten(), head.num_classes)
            for one, mask in zip(labels, masks_of(levels, computed), strict=True)
        ]
        return (labels, *others)

    head.get_targets = targets_where
    try:
        return head.loss_by_feat(
            *head_where(head, levels, computed),
            [one.gt_instances_3d for one in samples],
            [one.gt_instances for one in samples],
            [one.metainfo for one in samples],
        )
    finally:
        del head.get_targets


def _candidates(
    head: Any, grid: Grid, places: Tensor, logits: Tensor, classes: Rows, inputs: Rows
) -> Candidates:
    """Compute what the head says at those of ``places`` (n,) where it may find a box.

    ``logits`` are the class scores. ``classes`` are the results of the head's ``cls_convs``, and
    ``inputs`` the neck's maps, as far around as they are read. First comes the centerness, so that
    the rest is computed only where class score times centerness passes.
    """
    prev = head.conv_centerness_prev
    boxes = _box_rows(head, grid, places, inputs) if head.centerness_on_reg else None
    centerness = apply_all(prev, classes if boxes is None else boxes, places, grid)
    centerness = point_wise(head.conv_centerness, centerness).sigmoid().squeeze(1)
    scores = logits.sigmoid()
    found = (scores.amax(1) * centerness > head.test_cfg.score_thr).nonzero().squeeze(1)
    places = places[found]
    logits = logits[found]
    if boxes is None:
        boxes = _box_rows(head, grid, places, inputs)
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
