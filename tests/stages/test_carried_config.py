"""A config that travels with weights is data: it is read, and nothing of it is run."""

import shutil

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from sparsevit3d.errors import InputError
from sparsevit3d.stages.calibration import Camera
from sparsevit3d.stages.carried_config import ZOO, config_beside
from sparsevit3d.stages.config import read_config
from sparsevit3d.stages.predict import Detector
from tests.support.console import CONFIGS

RECIPES = sorted(path.name for path in (*CONFIGS.glob("fcos3d*.py"), *CONFIGS.glob("pgd*.py")))


@pytest.fixture
def carried(untrained, tmp_path):
    """Weights as somebody else would hand them on, with the config beside them."""
    folder = tmp_path / "from_elsewhere"
    shutil.copytree(untrained.parent, folder)
    return folder / untrained.name


@pytest.mark.parametrize("name", RECIPES)
def test_what_training_writes_is_read_as_it_was(name, tmp_path):
    config = read_config(CONFIGS / name)
    config.dump(tmp_path / "config.py")
    config.model.backbone.pop("init_cfg", None)  # the weights are the checkpoint's
    found = config_beside(tmp_path / "epoch_0001.pth")
    for part in ("model", "test_dataloader", "image_size", "classes"):
        assert found[part] == config[part], part


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import os; os.mkdir({trap!r})", "does more than set a value"),
        ("score = __import__('os').mkdir({trap!r})", "computes a value"),
        ("_base_ = dict(**__import__('os').mkdir({trap!r}))", "computes a value"),
        ("classes = [1 for _ in [__import__('os').mkdir({trap!r})]]", "computes a value"),
        ("def image_size(): pass", "does more than set a value"),
        ("model = dict(", "is not Python"),
        ("model = 5", "lacks values of a detector|builds"),
        ("filename = 'x'", "lacks values of a detector"),
    ],
)
def test_a_config_beside_weights_is_not_run(carried, line, words, tmp_path):
    config = carried.with_name("config.py")
    trap = tmp_path / "trap"
    config.write_text(f"{config.read_text()}\n{line.format(trap=str(trap))}\n")
    with pytest.raises(InputError, match=rf"config\.py: .*({words}).*--config"):
        Detector(carried)
    assert not trap.exists()


@pytest.mark.parametrize(
    "part",
    [
        "neck=dict(type='os.mkdir', path={trap!r})",
        "neck=dict(type='mmengine.Config.fromfile', filename={trap!r})",
        "neck=dict(type='evil.Neck')",
        "neck=dict(type='mmdet.KnowledgeDistillationSingleStageDetector')",
        "neck=dict(type='mmdet.FPN', _scope_='evil')",
        "neck=dict(type=5)",
    ],
)
def test_a_config_beside_weights_builds_nothing_but_our_detectors(carried, part, tmp_path):
    """mmengine builds whatever ``type`` names, functions of any module among it."""
    config = carried.with_name("config.py")
    trap = tmp_path / "trap"
    text = config.read_text()
    place = text.index("neck=dict(")
    end = text.index(")", place) + 1
    config.write_text(text[:place] + part.format(trap=str(trap)) + text[end:])
    with pytest.raises(InputError, match=r"config\.py: builds .*which no detector of ours has"):
        Detector(carried)
    assert not trap.exists()


BAD_VALUES = {
    "model.backbone.depths": [2],
    "model.backbone.num_heads": [5, 5, 5, 5],
    "model.backbone.type": None,
    "model.bbox_head.strides": 8,
    "model.bbox_head.bbox_coder.base_dims": [[1.0]],
    "model.test_cfg": None,
    "classes": [],
    "regress_ranges_at": (1, 2, 3),
    "image_size": (4_000_000, 64),
    "test_dataloader.dataset.pipeline": 5,
}


def used(checkpoint):
    camera = Camera(np.array([[500.0, 0, 320], [0, 500, 180], [0, 0, 1]]), 640, 360)
    detector = Detector(checkpoint)
    cv2.imwrite(str(checkpoint.with_name("grey.png")), np.full((360, 640, 3), 90, np.uint8))
    list(detector.predict([checkpoint.with_name("grey.png")], {"front": camera}))


@pytest.mark.parametrize("key", BAD_VALUES)
def test_a_bad_value_in_a_config_beside_weights_is_told_in_a_line(carried, key):
    path = carried.with_name("config.py")
    config = Config.fromfile(path)
    *parents, last = key.split(".")
    place = config
    for name in parents:
        place = place[name]
    if BAD_VALUES[key] is None:
        place.pop(last)
    else:
        place[last] = BAD_VALUES[key]
    config.dump(path)
    with pytest.raises(
        InputError, match=r"config\.py: .*(--config|in pixels|at most 8192)"
    ) as told:
        used(carried)
    assert "\n" not in str(told.value)


def test_a_config_that_is_named_is_run(carried, tmp_path):
    config = carried.with_name("config.py")
    trap = tmp_path / "trap"
    config.write_text(f"{config.read_text()}\n__import__('os').mkdir({str(trap)!r})\n")
    Detector(carried, config)
    assert trap.exists()


def test_the_zoo_needs_no_config_named():
    detector = Detector(ZOO / "pruned.safetensors")
    assert detector.plan is not None
