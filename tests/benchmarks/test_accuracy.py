"""The accuracy study: its intervals by the devkit's own evaluator on datasets that really hold the
scenes drawn, and a small study whole.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.detection.data_classes import DetectionBox
from nuscenes.eval.detection.evaluate import DetectionEval

from benchmarks.accuracy.__main__ import check_settings
from benchmarks.accuracy.results import finetuned_of, steps_of_group
from benchmarks.accuracy.scenes import _count, examine, interval
from benchmarks.accuracy.steps import Base, Pace, checkpoint_of, plan_of
from benchmarks.accuracy.study import Study
from benchmarks.accuracy.summary import TIMES, Difference, differences, summarise
from benchmarks.accuracy.workspace import Workspace
from data_tools.synthetic.dataset import VERSION
from sparsevit3d.cost.macs import count_macs
from sparsevit3d.errors import InputError
from sparsevit3d.files import fingerprint
from sparsevit3d.stages.draws import match_all, scenes_of, score
from sparsevit3d.stages.look import load_keyframe
from sparsevit3d.stages.scoring import Truth, open_root
from sparsevit3d.swin.plan import RATIO_GRID, SparsityPlan

ROOT = Path(__file__).parents[2]
CONSOLE = Path(sys.executable).parent / "sparsevit3d"
STUDY = ROOT / "benchmarks/accuracy/first_study.toml"
NOW = ROOT / "benchmarks/accuracy/study.toml"
TINY = ROOT / "tests/support/tiny_study.toml"


@pytest.fixture(scope="module")
def truth(synthetic):
    """Of the train split's two scenes."""
    nusc = open_root(str(synthetic), VERSION)
    names = {scene["token"] for scene in nusc.scene if "train" in scene["name"]}
    return Truth(nusc, [row["token"] for row in nusc.sample if row["scene_token"] in names])


@pytest.fixture(scope="module")
def found(truth):
    """Detections as a bad detector makes them: objects missed, moved, turned, twice, of another
    class, with confidences that say little.
    """
    random = np.random.default_rng(3)
    boxes = EvalBoxes()
    for token in truth.tokens:
        for box in truth.boxes[token]:
            for _ in range(random.integers(0, 3)):
                row = box.serialize()
                row["translation"] = [
                    *(np.array(row["translation"])[:2] + random.normal(0, 1.0, 2)),
                    row["translation"][2],
                ]
                row["size"] = (np.array(row["size"]) * random.uniform(0.7, 1.4, 3)).tolist()
                row["velocity"] = random.normal(0, 1, 2).tolist()
                row["detection_name"] = (
                    str(random.choice(list(truth.config.class_names)))
                    if random.random() < 0.1
                    else box.detection_name
                )
                row["detection_score"] = float(random.random())
                boxes.add_boxes(token, [DetectionBox.deserialize(row)])
    for token in truth.tokens:
        boxes.add_boxes(token, [])
    return boxes


@pytest.mark.parametrize("weights", [(1, 1), (2, 0), (0, 2), (1, 3)])
def test_drawn_scenes_score_what_the_devkit_says_of_a_dataset_that_has_them(truth, found, weights):
    scenes = scenes_of(truth)
    mine = score(truth, match_all(truth, found, scenes), np.array(weights))
    evaluator = DetectionEval.__new__(DetectionEval)
    evaluator.cfg = truth.config
    evaluator.verbose = False
    evaluator.gt_boxes, evaluator.pred_boxes = (
        _copies(boxes, scenes, weights) for boxes in (truth.boxes, found)
    )
    metrics, _ = evaluator.evaluate()
    assert 0.01 < metrics.mean_ap < 0.9
    assert mine == pytest.approx((metrics.mean_ap, metrics.nd_score), abs=1e-9)


def _copies(boxes, scenes, weights):
    copies = EvalBoxes()
    for weight, tokens in zip(weights, scenes.values(), strict=True):
        for number in range(weight):
            for token in tokens:
                rows = [
                    box.serialize() | {"sample_token": f"{token}/{number}"} for box in boxes[token]
                ]
                copies.add_boxes(
                    f"{token}/{number}", [DetectionBox.deserialize(row) for row in rows]
                )
    return copies


def test_a_submission_is_examined_whole_and_by_what_its_objects_are_like(truth, tmp_path):
    submission = tmp_path / "results.json"
    everything = {
        token: [box.serialize() | {"detection_score": 0.5} for box in truth.boxes[token]]
        for token in truth.tokens
    }
    submission.write_text(json.dumps({"results": everything}, default=list))
    document = examine(truth, submission)
    objects = sum(len(truth.boxes[token]) for token in truth.tokens)
    for of, values in document["objects"].items():
        assert sum(sum(row["objects"]) for row in values.values()) == objects, of
        assert all(row["objects"] == row["found"] for row in values.values()), of
    assert len(document["draws"]["mAP"]) == len(document["draws"]["NDS"]) == 1000
    classes = len({box.detection_name for token in truth.tokens for box in truth.boxes[token]})
    assert max(document["draws"]["mAP"]) == pytest.approx(classes / 10, abs=0.01)


def test_an_object_is_found_by_the_most_confident_boxes_alone(truth):
    """Of as many boxes as there are objects: a thousand unsure ones around it find nothing more."""
    scenes = scenes_of(truth)
    boxes = EvalBoxes()
    for token in truth.tokens:
        cars = [box for box in truth.boxes[token] if box.detection_name == "car"]
        far = [
            box.serialize() | {"translation": [0.0, 0.0, 0.0], "detection_score": 0.9}
            for box in cars
        ]
        right = [box.serialize() | {"detection_score": 0.1} for box in cars]
        boxes.add_boxes(token, [DetectionBox.deserialize(row) for row in far + right])
    counted = _count(truth, match_all(truth, boxes, scenes), scenes)["class"]["car"]
    assert sum(counted["objects"]) > 10
    assert sum(counted["found"]) == 0


def result(arm, seed, shift, noise, scale=1.0):
    draws = 0.2 + noise + shift
    return {
        "arm": arm,
        "group": "a",
        "seed": seed,
        "input": [512, 192],
        "plan": "0|0|0|0",
        "gmacs": 1.0,
        "score": dict.fromkeys(("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE"), 0.2 + shift),
        "draws": {"mAP": draws.tolist(), "NDS": (0.2 + shift + scale * noise).tolist()},
        "objects": {
            "all": {"all": {"objects": [10, 20], "found": [5, 5 + round(100 * shift)]}},
            "light": {
                "day": {"objects": [10, 0], "found": [5, 0]},
                "dusk": {"objects": [0, 20], "found": [0, 5 + round(100 * shift)]},
            },
        },
    }


def test_a_difference_is_shown_where_its_interval_says_so():
    """What scenes do to both arms alike is no doubt about their difference; what they do to one of
    them is.
    """
    noise = np.random.default_rng(0).normal(0, 0.03, 1000)
    results = {
        "dense": {seed: result("dense", seed, 0, noise) for seed in (0, 1, 2)},
        "smaller input": {
            seed: result("smaller input", seed, -0.02 + 0.002 * seed, noise, scale=-1.0)
            for seed in (0, 1, 2)
        },
    }
    arms = [arm for arm in Study.load(STUDY).arms() if arm.name in results]
    by_metric = {each.metric: each for each in differences(results, arms)}
    alike = by_metric["mAP"]
    unlike = by_metric["NDS"]
    assert (alike.mean, alike.seeds, alike.verdict) == (-1.8, 3, "worse")
    # Student's t of two degrees of freedom, and the three seeds' standard deviation
    half = 4.303 * 0.2 / 3**0.5
    assert (alike.low, alike.high) == pytest.approx((-1.8 - half, -1.8 + half), abs=0.01)
    assert unlike.verdict == "inconclusive"
    assert unlike.high - unlike.low == pytest.approx(2 * 1.96 * 6, rel=0.15)
    verdicts = [
        Difference("a", "b", "mAP", 3, *ends).verdict
        for ends in ((0.5, 0.1, 0.9), (0.1, -0.4, 0.6), (2, -1, 5))
    ]
    assert verdicts == ["better", "no difference shown", "inconclusive"]
    assert Difference("a", "b", "mAP", 1, 0.5, 0.1, 0.9).verdict == "better, by one seed"


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_ninety_five_of_a_hundred_intervals_hold_what_is_true(share):
    """However much of what chance does is the seeds' (``share``) and however much the scenes'."""
    random = np.random.default_rng(5)
    held = 0
    for _ in range(500):
        of_scenes = (1 - share) * random.normal(0, 0.01)
        values = of_scenes + share * random.normal(0, 0.01, 3)  # the truth is 0
        noise = (1 - share) * random.normal(0, 0.01, 300)  # other scenes are others for all seeds
        draws = [value + noise for value in values]
        _, low, high = interval(values, draws)
        held += low <= 0 <= high
    assert held / 500 >= 0.93


def test_results_become_tables_and_pictures(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.03, 1000)
    for arm, shift in (("dense", 0.0), ("smaller input", -0.02), ("SparseViT", -0.01)):
        for seed in (0, 1):
            (tmp_path / f"a_{arm}_{seed}.json").write_text(
                json.dumps(result(arm, seed, shift, noise))
            )
    # which no other arm has
    (tmp_path / "a_dense_2.json").write_text(json.dumps(result("dense", 2, 0.3, noise)))
    times = {
        part: {"dense": {"0": 10.0, "1": 12.0}, "SparseViT": {"0": 6.0, "1": 6.0}} for part in TIMES
    }
    (tmp_path / "times_a.json").write_text(json.dumps(times))
    plans = ("0|0|0", "0.5|0.5|0.5", "0|0.5|0", "0|0|0.5")
    rows = [
        {"plan": plan, "points from dense": {"mAP": [-number, -number - 1, 1 - number]}}
        for number, plan in enumerate(plans)
    ]
    (tmp_path / "ratios_0.json").write_text(json.dumps({"plans": rows}))
    document = summarise(tmp_path, Study.load(STUDY), tmp_path / "new" / "pictures")
    assert [row["arm"] for row in document["arms"]] == ["dense", "smaller input", "SparseViT"]
    assert {(each["arm"], each["against"]) for each in document["differences"]} == {
        ("smaller input", "dense"),
        ("SparseViT", "dense"),
        ("SparseViT", "smaller input"),
    }
    pruned = document["arms"][2]
    assert (pruned["backbone, ms"], pruned["backbone, ms, dense"]) == (6.0, 11.0)
    assert [row["seeds"] for row in document["arms"]] == 3 * [[0, 1]]
    found = document["found objects"]["SparseViT"]
    assert found["all"]["all"]["difference"] == pytest.approx(100 * -1 / 30, abs=0.01)
    assert found["light"]["dusk"]["from the rest"][0] == pytest.approx(
        100 * (-1 / 20 - 0), abs=0.01
    )
    assert json.loads((tmp_path / "summary.json").read_text()) == document
    headline = json.loads((tmp_path / "headline.json").read_text())["synthetic"]
    assert [row["arm"] for row in headline] == ["dense", "smaller input", "SparseViT"]
    assert headline[2]["speedup"] == pytest.approx(11 / 6)
    assert headline[2]["map"] == {"mean": pytest.approx(19), "by_seed": [pytest.approx(19)] * 2}
    low, mean, high = headline[2]["difference_from_dense"]
    assert low <= mean <= high
    assert (headline[0]["difference_from_dense"], headline[1]["speedup"]) == (None, None)
    assert {path.name for path in tmp_path.glob("new/pictures/*.png")} == {
        f"accuracy{part}.png" for part in ("", "_differences", "_failures", "_ratios")
    }
    with pytest.raises(InputError, match=r"no results\. Make them with"):
        summarise(tmp_path / "empty", Study.load(STUDY), None)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'plan = "uniform"',
            'plan = "unifrom"',
            "arm 'uniform plan': plan 'unifrom'. There are .*uniform",
        ),
        ("budget = 80", "budget = 81", "budget '81'. There are 42, 56, 58, 80"),
        ('against = ["dense"]', 'against = ["danse"]', "is compared with 'danse', which is no arm"),
        (
            'ratios = "SparseViT"',
            'ratios = "SparseVit"',
            "group 'c': ratios of 'SparseVit', which is no arm",
        ),
        (
            '"mean importance"',
            '"Dense"',
            "another has that name, or one that makes the same folder 'dense'",
        ),
        (
            "[search]",
            '[bases]\n3 = "3.safetensors"\n[search]',
            "3.safetensors: no such file. Without its line that base is trained",
        ),
        ("share = 0.58", "share = 0.58\n[budgets.56]", "not a study"),
        ("keyframes = 2", "keyframe = 2", "not a study .*keyframe"),
        ("[epochs]", "[epoch]", "not a study"),
    ],
)
def test_a_study_that_says_what_nobody_knows_is_refused(tmp_path, old, new, words):
    path = tmp_path / "study.toml"
    path.write_text(STUDY.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=words):
        Study.load(path)


@pytest.fixture
def workspace(synthetic, tmp_path):
    (tmp_path / "data").symlink_to(synthetic)
    return Workspace(Study.load(STUDY), tmp_path)


def test_the_uniform_plan_costs_what_its_rival_costs_within_two_points(workspace):
    """An arm that computes a fifth less than what it is compared with says nothing of how plans are
    found.
    """
    limits = workspace.study.budgets[workspace.study.arm("uniform plan").budget]
    net = workspace.net(workspace.usual_size)
    macs = [
        count_macs(net, workspace.usual_size[::-1], SparsityPlan.uniform(ratio, net.depths))
        for ratio in RATIO_GRID
    ]
    best = max(each / macs[0] for each in macs if each <= limits.share * macs[0])
    assert limits.smaller is None
    assert abs(best - workspace.study.budgets["56"].share) < 0.02


def test_steps_are_shared_by_arms_that_begin_alike(workspace):
    arms = {
        name: finetuned_of(workspace, workspace.study.arm(name), 1)
        for name in ("dense", "SparseViT", "random importance", "smaller input from the start")
    }
    bases = {name: step.adapted.needs[0].product.parent.name for name, step in arms.items()}
    assert bases == {**dict.fromkeys(arms, "base"), "smaller input from the start": "base_384x144"}
    assert arms["random importance"].plan == arms["SparseViT"].plan
    assert arms["random importance"].adapted != arms["SparseViT"].adapted
    every = [step for group in workspace.study.groups for step in steps_of_group(workspace, group)]
    products = {step.product: step for step in every}
    assert len(products) == len(set(every))  # no two steps make one file


def test_an_arm_may_name_its_plan_and_see_a_part_of_the_rows(synthetic, tmp_path):
    (tmp_path / "data").symlink_to(synthetic)
    workspace = Workspace(Study.load(NOW), tmp_path)
    ours = finetuned_of(workspace, workspace.study.arm("ours"), 0)
    prior = finetuned_of(workspace, workspace.study.arm("static prior"), 0)
    assert plan_of(workspace, ours) == SparsityPlan.parse(workspace.study.arm("ours").plan)
    assert plan_of(workspace, prior) == plan_of(workspace, ours)  # an arm that names ours
    assert ours.needs == (ours.adapted,)  # nothing is searched
    crop = finetuned_of(workspace, workspace.study.arm("crop"), 0).adapted
    assert crop.seen == (512, 96)
    image = load_keyframe(crop.config(workspace), 0)[0]["inputs"]["img"][0]
    assert image.shape[-2:] == (96, 512)
    assert crop.product != finetuned_of(workspace, workspace.study.arm("dense"), 0).adapted.product


def test_without_a_pass_of_adaptation_an_arm_goes_on_from_the_base(synthetic, tmp_path):
    (tmp_path / "data").symlink_to(synthetic)
    workspace = Workspace(Study.load(NOW), tmp_path)
    adapted = finetuned_of(workspace, workspace.study.arm("ours"), 0).adapted
    for step in (*adapted.needs, adapted):
        (workspace.folder / step.product.parent).mkdir(parents=True)
        step.run(workspace)
    base = checkpoint_of(workspace, adapted.needs[0])
    assert checkpoint_of(workspace, adapted).samefile(base)


def test_a_plan_that_breaks_a_rule_is_refused_with_the_arms_name(tmp_path):
    path = tmp_path / "study.toml"
    text = NOW.read_text().replace("../../", f"{ROOT}/")
    path.write_text(text.replace('"0.7|0.8|0.5|0.3"', '"0.7|0.8|0.5|1.4"', 1))
    with pytest.raises(InputError, match=r"arm 'ours': .*1\.4"):
        Study.load(path)


def test_arms_are_compared_from_the_same_base_and_what_is_done_is_left_out(workspace):
    """Group b's further seeds have dense and SparseViT of their own; where these have their
    results, nothing that led there is done again.
    """
    group = replace(workspace.study.groups[1], seeds=(7,))

    def seed_7() -> set[str]:
        return {
            str(step.product)
            for step in steps_of_group(workspace, group)
            if "7" in str(step.product)
        }

    assert {
        f"results/{name}_7.json" for name in ("a_dense", "a_sparsevit", "b_no_adaptation")
    } < seed_7()
    before = seed_7()
    (workspace.folder / "results").mkdir()
    (workspace.folder / "results" / "a_dense_7.json").touch()
    assert before - seed_7() == {"results/a_dense_7.json", "seed7/dense/checkpoint.json"}


def test_a_base_that_the_study_names_is_not_trained(workspace):
    given = ROOT / "zoo/adapted.safetensors"
    study = replace(workspace.study, bases={3: given})
    assert study.settings()["base 3"] == fingerprint(given)
    workspace = Workspace(study, workspace.folder)
    step = Base(3)
    (workspace.folder / step.product.parent).mkdir(parents=True)
    step.run(workspace)
    assert step.done(workspace)
    assert checkpoint_of(workspace, step).read_bytes() == given.read_bytes()


def test_a_work_dir_is_of_one_study(tmp_path):
    study = Study.load(STUDY)
    check_settings(Workspace(study, tmp_path))
    check_settings(
        Workspace(replace(study, groups=study.groups[:1]), tmp_path)
    )  # fewer arms, and later more
    check_settings(Workspace(study, tmp_path))
    with pytest.raises(
        InputError, match=r"study.json: .*its epochs.train is 8, not 9.*Name another --work-dir"
    ):
        check_settings(Workspace(replace(study, epochs=study.epochs | {"train": 9}), tmp_path))
    (tmp_path / "study.json").write_text('{"epochs"')
    with pytest.raises(InputError, match=r"study\.json: is damaged .*Name another --work-dir"):
        check_settings(Workspace(study, tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images a se'])
def test_a_damaged_product_is_named_and_can_be_made_again(text, tmp_path):
    workspace = Workspace(Study.load(STUDY), tmp_path)
    path = tmp_path / Pace().product
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InputError, match=r"pace\.json: is damaged .*Remove it, and the same comm"):
        Pace().read(workspace, "images a second")


@pytest.mark.slow
def test_a_small_study_from_nothing_to_its_table_and_not_twice(tmp_path):
    work = tmp_path / "work"
    out = tmp_path / "out"

    def run(module, *arguments):
        command = [
            sys.executable,
            "-m",
            f"benchmarks.accuracy{module}",
            "--work-dir",
            work,
            "--study",
            TINY,
        ]
        ran = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    first = run("", "--out", out)
    results = sorted(path.name for path in out.glob("*.json"))
    names = (
        "dense",
        "oracle_importance",
        "smaller_input_from_the_start",
        "sparsevit",
        "sparsevit_42",
        "uniform_plan",
    )
    arms = [f"a_{name}_0.json" for name in names]
    costs = ["cost_128x64.json", "cost_160x80.json"]
    others = ["headline.json", "pace.json", "ratios_0.json", "summary.json", "times_a.json"]
    assert results == [*arms, *costs, *others]
    steps = [line.split()[1] for line in first.splitlines() if line.endswith(" s")]
    assert len(steps) == len(set(steps)) == 26
    assert "images a second" in first
    documents = {name: json.loads((out / name).read_text()) for name in results}
    assert documents["a_dense_0.json"]["plan"] == "0|0|0|0"
    assert (
        documents["a_oracle_importance_0.json"]["plan"]
        == documents["a_sparsevit_0.json"]["plan"]
        != "0|0|0|0"
    )
    assert {row["arm"] for row in documents["summary.json"]["arms"]} == {
        documents[name]["arm"] for name in arms
    }
    assert len({row["plan"] for row in documents["ratios_0.json"]["plans"]}) == 9 + 4 * 4
    for name in ("oracle_importance", "uniform_plan"):
        assert (
            documents[f"a_{name}_0.json"]["gmacs"] <= 0.9 * documents["cost_128x64.json"]["gmacs"]
        )
    times = documents["times_a.json"]
    assert (
        times["backbone, ms"].keys()
        == times["image to boxes, ms"].keys()
        == {row["arm"] for row in documents["summary.json"]["arms"]} - {"oracle importance"}
    )
    for arm, seeds in times["backbone, ms"].items():
        assert 0 < seeds["0"] < times["image to boxes, ms"][arm]["0"]
    (work / "results/a_dense_0.json").unlink()  # what is lost is made again, and nothing else
    again = [line for line in run("", "--out", out).splitlines() if line.endswith(" s")]
    assert len(again) == 1
    assert "a_dense_0.json" in again[0]
    made_again = json.loads((tmp_path / "out/a_dense_0.json").read_text())
    assert made_again["score"] == pytest.approx(documents["a_dense_0.json"]["score"], nan_ok=True)

    run(".zoo", "--out", tmp_path / "zoo")
    models = json.loads((tmp_path / "zoo/scores.json").read_text())["models"]
    assert sorted(models) == ["dense", "pruned"]
    weights = tmp_path / "zoo/pruned.safetensors"
    config = tmp_path / "zoo/config.py"
    settings = [part for option in Study.load(TINY).options for part in ("--set", option)]
    command = [
        CONSOLE,
        "eval",
        config,
        weights,
        "--data",
        work / "data",
        "--work-dir",
        tmp_path / "score",
        *settings,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    score = json.loads((tmp_path / "score/score.json").read_text())
    assert score["plan"] == models["pruned"]["plan"] == documents["a_sparsevit_0.json"]["plan"]
    for name, value in models["pruned"]["scores"]["val of the study"].items():
        assert score[name] == value or value != value, name
