"""Neck and head computed only in the windows that the backbone computed, in use and in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from sparsevit3d.detector.lazy import (
    Candidates,
    Towers,
    candidates_at,
    layers_of,
    masks_of,
    needs_all,
    only,
)
from sparsevit3d.detector.neck import added_levels, lateral_maps, neck_rows
from sparsevit3d.detector.norm import group_norm_where
from sparsevit3d.detector.places import (
    Grid,
    Rows,
    Within,
    apply_within,
    grid_of_maps,
    has_group_norm,
    point_wise,
)

NOTHING = -20.0  # a logit: a score of 2e-9
KINDS = 5  # of maps: scores, boxes, directions, attributes, centerness
MOST = 0.45  # share of all places from which on dense convolutions are quicker


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
    parts = grid.images * len(grid.sizes)
    within = Within(inputs.around(places, grid), grid.part(places), parts)
    classes = apply_within(head.cls_convs, inputs, within)
    logits = apply_within(head.conv_cls_prev, classes, within).values[:-1]
    logits = point_wise(head.conv_cls, logits)
    found = (logits.amax(1).sigmoid() > head.test_cfg.score_thr).nonzero().squeeze(1)
    boxes = None
    if needs_all(head.reg_convs):
        boxes = apply_within(head.reg_convs, inputs, within)
    return candidates_at(head, grid, places[found], logits[found], Towers(inputs, classes, boxes))


def head_where(head: Any, levels: Sequence[Tensor], computed: Sequence[Tensor]) -> Any:
    """What ``head`` says if it is computed in the windows that the backbone computed, and no more.

    Between them, its layers see zeros, and class scores say "nothing here". ``levels`` are the
    neck's maps, (N, C, H, W). ``computed`` is (N, H, W) bool, level by level. Levels that the neck
    adds come last and are computed everywhere. The result is that of ``head``, kind by kind.
    """
    now: list[Tensor] = []
    layers = layers_of(head)
    hooks = [
        layer.register_forward_hook(lambda _, given, result: only(result, now[-1]))
        for layer in layers
    ] + [
        layer.norm.register_forward_hook(
            lambda norm, given, _: group_norm_where(norm, given[0], now[-1])
        )
        for layer in filter(has_group_norm, layers)
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
