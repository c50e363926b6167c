"""The search on a real detector: its objective, its budgets, its answer; through Python and through
the command line.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from matplotlib.image import imread

from sparsevit3d.cost.latency_table import Machine, MeasuredTable, table_for
from sparsevit3d.cost.macs import count_macs, kept_windows
from sparsevit3d.errors import InputError
from sparsevit3d.search.algorithms import Settings
from sparsevit3d.search.detector_cost import DetectorCost
from sparsevit3d.search.objective import Objective, Question
from sparsevit3d.search.run import MS, SHARE, Request, search
from sparsevit3d.search.workers import Here
from sparsevit3d.stages.benchmark import count_gmacs
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.evaluate import evaluate
from sparsevit3d.swin.plan import SparsityPlan, every_plan
from sparsevit3d.swin.sparse_swin import SparseSwin

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "configs/fcos3d_small_synthetic.py"
CONSOLE = Path(sys.executable).parent / "sparsevit3d"
PLAN = SparsityPlan.parse("0.5|0.3|0|0.5")
FEW = Settings(population=3, parents=2, generations=2)
FINDS_SOMETHING = ("model.test_cfg.score_thr=0.0", "model.test_cfg.nms_pre=20")


@pytest.fixture
def config(synthetic):
    return load_config(SMALL, synthetic, options=FINDS_SOMETHING)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/sparsevit3d"


def search_in(folder, question, **request):
    return search(question, Request(settings=FEW, **request), folder, Here(question))


def test_a_plan_scores_what_eval_says_of_it(config, untrained, tmp_path):
    objective = Objective(Question(config, untrained, split="val", threads=torch.get_num_threads()))
    official = evaluate(config, untrained, "val", tmp_path / "eval", PLAN)
    for _ in range(2):  # the second time from images that were kept
        for name, value in objective(PLAN).items():
            assert official[name] == pytest.approx(value, abs=1e-12), name
    assert objective(SparsityPlan.uniform(0.8, (2, 2, 2, 2))) != objective(PLAN)


def test_a_plan_scores_what_training_loses(config, untrained):
    """Minus the loss, on truth that is the same each time; more keyframes, another mean."""
    objective = Objective(Question(config, untrained, by="loss"))
    assert objective(PLAN) == objective(PLAN)
    assert objective(PLAN)["loss"] < 0
    one = Objective(Question(config, untrained, by="loss", keyframes=1))
    assert one(PLAN) != objective(PLAN)


def test_a_subset_is_spread_evenly_and_scored_alone(config, untrained):
    objective = Objective(Question(config, untrained, split="val", keyframes=2))
    assert list(objective.metric.infos) == [0, 2]
    assert len(objective.metric.truth.tokens) == 2
    assert 0 <= objective(PLAN)["NDS"] <= 1
    with pytest.raises(InputError, match=r"99 keyframes: .*infos_search.json has 2"):
        Objective(Question(config, untrained, keyframes=99))


def test_a_question_is_known_by_weights_data_and_all_that_scores_follow_from(
    config, untrained, synthetic, tmp_path
):
    question = Question(config, untrained)
    moved = tmp_path / "elsewhere.pth"
    moved.write_bytes(untrained.read_bytes())
    assert Question(config, moved).key == question.key
    moved.write_bytes(untrained.read_bytes() + b"\0")
    others = [
        Question(config, moved),
        Question(load_config(SMALL, synthetic), untrained),
        Question(config, untrained, split="val"),
        Question(config, untrained, by="NDS"),
        Question(config, untrained, keyframes=1),
        Question(config, untrained, threads=2),
    ]
    assert len({question.key, *(other.key for other in others)}) == 7


def test_the_answer_says_where_it_came_from_and_is_found_again(config, untrained, tmp_path, cache):
    question = Question(config, untrained)
    path = search_in(tmp_path / "one", question, max_macs=0.6)
    found = json.loads(path.read_text())
    assert SparsityPlan.load(path) == SparsityPlan.parse(found["plan"])
    assert found["costs"][SHARE] <= 0.6 == found["budget"][SHARE]
    assert found["weights"]["sha256"] == question.identity["weights"]
    assert found["data"]["sha256"] == question.identity["data"]
    assert {"seed", "versions", "split", "search", "evaluated", "mAP"} <= set(found)
    assert len(list((cache / "scores").iterdir())) == 1
    # Elsewhere the same question is answered from the cache: nothing is left to judge, so nobody
    # who could is needed.
    again = search(
        question,
        Request(settings=FEW, max_macs=0.6),
        tmp_path / "two",
        lambda plans: iter(()) if not plans else None,
    )
    assert json.loads(again.read_text()) == found
    with pytest.raises(InputError, match=r"its max_macs is 0.6, not 0.7"):
        search_in(tmp_path / "one", question, max_macs=0.7)


def test_a_search_whose_time_is_over_has_an_answer_and_goes_on(config, untrained, tmp_path, cache):
    question = Question(config, untrained)
    request = Request(settings=FEW, max_macs=0.6, start=("0.8|0.7|0.6|0.5",))
    path = search(question, request, tmp_path / "w", Here(question), minutes=0)
    found = json.loads(path.read_text())
    assert (found["evaluated"], found["done"]) == (1, False)
    assert found["plan"] == "0.8|0.7|0.6|0.5"
    search(question, request, tmp_path / "w", Here(question), minutes=0)
    assert json.loads(path.read_text())["evaluated"] == 2
    search(question, request, tmp_path / "w", Here(question))
    found = json.loads(path.read_text())
    assert (found["evaluated"], found["done"]) == (FEW.evaluations, True)


def test_a_budget_that_no_plan_meets_leaves_the_folder_free(config, untrained, tmp_path, cache):
    question = Question(config, untrained)
    with pytest.raises(
        InputError,
        match=r"no plan meets a budget of 0.05 share of dense MACs. The cheapest, "
        r"0.8\|0.8\|0.8\|0.8, costs 0.2",
    ):
        search_in(tmp_path / "w", question, max_macs=0.05)
    assert search_in(tmp_path / "w", question, max_gmacs=0.2, max_macs=0.9).exists()
    assert not (tmp_path / "w/latency_table.json").exists()


def test_a_budget_may_be_of_the_whole_detector(config, untrained, tmp_path, cache):
    question = Question(config, untrained)
    path = search_in(tmp_path / "w", question, max_macs=0.9, of="detector")
    found = json.loads(path.read_text())
    costs = DetectorCost(question)
    dense = SparsityPlan.uniform(0, costs.net.depths)
    images = torch.cat([moment.images for moment in costs.moments])
    whole = sum(count_gmacs(costs.moments[0].model, images).values()) / len(images)
    assert costs.gmacs(dense) == pytest.approx(whole)
    share = costs.gmacs(SparsityPlan.parse(found["plan"])) / whole
    assert found["costs"][SHARE] == pytest.approx(share)
    assert share <= 0.9
    assert costs.ms(dense) > 0
    with pytest.raises(InputError, match="its of is detector, not backbone"):
        search_in(tmp_path / "w", question, max_macs=0.9)


def test_a_front_leaves_a_plan_file_for_each_of_its_plans(config, untrained, tmp_path, cache):
    search_in(tmp_path, Question(config, untrained), algorithm="front")
    found = [json.loads(path.read_text()) for path in sorted((tmp_path / "front").iterdir())]
    costs = [row["costs"][SHARE] for row in found]
    scores = [row["mAP"] for row in found]
    assert costs == sorted(costs)
    assert scores == sorted(scores)
    assert json.loads((tmp_path / "plan.json").read_text())["mAP"] == max(scores)


def test_latency_is_measured_once_and_kept(config, untrained, tmp_path, cache):
    machine = Machine.here("cpu", "float32", (1, 3, 64, 96), 1)
    request = {"max_ms": 1e6, "latency": "measured", "machine": machine}
    path = search_in(tmp_path, Question(config, untrained), **request)
    found = json.loads(path.read_text())
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert found["costs"][MS] > 0
    assert sum('"measured"' in line for line in lines[1:]) >= 1 + FEW.evaluations
    search_in(tmp_path, Question(config, untrained), **request)
    assert (tmp_path / "journal.jsonl").read_text().splitlines() == lines


def test_a_damaged_table_of_a_search_is_found_out_again(config, untrained, tmp_path, cache):
    machine = Machine.here("cpu", "float32", (1, 3, 64, 96), 1)
    request = {"max_ms": 1e6, "machine": machine}
    first = search_in(tmp_path, Question(config, untrained), **request).read_text()
    table = tmp_path / "latency_table.json"
    kept = table.read_text()
    for damaged in ("", "{}", kept.replace("0.", "1.", 1)):
        table.write_text(damaged)
        with pytest.warns(UserWarning, match=r"latency_table\.json: is damaged .*measured again"):
            again = search_in(tmp_path, Question(config, untrained), **request)
        assert again.read_text() == first
        assert table.read_text() == kept  # from the cache, which has the very same


def test_a_table_predicts_and_is_kept_for_this_net_and_machine(tmp_path, cache, monkeypatch):
    import sparsevit3d.cost.latency_table as module

    net = SparseSwin(
        embed_dims=16, depths=(2, 2), num_heads=(1, 2), window_size=4, out_indices=(0, 1)
    ).eval()
    machine = Machine.here("cpu", "float32", (1, 3, 64, 64), 1)
    found = table_for(net, machine)
    assert net.plan is None
    (kept,) = (cache / "latency").iterdir()
    assert MeasuredTable.load(kept) == found
    monkeypatch.setattr(module, "measure_table", None)  # whoever measured now would fail
    assert table_for(net, machine) == found
    with pytest.raises(TypeError):
        table_for(net, Machine.here("cpu", "float32", (2, 3, 64, 64), 1))
    table = found.table
    dense, half = (SparsityPlan.uniform(ratio, (2, 2)) for ratio in (0.0, 0.5))
    by_hand = (
        table.rest + sum(table.ranking) + sum(times[5] for pairs in table.pairs for times in pairs)
    )
    assert table.predict(half) == pytest.approx(by_hand)
    assert table.predict(dense) == pytest.approx(
        table.rest + sum(times[0] for pairs in table.pairs for times in pairs)
    )
    plans = list(every_plan((2, 2)))
    assert table.predict(table.fastest()) == min(map(table.predict, plans))
    assert 0 <= found.accuracy.median_error <= found.accuracy.worst_error


def test_plans_that_keep_the_same_windows_are_one_to_the_network():
    net = SparseSwin(
        embed_dims=16, depths=(2, 2), num_heads=(1, 2), window_size=4, out_indices=(0, 1)
    ).eval()
    images = torch.randn(1, 3, 32, 96)  # 2 x 6 windows, then 1 x 3
    one, other, third = (SparsityPlan.parse(text) for text in ("0.3|0.4", "0.3|0.8", "0.3|0.2"))
    assert (
        kept_windows(net, (32, 96), one) == kept_windows(net, (32, 96), other) == ((8, 8), (1, 1))
    )
    assert kept_windows(net, (32, 96), third) == ((8, 8), (2, 2))
    assert count_macs(net, (32, 96), one) == count_macs(net, (32, 96), other)
    outputs = []
    for plan in (one, other, third):
        net.plan = plan
        with torch.no_grad():
            outputs.append(net(images)[1])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def command(*arguments, cache):
    return [CONSOLE, "search", *map(str, arguments)], {**os.environ, "XDG_CACHE_HOME": str(cache)}


def run(*arguments, cache, check=True):
    words, environment = command(*arguments, cache=cache)
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_the_command_line_refuses_what_is_no_budget(synthetic, untrained, tmp_path):
    common = ("--from", untrained, "--data", synthetic, "--work-dir", tmp_path / "w")
    for arguments, words in [
        (("--max-macs", "1.2"), "For 1.2 GMACs write 1.2G"),
        (("--max-macs", "half"), "'half' is neither a share, such as 0.6, nor GMACs"),
        (("--max-macs", "0.01"), "no plan meets a budget of 0.01"),
        (("--max-ms", "9", "--device", "tpu"), "--device tpu: this machine has cpu"),
        (
            ("--max-ms", "9", "--shape", "64x96"),
            "--shape 64x96: is no shape of this network's images",
        ),
        (("--parents", "9", "--population", "4"), "parents <= population"),
    ]:
        done = run(SMALL, *common, *arguments, cache=tmp_path, check=False)
        assert done.returncode in (1, 2)
        told = " ".join((done.stdout + done.stderr).replace("│", "").split())
        assert words in told
        assert "Traceback" not in told
    done = run("status", tmp_path / "none", cache=tmp_path, check=False)
    assert done.returncode == 1
    assert "no search has begun there" in " ".join(done.stdout.split())


@pytest.mark.slow
def test_the_command_line_killed_goes_on_whatever_the_number_of_workers(
    synthetic, untrained, tmp_path
):
    options = [text for option in FINDS_SOMETHING for text in ("--set", option)]
    sizes = ("--population", 6, "--parents", 3, "--generations", 3, "--max-macs", 0.6)
    common = (SMALL, "--from", untrained, "--data", synthetic, *options, *sizes)
    run(*common, "--work-dir", tmp_path / "whole", "--workers", 1, cache=tmp_path / "one")
    killed = (*common, "--work-dir", tmp_path / "killed", "--workers", 2)
    for lines in (2, 5, 9):
        words, environment = command(*killed, cache=tmp_path / "other")
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        journal = tmp_path / "killed/journal.jsonl"
        while process.poll() is None and (
            not journal.exists() or journal.read_bytes().count(b"\n") < lines
        ):
            time.sleep(0.01)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not psutil.wait_procs(workers, timeout=30)[1]  # they leave with it
    state = run("status", tmp_path / "killed", cache=tmp_path).stdout
    assert "plans of at most 12" in " ".join(state.split())
    assert imread(tmp_path / "killed/search.png").std() > 0.02
    run(*killed, cache=tmp_path / "other")
    one, other = (
        json.loads((tmp_path / name / "plan.json").read_text()) for name in ("whole", "killed")
    )
    assert one == other
    plans = [
        json.loads(line)["plan"]
        for line in (tmp_path / "killed/journal.jsonl").read_text().splitlines()[1:]
    ]
    assert len(plans) == len(set(plans)) == 12


@pytest.mark.slow
def test_budgets_of_time_and_a_front_through_the_command_line(synthetic, untrained, tmp_path):
    options = [text for option in FINDS_SOMETHING for text in ("--set", option)]
    sizes = (
        "--population",
        3,
        "--parents",
        2,
        "--generations",
        2,
        "--workers",
        1,
        "--score",
        "loss",
        "--keyframes",
        1,
    )
    common = (SMALL, "--from", untrained, "--data", synthetic, *options, *sizes)
    run(
        *common,
        "--max-ms",
        1000,
        "--max-macs",
        "0.19G",
        "--work-dir",
        tmp_path / "time",
        cache=tmp_path,
    )
    found = json.loads((tmp_path / "time/plan.json").read_text())
    assert set(found["costs"]) == {"GMACs", "ms"}
    assert found["costs"]["GMACs"] <= 0.19
    assert found["latency_table"]["median_error"] >= 0
    assert found["loss"] < 0
    run(*common, "--algorithm", "front", "--work-dir", tmp_path / "front", cache=tmp_path)
    plan = next((tmp_path / "front/front").glob("*.json"))
    done = subprocess.run(
        [
            CONSOLE,
            "eval",
            SMALL,
            untrained,
            "--data",
            synthetic,
            "--plan",
            plan,
            "--work-dir",
            tmp_path / "eval",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1])["plan"] == json.loads(plan.read_text())["plan"]
