"""Train, adapt, search, finetune and evaluate for real, on little data."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint

from sparsevit3d.backbone import backbone_of
from sparsevit3d.errors import InputError
from sparsevit3d.stages.checkpoints import plain, read_checkpoint
from sparsevit3d.stages.config import load_config, use_split
from sparsevit3d.stages.evaluate import evaluate
from sparsevit3d.stages.hooks import plan_of_iteration
from sparsevit3d.stages.runner import load_detector
from sparsevit3d.stages.train import adapt, finetune, train
from sparsevit3d.swin.plan import SparsityPlan

CONFIG = Path(__file__).parents[2] / "configs/fcos3d_small_synthetic.py"
PLAN = SparsityPlan.parse("0.5|0.3|0|0.5")
SHORT = ["train_cfg.max_epochs=2", "train_dataloader.batch_size=8"]


def config_of(root, *options, stage=None):
    return load_config(CONFIG, root, options=[*SHORT, *options], stage=stage)


@pytest.fixture(scope="module")
def trained(synthetic, tmp_path_factory):
    return train(config_of(synthetic), tmp_path_factory.mktemp("runs") / "dense")


def test_checkpoints_are_tensors_and_plain_types(trained):
    assert get_unsafe_globals_in_checkpoint(str(trained)) == []
    assert read_checkpoint(trained)["meta"]["epoch"] == 2


def test_a_work_dir_says_where_it_came_from(trained, synthetic):
    provenance = json.loads((trained.parent / "provenance.json").read_text())
    assert provenance["stage"] == "train"
    assert provenance["data"] == str(synthetic)
    assert provenance["packages"]["mmdet3d"] == "1.4.0"
    assert "SparseFCOS3D" in (trained.parent / "config.py").read_text()


def test_a_finished_stage_returns_at_once(trained, synthetic):
    before = trained.stat().st_mtime_ns
    assert train(config_of(synthetic), trained.parent) == trained
    assert trained.stat().st_mtime_ns == before


def test_a_work_dir_of_another_experiment_is_refused(trained, synthetic):
    with pytest.raises(InputError, match=r"another experiment .*seed is 0, not 5"):
        train(config_of(synthetic, "randomness.seed=5"), trained.parent)


def test_finetuning_carries_its_plan_into_the_checkpoint_and_the_score(
    trained, synthetic, tmp_path
):
    config = config_of(
        synthetic, "train_cfg.max_epochs=1", "model.test_cfg.score_thr=0.0", stage="finetune"
    )
    sparse = finetune(config, tmp_path / "sparse", trained, PLAN)
    assert backbone_of(load_detector(config, sparse, None)).plan == PLAN
    assert backbone_of(load_detector(config, sparse, SparsityPlan.parse("0|0|0|0"))).plan.is_dense
    score = evaluate(config, sparse, "val", tmp_path / "score", None)
    assert score["plan"] == str(PLAN)
    assert 0 <= score["mAP"] <= 1
    assert {"NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE"} <= score.keys()
    submission = json.loads((tmp_path / "score/results_nusc.json").read_text())
    assert set(submission["meta"]) == {
        "use_camera",
        "use_lidar",
        "use_radar",
        "use_map",
        "use_external",
    }
    assert len(submission["results"]) == 4


def test_adaptation_draws_a_pure_function_of_seed_and_iteration(trained, synthetic, tmp_path):
    assert plan_of_iteration(3, 17, (2, 2, 6, 2)) == plan_of_iteration(3, 17, (2, 2, 6, 2))
    drawn = {str(plan_of_iteration(3, iteration, (2, 2, 6, 2))) for iteration in range(50)}
    assert len(drawn) > 45
    adapted = adapt(
        config_of(synthetic, "train_cfg.max_epochs=1", stage="adapt"), tmp_path / "adapted", trained
    )
    config = config_of(synthetic)
    net, base = (backbone_of(load_detector(config, path, None)) for path in (adapted, trained))
    assert net.plan is None  # adapted to all plans, bound to none
    assert not torch.equal(net.stages[3].blocks[1].fc1.weight, base.stages[3].blocks[1].fc1.weight)


def test_plain_keeps_tensors_and_plain_types_alone():
    given = {
        "a": 1,
        "b": [torch.zeros(1), object()],
        "c": {"d": time.time, "e": (1.5, "x")},
        "f": None,
    }
    assert str(plain(given)) == str(
        {"a": 1, "b": [torch.zeros(1)], "c": {"e": (1.5, "x")}, "f": None}
    )


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("train_cfg.max_epoch=3", "Did you mean train_cfg.max_epochs"),
        ("optim_wraper.optimizer.lr=3", "Did you mean optim_wrapper.optimizer.lr"),
        ("nothing.at.all=1", "has no 'nothing.at.all'"),
        ("train_cfg.max_epochs", "has no value"),
        (
            "train_cfg.max_epochs=two",
            '"two" is not a whole number. train_cfg.max_epochs is a whole number, so far 6',
        ),
        ("train_cfg.max_epochs=2.5", "2.5 is not a whole number"),
        ("optim_wrapper.optimizer.lr=fast", '"fast" is not a number'),
        ("image_size=704,256", '"704,256" is not a list'),
        ("cosine.begin=3", "has no 'cosine.begin'"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_name(synthetic, option, words):
    with pytest.raises(InputError, match=words):
        load_config(CONFIG, synthetic, options=[option])


def test_a_config_says_each_stage(synthetic):
    base = load_config(CONFIG, synthetic)
    adapting = load_config(CONFIG, synthetic, stage="adapt")
    assert (base.train_cfg.max_epochs, adapting.train_cfg.max_epochs) == (6, 1)
    assert base.model == adapting.model
    assert "end" not in adapting.param_scheduler[0]  # so it ends with training
    with pytest.raises(
        InputError, match=r"has no stage 'depth'\. Its stages are train, adapt, finetune"
    ):
        load_config(CONFIG, synthetic, stage="depth")


@pytest.mark.parametrize("size", [(1600, 900), (800, 450), (704, 256), (900, 900)])
def test_regress_ranges_scale_with_the_image_and_only_once(synthetic, tmp_path, size):
    config = load_config(CONFIG, synthetic, options=[f"image_size={list(size)}"])
    scale = max(size[0] / 1600, size[1] / 900)
    assert np.allclose(config.model.bbox_head.regress_ranges[1], (100 * scale, 200 * scale))
    config.dump(tmp_path / "config.py")  # as a work dir keeps it
    assert load_config(tmp_path / "config.py", synthetic).model.bbox_head == config.model.bbox_head


def test_what_is_missing_or_damaged_is_named(synthetic, tmp_path):
    with pytest.raises(InputError, match=r"none\.py: no such config"):
        load_config(tmp_path / "none.py", synthetic)
    with pytest.raises(InputError, match=r"mask_rcnn\.py: sets no image_size.*docstring"):
        load_config(CONFIG.with_name("coco") / "mask_rcnn.py", synthetic)
    with pytest.raises(
        InputError, match=r"nuscenes_infos_train\.json: no info file of split 'train'. Make it with"
    ):
        train(load_config(CONFIG, synthetic, tmp_path), tmp_path / "run")
    with pytest.raises(InputError, match=r"none\.pth: no such checkpoint"):
        evaluate(config_of(synthetic), tmp_path / "none.pth", "val", tmp_path / "score", None)
    assert not (tmp_path / "score").exists()
    with pytest.raises(InputError, match="no such dataset"):
        load_config(CONFIG, tmp_path / "none")
    with pytest.raises(
        InputError, match=r"nuscenes_infos_other\.json: no info file of split 'other'"
    ):
        use_split(config_of(synthetic), "other")
    (tmp_path / "broken.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"broken\.pth: damaged"):
        read_checkpoint(tmp_path / "broken.pth")
    torch.save({"state_dict": {"weights": torch.zeros(1)}}, tmp_path / "foreign.pth")
    with pytest.raises(
        InputError,
        match=r"foreign\.pth: holds no 'state_dict' with our seal.*model\.backbone\.init_cfg",
    ):
        read_checkpoint(tmp_path / "foreign.pth")
    with pytest.raises(InputError, match=r"foreign\.pth: does not fit the model of this config"):
        load_detector(config_of(synthetic), tmp_path / "foreign.pth", None)
    with pytest.raises(InputError, match=r"none\.pth: no such checkpoint"):
        adapt(config_of(synthetic), tmp_path / "run", tmp_path / "none.pth")
