"""What a search has found out, on disk before the search goes on, so that it can be killed at any moment.

A journal is lines of JSON. The first says which search it is of; each of the others one fact: what a plan scored, or a cost of it that
was measured (what can be counted is counted again).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import warnings
from pathlib import Path
from typing import Any

from sparsevit3d.plan import SparsityPlan
from sparsevit3d.stages.files import ExperimentError


class Journal:
    """Opened, it is this process's alone until ``close``.

    ``scores``: metrics by plan; ``costs``: by plan and unit. Raises ExperimentError for a journal of another search, one at which
    another search is at work, or one that is damaged anywhere but in its last line; that one is dropped, with a warning.
    """

    def __init__(self, path: Path, request: dict[str, Any]) -> None:
        self.path = path
        self.scores: dict[SparsityPlan, dict[str, float]] = {}
        self.costs: dict[tuple[SparsityPlan, str], float] = {}
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ExperimentError(f"{path}: another search is at work on it; wait for it, or use another --work-dir") from None
        self._read(json.loads(json.dumps(request)))

    def close(self) -> None:
        self._file.close()

    def add_score(self, plan: SparsityPlan, metrics: dict[str, float], generation: int) -> None:
        self._append({"plan": str(plan), "metrics": metrics, "generation": generation})
        self.scores[plan] = metrics

    def add_cost(self, plan: SparsityPlan, unit: str, cost: float) -> None:
        self._append({"plan": str(plan), "cost": {unit: cost}})
        self.costs[plan, unit] = cost

    def _append(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, request: dict[str, Any]) -> None:
        self._file.seek(0)
        place, entries = 0, []
        for number, line in enumerate(self._file, 1):
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("it has no end")
                entries.append(_entry(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                if self._file.read(1):
                    raise ExperimentError(
                        f"{self.path}: line {number} is damaged ({error}); remove that line, or the file to begin anew"
                    ) from None
                warnings.warn(f"{self.path}: dropped its last line, which was cut off", stacklevel=2)
                break
            place += len(line)
        self._file.truncate(place)
        if not entries:
            self._append(request)
            return
        self._compare(entries[0], request)
        for entry in entries[1:]:
            plan = SparsityPlan.parse(entry["plan"])
            if "metrics" in entry:
                self.scores[plan] = entry["metrics"]
            for unit, cost in entry.get("cost", {}).items():
                self.costs[plan, unit] = cost

    def _compare(self, found: dict[str, Any], request: dict[str, Any]) -> None:
        changed = [key for key in found.keys() | request.keys() if found.get(key) != request.get(key)]
        if changed:
            told = "; ".join(f"its {key} is {_short(found.get(key))}, not {_short(request.get(key))}" for key in sorted(changed))
            raise ExperimentError(f"{self.path}: is of another search ({told}); use another --work-dir")


class ScoreCache:
    """Scores that any search on this machine found by the same weights, data and experiment; ``key`` says which.

    In ``$XDG_CACHE_HOME/sparsevit3d/scores`` (default: ``~/.cache``). It may be removed at any time.
    """

    def __init__(self, key: str) -> None:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sparsevit3d" / "scores"
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{key}.jsonl"
        self.scores: dict[SparsityPlan, dict[str, float]] = {}
        for line in self.path.read_bytes().splitlines() if self.path.exists() else []:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line that was cut off costs no more than itself
                entry = json.loads(line)
                self.scores[SparsityPlan.parse(entry["plan"])] = entry["metrics"]

    def add(self, plan: SparsityPlan, metrics: dict[str, float]) -> None:
        self.scores[plan] = metrics
        with self.path.open("ab") as file:  # one write each, so that lines of searches side by side do not mix
            file.write(b"\n" + json.dumps({"plan": str(plan), "metrics": metrics}).encode() + b"\n")


def _entry(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it is no object")
    if "plan" in value:
        SparsityPlan.parse(value["plan"])
    return value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else "another"
