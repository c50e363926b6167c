"""Scores of checkpoints and plans side by side: none overwrites another."""

import json
import shutil
from pathlib import Path

import pytest

from sparsevit3d.errors import InputError
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.evaluate import evaluate, score_folder
from sparsevit3d.swin.plan import SparsityPlan

CONFIG = Path(__file__).parents[2] / "configs/fcos3d_small_synthetic.py"
DENSE = SparsityPlan.parse("0|0|0|0")
OWN = SparsityPlan.parse("0.5|0.5|0.4|0.3")  # of the fixture "untrained"


def config_of(root, *options):
    options = ("model.test_cfg.score_thr=0.0", "model.test_cfg.nms_pre=20", *options)
    return load_config(CONFIG, root, options=options)


@pytest.fixture
def checkpoints(untrained, tmp_path):
    """Two checkpoints of one folder, of different content."""
    from sparsevit3d.stages.checkpoints import save_weights

    one = tmp_path / "epoch_0001.pth"
    shutil.copy(untrained, one)
    save_weights(untrained, tmp_path / "half.safetensors")
    return one, tmp_path / "half.safetensors"


def test_each_checkpoint_and_plan_has_a_folder_of_its_own(synthetic, checkpoints, tmp_path):
    one, other = checkpoints
    scores = {
        "epoch_0001": evaluate(config_of(synthetic), one, "val", None, None),
        "epoch_0001_plan_dense": evaluate(config_of(synthetic), one, "val", None, DENSE),
        "half": evaluate(config_of(synthetic), other, "val", None, OWN),
    }
    found = {path.name: path for path in (tmp_path / "eval_val").iterdir()}
    assert found.keys() == scores.keys()
    for name, score in scores.items():
        assert json.loads((found[name] / "score.json").read_text()) == score
    # The same question again: the same folder, in other words for the same data
    again = evaluate(config_of(synthetic / ".." / synthetic.name), one, "val", None, OWN)
    assert again == scores["epoch_0001"]
    assert len(list((tmp_path / "eval_val").iterdir())) == 3


def test_a_folder_keeps_its_score_when_something_else_is_asked(synthetic, checkpoints, tmp_path):
    one, other = checkpoints
    folder = tmp_path / "score"
    first = evaluate(config_of(synthetic), one, "val", folder, None)
    stricter = config_of(synthetic, "model.test_cfg.score_thr=0.5")
    flipped = config_of(synthetic)
    flipped.model.test_cfg.flip = True
    for arguments, words in [
        ((config_of(synthetic), other, "val", folder, None), "its checkpoint is "),
        ((config_of(synthetic), one, "val", folder, DENSE), r"its plan is 0\.5\|.*, not dense"),
        ((config_of(synthetic), one, "search", folder, None), "its split is val, not search"),
        ((stricter, one, "val", folder, None), r"score_thr is 0\.0, not 0\.5"),
        ((flipped, one, "val", folder, None), "its flip is False, not True"),
    ]:
        with pytest.raises(InputError, match=words) as told:
            evaluate(*arguments)
        assert "Use another --work-dir" in str(told.value)
    assert json.loads((folder / "score.json").read_text()) == first


def test_an_attempt_without_a_score_leaves_its_folder_free(synthetic, untrained, tmp_path):
    (tmp_path / "request.json").write_text('{"stage": "eval", "split": "other"}')
    assert evaluate(config_of(synthetic), untrained, "val", tmp_path, None)["split"] == "val"
    (tmp_path / "request.json").write_text('{"stage": "ev')
    with pytest.raises(InputError, match=r"request\.json: is damaged .*Use another --work-dir"):
        evaluate(config_of(synthetic), untrained, "val", tmp_path, None)


@pytest.mark.parametrize(
    ("plan", "name"),
    [
        (None, "eval_val/epoch_0007"),
        ("dense", "eval_val/epoch_0007_plan_dense"),
        ("0.6|0|0.2,0.4,0.5|0", "eval_val/epoch_0007_plan_0.6_0_0.2-0.4-0.5_0"),
        ("falling:0.3|0|0.5,0.2,0.2|0", "eval_val/epoch_0007_plan_falling-0.3_0_0.5-0.2-0.2_0"),
    ],
)
def test_a_score_folder_can_be_read(plan, name, tmp_path):
    assert score_folder(tmp_path / "epoch_0007.pth", "val", False, plan) == tmp_path / name
    flipped = score_folder(tmp_path / "epoch_0007.pth", "val", True, plan)
    assert flipped == tmp_path / name.replace("eval_val", "eval_val_flip")
