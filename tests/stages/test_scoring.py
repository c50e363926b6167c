import json
from pathlib import Path

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.detection.data_classes import DetectionBox
from nuscenes.eval.detection.utils import category_to_detection_name

from data_tools.splits import scenes_of_split
from data_tools.synthetic.dataset import VERSION
from sparsevit3d.errors import InputError
from sparsevit3d.stages.scoring import Truth, open_root, score_results
from sparsevit3d.stages.submission import CAMERA_ONLY, EgoBoxes, merge


def truth_as_predictions(nusc, split, path, velocities=None):
    """Write every annotation of a split as a prediction of score 0.9."""
    scenes = scenes_of_split(Path(nusc.dataroot), nusc.version, split)
    results = {}
    for sample in nusc.sample:
        if nusc.get("scene", sample["scene_token"])["name"] not in scenes:
            continue
        boxes = []
        results[sample["token"]] = boxes
        for row in (nusc.get("sample_annotation", token) for token in sample["anns"]):
            name = category_to_detection_name(row["category_name"])
            if name is None:
                continue
            velocity = (
                nusc.box_velocity(row["token"])[:2].tolist()
                if velocities is None
                else velocities[row["token"]]
            )
            velocity = [value or 0.0 for value in velocity or (0.0, 0.0)]
            attributes = [nusc.get("attribute", token)["name"] for token in row["attribute_tokens"]]
            boxes.append(
                {key: row[key] for key in ("sample_token", "translation", "size", "rotation")}
                | {"velocity": velocity, "detection_name": name, "detection_score": 0.9}
                | {"attribute_name": attributes[0] if attributes else ""}
            )
    path.write_text(json.dumps({"meta": CAMERA_ONLY, "results": results}))


def score_of(results, root, version, split):
    nusc = NuScenes(version, str(root), verbose=False)
    return score_results(results, nusc, sorted(scenes_of_split(root, version, split)))


@pytest.mark.parametrize("split", ["train", "val"])
def test_truth_scores_1_on_synthetic_data(synthetic, split, tmp_path):
    truth_as_predictions(
        NuScenes(VERSION, str(synthetic), verbose=False), split, tmp_path / "truth.json"
    )
    score = score_of(tmp_path / "truth.json", synthetic, VERSION, split)
    assert score.mAP == pytest.approx(1.0)
    assert pytest.approx(1.0, abs=1e-3) == score.NDS


@pytest.mark.parametrize(
    ("split", "mean_ap", "nds"), [("real_train", 0.494263, 0.429076), ("real_val", 0.3, 0.232222)]
)
def test_truth_scores_what_the_devkit_says_on_real_keyframes(real, split, mean_ap, nds, tmp_path):
    velocities = json.loads((real / "annotation_velocity.json").read_text())
    truth_as_predictions(
        NuScenes("v1.0-mini", str(real), verbose=False), split, tmp_path / "truth.json", velocities
    )
    score = score_of(tmp_path / "truth.json", real, "v1.0-mini", split)
    assert score.mAP == pytest.approx(mean_ap, abs=1e-6)
    # Keyframes without neighbours say no velocities. The devkit counts that as the worst error.
    assert score.NDS is None
    assert score.errors["mAVE"] is None
    root = open_root(str(real), "v1.0-mini")
    boxes = json.loads((tmp_path / "truth.json").read_text())["results"]
    metrics = Truth(root, list(boxes)).metrics(EvalBoxes.deserialize(boxes, DetectionBox))
    assert metrics.nd_score == pytest.approx(nds, abs=1e-6)


def test_cameras_are_merged_class_by_class():
    """Two equal boxes of one class are one object seen twice; of two classes they are two."""
    boxes = EgoBoxes(
        np.zeros((3, 3)),
        np.ones((3, 3)),
        np.stack([np.eye(3)] * 3),
        np.zeros((3, 3)),
        np.array([0.5, 0.9, 0.7]),
        np.array([1, 1, 4]),
        np.zeros(3, int),
    )
    assert merge(boxes).tolist() == [1, 2]


def changed(path, new, change):
    document = json.loads(path.read_text())
    change(document)
    new.write_text(json.dumps(document))
    return new


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda d: d["results"].popitem(),
            r"1 of 4 keyframes are missing, the first \w{32}. Every keyframe",
        ),
        (
            lambda d: next(iter(d["results"].values())).extend(
                next(iter(d["results"].values())) * 60
            ),
            r"\d+ boxes in keyframe \w{32}. At most 500",
        ),
        (
            lambda d: next(iter(d["results"].values()))[3].update(size=[1.0, 0.0, 2.0]),
            r"box 3 of keyframe \w{32} .*size is \[1\.0, 0\.0, 2\.0\]",
        ),
        (
            lambda d: next(iter(d["results"].values()))[2].update(translation=[float("nan")] * 3),
            r"box 2 of keyframe \w{32} .*translation is \[nan, nan, nan\]\. Give finite",
        ),
        (
            lambda d: next(iter(d["results"].values()))[1].update(detection_name="lorry"),
            r"box 1 of keyframe \w{32} .*lorry",
        ),
        (
            lambda d: next(iter(d["results"].values()))[0].pop("velocity"),
            r"box 0 of keyframe \w{32} .*velocity",
        ),
        (
            lambda d: next(iter(d["results"].values()))[0].update(velocity=["fast", 0.0]),
            r"box 0 of keyframe \w{32} .*velocity is \['fast', 0\.0\]\. Give 2 numbers",
        ),
        (
            lambda d: next(iter(d["results"].values()))[0].update(velocity=[float("inf"), 0.0]),
            r"box 0 of keyframe \w{32} .*velocity is \[inf, 0\.0\]",
        ),
        (
            lambda d: next(iter(d["results"].values()))[4].update(detection_score=-0.5),
            r"box 4 of keyframe \w{32} .*detection_score is -0\.5",
        ),
        (
            lambda d: next(iter(d["results"].values()))[4].pop("detection_score"),
            r"box 4 of keyframe \w{32} .*detection_score is None",
        ),
        (
            lambda d: next(iter(d["results"].values()))[4].update(rotation=[0, 0, 0, 0]),
            r"box 4 of keyframe \w{32} .*rotation is",
        ),
        (
            lambda d: next(iter(d["results"].values()))[4].update(attribute_name="asleep"),
            r"box 4 of keyframe \w{32} .*attribute_name is 'asleep'",
        ),
        (
            lambda d: next(iter(d["results"].values())).insert(0, "a car"),
            r"box 0 of keyframe \w{32} .*it is 'a car'",
        ),
        (lambda d: d.pop("results"), "not a nuScenes detection submission"),
        (lambda d: d.pop("meta"), "not a nuScenes detection submission"),
    ],
)
def test_a_submission_that_cannot_be_scored_is_refused_with_the_place(
    synthetic, tmp_path, change, words
):
    truth_as_predictions(
        NuScenes(VERSION, str(synthetic), verbose=False), "val", tmp_path / "truth.json"
    )
    bad = changed(tmp_path / "truth.json", tmp_path / "bad.json", change)
    with pytest.raises(InputError, match=rf"bad\.json: {words}"):
        score_of(bad, synthetic, VERSION, "val")


def test_keyframes_without_boxes_and_of_other_splits_are_right(synthetic, tmp_path):
    """All keyframes of all splits in one file; one of val is empty, which costs recall there and
    nothing else.
    """
    nusc = NuScenes(VERSION, str(synthetic), verbose=False)
    for split in ("train", "val"):
        truth_as_predictions(nusc, split, tmp_path / f"{split}.json")
    more = json.loads((tmp_path / "train.json").read_text())["results"]
    whole = changed(
        tmp_path / "val.json", tmp_path / "whole.json", lambda d: d["results"].update(more)
    )
    assert score_of(whole, synthetic, VERSION, "val").mAP == pytest.approx(1.0)
    first = next(iter(json.loads((tmp_path / "val.json").read_text())["results"]))
    some = changed(
        tmp_path / "val.json", tmp_path / "some.json", lambda d: d["results"].update({first: []})
    )
    assert 0.3 < score_of(some, synthetic, VERSION, "val").mAP < 1.0
    none = changed(
        tmp_path / "val.json",
        tmp_path / "none.json",
        lambda d: d["results"].update({key: [] for key in d["results"]}),
    )
    score = score_of(none, synthetic, VERSION, "val")
    assert (score.mAP, score.NDS, score.errors["mAOE"]) == (0.0, 0.0, 1.0)


def test_fast_bevs_detections_score_what_was_published_with_them(real):
    folder = real.parent / "scene0916"
    score = score_of(folder / "fastbev_results_nusc.json", folder, "v1.0-mini", "real_scene0916")
    expected = {
        "mAP": 0.294366,
        "NDS": 0.376291,
        "mATE": 0.785856,
        "mASE": 0.530061,
        "mAOE": 0.563577,
        "mAVE": 0.510089,
        "mAAE": 0.319338,
    }
    assert {name: round(score.as_dict()[name], 6) for name in expected} == expected


def test_of_more_boxes_than_the_devkit_takes_the_best_are_kept():
    count = 700
    rng = np.random.default_rng(0)
    centres = np.arange(count)[:, None] * np.array([10.0, 0, 0])
    scores = rng.random(count)
    boxes = EgoBoxes(
        centres,
        np.ones((count, 3)),
        np.stack([np.eye(3)] * count),
        centres,
        scores,
        np.ones(count, int),
        np.ones(count, int),
    )
    assert merge(boxes).tolist() == np.argsort(-scores)[:500].tolist()
