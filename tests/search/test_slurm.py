"""A search as a job of submitit's local cluster, which requeues as SLURM does."""

import json
import signal
import time

import psutil
import pytest

from sparsevit3d.errors import InputError
from sparsevit3d.search.slurm import parse_settings, submit
from tests.support.console import SMALL, run_here

pytest.importorskip("submitit")


@pytest.mark.slow
def test_a_job_that_is_interrupted_is_requeued_and_ends_as_if_never(
    synthetic, untrained, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    search = ("search", SMALL, "--from", untrained, "--data", synthetic, "--population", 4)
    search += ("--parents", 2, "--generations", 2, "--set", "model.test_cfg.score_thr=0.0")
    told = run_here(
        *search, "--work-dir", tmp_path / "w", "--slurm", "cluster=local,timeout_min=9"
    ).stdout
    assert "is submitted" in told
    journal = tmp_path / "w/journal.jsonl"
    wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 1)
    plain = list(map(str, (*search, "--work-dir", tmp_path / "plain", "--workers", 1)))
    job = submit(plain, "cluster=local,timeout_min=9", tmp_path / "log")
    journal = tmp_path / "plain/journal.jsonl"
    wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 1)
    (task,) = psutil.Process(int(job.job_id)).children()
    task.send_signal(signal.SIGUSR2)  # as SLURM's, shortly before a job's time is over
    job.result()
    assert job.stdout().count("Starting with JobEnvironment") == 2
    wait_for((tmp_path / "w/plan.json").exists)
    one, other = (
        json.loads((tmp_path / name / "plan.json").read_text()) for name in ("w", "plain")
    )
    assert one["done"]
    assert {**one, "search": {}} == {**other, "search": {}}


def wait_for(happens, seconds=200):
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_settings_are_read_and_faults_named(tmp_path):
    assert parse_settings("partition=gpu, timeout_min=120") == {
        "partition": "gpu",
        "timeout_min": 120,
    }
    for text, words in (
        ("gpu", "'gpu' is not NAME=VALUE"),
        ("partition=", "'partition=' is not NAME=VALUE"),
        ("partition=gpu", "srun"),
        ("cluster=local,colour=red", "colour"),
    ):
        with pytest.raises(InputError, match=f"--slurm {text}: .*{words}"):
            submit(["--version"], text, tmp_path)
