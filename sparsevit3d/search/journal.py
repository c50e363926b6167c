"""What a search has found, on disk before the search goes on.

So a search can be killed at any moment. A journal is lines of JSON. The first line says which
search the journal belongs to. Each other line holds one fact: the score of a plan, with its
generation and costs for readers, or a measured cost, which is never measured again.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sparsevit3d.errors import InputError
from sparsevit3d.files import cache_folder, release_lock, take_lock
from sparsevit3d.swin.plan import SparsityPlan

# Seconds. The lock of a killed search, or of somebody reading the journal, is soon gone.
PATIENCE = 10.0


class Journal:
    """The facts of one search. Once opened, the journal is this process's alone until ``close``.

    ``scores`` holds metrics by plan. ``costs`` holds costs by plan and unit. A damaged last line is
    dropped, with a warning.

    Args:
        path (Path): The journal's file.
        request (dict): What this search is of. An existing journal must have the same.

    Raises:
        InputError: The journal is of another search, another search is at work on it, or it is
            damaged before its last line.
    """

    def __init__(self, path: Path, request: dict[str, Any]) -> None:
        self.path = path
        self.scores: dict[SparsityPlan, dict[str, float]] = {}
        self.costs: dict[tuple[SparsityPlan, str], float] = {}
        self._file = path.open("a+b")
        if not take_lock(self._file, patience=PATIENCE):
            self._file.close()
            raise InputError(
                f"{path}: another search is at work on it; wait for it, or use another --work-dir"
            )
        try:
            self._read(json.loads(json.dumps(request)))
        except InputError:
            self.close()
            raise

    @property
    def is_new(self) -> bool:
        """Whether the journal holds no fact yet."""
        return not self.scores and not self.costs

    def close(self) -> None:
        release_lock(self._file)
        self._file.close()

    def add_score(
        self,
        plan: SparsityPlan,
        metrics: dict[str, float],
        generation: int,
        costs: dict[str, float],
    ) -> None:
        self._append(
            {"plan": str(plan), "metrics": metrics, "generation": generation, "costs": costs}
        )
        self.scores[plan] = metrics

    def add_cost(self, plan: SparsityPlan, unit: str, cost: float) -> None:
        self._append({"plan": str(plan), "measured": {unit: cost}})
        self.costs[plan, unit] = cost

    def _append(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, request: dict[str, Any]) -> None:
        self._file.seek(0)
        entries, whole = _whole_lines(self._file, self.path)
        if whole < self._file.seek(0, os.SEEK_END):
            warnings.warn(f"{self.path}: dropped its last line, which was cut off", stacklevel=3)
        self._file.truncate(whole)
        if not entries:
            self._append(request)
            return
        self._compare(entries[0], request)
        for entry in entries[1:]:
            plan = SparsityPlan.parse(entry["plan"])
            if "metrics" in entry:
                self.scores[plan] = entry["metrics"]
            for unit, cost in entry.get("measured", {}).items():
                self.costs[plan, unit] = cost

    def _compare(self, found: dict[str, Any], request: dict[str, Any]) -> None:
        old = _flat(found)
        new = _flat(request)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if changed:
            told = "; ".join(
                f"its {key} is {_short(old.get(key))}, not {_short(new.get(key))}"
                for key in changed[:3]
            )
            more = f"; {len(changed) - 3} more" if len(changed) > 3 else ""
            raise InputError(
                f"{self.path}: is of another search ({told}{more}); use another --work-dir"
            )


@dataclass(frozen=True)
class Record:
    """A journal as an onlooker sees it.

    Args:
        request (dict): What was asked for.
        judged (list of dict): "plan", "metrics", "generation" and "costs" of each plan, in the
            order judged.
        at_work (bool): Whether a search is at work on the journal.
    """

    request: dict[str, Any]
    judged: list[dict[str, Any]]
    at_work: bool


def read_journal(path: Path) -> Record:
    """Read a journal that may grow meanwhile.

    Raises InputError where there is no journal, or where the journal is empty or damaged.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: no search has begun there ({error.strerror})") from error
    with file:
        at_work = not take_lock(file, shared=True)
        release_lock(file)
        entries, _ = _whole_lines(file, path)
    if not entries:
        raise InputError(f"{path}: is empty; the search has not begun yet")
    return Record(entries[0], [entry for entry in entries[1:] if "metrics" in entry], at_work)


def _whole_lines(file: BinaryIO, path: Path) -> tuple[list[dict[str, Any]], int]:
    """Read the entries, and count the bytes they take. A last line that was cut off is left out."""
    entries: list[dict[str, Any]] = []
    place = 0
    for number, line in enumerate(file, 1):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("it has no end")
            entries.append(_entry(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            if file.read(1):
                raise InputError(
                    f"{path}: line {number} is damaged ({error}); remove that line, or the file "
                    "to begin anew"
                ) from None
            break
        place += len(line)
    return entries, place


class ScoreCache:
    """Scores that any search on this machine found for the same weights, data and experiment.

    Args:
        key (str): Says which weights, data and experiment.
    """

    def __init__(self, key: str) -> None:
        self.path = cache_folder("scores") / f"{key}.jsonl"
        self.scores: dict[SparsityPlan, dict[str, float]] = {}
        for line in self.path.read_bytes().splitlines() if self.path.is_file() else []:
            # A line that was cut off is skipped. All other lines still count.
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                self.scores[SparsityPlan.parse(entry["plan"])] = entry["metrics"]

    def add(self, plan: SparsityPlan, metrics: dict[str, float]) -> None:
        self.scores[plan] = metrics
        line = b"\n" + json.dumps({"plan": str(plan), "metrics": metrics}).encode() + b"\n"
        try:
            # One write for each line, so that lines of searches side by side do not mix.
            with self.path.open("ab") as file:
                file.write(line)
        except OSError as error:
            warnings.warn(
                f"{self.path}: cannot be written ({error.strerror}); the search goes on without it",
                stacklevel=2,
            )


def _entry(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it is no object")
    if "plan" in value:
        SparsityPlan.parse(value["plan"])
    return value


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries to one with dotted names."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: leaf
        for key, item in value.items()
        for name, leaf in _flat(item, f"{prefix}.{key}" if prefix else key).items()
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
