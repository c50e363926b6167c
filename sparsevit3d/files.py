"""Files that are whole or not there, who may write them, and where the cache is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sparsevit3d.errors import InputError

POLL = 0.05  # seconds between two tries to take a lock


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which becomes ``path`` once the block ends and the disk has it all.

    Raises OSError that names ``path``, as where the disk is full or the folder is read-only. Then
    nothing half-written is left.
    """
    partial = path.with_name(f".partial.{path.name}")
    try:
        yield partial
        with partial.open("r+b") as file:  # Windows syncs no file that is only read
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(partial)):
            remedy = "Make room, check the permissions, or write elsewhere"
            raise OSError(error.errno, f"{error.strerror}. {remedy}", str(path)) from error
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open ``path`` for writing, whole or not at all, see :func:`whole_path`."""
    with whole_path(path) as partial, partial.open("wb") as file:
        yield file


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with whole_path(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(document, indent=2) + "\n")


def fingerprint(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def take_lock(file: int | BinaryIO, shared: bool = False, patience: float = 0.0) -> bool:
    """Lock an open file or folder for this process, and return whether that was possible.

    ``patience``: how many seconds to try for where another process holds it. A ``shared`` lock
    keeps out only those who want the file for themselves.
    """
    import fcntl  # Windows has none, and a backbone needs no lock

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(POLL)
        else:
            return True


def release_lock(file: int | BinaryIO) -> None:
    """Give a lock back. Closing is not enough: a forked worker may hold the file open as well."""
    import fcntl

    fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def sole_owner(folder: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold ``folder`` until the block ends.

    Where another process holds it, call ``waiting()`` and wait. Without ``waiting``: InputError.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not take_lock(handle):
            if waiting is None:
                raise InputError(
                    f"{folder}: another call is writing here. Wait for it, or use another folder."
                )
            waiting()
            take_lock(handle, patience=float("inf"))
        yield
    finally:
        release_lock(handle)
        os.close(handle)


def cache_folder(kind: str) -> Path:
    """A folder for what was found out once and could be found out again. It may always be removed.

    It lies in ``$XDG_CACHE_HOME/sparsevit3d``, by default ``~/.cache/sparsevit3d``.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "sparsevit3d" / kind
    with contextlib.suppress(OSError):  # whoever writes there reports it
        folder.mkdir(parents=True, exist_ok=True)
    return folder
