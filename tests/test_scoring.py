import json

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.eval.detection.utils import category_to_detection_name

from data_tools.infos import scenes_of_split
from data_tools.synthetic.tables import VERSION
from sparsevit3d.stages.scoring import CAMERA_ONLY, EgoBoxes, ScoringError, merge, score_results


def truth_as_predictions(nusc, split, path, velocities=None):
    """Write every annotation of a split as a prediction of score 0.9."""
    scenes = scenes_of_split(nusc, split)
    results = {}
    for sample in nusc.sample:
        if nusc.get("scene", sample["scene_token"])["name"] not in scenes:
            continue
        boxes = results[sample["token"]] = []
        for row in (nusc.get("sample_annotation", token) for token in sample["anns"]):
            name = category_to_detection_name(row["category_name"])
            if name is None:
                continue
            velocity = nusc.box_velocity(row["token"])[:2].tolist() if velocities is None else velocities[row["token"]]
            velocity = [value or 0.0 for value in velocity or (0.0, 0.0)]
            attributes = [nusc.get("attribute", token)["name"] for token in row["attribute_tokens"]]
            boxes.append(
                {key: row[key] for key in ("sample_token", "translation", "size", "rotation")}
                | {"velocity": velocity, "detection_name": name, "detection_score": 0.9}
                | {"attribute_name": attributes[0] if attributes else ""}
            )
    path.write_text(json.dumps({"meta": CAMERA_ONLY, "results": results}))


@pytest.mark.parametrize("split", ["train", "val"])
def test_truth_scores_1_on_synthetic_data(synthetic, split, tmp_path):
    truth_as_predictions(NuScenes(VERSION, str(synthetic), verbose=False), split, tmp_path / "truth.json")
    score = score_results(tmp_path / "truth.json", synthetic, VERSION, split)
    assert score.mAP == pytest.approx(1.0)
    assert pytest.approx(1.0, abs=1e-3) == score.NDS


@pytest.mark.parametrize(("split", "mean_ap", "nds"), [("real_train", 0.494263, 0.429076), ("real_val", 0.3, 0.232222)])
def test_truth_scores_what_the_devkit_says_on_real_keyframes(real, split, mean_ap, nds, tmp_path):
    velocities = json.loads((real / "annotation_velocity.json").read_text())
    truth_as_predictions(NuScenes("v1.0-mini", str(real), verbose=False), split, tmp_path / "truth.json", velocities)
    score = score_results(tmp_path / "truth.json", real, "v1.0-mini", split)
    assert score.mAP == pytest.approx(mean_ap, abs=1e-6)
    assert pytest.approx(nds, abs=1e-6) == score.NDS


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


def test_a_submission_that_misses_a_keyframe_is_refused_by_name(synthetic, tmp_path):
    truth_as_predictions(NuScenes(VERSION, str(synthetic), verbose=False), "val", tmp_path / "truth.json")
    document = json.loads((tmp_path / "truth.json").read_text())
    document["results"].popitem()
    (tmp_path / "less.json").write_text(json.dumps(document))
    with pytest.raises(ScoringError, match=r"less\.json: the devkit refuses it for split 'synthetic_val'"):
        score_results(tmp_path / "less.json", synthetic, VERSION, "val")
