"""The front door, as a user meets it: real processes, real files."""

import csv
import json
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version

import pytest
import torch
import typer
from matplotlib.image import imread

from sparsevit3d.search.journal import Journal
from sparsevit3d.stages.checkpoints import list_checkpoints, read_checkpoint
from sparsevit3d.stages.openvino_rival import kinds_here
from sparsevit3d.swin.plan import SparsityPlan
from tests.support.console import CONSOLE, ROOT, SMALL, run, run_here


@pytest.mark.parametrize(
    "verb",
    [
        "data synth",
        "data infos",
        "data check",
        "data stats",
        "data sheet",
        "train",
        "adapt",
        "search",
        "search status",
        "finetune",
        "eval",
        "predict",
        *(
            f"visualize {verb}"
            for verb in ("masks", "boxes", "scene", "video", "compare", "recall", "report", "rerun")
        ),
        "benchmark",
        "demo",
    ],
)
def test_help_teaches_by_example(verb):
    text = run(*verb.split(), "--help").stdout
    assert f"sparsevit3d {verb} " in " ".join(text.split()).replace("│ ", "")


def commands(group, name="sparsevit3d"):
    """All verbs with their names."""
    for own, command in getattr(group, "commands", {}).items():
        yield f"{name} {own}", command
        yield from commands(command, f"{name} {own}")


def test_help_is_in_whole_sentences():
    from sparsevit3d.cli.app import app

    options = [
        (name, option.name, option.help or "")
        for name, command in commands(typer.main.get_command(app))
        for option in command.params
        if option.name != "help"
    ]
    assert len(options) > 150
    assert not [one for one in options if not one[2].endswith(".") or ";" in one[2]]


def test_help_is_quick_and_opens_no_room():
    code = (
        "import sys; import sparsevit3d.cli; sys.exit(any(n in sys.modules for n in "
        "('mmdet3d', 'open3d', 'matplotlib', 'nuscenes')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_version_is_that_of_the_package():
    assert run("--version").stdout.split() == ["sparsevit3d", version("sparsevit3d")]


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("typer", "detection", ["train", "--help"]),
        ("mmengine", "detection", ["train", "x.py", "--work-dir", "w"]),
        ("matplotlib", "visualize", ["visualize", "boxes", "x.py", "x.pth", "--out", "w"]),
        ("rerun", "rerun", ["visualize", "rerun", "x.py", "x.pth"]),
    ],
)
def test_a_verb_whose_extra_is_missing_names_it(package, extra, arguments, tmp_path):
    code = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['sparsevit3d', *{arguments!r}]; "
        "from sparsevit3d.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"pip install 'sparsevit3d[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_mistakes_are_one_line_that_says_what_to_do(tmp_path):
    for arguments, words in [
        (
            ("train", SMALL, "--data", tmp_path / "none", "--work-dir", tmp_path / "w"),
            "no such dataset",
        ),
        (("data", "infos", tmp_path), "has no tables at all"),
        (("data", "synth", ROOT), "is not empty"),
        (
            ("train", SMALL, "--set", "train_cfg.max_epoch=2", "--work-dir", tmp_path / "w"),
            "Did you mean train_cfg.max_epochs?",
        ),
    ]:
        done = run_here(*arguments, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stdout + done.stderr
        assert words in " ".join(done.stdout.split())
    assert not (tmp_path / "w").exists()
    done = run("data", "infos", tmp_path, check=False)  # in a process of its own, alike
    assert done.returncode == 1
    assert "has no tables at all" in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_data_is_made_from_the_command_line(tmp_path):
    root = tmp_path / "root"
    run("data", "synth", root, "--scenes", 1, 0, 1, "--keyframes", 1, "--size", 96, 54)
    run("data", "infos", root, "--split", "train,val", "--workers", 2, "--out", tmp_path / "infos")
    assert sorted(path.name for path in (tmp_path / "infos").iterdir()) == [
        "nuscenes_infos_train.json",
        "nuscenes_infos_val.json",
    ]


@pytest.mark.slow
def test_benchmark_of_a_checkpoint_times_its_plan_on_its_data(synthetic, untrained):
    done = run(
        "benchmark", SMALL, untrained, "--data", synthetic, "--dtype", "float32", "--runs", 2
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert list(result["share"]) == ["0.5|0.5|0.4|0.3"]
    assert 0 < result["share"]["0.5|0.5|0.4|0.3"] < 1
    assert result["shape"][:2] == [6, 3]
    assert "first keyframe of val" in result["subject"]


@pytest.mark.slow
def test_benchmark_holds_plans_against_rivals(tmp_path):
    kept = tmp_path / "speed.json"
    plan = ("--dtype", "float32", "--plan", "0.5|0.5|0.4|0.3")
    done = run("benchmark", SMALL, "--shape", "1x3x64x96", *plan, "--runs", 2, "--out", kept)
    result = json.loads(done.stdout.splitlines()[-1])
    assert json.loads(kept.read_text()) == result
    assert imread(kept.with_suffix(".png")).std() > 0.02
    assert result["shape"] == [1, 3, 64, 96]
    dense, sparse = (f"SparseSwin {plan}, float32" for plan in ("dense", "0.5|0.5|0.4|0.3"))
    converted = {f"OpenVINO {kind}" for kind in kinds_here(torch.device("cpu"))}
    rivals = converted | {
        "mmdet",
        "mmdet compiled",
        "released form",
        "released form 0.5|0.5|0.4|0.3",
        "floor, float32",
    }
    rows = result["backbone"]
    share = result["share"]["0.5|0.5|0.4|0.3"]
    assert set(rows) == rivals | {dense, sparse}
    fastest = min(
        rows[name]["p50_ms"]
        for name in ("mmdet", "mmdet compiled", "released form", dense, *converted)
    )
    assert rows[sparse]["efficiency"] == pytest.approx(fastest / rows[sparse]["p50_ms"] * share)
    assert set(result["detector"]) == converted | {
        "mmdet",
        "mmdet, our decoding",
        "mmdet, backbone compiled",
        dense,
        sparse,
    }
    for row in result["detector"].values():
        assert list(row["parts"]) == ["backbone", "neck", "head", "decode"]
        assert min(row["parts"].values()) > 0
        assert row["boxes"] == {"before": 0, "after": 0}  # fresh weights find nothing
        # of two runs, the median of each part
        assert sum(row["parts"].values()) == pytest.approx(row["p50_ms"], rel=0.2)
    assert result["cosine_to_plain_float32"]["float32"]["dense"] > 0.99999


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--shape", "64x96"),
        ("--shape", "1x3x0x96"),
        ("--dtype", "float8"),
        ("--plan", "2"),
        ("--plan", "dense"),
        ("--device", "tpu"),
    ],
)
def test_benchmark_refuses(option, value):
    done = run_here("benchmark", SMALL, option, value, check=False)
    assert done.returncode == 1
    assert value in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_plan_that_falls_is_refused(synthetic, untrained, tmp_path):
    arguments = (
        "--from",
        untrained,
        "--data",
        synthetic,
        "--plan",
        "0.9|0.1,0|0|0",
        "--work-dir",
        tmp_path / "w",
    )
    done = run_here("finetune", SMALL, *arguments, check=False)
    assert done.returncode == 1
    assert "falls below" in " ".join(done.stdout.split())
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_the_control_trains_as_adaptation_does_and_prunes_nothing(synthetic, untrained, tmp_path):
    ends = []
    for name, more in (("adapted", ()), ("control", ("--dense",))):
        work_dir = ("--work-dir", tmp_path / name, "--set", "train_dataloader.batch_size=8")
        run("adapt", SMALL, "--from", untrained, "--data", synthetic, *work_dir, *more)
        ends.append(read_checkpoint(tmp_path / name / "epoch_0001.pth"))
    assert ends[0]["meta"]["iter"] == ends[1]["meta"]["iter"] == 3
    assert ends[0]["param_schedulers"] == ends[1]["param_schedulers"]
    provenance = json.loads((tmp_path / "control/provenance.json").read_text())
    assert provenance["plan"] == "0|0|0|0"


def test_eval_scores_a_checkpoint_with_flip_and_under_a_plan(synthetic, untrained, tmp_path):
    arguments = (
        "--data",
        synthetic,
        "--set",
        "model.test_cfg.score_thr=0.0",
        "--set",
        "model.test_cfg.nms_pre=20",
    )
    flipped = json.loads(
        run_here(
            "eval", SMALL, untrained, *arguments, "--flip", "--plan", "dense"
        ).stdout.splitlines()[-1]
    )
    assert (flipped["plan"], flipped["flip"]) == ("0|0|0|0", True)
    folder = untrained.parent / "eval_val_flip/epoch_0001_plan_dense"  # if nobody said otherwise
    assert json.loads((folder / "score.json").read_text()) == flipped
    one = (folder / "results_nusc.json").read_text()
    run_here(
        "eval", SMALL, untrained, *arguments, "--plan", "dense", "--work-dir", tmp_path / "plain"
    )
    assert (tmp_path / "plain/results_nusc.json").read_text() != one
    again = run_here("score", folder / "results_nusc.json", "--data", synthetic, "--split", "val")
    again = json.loads(again.stdout.splitlines()[-1])
    assert again["NDS"] == flipped["NDS"]
    assert (again["scenes"], again["scenes_of_split"]) == (2, 2)


def test_the_status_of_a_search_names_a_damaged_line_and_does_not_believe_it(tmp_path):
    settings = {"population": 3, "parents": 2, "generations": 1, "mutation": 0.3}
    budget = {"max_macs": 0.6, "max_gmacs": None, "max_ms": None}
    request = {"algorithm": "evolution", "settings": settings, "score": "mAP", **budget}
    path = tmp_path / "journal.jsonl"
    with closing(Journal(path, request)) as journal:
        for ratio, score in ((0.4, float("nan")), (0.5, 0.0689), (0.6, 0.125)):
            plan = SparsityPlan.uniform(ratio, (2, 2))
            journal.add_score(plan, {"mAP": score}, 1, {"share of dense MACs": 1 - ratio})
    whole = path.read_text()
    assert "mAP 0.1250" in run_here("search", "status", tmp_path).stdout
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["mAP"] for row in rows] == ["-inf", "0.0689", "0.125"]
    assert (rows[1]["plan"], rows[1]["ratio_1_0"]) == ("0.5|0.5", "0.5")
    assert float(rows[1]["share of dense MACs"]) == 0.5
    for damage in ("0.9689", "null"):
        path.write_text(whole.replace("0.0689", damage))
        with pytest.warns(UserWarning, match="line 3 is damaged"):
            told = run_here("search", "status", tmp_path).stdout
        assert "2 plans of at most 3" in told
        assert "0.6|0.6: mAP 0.1250" in told
    done = run("search", "status", tmp_path)
    assert f"warning: {path}: line 3 is damaged (its content is not what" in done.stderr
    assert "UserWarning" not in done.stderr
    path.write_text(whole.replace('"max_macs": 0.6', '"max_macs": 0.7'))
    done = run_here("search", "status", tmp_path, check=False)
    assert done.returncode == 1
    assert "line 1 is damaged" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_uniform_search_takes_no_plans_of_ones_own(tmp_path):
    weights = tmp_path / "epoch_0001.pth"
    weights.touch()
    given = ("search", SMALL, "--from", weights, "--work-dir", tmp_path / "s", "--algorithm")
    done = run_here(*given, "uniform", "--start-with", "0.5|0.5|0.5|0.5", check=False)
    assert done.returncode == 2
    assert "Leave out --start-with" in " ".join(done.stderr.replace("│", "").split())


def test_a_search_of_the_whole_detector_takes_no_options_of_the_backbone_alone(tmp_path):
    weights = tmp_path / "epoch_0001.pth"
    weights.touch()
    given = ("search", SMALL, "--from", weights, "--work-dir", tmp_path / "s", "--of", "detector")
    for option, value in (("--device", "cuda"), ("--dtype", "bfloat16"), ("--shape", "1x3x64x64")):
        done = run_here(*given, "--max-ms", "90", option, value, check=False)
        assert done.returncode == 2
        assert "Leave out --device" in " ".join(done.stderr.replace("│", "").split())
    assert not (tmp_path / "s").exists()


def test_anyones_results_are_scored_if_they_are_a_submission_of_a_known_split(synthetic, tmp_path):
    results = tmp_path / "results.json"
    results.write_text("{}")
    done = run_here("score", results, check=False)
    assert done.returncode == 2
    assert "Missing option '--data'" in done.stderr
    for split, words in (
        ("val", "not a nuScenes detection submission"),
        ("valid", "no split 'valid'"),
    ):
        done = run_here("score", results, "--data", synthetic, "--split", split, check=False)
        assert done.returncode == 1
        assert words in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("eval", SMALL, "x.pth", "--results", "y.json"), "Say sparsevit3d score FILE --data ROOT"),
        (
            ("search", SMALL, "--from", "x.pth", "--work-dir", "s", "--front"),
            "Say --algorithm front",
        ),
        (("data", "infos", "root", "--splits", "val"), "Say --split"),
    ],
)
def test_an_old_spelling_names_the_new_one(given, words):
    done = run_here(*given, check=False)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", "").split())


@pytest.mark.slow
def test_torchrun_trains_and_scores_one_detector_in_two_processes(synthetic, tmp_path):
    command = (
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "--no-python",
        CONSOLE,
        "train",
        SMALL,
    )
    options = (
        "--data",
        synthetic,
        "--work-dir",
        tmp_path / "run",
        "--set",
        "train_cfg.max_epochs=1",
    )
    done = subprocess.run(
        [sys.executable, *command, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len(list((tmp_path / "run").glob("epoch_*.pth"))) == 1
    assert len(json.loads((tmp_path / "run/provenance.json").read_text())["runs"]) == 1
    checkpoint = tmp_path / "run/epoch_0001.pth"
    options = ("--data", synthetic, "--set", "model.test_cfg.score_thr=0.0")
    one = json.loads(run("eval", SMALL, checkpoint, *options).stdout.splitlines()[-1])
    parted = (*command[:-2], "eval", SMALL, checkpoint, *options, "--work-dir", tmp_path / "parted")
    done = subprocess.run(
        [sys.executable, *map(str, parted)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    two = json.loads(done.stdout.splitlines()[-1])
    assert two.keys() == one.keys()
    for name, value in one.items():
        assert two[name] == (
            pytest.approx(value, abs=1e-6) if isinstance(value, float) else value
        ), name
    assert done.stdout.count('"mAP"') == 1
    assert list((tmp_path / "run").glob("*/vis_data/events.out.tfevents.*"))  # TensorBoard's


@pytest.mark.slow
def test_the_demo_runs_is_killed_goes_on_and_says_the_same_again(tmp_path, request):
    """The main job, tiny, end to end; killed twice on the way."""
    out = tmp_path / "demo"
    for seconds in (15, 25):
        process = subprocess.Popen(
            [CONSOLE, "demo", "--tiny", "--out", out],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    first = run("demo", "--tiny", "--out", out, cwd=tmp_path).stdout
    assert "backbone MACs" in first
    assert "mAP" in first
    summary = json.loads((out / "summary.json").read_text())
    assert summary["benchmark"]["share"][summary["plan"]] <= 0.6
    assert summary["scores"]["dense"]["plan"] == "dense"
    assert summary["scores"]["sparse"]["plan"] == summary["plan"]
    assert len(list((out / "pictures/synthetic").glob("windows_stage?.png"))) == 4
    # Equal budgets: iterations and schedules
    for half, arms in (("adapted", "dense_half_way"), ("sparse", "dense")):
        one, other = (read_checkpoint(list_checkpoints(out / name)[-1]) for name in (half, arms))
        assert one["meta"]["iter"] == other["meta"]["iter"] > 0
        assert one["param_schedulers"] == other["param_schedulers"]
    run("demo", "--tiny", "--out", out, cwd=tmp_path)
    again = json.loads((out / "summary.json").read_text())
    assert again["scores"] == summary["scores"]
