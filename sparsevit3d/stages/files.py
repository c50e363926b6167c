"""Files that are whole or not there, known by their content, and folders that one process at a time works in."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class ExperimentError(ValueError):
    """Input that a stage cannot use; the message names it and says what to do."""


def write_text(path: Path, text: str) -> None:
    """Whole or not at all. Raises OSError that names the file, as where the disk is full."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, document: Any) -> None:
    """Whole or not at all."""
    write_text(path, json.dumps(document, indent=2) + "\n")


def publish(partial: Path, path: Path) -> None:
    """Give a finished file its name, once the disk has it all."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def fingerprint(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def sole_owner(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold ``folder`` until the block ends; ``waiting()`` is called first where another process holds it."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # a data loader's worker that is still there holds the file open as well
