"""The recipes for real nuScenes: every stage of each builds, and each takes two steps on real
images.
"""

from pathlib import Path

import pytest
import torch
from mmdet3d.registry import MODELS

from data_tools.convert import write_infos
from sparsevit3d.stages.checkpoints import read_checkpoint
from sparsevit3d.stages.config import load_config, read_config
from sparsevit3d.stages.train import adapt, train

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(path.stem for path in CONFIGS.glob("*_swin-*.py"))


@pytest.fixture(scope="module")
def real_infos(real, tmp_path_factory):
    folder = tmp_path_factory.mktemp("infos")
    write_infos(real, "v1.0-mini", ["real_train"], folder)
    (folder / "nuscenes_infos_real_train.json").rename(folder / "nuscenes_infos_train.json")
    return folder


def test_there_are_recipes():
    assert {
        "fcos3d_swin-t_704x256",
        "fcos3d_swin-s_704x256",
        "fcos3d_swin-t_1600x900",
        "fcos3d_swin-s_1600x900",
    } < set(RECIPES)
    assert "pgd_swin-t_1600x900" in RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_stage_of_a_recipe_weighs_what_its_head_predicts(recipe):
    for stage, depth_weight, epochs in (
        (None, 0.2, 12),
        ("depth", 1.0, 12),
        ("adapt", 1.0, 12),
        ("finetune", 1.0, 36),
    ):
        config = read_config(CONFIGS / f"{recipe}.py", stage=stage)
        weights = config.model.train_cfg.code_weight
        assert len(weights) == sum(config.model.bbox_head.group_reg_dims)
        assert weights[2] == depth_weight
        assert config.train_cfg.max_epochs == epochs
        assert config.optim_wrapper.type == "AmpOptimWrapper"


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_takes_two_steps_on_real_images(recipe, real, real_infos, tmp_path):
    options = [
        "model.backbone.init_cfg=null",
        "train_cfg.max_epochs=1",
        "train_dataloader.batch_size=1",
    ]
    config = load_config(CONFIGS / f"{recipe}.py", real, real_infos, options)
    config.train_dataloader.dataset.indices = 2
    checkpoint = train(config, tmp_path / "run")
    content = read_checkpoint(checkpoint)
    assert content["meta"]["iter"] == 2
    start = MODELS.build(config.model).state_dict()
    assert content["state_dict"].keys() == start.keys()
    assert all(value.isfinite().all() for value in content["state_dict"].values())


@pytest.mark.slow
def test_a_recipe_adapts_on_real_images(real, real_infos, tmp_path):
    options = [
        "model.backbone.init_cfg=null",
        "train_cfg.max_epochs=1",
        "train_dataloader.batch_size=1",
    ]
    configs = [
        load_config(CONFIGS / "fcos3d_swin-t_704x256.py", real, real_infos, options, stage)
        for stage in (None, "depth", "adapt")
    ]
    for config in configs:
        config.train_dataloader.dataset.indices = 2
    dense = train(configs[0], tmp_path / "first")
    deep = train(configs[1], tmp_path / "depth", dense)
    adapted = adapt(configs[2], tmp_path / "adapted", deep)
    states = [read_checkpoint(path)["state_dict"] for path in (dense, deep, adapted)]
    assert not any(
        torch.equal(one["bbox_head.conv_cls.weight"], states[2]["bbox_head.conv_cls.weight"])
        for one in states[:2]
    )
