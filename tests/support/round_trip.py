"""Ground truth as a head that is right would say it: through its targets into raw outputs, for
whoever wants to decode them again.
"""

import copy

import numpy as np
import torch
from mmdet3d.registry import DATASETS


def dataset_of(config, split, flip):
    """Images of a split with their truth, as training sees them; ``flip``: all of them mirrored, or
    none.
    """
    dataset = copy.deepcopy(config.train_dataloader.dataset)
    dataset.ann_file = dataset.ann_file.replace("infos_train", f"infos_{split}")
    dataset.filter_empty_gt = False
    dataset.pipeline = [step for step in dataset.pipeline if step["type"] != "mmdet3d.RandomFlip3D"]
    dataset.pipeline.insert(
        3, {"type": "mmdet3d.RandomFlip3D", "flip_ratio_bev_horizontal": float(flip)}
    )
    return DATASETS.build(dataset)


def level_sizes(head, sample):
    """The maps of the head's levels for an image padded to a multiple of 32, as the preprocessor
    pads it.
    """
    height, width = (side + -side % 32 for side in sample.metainfo["img_shape"])
    sizes = []
    for stride in head.strides:
        sizes.append((-(-height // stride), -(-width // stride)))
    return sizes


def targets_of(head, sample):
    """The head's targets; computing them turns the ground truth's yaw in place, so they are
    computed of a copy.
    """
    points = head.get_points(level_sizes(head, sample), torch.float32, torch.device("cpu"))
    return head.get_targets(
        points, [copy.deepcopy(sample.gt_instances_3d)], [copy.deepcopy(sample.gt_instances)]
    )


def perfect_outputs(head, sample):
    """The head's raw outputs that say exactly what the targets ask for: scores, boxes, directions,
    attributes, centerness.
    """
    labels, boxes, _, attributes = targets_of(head, sample)
    outputs = []
    for level, (height, width) in enumerate(level_sizes(head, sample)):
        label = labels[level]
        box = boxes[level].nan_to_num(0.0)  # a detector says something of what nobody knows
        positive = label < head.num_classes
        scores = torch.full((len(label), head.num_classes), -20.0)
        scores[positive, label[positive]] = 20.0
        direction = head.get_direction_target(
            box, head.dir_offset, head.dir_limit_offset, 2, one_hot=False
        )
        direction = torch.nn.functional.one_hot(direction, 2)
        box[:, :2] *= head.strides[level]  # targets are in strides, decoded outputs in pixels
        attribute = torch.nn.functional.one_hot(
            attributes[level].clamp(0, head.num_attrs - 1), head.num_attrs
        )
        columns = (scores, box, direction, attribute.float(), torch.full((len(label), 1), 20.0))
        outputs.append(
            [column.float().view(height, width, -1).permute(2, 0, 1)[None] for column in columns]
        )
    return [list(column) for column in zip(*outputs, strict=True)]


def decode(head, outputs, sample):
    """What the head's decoder makes of raw outputs, with nothing suppressed."""
    config = copy.deepcopy(head.test_cfg)
    config.update(nms_pre=-1, nms_thr=0.999, max_per_img=3000)
    return head.predict_by_feat(*outputs, batch_img_metas=[sample.metainfo], cfg=config)[0][0]


def located(head, sample):
    """Which objects have a location to learn at: the rest share theirs with a nearer one, or have
    their centre outside the image.
    """
    labels, boxes = targets_of(head, sample)[:2]
    positive = torch.cat(labels) < head.num_classes
    return torch.isin(sample.gt_instances_3d.depths, torch.cat(boxes)[positive, 2])


def worst_errors(sample, result, objects):
    """Largest error of position (metres), yaw (radians, mod 2 pi) and size (metres) over
    ``objects``, each by its nearest result.
    """
    truth = sample.gt_instances_3d
    decoded = result.bboxes_3d
    worst = np.zeros(3)
    for number in objects.nonzero()[:, 0]:
        same = result.labels_3d == truth.labels_3d[number]
        distance = (
            (decoded.gravity_center - truth.bboxes_3d.gravity_center[number])
            .norm(dim=1)
            .masked_fill(~same, torch.inf)
        )
        nearest = int(distance.argmin())
        turn = float(decoded.yaw[nearest] - truth.bboxes_3d.yaw[number])
        size = (decoded.dims[nearest] - truth.bboxes_3d.dims[number]).abs().max()
        worst = np.maximum(
            worst,
            (float(distance[nearest]), abs((turn + np.pi) % (2 * np.pi) - np.pi), float(size)),
        )
    return worst
