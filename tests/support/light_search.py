"""A search whose objective takes milliseconds, for tests that kill it; importable by the processes
that it starts.
"""

import json
import os
import random
import signal
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsevit3d.search.algorithms import Evolution, Settings
from sparsevit3d.search.budget import Budget, Limit
from sparsevit3d.search.front import Front
from sparsevit3d.search.journal import Journal
from sparsevit3d.search.loop import measured, run
from sparsevit3d.search.workers import hire

DEPTHS = (2, 2, 6, 2)
SETTINGS = Settings(12, 4, 14)
KINDS = {"evolution": Evolution, "front": Front}


@dataclass(frozen=True)
class LightQuestion:
    """Scores follow from the plan alone. ``log``: where each evaluation writes a line as it begins.

    ``victim``: the plan at whose first evaluations, so many of them, the process that is at it
    kills itself.
    """

    log: Path
    seconds: float = 0.0
    victim: str = ""
    deaths: int = 1
    threads: int = 1

    def load(self):
        return self.judge

    def judge(self, plan):
        with self.log.open("a") as file:
            file.write(f"{plan} {os.getpid()}\n")
        np.random.random()  # noqa: NPY002  the global generator, which a search must not hang on
        time.sleep(self.seconds)
        if str(plan) == self.victim and self.log.read_text().count(f"{plan} ") <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"score": score(plan)}


def score(plan):
    return random.Random(str(plan)).random() + sum(
        ratio for stage in plan.ratios for ratio in stage
    )


def kept(plan):
    ratios = [ratio for stage in plan.ratios for ratio in stage]
    return 1 - sum(ratios) / len(ratios)


def search(folder, question, workers=1, ray=None, kind="evolution", with_latency=False):
    """Run it, or go on with it, in ``folder``; the answer is left in answer.json."""
    with closing(Journal(folder / "journal.jsonl", {"kind": kind})) as journal:
        limits = [Limit("kept", 0.7, kept)]
        if with_latency:  # that of a noisy machine: never the same twice
            limits.append(
                Limit(
                    "ms",
                    10.0,
                    measured(
                        journal, "ms", lambda plan: 10 * kept(plan) + 4 * random.Random().random()
                    ),
                )
            )
        algorithm = KINDS[kind](DEPTHS, Budget(*limits), SETTINGS, seed=5)
        with closing(hire(question, workers, ray)) as judge:
            run(algorithm, journal, judge, "score", None, lambda done, total, note: None)
    asked = list(map(str, algorithm.scores))
    (folder / "answer.json").write_text(json.dumps({"best": str(algorithm.best), "asked": asked}))
    return algorithm
