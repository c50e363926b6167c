"""A detector in which every shape is fixed, from images to boxes, for export to other runtimes.

Elsewhere in this package a detector asks how many candidates there are, and computes so many. A
file for another runtime has to know all shapes before. So each image has ``most`` places for boxes,
and a score of 0 says that a place is empty. The head is computed everywhere. Suppression compares
all candidates of an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsevit3d.detector.carried import head_where
from sparsevit3d.detector.decode import AHEAD
from sparsevit3d.detector.mm_private import swaps_colours
from sparsevit3d.detector.nms import overlap_of_pairs
from sparsevit3d.detector.rays import RayPreprocessor, pixel_rays

STEPS = 16  # of suppression: boxes that remove each other in a longer chain may be judged wrongly
Part = Literal["boxes", "maps", "backbone"]
BOXES = ("boxes", "scores", "labels", "attributes")
MAPS = ("scores", "boxes", "directions", "attributes", "centerness")
FROM_ABOVE = (0, 2, 3, 5, 6)  # x, z, length, width and yaw of a box


class StaticDetector(nn.Module):
    """An FCOS3D detector from images to boxes, in operators whose shapes are known beforehand.

    The detector must be one that :func:`~sparsevit3d.detector.decode.can_decode` knows, in eval
    mode. Its plan is that of now. ``names`` are those of what ``forward`` returns.

    Args:
        detector (SparseFCOS3D): The detector, which is used and not copied.
        part (str): "boxes". Or what leads there: the head's "maps", or those of the "backbone".
            Default: "boxes".
    """

    def __init__(self, detector: Any, part: Part = "boxes") -> None:
        super().__init__()
        given = detector.data_preprocessor
        self.detector = detector
        self.part = part
        self.most = int(detector.bbox_head.test_cfg.max_per_img)
        self.rays = isinstance(given, RayPreprocessor)
        self.swaps = swaps_colours(given)
        self.divisor = int(given.pad_size_divisor)
        self.mean = nn.Buffer(given.mean.clone(), persistent=False)
        self.std = nn.Buffer(given.std.clone(), persistent=False)
        levels = range(len(detector.bbox_head.strides))
        self.names = {
            "boxes": BOXES,
            "maps": tuple(f"{kind}_{level}" for kind in MAPS for level in levels),
            "backbone": tuple(f"map_{index}" for index in detector.backbone.out_indices),
        }[part]

    def forward(self, images: Tensor, cameras: Tensor) -> tuple[Tensor, ...]:
        """Find boxes in ``images`` (N, 3, H, W), 0 to 255, in the order of colours of cv2 (BGR).

        ``cameras`` (N, 3, 3) are the matrices of these images, in their pixels. See
        :func:`found_in` for what is returned of the part "boxes".
        """
        net = self.detector.backbone
        head = self.detector.bbox_head
        x = self.prepared(images.float(), cameras)
        if self.part == "backbone":
            return net.compute(x)
        carried = self.detector.carry and net.plan is not None and not net.plan.is_dense
        outputs = net.compute(x, None, carried)
        count = len(net.out_indices)
        levels = self.detector.neck(outputs[:count])
        maps = head_where(head, levels, outputs[count:]) if carried else head(levels)[: len(MAPS)]
        if self.part == "maps":
            return tuple(one for kind in maps for one in kind)
        return found_in(head, maps, cameras, self.most)

    def prepared(self, images: Tensor, cameras: Tensor) -> Tensor:
        """Normalise and pad ``images`` as the data preprocessor does, and add rays if it does."""
        x = images.flip(1) if self.swaps else images
        x = (x - self.mean) / self.std
        height, width = (-side % self.divisor for side in x.shape[-2:])
        x = F.pad(x, (0, width, 0, height))
        if self.rays:
            size = x.shape[-2:]
            rays = [pixel_rays(camera, size) for camera in cameras.unbind(0)]
            x = torch.cat([x, torch.stack(rays).to(x)], 1)
        return x


def found_in(
    head: Any, maps: Sequence[list[Tensor]], cameras: Tensor, most: int
) -> tuple[Tensor, ...]:
    """Make boxes of what ``head`` says, image by image, and suppress the lesser ones.

    Returns (N, most, 9) boxes, best first, and (N, most) scores, labels and attributes. A box has
    its centre x, y, z, length, height and width (metres), yaw (radians), and velocity along x and z
    (metres per second), in its camera's frame. A score of 0 marks an empty place.

    ``maps`` are scores, boxes, directions, attributes and centerness. Candidates are the best pairs
    of place and class of an image, AHEAD times ``most``.
    """
    config = head.test_cfg
    points = head.get_points([x.shape[-2:] for x in maps[0]], maps[0][0].dtype, maps[0][0].device)
    parts = [_best_of_level(config, *level) for level in zip(*maps, points, strict=True)]
    logits, boxes, directions, attributes, centerness, places = (
        torch.cat(kind, 1) for kind in zip(*parts, strict=True)
    )
    scores = logits.sigmoid() * centerness.sigmoid()
    classes = scores.shape[2]
    best, order = scores.flatten(1).topk(min(AHEAD * most, scores[0].numel()), 1)
    place = order // classes
    labels = order % classes

    def taken(x: Tensor) -> Tensor:
        return x.gather(1, place[:, :, None].expand(-1, -1, x.shape[2]))

    space = _in_space(head, taken(boxes), taken(directions).argmax(2), taken(places), cameras)
    wanted = best > config.score_thr
    worse = _removes(config, space, labels)
    kept = wanted
    for _ in range(STEPS):
        kept = wanted & ~(worse & kept[:, :, None]).any(1)
    scores, order = torch.where(kept, best, 0.0).topk(min(most, best.shape[1]), 1)
    return (
        space.gather(1, order[:, :, None].expand(-1, -1, space.shape[2])),
        scores,
        labels.gather(1, order),
        taken(attributes).argmax(2).gather(1, order),
    )


def _best_of_level(
    config: Any,
    scores: Tensor,
    boxes: Tensor,
    directions: Tensor,
    attributes: Tensor,
    centerness: Tensor,
    points: Tensor,
) -> list[Tensor]:
    """Take the best ``nms_pre`` places of a level: every kind as (N, places, values)."""
    points = points[None].expand(len(scores), -1, -1)
    rows = [x.permute(0, 2, 3, 1).flatten(1, 2) for x in (scores, boxes, directions, attributes)]
    rows += [centerness.permute(0, 2, 3, 1).flatten(1, 2), points]
    most = config.get("nms_pre", -1)
    if not 0 < most < points.shape[1]:
        return rows
    best = rows[0].sigmoid().amax(2) * rows[4].sigmoid()[:, :, 0]
    order = best.topk(most, 1)[1][:, :, None]
    return [x.gather(1, order.expand(-1, -1, x.shape[2])) for x in rows]


def _in_space(
    head: Any, boxes: Tensor, directions: Tensor, points: Tensor, cameras: Tensor
) -> Tensor:
    """(N, n, code size) boxes in the cameras' frames, with global yaws."""
    centres = points - boxes[:, :, :2]
    focal_x = cameras[:, 0, 0, None]
    middle_x = cameras[:, 0, 2, None]
    y = (centres[:, :, 1] - cameras[:, 1, 2, None]) / cameras[:, 1, 1, None]
    x = (centres[:, :, 0] - middle_x - cameras[:, 0, 1, None] * y) / focal_x
    depth = boxes[:, :, 2]
    yaw = boxes[:, :, 6] - head.dir_offset
    yaw = yaw - torch.floor(yaw / math.pi) * math.pi + head.dir_offset + math.pi * directions
    yaw = yaw + torch.atan2(centres[:, :, 0] - middle_x, focal_x.expand_as(yaw))
    place = torch.stack([x * depth, y * depth, depth], 2)
    return torch.cat([place, boxes[:, :, 3:6], yaw[:, :, None], boxes[:, :, 7:9]], 2)


def _removes(config: Any, boxes: Tensor, labels: Tensor) -> Tensor:
    """(N, n, n) bool: whether a box removes another one of its class, the better one first."""
    count = boxes.shape[1]
    same = labels[:, :, None] == labels[:, None, :]
    better = torch.ones(count, count, dtype=torch.bool, device=boxes.device).triu(1)
    if config.get("nms_type", "rotate") == "circle":
        radius = boxes.new_tensor(config.min_radius)[labels][:, :, None]
        apart = boxes[:, :, None, 0:3:2] - boxes[:, None, :, 0:3:2]
        return same & better & (apart.square().sum(3) <= radius.square())
    flat = torch.stack([boxes[:, :, place] for place in FROM_ABOVE], 2)
    flat = torch.cat([flat[:, :, :4], -flat[:, :, 4:]], 2)
    one = flat[:, :, None].expand(-1, -1, count, -1).flatten(0, 2)
    other = flat[:, None].expand(-1, count, -1, -1).flatten(0, 2)
    overlap = overlap_of_pairs(one, other).view(-1, count, count)
    return same & better & (overlap >= config.nms_thr)
