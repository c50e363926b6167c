"""Files that are whole or not there, who may write them, and where the cache is.

A file that a later call reads again may be damaged meanwhile. Such a file is refused or dropped in
one line that names the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sparsevit3d.errors import InputError, first_line

POLL = 0.05  # seconds between two tries to take a lock
SEAL = "seal"  # key of a JSON object's checksum
PIECE = 1 << 20  # bytes that are hashed at a time
NAMED = 3  # how many differences of two documents a message names
SHOWN = 40  # characters of a value that a message shows


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


def stream_fingerprint(path: Path) -> str:
    """SHA-256 of a file that may be larger than memory."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            found.update(piece)
    return found.hexdigest()


def parse_object(text: bytes) -> dict[str, Any]:
    """Parse JSON that has to be an object. Raises ValueError that says what is wrong."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def add_seal(document: dict[str, Any]) -> dict[str, Any]:
    """Return ``document`` as JSON has it, with a checksum of all that it says."""
    plain = json.loads(json.dumps(document))
    return plain | {SEAL: _checksum(plain)}


def write_sealed(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON file under a seal, whole or not at all."""
    write_json(path, add_seal(document))


def parse_sealed(text: bytes) -> dict[str, Any]:
    """Parse what ``add_seal`` made, and return it without the seal.

    Raises ValueError that says what is wrong, if only in one digit.
    """
    found = parse_object(text)
    seal = found.pop(SEAL, None)
    if seal is None:
        raise ValueError("it has no seal")
    if seal != _checksum(found):
        raise ValueError("its content is not what was written")
    return found


def _checksum(document: dict[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_json(path: Path, remedy: str, parse: Callable[[bytes], Any] = parse_object) -> Any:
    """Read a JSON file that an earlier call left.

    Args:
        path (Path): The file.
        remedy (str): A sentence that says what to do about a damaged file.
        parse (callable): Makes the content from the file's bytes. ValueError, LookupError,
            TypeError and AttributeError mean that the file is damaged. Default: ``parse_object``.

    Raises:
        InputError: The file is damaged. The message names the file and the remedy.
    """
    try:
        return parse(path.read_bytes())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise InputError(f"{path}: is damaged ({reason}). {remedy}") from error


def read_or_drop(path: Path, outcome: str, parse: Callable[[bytes], Any] = parse_object) -> Any:
    """Read a JSON file whose content can be found out again. None: there is none of use.

    A file that is damaged or cannot be read is dropped with a warning. The warning names the file,
    and ``outcome`` says in a sentence what happens instead. For ``parse`` see :func:`read_json`.
    """
    try:
        return read_json(path, outcome, parse)
    except FileNotFoundError:
        return None
    except InputError as error:
        warnings.warn(str(error), stacklevel=2)
    except OSError as error:
        warnings.warn(f"{path}: cannot be read ({error.strerror}). {outcome}", stacklevel=2)
    return None


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Name the first keys that two JSON objects differ in, with both values.

    Keys of inner objects are dotted. No difference gives an empty text.
    """
    old = _flat(found)
    new = _flat(wanted)
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    told = [_difference(key, old.get(key), new.get(key)) for key in changed[:NAMED]]
    if len(changed) > NAMED:
        told.append(f"{len(changed) - NAMED} more differ")
    return " and ".join(told)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested objects, and lists of objects, to one with dotted names."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = list(enumerate(value))
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _difference(key: str, old: Any, new: Any) -> str:
    texts = ["none" if value is None else str(value) for value in (old, new)]
    pairs = enumerate(zip(*texts, strict=False))
    same = next((place for place, (one, other) in pairs if one != other), 0)
    start = max(0, same - SHOWN // 2) if max(map(len, texts)) > SHOWN else 0
    one, other = (_cut(text, start) for text in texts)
    return f"its {key} is {one}, not {other}"


def _cut(text: str, start: int) -> str:
    """Show the part of ``text`` that begins at ``start``."""
    part = text[start : start + SHOWN]
    return ("..." if start else "") + part + ("..." if start + SHOWN < len(text) else "")


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
