"""Non-maximum suppression of boxes seen from above, all classes and cameras at once.

mmcv compares every box of a class with every other, and its operator for processors reads them
number by number. Two boxes can only overlap if their centres are near, which is rare. Here only
near pairs are compared, all of them in one go, and once for all classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from mmcv.ops import box_iou_rotated
from torch import Tensor

PAIRS_AT_ONCE = 1 << 20
# mmcv's operator computes in float32. Where its answer may depend on that, it is asked.
MARGIN = 1e-4  # between an overlap and the threshold
THIN = 0.1  # metres: mmcv orders corners of smaller boxes wrongly
PARALLEL = 1e-3  # of twice the angle between sides: mmcv loses corners where edges coincide


class Kept(NamedTuple):
    """What suppression keeps: image by image, class by class, the best first.

    Args:
        rows (Tensor): (kept,) places among the boxes.
        labels (Tensor): (kept,) classes.
    """

    rows: Tensor
    labels: Tensor


def rotated_nms(
    boxes: Tensor, scores: Tensor, wanted: Tensor, images: Tensor, threshold: float
) -> Kept:
    """Keep of each class the boxes that overlap no better one of it by ``threshold`` or more.

    The result is what mmcv's ``nms_rotated`` keeps of each image and class, which orders equal
    scores at will.

    Args:
        boxes (Tensor): (N, 5) centre, sides and angle (x, y, w, h, radians), as mmcv has them.
        scores (Tensor): (N, K) scores of each class. Of equal ones, the first is the better.
        wanted (Tensor): (N, K) bool, whether a box counts for a class.
        images (Tensor): (N,) numbers from 0. Boxes of different images leave each other alone.
        threshold (float): Intersection over union.
    """
    order, ranks = _in_order(scores, wanted, images)
    reach = torch.hypot(boxes[:, 2], boxes[:, 3]) / 2
    area = boxes[:, 2] * boxes[:, 3]
    # Boxes of too unlike areas cannot overlap so well, and those without area do not at all.
    alike = max(threshold - MARGIN, 0)
    one, other = _near_pairs(boxes[:, :2], reach, area, alike, images)
    overlap = _overlap(boxes, one, other)
    turned = overlap
    thin = (boxes[:, 2:4].amin(1) < THIN).index_select(0, torch.cat([one, other]))
    unsure = (overlap - threshold).abs() < MARGIN
    turn = boxes[:, 4].index_select(0, one) - boxes[:, 4].index_select(0, other)
    unsure |= (2 * turn).sin().abs() < PARALLEL
    unsure = (unsure | thin[: len(one)] | thin[len(one) :]).nonzero().squeeze(1)
    if len(unsure):  # mmcv's answer may depend on which box comes first
        turned = overlap.clone()
        first = boxes[one[unsure]].float()
        second = boxes[other[unsure]].float()
        overlap[unsure] = box_iou_rotated(first, second, aligned=True)
        turned[unsure] = box_iou_rotated(second, first, aligned=True)
    met = (torch.maximum(overlap, turned) >= threshold).nonzero().squeeze(1)
    left, right, pair, _ = _of_classes(ranks, one[met], other[met])
    value = torch.where(left < right, overlap[met][pair], turned[met][pair])
    met = (value >= threshold).nonzero().squeeze(1)
    kept = _greedy(left[met], right[met], len(order.rows))
    return Kept(order.rows[kept], order.labels[kept])


def circle_nms(
    boxes: Tensor, scores: Tensor, wanted: Tensor, images: Tensor, radius: Tensor
) -> Kept:
    """Keep of each class the boxes with no better one of it within the class's ``radius``.

    CenterPoint's rule: a place holds one object. Arguments and result are those of
    :func:`rotated_nms`, but for ``radius``, (K,) metres between centres.
    """
    order, ranks = _in_order(scores, wanted, images)
    widest = radius.max().expand(len(boxes)) / 2
    ones = torch.ones_like(boxes[:, 0])
    one, other = _near_pairs(boxes[:, :2], widest, ones, 0.0, images)
    apart = (boxes[one, :2] - boxes[other, :2]).square().sum(1)
    left, right, pair, label = _of_classes(ranks, one, other)
    met = (apart[pair] <= radius[label].square()).nonzero().squeeze(1)
    kept = _greedy(left[met], right[met], len(order.rows))
    return Kept(order.rows[kept], order.labels[kept])


def _in_order(scores: Tensor, wanted: Tensor, images: Tensor) -> tuple[Kept, Tensor]:
    """List boxes and classes that count, and (N, K) the place of each in that list, or -1.

    Equal scores keep their order.
    """
    rows, labels = wanted.nonzero().unbind(1)
    order = scores[rows, labels].sort(descending=True, stable=True)[1]
    group = images[rows] * wanted.shape[1] + labels
    order = order[group[order].sort(stable=True)[1]]
    rows = rows[order]
    labels = labels[order]
    ranks = torch.full_like(wanted, -1, dtype=torch.long)
    ranks[rows, labels] = torch.arange(len(rows), device=rows.device)
    return Kept(rows, labels), ranks


def _of_classes(ranks: Tensor, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Spread pairs of boxes over the classes that both count for.

    Returns the ranks of both, the number of the pair, and the class.
    """
    left = ranks[one]
    right = ranks[other]
    pair, label = ((left >= 0) & (right >= 0)).nonzero().unbind(1)
    return left[pair, label], right[pair, label], pair, label


def _near_pairs(
    centres: Tensor, reach: Tensor, area: Tensor, alike: float, groups: Tensor
) -> tuple[Tensor, Tensor]:
    """List pairs of a group no farther apart than the sum of their reaches, the first one first.

    The smaller area is at least the share ``alike`` of the larger one, and more than 0. A box that
    is not finite is near none.
    """
    table = torch.cat([centres, reach[:, None], area[:, None]], 1)
    finite = (table.isfinite().all(1) & (area > 0)).nonzero().squeeze(1)
    if not len(finite):
        return finite, finite
    table = table[finite]
    group = groups[finite]
    widest = reach.new_zeros(int(group.max()) + 1)
    widest = widest.scatter_reduce(0, group, table[:, 2], "amax")[group]
    # Along one axis, with room between groups, partners of a box follow it closely.
    x = table[:, 0].double()
    axis, order = (x + (x.max() - x.min() + 4 * widest.max() + 1) * group).sort()
    boxes = finite[order]
    table = table[order]
    last = torch.searchsorted(axis, axis + table[:, 2] + widest[order], right=True)
    own = torch.arange(len(boxes), device=x.device)
    follow = last - own - 1  # how many boxes may be partners
    found = []
    for rows in own.split(_rows_at_once(follow)):
        counts = follow[rows]
        begin = rows + 1 - counts.cumsum(0) + counts
        left = rows.repeat_interleave(counts)
        right = begin.repeat_interleave(counts)
        right += torch.arange(len(right), device=x.device)
        one = table.index_select(0, left)
        other = table.index_select(0, right)
        apart = (one[:, 0] - other[:, 0]).square() + (one[:, 1] - other[:, 1]).square()
        near = apart <= (one[:, 2] + other[:, 2]).square()
        low = torch.minimum(one[:, 3], other[:, 3])
        near &= low >= alike * torch.maximum(one[:, 3], other[:, 3])
        kept = near.nonzero().squeeze(1)
        found.append(
            torch.stack(
                [boxes.index_select(0, side.index_select(0, kept)) for side in (left, right)]
            )
        )
    left, right = found[0] if len(found) == 1 else torch.cat(found, 1)
    return torch.minimum(left, right), torch.maximum(left, right)


def _rows_at_once(follow: Tensor) -> list[int]:
    """Cut the boxes into runs that have PAIRS_AT_ONCE pairs each, or little more."""
    part = follow.cumsum(0) // PAIRS_AT_ONCE
    return torch.unique_consecutive(part, return_counts=True)[1].tolist()


def _overlap(boxes: Tensor, better: Tensor, worse: Tensor) -> Tensor:
    """(P,) intersection over union of pairs of ``boxes`` (N, 5) of positive area."""
    return overlap_of_pairs(boxes.index_select(0, better), boxes.index_select(0, worse))


def overlap_of_pairs(better: Tensor, worse: Tensor) -> Tensor:
    """(P,) intersection over union of ``better`` (P, 5) and ``worse`` (P, 5) of positive area.

    One box of each pair is turned into the frame of the other, which then is an upright rectangle.
    The common area is the integral of y along the edges of the turned box, where both x and y are
    clamped to the rectangle. So nothing has to be sorted, and nothing jumps where edges coincide.
    """
    frame = _prepared(better)
    x, y = _corners(_prepared(worse), frame)
    high_x = frame[:, 2:3]
    high_y = frame[:, 3:4]
    low_x = -high_x
    low_y = -high_y
    next_x = x.roll(-1, 1)
    start = x.clamp(low_x, high_x)
    length = next_x.clamp(low_x, high_x) - start  # of an edge, between the two sides
    slope = (y.roll(-1, 1) - y) / (next_x - x)
    slope = slope.where(next_x != x, 0.0)
    begin = y + (start - x) * slope
    end = begin + length * slope
    low = torch.minimum(begin, end)
    high = torch.maximum(begin, end)
    floor = low.clamp(low_y, high_y)
    ceiling = high.clamp(low_y, high_y)
    below = (torch.minimum(high, low_y) - low).clamp(min=0)
    above = (high - torch.maximum(low, high_y)).clamp(min=0)
    total = (above - below) * high_y + (ceiling - floor) * (ceiling + floor) / 2
    mean = (total / (high - low)).where(high != low, floor)  # of y, clamped
    common = (mean * length).sum(1).abs()
    area = better[:, 2] * better[:, 3] + worse[:, 2] * worse[:, 3]
    return common / (area - common)


def _prepared(boxes: Tensor) -> Tensor:
    """(P, 6) centre, half sides, sine and cosine of the angle of ``boxes`` (P, 5)."""
    angle = boxes[:, 4:5]
    return torch.cat([boxes[:, :2], boxes[:, 2:4] / 2, angle.sin(), angle.cos()], 1)


def _corners(boxes: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Corners of boxes in the frames of others, in turning order: their x and y, (P, 4) both.

    ``boxes`` and ``frames`` (P, 6) hold centre, half sides, sine and cosine of the angle.
    """
    x, y, along, aside, sine, cosine = boxes.unbind(1)
    frame_x, frame_y, _, _, frame_sine, frame_cosine = frames.unbind(1)
    right = x - frame_x
    up = y - frame_y
    centre_x = right * frame_cosine + up * frame_sine
    centre_y = up * frame_cosine - right * frame_sine
    turned_sine = sine * frame_cosine - cosine * frame_sine
    turned_cosine = cosine * frame_cosine + sine * frame_sine
    ends = boxes.new_tensor([1, -1, -1, 1])
    sides = boxes.new_tensor([1, 1, -1, -1])
    return (
        centre_x[:, None]
        + torch.outer(along * turned_cosine, ends)
        - torch.outer(aside * turned_sine, sides),
        centre_y[:, None]
        + torch.outer(along * turned_sine, ends)
        + torch.outer(aside * turned_cosine, sides),
    )


def _greedy(one: Tensor, other: Tensor, count: int) -> Tensor:
    """Say which of ``count`` boxes stay, if each one that stays removes its later partners.

    Repeated until nothing changes, as Cluster-NMS does (Zheng et al., 2020). The best of a group
    is right from the start, and what depends on it one step later.
    """
    better = torch.minimum(one, other)
    worse = torch.maximum(one, other)
    kept = torch.ones(count, dtype=torch.bool, device=better.device)
    while True:
        now = torch.ones_like(kept)
        now[worse[kept[better]]] = False
        if torch.equal(now, kept):
            return kept
        kept = now
