"""From a dataset and a forward pass to plain data: boxes, calibration and lidar must agree with one
another, and with the info files.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparsevit3d.stages.checkpoints import read_checkpoint
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.look import open_keyframes
from sparsevit3d.stages.train import adapt, train
from sparsevit3d.swin.plan import SparsityPlan
from visualize.training import training_pictures

CONFIG = Path(__file__).parents[2] / "configs/fcos3d_small_synthetic.py"


@pytest.fixture(scope="module")
def keyframes(small_config, untrained):
    return open_keyframes(small_config, untrained, "val")


@pytest.fixture(scope="module", params=["synthetic", "real"])
def looked(request, untrained, tmp_path_factory):
    """A keyframe, and its entry of the info file; in the synthetic and in the real root."""
    root = request.getfixturevalue(request.param)
    infos = None
    split = "val"
    if request.param == "real":
        from data_tools.convert import write_infos

        infos = tmp_path_factory.mktemp("infos")
        split = "real_val"
        write_infos(root, "v1.0-mini", [split], infos)
    config = load_config(CONFIG, root, infos, ["model.test_cfg.score_thr=0.001"])
    entry = json.loads(((infos or root) / f"nuscenes_infos_{split}.json").read_text())["data_list"][
        0
    ]
    return open_keyframes(config, untrained, split).look(0), entry


def test_lidar_points_lie_in_true_boxes_as_the_annotators_counted(looked):
    keyframe, entry = looked
    rows = [row for row in entry["instances"] if row["bbox_label_3d"] >= 0]
    assert len(keyframe.truth.names) == len(rows) > 0
    for corners, row in zip(keyframe.truth.corners, rows, strict=True):
        axes = np.stack([corners[0] - corners[4], corners[0] - corners[1], corners[0] - corners[3]])
        lengths = np.linalg.norm(axes, axis=1)
        # length, width, height
        assert np.allclose(lengths, np.array(row["bbox_3d"])[[3, 4, 5]], atol=1e-3)
        along = np.abs((keyframe.points - corners.mean(0)) @ (axes / lengths[:, None]).T)
        inside = (along <= lengths / 2).all(1).sum()
        margin = (along <= lengths / 2 + 0.05).all(1).sum()
        assert inside - 2 <= row["num_lidar_pts"] <= margin + 2


def test_cameras_and_ego_see_the_same_boxes(looked):
    """Each box of a camera is one of the keyframe's, its front the same; but for what moved between
    the two moments.
    """
    keyframe, _ = looked
    seen = 0
    for view in keyframe.views:
        for name, corners in zip(view.truth.names, view.truth.corners, strict=True):
            there = corners @ view.to_ego[:3, :3].T + view.to_ego[:3, 3]
            own = [other == name for other in keyframe.truth.names]
            off = np.linalg.norm(keyframe.truth.corners[own] - there, axis=-1).max(1)
            seen += 1
            assert off.min() < 0.3
    assert seen > 5


def test_predictions_of_six_cameras_are_merged_without_loss(looked):
    keyframe, _ = looked
    by_camera = sum(len(view.predictions.names) for view in keyframe.views)
    assert 0 < len(keyframe.predictions.names) <= by_camera
    best = max(
        (view for view in keyframe.views if len(view.predictions.names)),
        key=lambda view: view.predictions.scores.max(),
    )
    top = best.predictions.scores.argmax()
    corners = best.predictions.corners[top] @ best.to_ego[:3, :3].T + best.to_ego[:3, 3]
    found = keyframe.predictions.scores.argmax()
    assert keyframe.predictions.scores[found] == pytest.approx(
        best.predictions.scores[top], abs=1e-6
    )
    assert np.allclose(keyframe.predictions.corners[found], corners, atol=1e-3)


def test_a_plan_to_look_through_leaves_the_detectors_own(keyframes):
    own = str(keyframes.look(0).plan)
    assert keyframes.look(0, SparsityPlan.parse("0|0|0.5|0")).plan == "0|0|0.5|0"
    dense = keyframes.look(0, SparsityPlan.uniform(0, (2, 2, 2, 2)))
    assert dense.plan == "dense"
    assert all(trace.kept.all() for trace in dense.trace)
    assert keyframes.look(0).plan == own == "0.5|0.5|0.4|0.3"


def test_of_a_test_split_nobody_has_the_truth(keyframes, monkeypatch):
    info = {
        key: value
        for key, value in keyframes.infos[0].items()
        if key not in ("instances", "cam_instances")
    }
    monkeypatch.setattr(keyframes, "infos", [info, *keyframes.infos[1:]])
    looked = keyframes.look(0)
    assert looked.truth.names == [name for view in looked.views for name in view.truth.names] == []


def test_drives_and_spreads(keyframes):
    with pytest.raises(ValueError, match="has keyframes 0 to 3"):
        keyframes.drive(4)
    assert [keyframes.drive(number) for number in range(4)] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert keyframes.spread(10) == [0, 1, 2, 3]
    assert keyframes.spread(2) == [0, 3]
    assert keyframes.spread(1) == [0]


@pytest.mark.slow
def test_pictures_while_training_change_nothing_and_are_in_tensorboard(synthetic, tmp_path):
    options = [
        "train_cfg.max_epochs=2",
        "train_dataloader.batch_size=8",
        "model.test_cfg.score_thr=0.0",
    ]
    plain = train(load_config(CONFIG, synthetic, options=options), tmp_path / "plain")
    config = load_config(CONFIG, synthetic, options=options)
    drawn = train(config, tmp_path / "drawn", draw=training_pictures)
    first, second = (read_checkpoint(path)["state_dict"] for path in (plain, drawn))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    adapted = load_config(CONFIG, synthetic, options=options, stage="adapt")
    adapt(adapted, tmp_path / "adapted", drawn, training_pictures)
    for folder in ("drawn", "adapted"):
        (events,) = (tmp_path / folder).glob("*/vis_data/events*")
        log = EventAccumulator(str(events), size_guidance={"images": 0}).Reload()
        assert {"boxes", "bird", "windows"} <= set(log.Tags()["images"])
        assert [event.step for event in log.Images("windows")] == [1, 2]


@pytest.mark.slow
def test_what_cannot_be_drawn_is_no_reason_to_stop_training(synthetic, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(synthetic, root)
    for path in (root / "samples/LIDAR_TOP").glob("*-train-*"):
        path.write_bytes(path.read_bytes()[:-7])
    options = [
        "train_cfg.max_epochs=1",
        "train_dataloader.batch_size=8",
        "model.test_cfg.score_thr=0.0",
    ]
    assert train(
        load_config(CONFIG, root, options=options), tmp_path / "trained", draw=training_pictures
    ).is_file()
    (log,) = (tmp_path / "trained").glob("*/*.log")
    assert "no pictures of epoch 1" in log.read_text()
