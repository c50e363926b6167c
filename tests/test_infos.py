import json
import pickle

import numpy as np
import pytest

from data_tools.infos import CAMERA_ORDER, CLASSES, InfosError, open_nuscenes, scenes_of_split, write_infos
from data_tools.synthetic.tables import VERSION


def differences(theirs, ours, path=""):
    """Paths at which two nested documents differ by more than 1e-4; velocities apart, which need neighbours."""
    if path.endswith("velocity"):
        return []
    if isinstance(theirs, dict):
        missing = [f"{path}/{key}: missing" for key in theirs.keys() - ours.keys()]
        return missing + [
            line for key in theirs.keys() & ours.keys() for line in differences(theirs[key], ours[key], f"{path}/{key}")
        ]
    if isinstance(theirs, list) and theirs and isinstance(theirs[0], dict):
        if len(theirs) != len(ours):
            return [f"{path}: {len(theirs)} and {len(ours)} entries"]
        pairs = enumerate(zip(theirs, ours, strict=True))
        return [line for index, (one, other) in pairs for line in differences(one, other, f"{path}[{index}]")]
    if isinstance(theirs, str):
        return [] if theirs == ours else [f"{path}: {theirs} and {ours}"]
    close = np.allclose(np.array(theirs, float), np.array(ours, float), atol=1e-4)
    return [] if close else [f"{path}: {theirs} and {ours}"]


def test_equals_mmdet3ds_own_infos_of_a_real_keyframe(real, tmp_path):
    assert write_infos(open_nuscenes(real, "v1.0-mini"), "real_train", tmp_path / "infos.json") == 1
    with (real / "mmdet3d_demo_infos.pkl").open("rb") as file:
        theirs = pickle.load(file)  # the project's own reference file, not a user's
    ours = json.loads((tmp_path / "infos.json").read_text())
    assert differences(theirs["data_list"], ours["data_list"]) == []
    assert len(ours["data_list"][0]["instances"]) == 69


def test_real_images_show_the_boxes_that_the_devkit_sees(real, tmp_path):
    write_infos(open_nuscenes(real, "v1.0-mini"), "real_val", tmp_path / "infos.json")
    (keyframe,) = json.loads((tmp_path / "infos.json").read_text())["data_list"]
    assert [len(keyframe["cam_instances"][name]) for name in CAMERA_ORDER] == [10, 3, 3, 18, 12, 1]


def test_boxes_are_the_same_in_every_frame(synthetic):
    """lidar2cam takes each instance's centre to one of its camera's, and cam2img takes that to center_2d."""
    keyframe = json.loads((synthetic / "nuscenes_infos_train.json").read_text())["data_list"][0]
    centres = np.array([row["bbox_3d"][:3] for row in keyframe["instances"]])
    seen = 0
    for name in CAMERA_ORDER:
        image = keyframe["images"][name]
        lidar2cam, cam2img = np.array(image["lidar2cam"]), np.array(image["cam2img"])
        in_camera = centres @ lidar2cam[:3, :3].T + lidar2cam[:3, 3]
        for row in keyframe["cam_instances"][name]:
            distance = np.linalg.norm(in_camera - row["bbox_3d"][:3], axis=1)
            assert distance.min() < 1e-6
            source = keyframe["instances"][int(distance.argmin())]
            assert (source["bbox_label"], sorted(source["bbox_3d"][3:6])) == (row["bbox_label"], sorted(row["bbox_3d"][3:6]))
            pixel = cam2img @ row["bbox_3d"][:3]
            assert np.allclose(pixel[:2] / pixel[2], row["center_2d"])
            assert pixel[2] == pytest.approx(row["depth"])
            left, top, right, bottom = row["bbox"]
            assert 0 <= left < right <= image["width"]
            assert 0 <= top < bottom <= image["height"]
            seen += 1
    assert seen > 20


def test_cameras_stand_in_the_order_that_the_metric_relies_on(synthetic):
    infos = json.loads((synthetic / "nuscenes_infos_val.json").read_text())
    assert all(list(keyframe["images"]) == list(CAMERA_ORDER) for keyframe in infos["data_list"])
    assert [keyframe["sample_idx"] for keyframe in infos["data_list"]] == list(range(len(infos["data_list"])))
    assert infos["metainfo"]["categories"] == {name: label for label, name in enumerate(CLASSES)}


def test_mmdet3d_reads_them(small_config):
    from mmdet3d.registry import DATASETS

    dataset = DATASETS.build(small_config.train_dataloader.dataset)
    assert len(dataset) == 2 * 2 * 6
    sample = dataset[0]["data_samples"]
    assert len(sample.gt_instances_3d.bboxes_3d) == len(sample.gt_instances_3d.centers_2d) > 0


def test_a_synthetic_roots_splits_are_its_own(synthetic):
    nusc = open_nuscenes(synthetic, VERSION)
    assert all(name.startswith("synthetic-val") for name in scenes_of_split(nusc, "val"))


def test_a_wrong_version_or_split_is_refused_with_what_there_is(synthetic, tmp_path):
    with pytest.raises(InfosError, match=rf"no tables of version v1\.0-mini; found {VERSION}"):
        open_nuscenes(synthetic, "v1.0-mini")
    nusc = open_nuscenes(synthetic, VERSION)
    with pytest.raises(InfosError, match=r"no split 'valid'; there are .*search.*val"):
        write_infos(nusc, "valid", tmp_path / "infos.json")
    with pytest.raises(InfosError, match="'mini_val' has no scene"):
        write_infos(nusc, "mini_val", tmp_path / "infos.json")
    assert not list(tmp_path.iterdir())
