"""The models that come with the repository: whole, small, and worth what is said of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sparsevit3d.backbone import backbone_of
from sparsevit3d.errors import InputError
from sparsevit3d.files import fingerprint
from sparsevit3d.stages.carried_config import config_beside
from sparsevit3d.stages.checkpoints import read_checkpoint, save_weights
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.runner import load_detector
from sparsevit3d.swin.plan import SparsityPlan

ROOT = Path(__file__).parent.parent
ZOO = ROOT / "zoo"
CONSOLE = Path(sys.executable).parent / "sparsevit3d"
SCORES = json.loads((ZOO / "scores.json").read_text())


def test_weights_that_are_given_away_are_the_detector_and_its_plan_in_half_precision(
    synthetic, small_config, untrained, tmp_path
):
    save_weights(untrained, tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_size < 0.6 * untrained.stat().st_size
    one, other = (
        load_detector(small_config, path, None)
        for path in (untrained, tmp_path / "model.safetensors")
    )
    assert backbone_of(other).plan == backbone_of(one).plan == SparsityPlan.parse("0.5|0.5|0.4|0.3")
    for (name, value), again in zip(
        one.state_dict().items(), other.state_dict().values(), strict=True
    ):
        if torch.is_tensor(value):
            assert again.dtype == value.dtype, name
            assert torch.equal(
                again, value.half().to(value.dtype) if value.is_floating_point() else value
            ), name


@pytest.mark.parametrize(
    ("place", "words"),
    [(-1, "its content is not what was written"), (0, "damaged, or no checkpoint of ours")],
)
def test_a_byte_that_changed_is_noticed(untrained, tmp_path, place, words):
    path = tmp_path / "model.safetensors"
    save_weights(untrained, path)
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=rf"model\.safetensors: damaged.*{words.removeprefix('damaged')}"
    ):
        read_checkpoint(path)


@pytest.mark.parametrize("name", SCORES["models"])
def test_a_model_is_the_one_that_was_scored_and_runs_its_plan(name):
    weights = ZOO / f"{name}.safetensors"
    told = SCORES["models"][name]
    assert fingerprint(weights) == told["sha256"]
    net = backbone_of(load_detector(load_config(ZOO / "config.py", ROOT), weights, None))
    assert str(net.plan or "dense") == told["plan"]


def test_all_of_them_are_small():
    assert sum(path.stat().st_size for path in ZOO.rglob("*")) < 25e6


@pytest.mark.slow
def test_the_demo_scores_them_as_it_is_written(tmp_path):
    """On streets that it makes itself; elsewhere than where they were scored, rounding may choose
    another window.
    """
    out = tmp_path / "demo"
    done = subprocess.run(
        [CONSOLE, "demo", "--out", out], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "backbone MACs" in done.stdout
    summary = json.loads((out / "summary.json").read_text())
    for which, name in (("dense", "dense"), ("sparse", "pruned")):
        told = SCORES["models"][name]["scores"]["val of the demo"]
        for metric in ("mAP", "NDS"):
            assert summary["scores"][which][metric] == pytest.approx(told[metric], abs=0.002), (
                name,
                metric,
            )
    assert len(list((out / "pictures/synthetic").glob("windows_stage?.png"))) == 4


@pytest.mark.parametrize(
    ("name", "plan"), [("dense", None), ("adapted", None), ("pruned", "0.7|0.8|0.5|0.3")]
)
def test_the_detectors_that_carry_windows_on_load_with_the_config_beside_them(name, plan):
    checkpoint = ZOO / f"{name}.safetensors"
    config = config_beside(checkpoint)
    net = backbone_of(load_detector(config, checkpoint, None))
    assert net.importance == "density"
    assert net.plan == (plan and SparsityPlan.parse(plan))


def test_the_detector_of_the_first_study_needs_no_config_named():
    checkpoint = ZOO / "first/dense.safetensors"
    net = backbone_of(load_detector(config_beside(checkpoint), checkpoint, None))
    assert (net.importance, net.plan) == ("l2", None)
