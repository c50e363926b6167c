"""Searches that are killed, whose workers are lost, or whose journal is damaged: the answer is the
same, and nothing is judged twice.
"""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

import sparsevit3d.search.journal as journal_module
from sparsevit3d.errors import InputError
from sparsevit3d.search.journal import Journal, ScoreCache, read_journal
from sparsevit3d.search.workers import Processes
from sparsevit3d.swin.plan import SparsityPlan
from tests.support import light_search
from tests.support.disk import full_disk
from tests.support.light_search import DEPTHS, SETTINGS, LightQuestion

PLAN = SparsityPlan.parse("0.5|0|0,0,0|0")
COSTS = {"kept": 0.9}
REQUEST = {"score": "mAP", "budget": 0.6}


def begin(*arguments):
    """A light search in a process of its own."""
    process = multiprocessing.get_context("fork").Process(
        target=light_search.search, args=arguments
    )
    process.start()
    return process


def answer(folder):
    return json.loads((folder / "answer.json").read_text())


def judged(folder):
    return [row["plan"] for row in read_journal(folder / "journal.jsonl").judged]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    light_search.search(folder, LightQuestion(folder / "log"))
    return answer(folder)


@pytest.mark.parametrize("kind", ["evolution", "front"])
def test_killed_at_twenty_moments_the_same_search_goes_on(kind, tmp_path):
    for folder in ("killed", "undisturbed"):
        (tmp_path / folder).mkdir()
    light_search.search(tmp_path / "undisturbed", LightQuestion(tmp_path / "log"), 1, None, kind)
    whole = tmp_path / "undisturbed"
    killed = tmp_path / "killed"
    question = LightQuestion(tmp_path / "log_of_killed", seconds=0.004)
    journal = killed / "journal.jsonl"
    for moment in range(20):
        process = begin(killed, question, 1, None, kind)
        lines = count_lines(journal)
        while process.is_alive() and count_lines(journal) < lines + 1 + moment % 5:
            time.sleep(0.0005)
        time.sleep(moment / 20 * 0.006)  # before, while and after a line is written
        assert process.is_alive()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    light_search.search(killed, question, 1, None, kind)
    assert answer(killed) == answer(whole)
    assert judged(killed) == judged(whole)
    begun = Counter(line.split()[0] for line in question.log.read_text().splitlines())
    assert set(begun) == set(judged(whole))
    # a kill costs the one that was being judged, and no more
    assert sum(begun.values()) <= len(begun) + 20


def count_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_measured_latency_is_replayed_and_never_measured_again(tmp_path):
    question = LightQuestion(tmp_path / "log", seconds=0.004)
    for _ in range(6):
        known = (
            (tmp_path / "journal.jsonl").read_bytes()
            if (tmp_path / "journal.jsonl").exists()
            else b""
        )
        process = begin(tmp_path, question, 1, None, "evolution", True)
        while count_lines(tmp_path / "journal.jsonl") < known.count(b"\n") + 15:
            time.sleep(0.001)
        assert process.is_alive()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        # it asked no other questions than before
        assert (tmp_path / "journal.jsonl").read_bytes().startswith(known)
    light_search.search(tmp_path, question, with_latency=True)
    first = answer(tmp_path)
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    measured = [json.loads(line)["plan"] for line in lines[1:] if "measured" in line]
    assert len(measured) == len(set(measured)) >= SETTINGS.evaluations
    light_search.search(tmp_path, question, with_latency=True)
    assert answer(tmp_path) == first
    assert (tmp_path / "journal.jsonl").read_text().splitlines() == lines


def test_two_searches_on_one_journal_the_second_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "PATIENCE", 0.2)
    process = begin(tmp_path, LightQuestion(tmp_path / "log", seconds=0.1))
    while count_lines(tmp_path / "journal.jsonl") < 2:
        time.sleep(0.005)
    assert read_journal(tmp_path / "journal.jsonl").at_work
    with pytest.raises(InputError, match="another search is at work"):
        Journal(tmp_path / "journal.jsonl", {"kind": "evolution"})
    process.kill()
    process.join()
    Journal(tmp_path / "journal.jsonl", {"kind": "evolution"}).close()
    assert not read_journal(tmp_path / "journal.jsonl").at_work


def write_journal(path, *scores):
    """A journal of a plan for each of these scores."""
    with closing(Journal(path, REQUEST)) as journal:
        for number, score in enumerate(scores):
            plan = SparsityPlan.uniform(number / 10, DEPTHS)
            journal.add_score(plan, {"mAP": score}, 1, COSTS)
    return path.read_text()


def scores_in(path):
    with closing(Journal(path, REQUEST)) as journal:
        return [metrics["mAP"] for metrics in journal.scores.values()]


def test_a_damaged_last_line_is_dropped_with_a_warning(tmp_path):
    path = tmp_path / "journal.jsonl"
    whole = write_journal(path, 0.25)
    for damage, words in (
        ('{"plan": "0.1|0|0,0', "dropped its last line"),
        ('{"plan": "0.1|0|0,0,0|9", "metrics": {}}\n', "line 3 is damaged"),
        ("\0\0\0\n", "line 3 is damaged"),
    ):
        path.write_text(whole + damage)
        assert len(read_journal(path).judged) == 1
        with pytest.warns(UserWarning, match=words):
            assert scores_in(path) == [0.25]
        assert path.read_text() == whole
    with pytest.raises(InputError, match="no search has begun there"):
        read_journal(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace("0.25", "0.95"),
        lambda line: line.replace('{"mAP": 0.25}', "null"),
        lambda line: line.replace('"metrics": {"mAP": 0.25}, ', ""),
        lambda line: line.replace('{"mAP": 0.25}', "{}"),
        lambda line: line.replace('"kept": 0.9', '"kept": 0.1'),
        lambda line: "[]",
        lambda line: line[:20],
        lambda line: json.dumps({k: v for k, v in json.loads(line).items() if k != "seal"}),
    ],
)
def test_a_damaged_line_is_named_by_its_number_and_not_believed(damage, tmp_path):
    path = tmp_path / "journal.jsonl"
    lines = write_journal(path, 0.5, 0.25, 0.125).splitlines(keepends=True)
    broken = damage(lines[2].rstrip("\n")) + "\n"
    assert broken != lines[2]
    path.write_text("".join([*lines[:2], broken, *lines[3:]]))
    with pytest.warns(UserWarning, match=r"journal\.jsonl: line 3 is damaged \("):
        record = read_journal(path)
    assert [row["metrics"]["mAP"] for row in record.judged] == [0.5, 0.125]
    with pytest.warns(UserWarning, match=r"journal\.jsonl: line 3 is damaged \("):
        assert scores_in(path) == [0.5, 0.125]


def test_a_full_disk_is_named_and_costs_nothing_that_was_found(tmp_path):
    plans = [SparsityPlan.uniform(ratio, DEPTHS) for ratio in (0.2, 0.4, 0.6)]
    with full_disk(tmp_path / "disk", 4096) as disk:
        path = disk / "journal.jsonl"
        with closing(Journal(path, {"algorithm": "evolution"})) as journal:
            journal.add_score(plans[0], {"score": 0.5}, 0, {})
            with pytest.raises(InputError, match=r"journal\.jsonl: cannot be written .* Make room"):
                journal.add_score(plans[1], {"score": 0.6, "note": "long" * 2000}, 0, {})
        with pytest.warns(UserWarning, match="cut off"):
            again = Journal(path, {"algorithm": "evolution"})
        with closing(again):
            assert list(again.scores) == plans[:1]
            again.add_score(plans[2], {"score": 0.7}, 0, {})


@pytest.mark.parametrize(
    "damage",
    [
        lambda first: first.replace("0.6", "0.7"),
        lambda first: json.dumps(REQUEST) + "\n",  # as it was before there were seals
        lambda first: "\0\n",
        lambda first: "",
    ],
)
def test_a_damaged_first_line_is_refused_because_nobody_knows_whose_search_it_is(damage, tmp_path):
    path = tmp_path / "journal.jsonl"
    first, *others = write_journal(path, 0.5).splitlines(keepends=True)
    path.write_text("".join([damage(first), *others]))
    before = path.read_text()
    for read in (read_journal, scores_in):
        with pytest.raises(InputError, match=r"line 1 is damaged \(.*Remove the file"):
            read(path)
    assert path.read_text() == before


def test_what_a_damaged_line_said_is_judged_anew(undisturbed, tmp_path):
    """The answer is that of an undisturbed search, though a damaged line would be its best."""
    question = LightQuestion(tmp_path / "log")
    light_search.search(tmp_path, question)
    path = tmp_path / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    entry = json.loads(lines[5])
    lines[5] = json.dumps(entry | {"metrics": {"score": 99.0}}) + "\n"
    path.write_text("".join(lines))
    question.log.unlink()
    with pytest.warns(UserWarning, match="line 6 is damaged"):
        light_search.search(tmp_path, question)
    assert answer(tmp_path) == undisturbed
    assert [line.split()[0] for line in question.log.read_text().splitlines()] == [entry["plan"]]


def test_a_score_that_is_no_number_is_read_back_and_ranked_lowest(tmp_path):
    path = tmp_path / "journal.jsonl"
    write_journal(path, float("nan"), -3.0)
    assert [row["metrics"]["mAP"] for row in read_journal(path).judged] == [float("-inf"), -3.0]
    assert math.isnan(scores_in(path)[0])


def test_a_journal_of_another_config_is_refused_and_the_difference_named(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path, {"max_macs": 0.6, "config": {"model": {"depths": (2, 2), "window": 7}}}).close()
    Journal(path, {"max_macs": 0.6, "config": {"model": {"depths": (2, 2), "window": 7}}}).close()
    with pytest.raises(
        InputError, match=r"its config.model.window is 7, not 4 and its max_macs is 0.6, not 0.5"
    ):
        Journal(path, {"max_macs": 0.5, "config": {"model": {"depths": (2, 2), "window": 4}}})


def test_scores_are_shared_by_searches_of_the_same_question(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ScoreCache("same").add(PLAN, {"mAP": 0.5})
    with ScoreCache("same").path.open("ab") as file:
        file.write(b'{"plan": "0.1|')
    ScoreCache("same").add(SparsityPlan.uniform(0.1, DEPTHS), {"mAP": 0.25})
    with pytest.warns(UserWarning, match=r"same\.jsonl: line 3 is damaged"):
        assert list(ScoreCache("same").scores.values()) == [{"mAP": 0.5}, {"mAP": 0.25}]
    assert ScoreCache("other").scores == {}
    path = ScoreCache("same").path
    path.write_text(path.read_text().replace("0.5}", "0.9}"))
    with pytest.warns(UserWarning, match=r"line 2 is damaged .* and 1 more"):
        assert list(ScoreCache("same").scores.values()) == [{"mAP": 0.25}]


def test_a_lost_workers_plan_goes_to_another_and_the_answer_is_that_of_one_worker(
    undisturbed, tmp_path
):
    victim = undisturbed["asked"][17]
    question = LightQuestion(tmp_path / "log", seconds=0.02, victim=victim)
    light_search.search(tmp_path, question, 2)
    assert answer(tmp_path) == undisturbed
    begun = [line.split() for line in question.log.read_text().splitlines()]
    # two, and who came for the one that was lost
    assert len({process for _, process in begun}) >= 3
    assert Counter(plan for plan, _ in begun)[victim] == 2
    assert len(judged(tmp_path)) == len(set(judged(tmp_path))) == SETTINGS.evaluations


@pytest.mark.slow
def test_a_plan_that_kills_every_worker_ends_the_search_with_a_remedy(undisturbed, tmp_path):
    question = LightQuestion(tmp_path / "log", victim=undisturbed["asked"][17], deaths=99)
    with pytest.raises(InputError, match="Use fewer --workers"):
        light_search.search(tmp_path, question, 2)
    assert question.victim not in judged(tmp_path)
    light_search.search(tmp_path, LightQuestion(tmp_path / "log"))  # what was judged is not lost
    assert answer(tmp_path) == undisturbed


def test_a_worker_lost_while_it_waits_is_replaced(tmp_path):
    question = LightQuestion(tmp_path / "log", seconds=0.05)
    plans = [SparsityPlan.uniform(ratio, DEPTHS) for ratio in (0.1, 0.2, 0.3, 0.4)]
    with closing(Processes(question, 2)) as judge:
        first = dict(judge(plans[:2]))
        for process in {int(line.split()[1]) for line in question.log.read_text().splitlines()}:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.2)
        assert dict(judge(plans[2:])) | first == {
            plan: {"score": light_search.score(plan)} for plan in plans
        }


@pytest.mark.slow
def test_a_ray_cluster_of_two_loses_a_worker_and_says_the_same(undisturbed, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is an optional extra")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    question = LightQuestion(tmp_path / "log", seconds=0.05, victim=undisturbed["asked"][17])
    script = (
        "import sys; from tests.support import light_search as l; from pathlib import Path; "
        "l.search(Path(sys.argv[1]), l.LightQuestion(Path(sys.argv[1]) / 'log', 0.05, "
        "sys.argv[2]), ray='local')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path, question.victim],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert answer(tmp_path) == undisturbed
    begun = [line.split() for line in question.log.read_text().splitlines()]
    assert Counter(plan for plan, _ in begun)[question.victim] == 2
    assert len({process for _, process in begun}) >= 3
