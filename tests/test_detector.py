"""The way of a box: ground truth, resize and crop, flip, head targets, decode, global frame, official score."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.registry import DATASETS, MODELS
from mmdet3d.structures import CameraInstance3DBoxes

from sparsevit3d.stages.scoring import NuScenesSplitMetric
from sparsevit3d.transforms import FitCamera


@pytest.fixture(scope="module")
def detector(small_config):
    return MODELS.build(small_config.model).eval()


def dataset_of(config, split, flip):
    dataset = copy.deepcopy(config.train_dataloader.dataset)
    dataset.ann_file = dataset.ann_file.replace("train", split)
    dataset.filter_empty_gt = False
    dataset.pipeline.insert(3, {"type": "mmdet3d.RandomFlip3D", "flip_ratio_bev_horizontal": float(flip)})
    return DATASETS.build(dataset)


def perfect_outputs(head, targets, sizes):
    """The head's raw outputs, level by level, that say exactly what the targets ask for."""
    labels, boxes, _, attributes = targets
    outputs = []
    for level, (height, width) in enumerate(sizes):
        label, box = labels[level], boxes[level].clone()
        positive = label < head.num_classes
        scores = torch.full((len(label), head.num_classes), -20.0)
        scores[positive, label[positive]] = 20.0
        direction = head.get_direction_target(box, head.dir_offset, head.dir_limit_offset, 2, one_hot=False)
        direction = torch.nn.functional.one_hot(direction, 2)
        box[:, :2] *= head.strides[level]  # targets are in strides, decoded outputs in pixels
        attribute = torch.nn.functional.one_hot(attributes[level].clamp(max=head.num_attrs - 1), head.num_attrs)
        columns = (scores, box, direction, attribute.float(), torch.full((len(label), 1), 20.0))
        outputs.append([column.float().view(height, width, -1).permute(2, 0, 1)[None] for column in columns])
    return [list(column) for column in zip(*outputs, strict=True)]


def decode_truth(detector, sample):
    """Ground truth through the head's targets and its decoder; returns the truth, what has a positive location, the result."""
    head = detector.bbox_head
    width, height = sample.metainfo["img_shape"][::-1]
    sizes = [(height // stride, width // stride) for stride in head.strides]
    points = head.get_points(sizes, torch.float32, torch.device("cpu"))
    truth = sample.gt_instances_3d.bboxes_3d.clone()  # computing targets turns the ground truth's yaw in place
    targets = head.get_targets(points, [copy.deepcopy(sample.gt_instances_3d)], [copy.deepcopy(sample.gt_instances)])
    config = copy.deepcopy(head.test_cfg)
    config.update(nms_pre=-1, nms_thr=0.999, max_per_img=3000)
    results, _ = head.predict_by_feat(*perfect_outputs(head, targets, sizes), batch_img_metas=[sample.metainfo], cfg=config)
    positive = torch.cat(targets[0]) < head.num_classes
    depths = torch.cat(targets[1])[positive, 2]
    located = torch.isin(sample.gt_instances_3d.depths, depths)
    return truth, located, results[0]


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_survive_target_and_decode(small_config, detector, flip):
    dataset = dataset_of(small_config, "val", flip)
    total = found = 0
    for index in range(len(dataset)):
        sample = dataset[index]["data_samples"]
        assert sample.metainfo["flip"] == flip
        if not len(sample.gt_instances_3d.depths):
            continue
        truth, located, result = decode_truth(detector, sample)
        total, found = total + len(located), found + int(located.sum())
        decoded = result.bboxes_3d
        for number in located.nonzero()[:, 0]:
            same = result.labels_3d == sample.gt_instances_3d.labels_3d[number]
            distance = (decoded.gravity_center - truth.gravity_center[number]).norm(dim=1).masked_fill(~same, torch.inf)
            nearest = int(distance.argmin())
            assert distance[nearest] < 0.01
            turn = float(decoded.yaw[nearest] - truth.yaw[number])
            assert abs((turn + np.pi) % (2 * np.pi) - np.pi) < 1e-3
            assert torch.allclose(decoded.dims[nearest], truth.dims[number], atol=1e-4)
    assert found > 0.8 * total  # the rest share their place with a nearer one, or have their centre outside this image


def test_the_devkit_scores_decoded_truth_highly(small_config, detector):
    """Round trip through detector and metric, on the split of all ten classes."""
    dataset = dataset_of(small_config, "val", False)
    metric = NuScenesSplitMetric(small_config.data_root, dataset.ann_file)
    metric.dataset_meta = dataset.metainfo
    results = []
    for index in range(len(dataset)):
        sample = dataset[index]["data_samples"]
        _, _, result = decode_truth(detector, sample)
        results.append({"sample_idx": sample.metainfo["sample_idx"], "pred_instances_3d": result})
    score = metric.compute_metrics(results)
    assert score["mAP"] >= 0.95
    assert score["mATE"] < 0.05
    assert score["mAOE"] < 0.05


def test_network_pixels_are_found_in_the_frame_again():
    """A mark painted in the frame lies, after scaling and cropping, where FitCamera's own numbers say."""
    frame = np.zeros((900, 1600, 3), np.uint8)
    frame[600:604, 800:804] = 255
    results = FitCamera(704, 256)({"img": frame, "cam2img": np.diag([1266.0, 1266.0, 1.0])})
    assert results["img"].shape == (256, 704, 3)
    assert results["img_crop_offset"] == (0, 140)
    y, x = np.unravel_index(results["img"].sum(-1).argmax(), (256, 704))
    back = (np.array([x, y]) + 0.5 + results["img_crop_offset"]) / results["scale_factor"]
    assert np.allclose(back, (802, 602), atol=1.5)


@pytest.mark.parametrize("size", [(1600, 900), (800, 450), (640, 480), (500, 700)])
def test_the_camera_moves_with_the_image(size):
    width, height = size
    matrix = np.array([[1000.0, 0, width / 2], [0, 1000.0, height / 2], [0, 0, 1]])
    point = np.array([0.4, 0.8, 9.0])
    old = matrix @ point / point[2]
    frame = np.zeros((height, width, 3), np.uint8)
    results = FitCamera(384, 128)({"img": frame, "cam2img": matrix.tolist(), "centers_2d": old[None, :2].copy()})
    new = results["cam2img"] @ point / point[2]
    assert results["img"].shape == (128, 384, 3)
    assert np.allclose(results["centers_2d"], new[:2], atol=1e-3)
    assert np.allclose((new[:2] + results["img_crop_offset"]) / results["scale_factor"], old[:2])
    assert np.allclose(results["ori_cam2img"], matrix)


def test_what_is_cropped_away_is_dropped():
    boxes = np.array([[100, 10, 300, 200], [100, 10, 300, 700], [1500, 500, 1600, 600]], np.float32)
    inputs = {"img": np.zeros((900, 1600, 3), np.uint8), "cam2img": np.eye(3), "gt_bboxes": boxes, "depths": np.arange(3)}
    results = FitCamera(704, 256)(inputs)
    assert results["depths"].tolist() == [1, 2]
    assert np.allclose(results["gt_bboxes"][0], [44, 0, 132, 168])


def test_predictions_are_decoded_in_network_pixels(small_config, detector):
    """The detector's own answer for an image equals its head's, decoded without rescaling."""
    from sparsevit3d.stages.look import load_keyframe

    batch, _ = load_keyframe(small_config, 0)
    detector.bbox_head.test_cfg.score_thr = 0.0
    with torch.no_grad():
        data = detector.data_preprocessor(copy.deepcopy(batch))
        samples = detector.predict(data["inputs"], data["data_samples"])
        outputs = detector.bbox_head(detector.extract_feat(data["inputs"]))
        metas = [sample.metainfo for sample in data["data_samples"]]
        plain, _ = detector.bbox_head.predict_by_feat(*outputs, batch_img_metas=metas, rescale=False)
    assert sum(len(sample.pred_instances_3d) for sample in samples) > 0
    for sample, expected in zip(samples, plain, strict=True):
        assert torch.allclose(sample.pred_instances_3d.bboxes_3d.tensor, expected.bboxes_3d.tensor)


def test_a_keyframe_without_detections_is_in_the_submission(small_config):
    path = small_config.test_evaluator.ann_file
    metric = NuScenesSplitMetric(small_config.data_root, path)
    metric.dataset_meta = {"classes": small_config.classes}
    empty = {
        "bboxes_3d": CameraInstance3DBoxes(torch.zeros(0, 9), box_dim=9),
        "scores_3d": torch.zeros(0),
        "labels_3d": torch.zeros(0, dtype=torch.long),
        "attr_labels": torch.zeros(0, dtype=torch.long),
    }
    count = len(json.loads(Path(path).read_text())["data_list"])
    score = metric.compute_metrics([{"sample_idx": index, "pred_instances_3d": empty} for index in range(6 * count)])
    assert score["mAP"] == 0
