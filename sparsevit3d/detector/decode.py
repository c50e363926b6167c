"""From what a head says to boxes: candidates, their place in space, suppression of the lesser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from sparsevit3d.detector.lazy import HEADS, Candidates
from sparsevit3d.detector.nms import Kept, circle_nms, rotated_nms

AHEAD = 3  # times the boxes that an image may have: how many are compared at first


def decode(head: Any, outputs: Any, metas: list[dict[str, Any]]) -> tuple[list[InstanceData], Any]:
    """Find the boxes of ``head.predict_by_feat`` in network pixels, more quickly for FCOS3D's head.

    ``outputs`` is what the head says: its maps, or Candidates.

    mmdet3d decodes the best ``nms_pre`` locations of every level and image. It then drops those
    below ``score_thr``, which are nearly all. Here only the others are decoded, of all levels and
    images at once.
    """
    if isinstance(outputs, Candidates):
        return boxes_of(head, outputs, metas), None
    if not can_decode(head):
        return head.predict_by_feat(*outputs, batch_img_metas=metas, rescale=False)
    return boxes_of(head, candidates_of(head, outputs), metas), None


def can_decode(head: Any) -> bool:
    """Whether ``head`` is one that this file decodes by itself."""
    return (
        type(head) in HEADS
        and head.pred_attrs
        and head.use_direction_classifier
        and head.test_cfg.use_rotate_nms
    )


def check_suppression(config: Any, classes: int) -> None:
    """Raise ValueError unless ``test_cfg`` says how boxes of ``classes`` classes are suppressed."""
    kind = config.get("nms_type", "rotate")
    if kind not in ("rotate", "circle"):
        raise ValueError(f"test_cfg.nms_type {kind!r}: there are 'rotate' and 'circle'.")
    radius = config.get("min_radius", ())
    if kind == "circle" and len(radius) != classes:
        raise ValueError(
            f"test_cfg.min_radius has {len(radius)} values. Give one in metres for each of the "
            f"{classes} classes."
        )


def candidates_of(head: Any, maps: Any) -> Candidates:
    """Take the places of dense maps where a box may be found.

    ``maps`` are scores, boxes, directions, attributes and centerness, level by level (N, C, H, W).
    """
    points = head.get_points(
        [one.shape[-2:] for one in maps[0]], maps[0][0].dtype, maps[0][0].device
    )
    scores, boxes, directions, attributes, centerness = (
        torch.cat([one.permute(0, 2, 3, 1).flatten(1, 2) for one in levels], 1) for levels in maps
    )
    level = torch.cat(
        [torch.full_like(one[:, 0], number).long() for number, one in enumerate(points)]
    )
    scores = scores.sigmoid()
    centerness = centerness.sigmoid().squeeze(2)
    best = scores.amax(2) * centerness
    image, place = (best > head.test_cfg.score_thr).nonzero().unbind(1)
    return Candidates(
        image,
        level[place],
        torch.cat(points)[place],
        scores[image, place],
        boxes[image, place],
        directions[image, place].argmax(1),
        attributes[image, place].argmax(1),
        centerness[image, place],
    )


def on_host(candidates: Candidates) -> Candidates:
    """Copy candidates to the processor's memory, all in one go.

    Few are left. What follows is many small steps, each of which asks how many stay.
    """
    if candidates.scores.device.type == "cpu":
        return candidates
    return unpacked(packed(candidates).cpu(), candidates)


def packed(candidates: Candidates) -> Tensor:
    """Lay all that is known of candidates side by side, (n, columns) float32.

    float32 holds every whole number below 2^24.
    """
    return torch.cat([one.float().view(len(one), -1) for one in candidates], 1)


def unpacked(table: Tensor, like: Candidates) -> Candidates:
    """Take :func:`packed`'s table apart again. Types and shapes are those of ``like``."""
    parts = table.split([max(1, one.shape[1:].numel()) for one in like], 1)
    return Candidates(
        *(one.reshape(was.shape).to(was.dtype) for one, was in zip(parts, like, strict=True))
    )


@torch.no_grad()
def boxes_of(
    head: Any, candidates: Candidates, metas: Sequence[dict[str, Any]]
) -> list[InstanceData]:
    """Make an FCOS3D head's candidates boxes, image by image, in the camera's frame.

    ``metas`` has ``cam2img`` and ``box_type_3d`` of each image. What is found equals
    ``head.predict_by_feat``: only the best ``nms_pre`` candidates of a level count, of which a
    class keeps what no better box overlaps by ``nms_thr``, of which an image keeps
    ``max_per_img``. With ``nms_type="circle"`` in ``test_cfg``, a class keeps what is farther than
    its ``min_radius`` (metres) from every better box, as CenterPoint does.
    """
    most = head.test_cfg.max_per_img
    candidates = _best_of_levels(on_host(candidates), len(metas), head.test_cfg)
    scores = candidates.scores * candidates.centerness[:, None]
    wanted = scores > head.test_cfg.score_thr
    # A box is left out for a better one's sake alone. So the worst need not be looked at, unless
    # too few of the best stay.
    ahead, left_out = _best_of_images(scores, wanted, candidates.image, len(metas), AHEAD * most)
    boxes, found = _suppressed(head, candidates, scores, ahead, metas)
    image = candidates.image[found.rows]
    counts = torch.bincount(image, minlength=len(metas))
    if (left_out & (counts < most)).any():
        boxes, found = _suppressed(head, candidates, scores, wanted, metas)
        image = candidates.image[found.rows]
        counts = torch.bincount(image, minlength=len(metas))
    scores = scores[found.rows, found.labels]
    parts = torch.arange(len(image), device=image.device).split(counts.tolist())
    crowded = (counts > most) | (left_out & (counts == most))  # mmdet3d sorts these alone
    rows = torch.cat(
        [
            part[scores[part].sort(descending=True)[1][:most]] if sort else part
            for part, sort in zip(parts, crowded.tolist(), strict=True)
        ]
    )
    sizes = counts.clamp(max=most).tolist()
    of_image = zip(
        metas,
        boxes[rows].split(sizes),
        scores[rows].split(sizes),
        found.labels[rows].split(sizes),
        candidates.attributes[found.rows[rows]].split(sizes),
        strict=True,
    )
    return [
        InstanceData(
            bboxes_3d=meta["box_type_3d"](box, box_dim=head.bbox_code_size, origin=(0.5, 0.5, 0.5)),
            scores_3d=score,
            labels_3d=labels,
            attr_labels=attributes,
        )
        for meta, box, score, labels, attributes in of_image
    ]


def _suppressed(
    head: Any,
    candidates: Candidates,
    scores: Tensor,
    wanted: Tensor,
    metas: Sequence[dict[str, Any]],
) -> tuple[Tensor, Kept]:
    """Suppress the lesser of those candidates and classes that are ``wanted``, (n, classes).

    Returns (kept, code size) boxes, and which candidates and classes they are.
    """
    config = head.test_cfg
    rows = wanted.any(1).nonzero().squeeze(1)
    candidates = Candidates(*(one[rows] for one in candidates))
    boxes = in_space(head, candidates, metas)
    seen_from_above = boxes[:, [0, 2, 3, 5, 6]]  # x, z, length, width, yaw
    seen_from_above[:, 4] *= -1
    given = (seen_from_above, scores[rows], wanted[rows], candidates.image)
    if config.get("nms_type", "rotate") == "circle":
        kept = circle_nms(*given, boxes.new_tensor(config.min_radius))
    else:
        kept = rotated_nms(*given, config.nms_thr)
    return boxes[kept.rows], Kept(rows[kept.rows], kept.labels)


def _best_of_levels(candidates: Candidates, images: int, config: Any) -> Candidates:
    """Leave out all but the best ``nms_pre`` of each level of each image, image by image."""
    most = config.get("nms_pre", -1)
    if not 0 < most < len(candidates.level):
        return candidates
    levels = int(candidates.level.max()) + 1
    part = candidates.image * levels + candidates.level
    if torch.bincount(part).amax() <= most:
        return candidates
    best = candidates.scores.amax(1) * candidates.centerness
    order = _best_of_parts(best, part, images * levels, most)
    return Candidates(*(one[order] for one in candidates))


def _best_of_images(
    scores: Tensor, wanted: Tensor, image: Tensor, images: int, most: int
) -> tuple[Tensor, Tensor]:
    """Of the scores (n, classes) that are ``wanted``, mark the best ``most`` of each image.

    Also returns (images,) whether some of an image were left out.
    """
    rows, labels = wanted.nonzero().unbind(1)
    chosen = _best_of_parts(scores[rows, labels], image[rows], images, most)
    marked = torch.zeros_like(wanted)
    marked[rows[chosen], labels[chosen]] = True
    return marked, torch.bincount(image[rows], minlength=images) > most


def _best_of_parts(scores: Tensor, part: Tensor, parts: int, most: int) -> Tensor:
    """List the places of the ``most`` best of each part, part by part. Equal ones keep order."""
    order = scores.sort(descending=True, stable=True)[1]
    order = order[part[order].sort(stable=True)[1]]
    counts = torch.bincount(part, minlength=parts)
    begin = (counts.cumsum(0) - counts)[part[order]]
    return order[torch.arange(len(order), device=order.device) - begin < most]


def in_space(head: Any, candidates: Candidates, metas: Sequence[dict[str, Any]]) -> Tensor:
    """(n, code size) boxes in the cameras' frames, with global yaws."""
    boxes = candidates.boxes[:, : head.bbox_code_size].clone()
    cameras = torch.eye(4, dtype=boxes.dtype).repeat(len(metas), 1, 1)
    for camera, meta in zip(cameras, metas, strict=True):
        given = torch.as_tensor(meta["cam2img"], dtype=boxes.dtype)
        camera[: given.shape[0], : given.shape[1]] = given
    to_camera = cameras.inverse().to(boxes.device)[candidates.image]
    cameras = cameras.to(boxes.device)[candidates.image]
    centres = candidates.points - boxes[:, :2]
    depth = boxes[:, 2:3]
    seen = torch.cat([centres * depth, depth, torch.ones_like(depth)], 1)
    boxes[:, :3] = (to_camera @ seen[..., None])[:, :3, 0]
    return head.bbox_coder.decode_yaw(
        boxes, centres, candidates.directions, head.dir_offset, cameras.permute(1, 2, 0)
    )
