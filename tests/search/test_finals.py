"""The finals of a search: paired, on the right scenes, through Python and the command line."""

import json
import sys
from functools import partial
from pathlib import Path
from subprocess import run

import numpy as np
import pytest
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.detection.data_classes import DetectionBox

from data_tools.convert import write_infos
from data_tools.synthetic.dataset import SPLITS, VERSION, Settings, make_dataset
from sparsevit3d.search.algorithms import Settings as Sizes
from sparsevit3d.search.finals import compare, hold_finals
from sparsevit3d.search.objective import Question
from sparsevit3d.search.run import Request, search
from sparsevit3d.search.workers import Here, hire
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.scoring import Truth, open_root
from sparsevit3d.swin.plan import SparsityPlan

SMALL = Path(__file__).parents[2] / "configs/fcos3d_small_synthetic.py"
CONSOLE = Path(sys.executable).parent / "sparsevit3d"
FINDS_SOMETHING = ("model.test_cfg.score_thr=0.0", "model.test_cfg.nms_pre=20")
PLANS = [SparsityPlan.parse(text) for text in ("0|0|0|0", "0.1|0|0|0", "0.2|0|0|0", "0.3|0|0|0")]


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    """A root whose search split has four scenes."""
    root = make_dataset(
        tmp_path_factory.mktemp("streets") / "root", Settings((1, 4, 1), 2, 320, 180, seed=5)
    )
    write_infos(root, VERSION, SPLITS)
    return root


@pytest.fixture(scope="module")
def truth(streets):
    nusc = open_root(str(streets), VERSION)
    return Truth(nusc, [row["token"] for row in nusc.sample])


def boxes(truth, share, seed=0):
    """A share of the true objects, and a false box beside each."""
    random = np.random.default_rng(seed)
    found = EvalBoxes()
    for token in truth.tokens:
        found.add_boxes(token, [])
        for box in truth.boxes[token]:
            row = box.serialize() | {"detection_score": float(random.random())}
            if random.random() < share:
                found.add_boxes(token, [DetectionBox.deserialize(row)])
            row["translation"] = [row["translation"][0] + 9, *row["translation"][1:]]
            row["detection_score"] = float(random.random())  # a tie might go either way
            found.add_boxes(token, [DetectionBox.deserialize(row)])
    return found


@pytest.mark.parametrize("by", ["mAP", "NDS"])
def test_a_plan_is_behind_by_what_the_official_scores_differ(truth, by):
    shares = (0.9, 0.9, 0.2, 0.85)
    found = {plan: boxes(truth, share) for plan, share in zip(PLANS, shares, strict=True)}
    standings, error = compare(truth, found, by)
    official = {plan: truth.score(each).as_dict()[by] for plan, each in found.items()}
    best = max(official.values())
    for plan, standing in standings.items():
        assert standing.score == pytest.approx(official[plan], abs=1e-9)
        mean, low, high = standing.behind
        assert mean == pytest.approx(best - official[plan], abs=1e-9)
        assert low <= mean <= high
        assert standing.scenes == 6
    assert standings[PLANS[0]].behind == standings[PLANS[1]].behind == (0, 0, 0)
    assert standings[PLANS[2]].told_apart
    assert not standings[PLANS[0]].told_apart
    assert error > 0


def test_the_finals_judge_on_new_scenes_first_and_go_on_after_a_kill(
    streets, untrained, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = load_config(SMALL, streets, options=FINDS_SOMETHING)
    question = Question(config, untrained, keyframes=1)
    request = Request(settings=Sizes(population=3, parents=2, generations=1), max_macs=0.6)
    path = search(question, request, tmp_path / "w", Here(question))
    answer = json.loads(path.read_text())
    assert answer["uniform"]["costs"]["share of dense MACs"] <= 0.6
    asked = []

    def note(question):
        asked.append(question)
        return Here(question)

    result = hold_finals(question, tmp_path / "w", 2, note)
    assert result["seen_by_search"] == 1
    assert len(asked[0].keyframes) == 4
    assert 0 not in asked[0].keyframes  # the scene that the search has seen comes last
    assert {plan["plan"] for plan in result["standings"]} >= {answer["uniform"]["plan"]}
    named = json.loads(path.read_text())
    assert named["plan"] == result["standings"][0]["plan"]
    assert named["finals"] == json.loads(json.dumps(result))
    asked.clear()
    lost = sorted((tmp_path / "w/finals").glob("*/*.json"))[0]
    lost.unlink()  # as a kill would have left it
    search(question, request, tmp_path / "w", Here(question))
    assert hold_finals(question, tmp_path / "w", 2, note) == result
    assert len(asked) == 1  # what was judged is not judged again


def test_one_scene_holds_no_finals(synthetic, untrained, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = load_config(SMALL, synthetic, options=FINDS_SOMETHING)
    question = Question(config, untrained, keyframes=1)
    request = Request(settings=Sizes(population=2, parents=2, generations=1), max_macs=0.6)
    path = search(question, request, tmp_path / "w", Here(question))
    before = path.read_text()
    assert hold_finals(question, tmp_path / "w", 2, partial(hire, workers=1)) is None
    assert path.read_text() == before


@pytest.mark.slow
def test_a_search_names_its_plan_after_the_finals(streets, untrained, tmp_path):
    command = [CONSOLE, "search", SMALL, "--from", untrained, "--work-dir", tmp_path / "w"]
    command += ["--data", streets, "--max-macs", "0.6", "--population", "2", "--parents", "2"]
    command += ["--generations", "1", "--keyframes", "1", "--finalists", "1", "--workers", "1"]
    options = (word for option in FINDS_SOMETHING for word in ("--set", option))
    done = run([*command, *options], capture_output=True, text=True, check=True)
    told = " ".join(done.stdout.split())
    assert "finals: the best, paired" in told
    assert "The search had judged on 1 of the split's scenes before" in told
    result = json.loads((tmp_path / "w/plan.json").read_text())["finals"]
    assert f"the best, {result['standings'][0]['plan']}" in told
