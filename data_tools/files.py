"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class DataError(ValueError):
    """A dataset that cannot be read, or a folder that cannot be written, as asked; the message names it and says what to do."""


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open ``path`` for writing; it gets its name once the block has ended and the disk has it all.

    Raises OSError that names the file, as where the disk is full or the folder is read-only; then nothing half-written is left.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, f"{error.strerror}; make room and see to your rights, or write elsewhere", str(path)) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Two at once would write the same files. Raises DataError where another is at work in ``folder``."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DataError(f"{folder}: another call is writing here; wait for it to end, or use another folder") from None
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    with whole_file(path) as file:
        file.write(content)


def write_json(path: Path, document: object) -> None:
    """Whole or not at all."""
    write_bytes(path, json.dumps(document, indent=1).encode())
