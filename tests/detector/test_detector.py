"""The way of a box: ground truth, resize and crop, flip, head targets, decode, global frame,
official score.
"""

import copy
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.registry import DATASETS, MODELS
from mmdet3d.structures import CameraInstance3DBoxes
from mmengine.dataset import pseudo_collate

from data_tools.convert import write_infos
from data_tools.images import ImageError
from sparsevit3d.detector.detector import merge_flipped
from sparsevit3d.detector.transforms import FitCamera, LoadCalibratedImage
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.submission import NuScenesSplitMetric
from tests.support.round_trip import dataset_of, decode, located, perfect_outputs, worst_errors

CONFIGS = Path(__file__).parents[2] / "configs"
SIZES = [(1600, 900), (800, 450), (704, 256)]


@pytest.fixture(scope="module")
def detector(small_config):
    return MODELS.build(small_config.model).eval()


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def published(request, synthetic):
    """FCOS3D's own five levels at a size of the network's images, and the head alone."""
    config = load_config(
        CONFIGS / "fcos3d_swin-t_704x256.py",
        synthetic,
        options=[f"image_size={list(request.param)}"],
    )
    head = config.model.bbox_head
    return config, MODELS.build(
        {**head, "train_cfg": config.model.train_cfg, "test_cfg": config.model.test_cfg}
    )


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_survive_target_and_decode(published, flip):
    config, head = published
    check_round_trip(head, dataset_of(config, "val", flip), flip)


@pytest.mark.parametrize("flip", [False, True])
def test_real_boxes_survive_target_and_decode(published, real, flip, tmp_path):
    config, head = copy.deepcopy(published)
    splits = ("real_train", "real_val")
    write_infos(real, "v1.0-mini", splits, tmp_path)
    for split in splits:
        part = config.train_dataloader.dataset
        part.data_root = str(real)
        part.ann_file = str(tmp_path / "nuscenes_infos_train.json")
        check_round_trip(head, dataset_of(config, split, flip), flip)


def check_round_trip(head, dataset, flip):
    total = 0
    found = 0
    for index in range(len(dataset)):
        sample = dataset[index]["data_samples"]
        assert sample.metainfo["flip"] == flip
        if not len(sample.gt_instances_3d.depths):
            continue
        have_place = located(head, sample)
        total = total + len(have_place)
        found = found + int(have_place.sum())
        result = decode(head, perfect_outputs(head, sample), sample)
        position, yaw, size = worst_errors(sample, result, have_place)
        assert position < 0.01
        assert yaw < 1e-3
        assert size < 1e-4
    print(
        f"{sample.metainfo['img_shape'][::-1]}, flip {flip}: {1 - found / total:.1%} of {total} "
        "objects have no location"
    )
    assert found > 0.75 * total


def test_the_devkit_scores_decoded_truth_highly(published):
    """Round trip through detector and metric, on the split of all ten classes."""
    config, head = published
    dataset = dataset_of(config, "val", False)
    metric = NuScenesSplitMetric(config.data_root, dataset.ann_file)
    metric.dataset_meta = dataset.metainfo
    results = []
    for index in range(len(dataset)):
        sample = dataset[index]["data_samples"]
        result = decode(head, perfect_outputs(head, sample), sample)
        results.append({"sample_idx": sample.metainfo["sample_idx"], "pred_instances_3d": result})
    score = metric.compute_metrics(results)
    assert score["mAP"] >= 0.95
    assert score["mATE"] < 0.05
    assert score["mAOE"] < 0.05


def test_an_image_and_its_mirror_image_agree(published):
    """Right maps of an image averaged with right maps of its mirror image: wherever both speak of
    one object, nothing changes.
    """
    config, head = published
    plain, mirrored = (dataset_of(config, "val", flip) for flip in (False, True))
    spoken = 0
    agreed = 0
    for index in range(0, len(plain), 3):
        sample = plain[index]["data_samples"]
        mirror = mirrored[index]["data_samples"]
        maps = perfect_outputs(head, sample)
        other = perfect_outputs(head, mirror)
        merged = merge_flipped(maps, other, sample.metainfo["img_shape"][1], head.strides)
        for level, stride in enumerate(head.strides):
            scores = maps[0][level]
            own = maps[1][level]
            both = merged[1][level]
            turned = other[1][level].flip(-1)
            positive = scores.amax(1) > 0
            same = (
                positive
                & (other[0][level].flip(-1).amax(1) > 0)
                & torch.isclose(own[:, 2], turned[:, 2])
            )
            spoken = spoken + int(positive.sum())
            agreed = agreed + int(same.sum())
            assert torch.equal(merged[0][level], (scores + other[0][level].flip(-1)) / 2)
            assert torch.equal(both[:, 6:], own[:, 6:])  # yaw and velocity are the image's alone
            assert torch.equal(merged[2][level], maps[2][level])
            difference = (both - own)[:, :6].permute(0, 2, 3, 1)[same]
            assert not (difference.abs() > 1e-3 * stride).any()
    assert agreed > 0.6 * spoken > 0


def test_a_mirrored_image_has_mirrored_truth(published):
    """x, the camera's middle, yaw and the velocity along x turn round; all else stays."""
    config, _ = published
    plain, mirrored = (dataset_of(config, "val", flip) for flip in (False, True))
    compared = 0
    for index in range(0, len(plain), 5):
        one = plain[index]
        other = mirrored[index]
        truth = one["data_samples"].gt_instances_3d
        turned = other["data_samples"].gt_instances_3d
        width = one["data_samples"].metainfo["img_shape"][1]
        assert torch.equal(one["inputs"]["img"], other["inputs"]["img"].flip(-1))
        assert torch.allclose(turned.centers_2d[:, 0], width - truth.centers_2d[:, 0], atol=1e-3)
        if len(truth.depths):
            sign = torch.tensor([-1.0, 1, 1])
            assert torch.allclose(
                turned.bboxes_3d.gravity_center, truth.bboxes_3d.gravity_center * sign, atol=1e-4
            )
            around = turned.bboxes_3d.yaw + truth.bboxes_3d.yaw - np.pi
            assert torch.allclose(torch.cos(around), torch.ones(len(around)), atol=1e-6)
            assert torch.allclose(
                turned.bboxes_3d.tensor[:, 7:],
                truth.bboxes_3d.tensor[:, 7:] * torch.tensor([-1.0, 1]),
                rtol=0,
                atol=0,
                equal_nan=True,
            )
            matrix = torch.tensor(
                np.array(other["data_samples"].metainfo["cam2img"])[:3, :3], dtype=torch.float32
            )
            pixels = turned.bboxes_3d.gravity_center @ matrix.T
            assert torch.allclose(
                pixels[:, :2] / pixels[:, 2:], turned.centers_2d, atol=0.01 * width / 100
            )
        compared += len(truth.depths)
    assert compared > 10


def test_pgd_flips_as_well(synthetic):
    config = load_config(
        CONFIGS / "pgd_swin-t_1600x900.py",
        synthetic,
        options=["image_size=[160,96]", "model.backbone.init_cfg=null"],
    )
    config.model.backbone.update(embed_dims=24, depths=(2, 2, 2, 2))
    config.model.neck.in_channels = [48, 96, 192]
    config.model.test_cfg.update(flip=True, score_thr=0.0, nms_pre=20)
    detector = MODELS.build(config.model).eval()
    sample = dataset_of(config, "val", False)[0]
    with torch.no_grad():
        (found,) = detector.test_step(pseudo_collate([sample]))
    assert len(found.pred_instances_3d.bboxes_3d) > 0
    assert found.pred_instances_3d.bboxes_3d.tensor.isfinite().all()


def test_flip_gives_an_image_and_its_mirror_image_the_same_scores(small_config, detector):
    from sparsevit3d.stages.look import load_keyframe

    batch, _ = load_keyframe(small_config, 0)
    data = detector.data_preprocessor(batch)
    images = data["inputs"]["imgs"]
    with torch.no_grad():
        maps = detector._maps(images)
        mirrored = detector._maps(images.flip(-1))
    width = images.shape[-1]
    strides = detector.bbox_head.strides
    one = merge_flipped(maps, [list(levels) for levels in mirrored], width, strides)
    other = merge_flipped(mirrored, [list(levels) for levels in maps], width, strides)
    for level in range(len(strides)):
        for kind in (0, 3, 4):
            assert torch.allclose(one[kind][level], other[kind][level].flip(-1), atol=1e-6)
        assert not torch.allclose(maps[0][level], mirrored[0][level].flip(-1), atol=1e-3)


def test_under_mixed_precision_the_head_stays_in_float32(small_config):
    detector = MODELS.build(small_config.model).train()
    samples = [dataset_of(small_config, "val", False)[index] for index in range(2)]
    seen = {}
    detector.backbone.stages[0].blocks[0].fc1.register_forward_hook(
        lambda module, inputs, output: seen.update(backbone=output.dtype)
    )
    detector.bbox_head.conv_cls.register_forward_hook(
        lambda module, inputs, output: seen.update(head=output.dtype)
    )
    data = detector.data_preprocessor(pseudo_collate(samples), True)
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector.loss(data["inputs"], data["data_samples"])
    assert seen == {"backbone": torch.bfloat16, "head": torch.float32}
    assert {value.dtype for value in losses.values()} == {torch.float32}


def test_network_pixels_are_found_in_the_frame_again():
    """A mark painted in the frame lies, after scaling and cropping, where FitCamera's own numbers
    say.
    """
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
    results = FitCamera(384, 128)(
        {"img": frame, "cam2img": matrix.tolist(), "centers_2d": old[None, :2].copy()}
    )
    new = results["cam2img"] @ point / point[2]
    assert results["img"].shape == (128, 384, 3)
    assert np.allclose(results["centers_2d"], new[:2], atol=1e-3)
    assert np.allclose((new[:2] + results["img_crop_offset"]) / results["scale_factor"], old[:2])
    assert np.allclose(results["ori_cam2img"], matrix)


def test_what_is_cropped_away_is_dropped():
    boxes = np.array([[100, 10, 300, 200], [100, 10, 300, 700], [1500, 500, 1600, 600]], np.float32)
    inputs = {
        "img": np.zeros((900, 1600, 3), np.uint8),
        "cam2img": np.eye(3),
        "gt_bboxes": boxes,
        "depths": np.arange(3),
    }
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
        plain, _ = detector.bbox_head.predict_by_feat(
            *outputs, batch_img_metas=metas, rescale=False
        )
    assert sum(len(sample.pred_instances_3d) for sample in samples) > 0
    for sample, expected in zip(samples, plain, strict=True):
        found = sample.pred_instances_3d.bboxes_3d.tensor
        assert torch.allclose(found, expected.bboxes_3d.tensor, rtol=1e-5, atol=1e-5)


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
    score = metric.compute_metrics(
        [{"sample_idx": index, "pred_instances_3d": empty} for index in range(6 * count)]
    )
    assert score["mAP"] == 0


def loaded(path, width=64, height=32):
    entry = {"img_path": str(path), "cam2img": np.eye(3).tolist(), "width": width, "height": height}
    return LoadCalibratedImage()({"images": {"CAM_FRONT": entry}})


def test_an_image_that_is_missing_damaged_or_of_another_size_is_refused_by_name(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "good.png"), np.zeros((32, 64, 3), np.uint8))
    assert loaded(tmp_path / "good.png")["img"].shape == (32, 64, 3)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    for name, words in (
        ("none.png", "No such file"),
        ("text.png", "not a readable image"),
        ("empty.png", "not a readable image"),
    ):
        with pytest.raises(ImageError, match=rf"{name}: .*{words}"):
            loaded(tmp_path / name)
    with pytest.raises(
        ImageError, match=r"good\.png: is 64 x 32, but its camera is calibrated for 1600 x 900"
    ):
        loaded(tmp_path / "good.png", 1600, 900)


def test_images_of_seldom_classes_come_more_often(small_config):
    """By the square root of how much too seldom the most seldom class is, rounded up."""
    config = copy.deepcopy(small_config.train_dataloader.dataset)
    plain = DATASETS.build(config)
    config.update(type="BalancedKeyframes", oversample_thr=0.5)
    balanced = DATASETS.build(config)
    shown = [plain.get_cat_ids(index) for index in range(len(plain))]
    share = {name: sum(name in one for one in shown) / len(shown) for one in shown for name in one}
    wanted = [math.ceil(max(1, *((0.5 / share[name]) ** 0.5 for name in one))) for one in shown]
    found = Counter(balanced.get_data_info(index)["sample_idx"] for index in range(len(balanced)))
    assert [
        found[plain.get_data_info(index)["sample_idx"]] for index in range(len(plain))
    ] == wanted
    assert max(wanted) > 1
    assert balanced[0]["data_samples"].gt_instances_3d.labels_3d.numel()
