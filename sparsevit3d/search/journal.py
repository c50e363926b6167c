"""What a search has found, on disk before the search goes on.

So a search can be killed at any moment. A journal is lines of JSON. The first line says which
search the journal belongs to. Each other line holds one fact: the score of a plan, with its
generation and costs for readers, or a measured cost, which is never measured again.

Each line carries a checksum of itself, its seal. A line whose seal does not fit is not believed.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sparsevit3d.errors import InputError
from sparsevit3d.files import (
    add_seal,
    cache_folder,
    differences,
    parse_sealed,
    release_lock,
    take_lock,
)
from sparsevit3d.swin.plan import SparsityPlan

# Seconds. The lock of a killed search, or of somebody reading the journal, is soon gone.
PATIENCE = 10.0


class Journal:
    """The facts of one search. Once opened, the journal is this process's alone until ``close``.

    ``scores`` holds metrics by plan. ``costs`` holds costs by plan and unit. A last line that was
    cut off is dropped. Other damaged lines are skipped, and what they said is sought anew. Both are
    told in warnings.

    Args:
        path (Path): The journal's file.
        request (dict): What this search is of. An existing journal must have the same.

    Raises:
        InputError: The journal is of another search, another search is at work on it, or its first
            line is damaged.
    """

    def __init__(self, path: Path, request: dict[str, Any]) -> None:
        self.path = path
        self.scores: dict[SparsityPlan, dict[str, float]] = {}
        self.costs: dict[tuple[SparsityPlan, str], float] = {}
        self._file = path.open("a+b")
        if not take_lock(self._file, patience=PATIENCE):
            self._file.close()
            raise InputError(
                f"{path}: another search is at work on it. Wait for it, or use another --work-dir."
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
        rest = json.dumps(add_seal(entry)).encode() + b"\n"
        file = self._file.fileno()
        try:
            while rest:  # past the buffer, which would be written once more on closing
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}). Make room. The same command "
                "goes on."
            ) from error

    def _read(self, request: dict[str, Any]) -> None:
        self._file.seek(0)
        entries, whole, is_cut = _read_lines(self._file, self.path)
        if entries and (changed := differences(entries[0], request)):
            raise InputError(
                f"{self.path}: is of another search ({changed}). Use another --work-dir."
            )
        if is_cut:
            warnings.warn(f"{self.path}: dropped its last line, which was cut off", stacklevel=3)
        self._file.truncate(whole)
        if not entries:
            self._append(request)
        for entry in entries[1:]:
            plan = SparsityPlan.parse(entry["plan"])
            if "metrics" in entry:
                self.scores[plan] = entry["metrics"]
            for unit, cost in entry.get("measured", {}).items():
                self.costs[plan, unit] = cost


@dataclass(frozen=True)
class Record:
    """A journal as an onlooker sees it.

    Args:
        request (dict): What was asked for.
        judged (list of dict): "plan", "metrics", "generation" and "costs" of each plan, in the
            order judged. A score that is no number is minus infinity, as the search ranks it.
        at_work (bool): Whether a search is at work on the journal.
    """

    request: dict[str, Any]
    judged: list[dict[str, Any]]
    at_work: bool


def read_journal(path: Path) -> Record:
    """Read a journal that may grow meanwhile. Damaged lines are skipped with a warning.

    Raises InputError where there is no journal, where the journal is empty, or where its first line
    is damaged.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(
            f"{path}: no search has begun there ({error.strerror}). Name another --work-dir."
        ) from error
    with file:
        at_work = not take_lock(file, shared=True)
        release_lock(file)
        entries, _, _ = _read_lines(file, path)
    if not entries:
        raise InputError(f"{path}: is empty, so the search has not begun yet. Wait for its start.")
    request, *facts = entries
    judged = [entry for entry in facts if "metrics" in entry]
    by = request.get("score")
    for entry in judged:
        if by in entry["metrics"]:
            entry["metrics"][by] = rankable(entry["metrics"][by])
    return Record(request, judged, at_work)


def rankable(score: float) -> float:
    """Rank NaN below any score."""
    return -math.inf if math.isnan(score) else score


def _read_lines(file: BinaryIO, path: Path) -> tuple[list[dict[str, Any]], int, bool]:
    """Read the entries. Count the bytes up to the end of the last, and tell whether a line was cut.

    A last line that was cut off is left out, and other damaged lines are named in warnings. Raises
    InputError where the first line is damaged.
    """
    entries: list[dict[str, Any]] = []
    place = 0
    whole = 0
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return entries, whole, True
        place += len(line)
        try:
            entries.append(_parse_line(line, is_first=number == 1))
            whole = place
        except ValueError as error:
            damage = f"{path}: line {number} is damaged ({error})"
            if number == 1:
                raise InputError(
                    f"{damage}, so nobody can tell whose search it is. Remove the file to begin "
                    "anew, or use another --work-dir."
                ) from None
            warnings.warn(f"{damage}. What it said is not used.", stacklevel=4)
    return entries, whole, False


def _parse_line(line: bytes, is_first: bool) -> dict[str, Any]:
    entry = parse_sealed(line)
    if is_first == ("plan" in entry):
        raise ValueError("it is no request" if is_first else "it names no plan")
    return entry


class ScoreCache:
    """Scores that any search on this machine found for the same weights, data and experiment.

    Args:
        key (str): Says which weights, data and experiment.
    """

    def __init__(self, key: str) -> None:
        self.path = cache_folder("scores") / f"{key}.jsonl"
        self.scores: dict[SparsityPlan, dict[str, float]] = {}
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            self._warn(f"cannot be read ({error.strerror}). The search goes on without it.")
            return
        self._read(lines)

    def _read(self, lines: list[bytes]) -> None:
        damaged: list[str] = []
        for number, line in enumerate(lines, 1):
            if not line:  # entries are parted by empty lines
                continue
            try:
                entry = parse_sealed(line)
            except ValueError as error:
                damaged.append(f"line {number} is damaged ({error})")
            else:
                self.scores[SparsityPlan.parse(entry["plan"])] = entry["metrics"]
        if damaged:
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            self._warn(f"{damaged[0]}{more}. The scores there are not used.")

    def _warn(self, text: str) -> None:
        warnings.warn(f"{self.path}: {text}", stacklevel=3)

    def add(self, plan: SparsityPlan, metrics: dict[str, float]) -> None:
        self.scores[plan] = metrics
        entry = add_seal({"plan": str(plan), "metrics": metrics})
        line = b"\n" + json.dumps(entry).encode() + b"\n"
        try:
            # One write for each line, so that lines of searches side by side do not mix.
            with self.path.open("ab") as file:
                file.write(line)
        except OSError as error:
            self._warn(f"cannot be written ({error.strerror}). The search goes on without it.")
