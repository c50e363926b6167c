"""Training sees ``train``, the search ``search``, scores come from ``val``: whoever opened
another's scenes would not find them.
"""

import json
import shutil
from pathlib import Path

import pytest
from nuscenes.utils.splits import create_splits_scenes

from data_tools.convert import write_infos
from data_tools.splits import scenes_of_split
from data_tools.synthetic.dataset import SPLITS, VERSION
from sparsevit3d.search.algorithms import Settings
from sparsevit3d.search.objective import Question
from sparsevit3d.search.run import Request, search
from sparsevit3d.search.workers import Here
from sparsevit3d.stages.benchmark import trained_subject
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.evaluate import evaluate
from sparsevit3d.stages.look import open_keyframes
from sparsevit3d.stages.train import adapt, finetune, train
from sparsevit3d.swin.plan import SparsityPlan

CONFIG = Path(__file__).parents[2] / "configs/fcos3d_small_synthetic.py"
PLAN = SparsityPlan.parse("0.5|0.3|0|0.5")


def only(synthetic, split, root):
    """A root with the tables of all splits, as the devkit needs them, but info file, images and
    lidar of ``split`` alone.
    """
    shutil.copytree(synthetic, root)
    for other in SPLITS:
        if other != split:
            (root / f"nuscenes_infos_{other}.json").unlink()
    for path in (root / "samples").glob("*/*"):
        if f"synthetic-{split}-" not in path.name:
            path.unlink()
    return root


def config_of(root, stage=None):
    options = [
        "train_cfg.max_epochs=1",
        "train_dataloader.batch_size=8",
        "model.test_cfg.score_thr=0.0",
    ]
    return load_config(CONFIG, root, options=options, stage=stage)


def search_in(root, work_dir, weights):
    question = Question(config_of(root), weights)
    return search(
        question, Request(settings=Settings(2, 2, 1), max_macs=0.6), work_dir, Here(question)
    )


@pytest.mark.slow
def test_no_stage_opens_anothers_scenes(synthetic, tmp_path):
    root = only(synthetic, "train", tmp_path / "train_alone")
    trained = train(config_of(root), tmp_path / "trained")
    adapted = adapt(config_of(root, "adapt"), tmp_path / "adapted", trained)
    sparse = finetune(config_of(root, "finetune"), tmp_path / "sparse", adapted, PLAN)

    root = only(synthetic, "search", tmp_path / "search_alone")
    search_in(root, tmp_path / "search", adapted)

    root = only(synthetic, "val", tmp_path / "val_alone")
    assert evaluate(config_of(root), sparse, "val", tmp_path / "score", None)["split"] == "val"
    assert len(open_keyframes(config_of(root), sparse, "val").look(0).views) == 6
    assert trained_subject(config_of(root), sparse, "val").images.shape[0] == 6
    with pytest.raises(ValueError, match="no info file of split 'search'"):
        search_in(root, tmp_path / "other", adapted)


def test_info_files_of_the_splits_share_no_scene(synthetic):
    scenes = [
        json.loads((synthetic / f"nuscenes_infos_{split}.json").read_text())["metainfo"]["scenes"]
        for split in SPLITS
    ]
    assert [len(names) for names in scenes] == [2, 1, 2]
    assert len(set().union(*scenes)) == 5


def test_real_nuscenes_lends_its_search_some_of_the_training_scenes(synthetic, tmp_path):
    """A root whose scenes have official names and that has no splits of its own."""
    official = create_splits_scenes()
    lent = sorted(official["train"])[::14]
    assert len(lent) == 50
    names = [lent[3], official["train"][1], lent[7], official["val"][0], official["val"][9]]
    tables = tmp_path / "v1.0-trainval"
    shutil.copytree(synthetic / VERSION, tables)
    shutil.copytree(synthetic / "maps", tmp_path / "maps")
    (tables / "splits.json").unlink()
    rows = json.loads((tables / "scene.json").read_text())
    (tables / "scene.json").write_text(
        json.dumps([row | {"name": name} for row, name in zip(rows, names, strict=True)])
    )
    write_infos(tmp_path, "v1.0-trainval", SPLITS)
    scenes = {}
    for split in SPLITS:
        scenes[split] = set(
            json.loads((tmp_path / f"nuscenes_infos_{split}.json").read_text())["metainfo"][
                "scenes"
            ]
        )
    assert scenes == {"train": {names[1]}, "search": {names[0], names[2]}, "val": set(names[3:])}
    # to the devkit, a submission for train is one for all of it
    assert scenes_of_split(tmp_path, "v1.0-trainval", "train") == set(names[:3])
