"""nuScenes' tables as an SQLite file, so that memory does not grow with the dataset.

The tables are read once as a stream and then queried row by row. (The devkit holds all tables in
memory: some 8 GB for v1.0-trainval, in every process.)
"""

from __future__ import annotations

import errno
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_tools.schema import TABLES
from sparsevit3d.errors import InputError
from sparsevit3d.files import whole_path
from sparsevit3d.progress import Progress

CHUNK = 1 << 20  # characters read at a time
LONGEST = 32 << 20  # most characters of a row: a row that does not end by then is an error
INDEXES = (
    *((table, "token") for table in TABLES),
    ("sample", "scene_token"),
    ("sample_data", "sample_token"),
    ("sample_annotation", "sample_token"),
    ("sample_annotation", "instance_token"),
)

Row = dict[str, Any]


def rows_of(path: Path) -> Iterator[Any]:
    """Yield the entries of a JSON list, one by one.

    NaN and Infinity are read as Python's json module reads them, and therefore as the devkit does.

    Raises InputError, which names the file, if the file is missing, not UTF-8, cut off or not a
    list.
    """
    decoder = json.JSONDecoder()
    buffer = ""
    start = 0
    last = None
    try:
        with path.open(encoding="utf-8") as file:
            buffer = file.read(CHUNK).lstrip()
            if not buffer.startswith("["):
                raise InputError(f"{path}: is no JSON list of rows. Get it anew.")
            start = 1
            while True:
                while start < len(buffer) and buffer[start] in " \n\r\t,":
                    start += 1
                try:
                    row, end = decoder.raw_decode(buffer, start)
                except json.JSONDecodeError as error:
                    if buffer[start : start + 1] == "]":
                        return
                    more = file.read(CHUNK)
                    if not more or len(buffer) - start > LONGEST:
                        after = (
                            f"the row of {last['token']}"
                            if isinstance(last, dict) and "token" in last
                            else "its beginning"
                        )
                        raise InputError(
                            f"{path}: is no whole JSON ({error.msg}, after {after}). Get it anew."
                        ) from error
                    buffer = buffer[start:] + more
                    start = 0
                    continue
                yield row
                start = end
                last = row
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is not UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Put it back.") from error


def fingerprint(folder: Path) -> str:
    """Hash the tables' names, sizes and modification times.

    The hash changes when a table changes.
    """
    stats = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.glob("*.json"))
    ]
    return hashlib.sha256(repr(stats).encode()).hexdigest()


def build(folder: Path, path: Path, progress: Progress) -> None:
    """Write the tables of ``folder`` into a new SQLite file at ``path``, whole or not at all.

    Raises InputError if a table cannot be read or if a row lacks one of its fields.
    """
    with new_database(path) as database:
        for number, table in enumerate(TABLES):
            progress(number, len(TABLES), "reading tables")
            store(
                database,
                table,
                (_complete(folder, table, row) for row in rows_of(folder / f"{table}.json")),
            )
    progress(len(TABLES), len(TABLES), "reading tables")


@contextmanager
def new_database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a new SQLite file to store tables in.

    When the block ends, the indexes are created and the file gets its final name.
    """
    with whole_path(path) as partial:
        partial.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(partial, isolation_level=None)) as database:
                # No rollback is needed, because an interrupted call starts again.
                database.execute("PRAGMA journal_mode=OFF")
                database.execute("PRAGMA synchronous=OFF")
                yield database
                for table, field in INDEXES:
                    database.execute(f"CREATE INDEX {table}_by_{field} ON {table} ({field})")
        except sqlite3.OperationalError as error:
            raise OSError(errno.ENOSPC, f"SQLite could not write it ({error})") from error


def store(database: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    """Add a table to the database.

    A field that a row lacks, or has as None, is stored as NULL.

    Raises InputError if a value is of the wrong kind.
    """
    fields = TABLES[table]
    values = (
        [row.get("token"), *(_stored(kind, row.get(field)) for field, kind in fields.items())]
        for row in rows
    )
    database.execute(f"CREATE TABLE {table} (token, {', '.join(fields)})")
    database.execute("BEGIN")
    try:
        database.executemany(f"INSERT INTO {table} VALUES (?{', ?' * len(fields)})", values)
    except (
        OverflowError,
        UnicodeEncodeError,
        sqlite3.InterfaceError,
        sqlite3.ProgrammingError,
    ) as error:
        raise InputError(
            f"{table}.json: has a value of the wrong kind ({error}). 'sparsevit3d data check' "
            "names it."
        ) from error
    database.execute("COMMIT")


def _complete(folder: Path, table: str, row: Any) -> Row:
    if not isinstance(row, dict) or (
        lost := [name for name in ("token", *needed_fields(table)) if name not in row]
    ):
        what = (
            f"a row without {', '.join(lost)}"
            if isinstance(row, dict)
            else "an entry that is no row"
        )
        raise InputError(
            f"{folder / table}.json: has {what}. 'sparsevit3d data check' lists what is wrong."
        )
    return row


def needed_fields(table: str) -> list[str]:
    """Return the fields of a table that no row may lack."""
    return [field for field, kind in TABLES[table].items() if kind != "vector3?"]


def _is_json(kind: str) -> bool:
    return kind in ("vector3", "vector3?", "vector4", "matrix3") or kind.endswith("*")


def _stored(kind: str, value: Any) -> Any:
    return json.dumps(value) if value is not None and _is_json(kind) else value


class Tables:
    """The rows of one root's tables, by token.

    Rows hold the values that the tables have. Methods that return several rows keep the table's
    order.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        """Open the SQLite file ``path``, which :func:`build` wrote.

        ``folder`` is the folder of tables that ``path`` was built from. Error messages name
        ``folder``.
        """
        self.folder = folder
        self.database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        # Rows that many other rows refer to are queried once and cached.
        self.shared = lru_cache(4096)(self.get)

    def get(self, table: str, token: str) -> Row:
        """Return one row.

        Raises InputError if the table does not have the row.
        """
        row = self.database.execute(f"SELECT * FROM {table} WHERE token = ?", (token,)).fetchone()
        if row is None:
            raise InputError(
                f"{self.folder / table}.json: has no row {token!r}, which another table names. "
                "'sparsevit3d data check' lists all such rows."
            )
        return _loaded(table, row)

    @staticmethod
    def parse(text: str | None) -> Any:
        """Parse a vector, matrix or list from the text that a query of ``database`` returns."""
        return None if text is None else json.loads(text)

    def where(self, table: str, field: str, value: str) -> list[Row]:
        """Return all rows whose ``field`` is ``value``, in the table's order."""
        rows = self.database.execute(
            f"SELECT * FROM {table} WHERE {field} = ? ORDER BY rowid", (value,)
        )
        return [_loaded(table, row) for row in rows]

    def all(self, table: str) -> Iterator[Row]:
        """Yield all rows, in the table's order."""
        for row in self.database.execute(f"SELECT * FROM {table} ORDER BY rowid"):
            yield _loaded(table, row)

    def samples(self, scenes: set[str]) -> Iterator[str]:
        """Yield the tokens of the named scenes' samples, in the table's order."""
        query = (
            "SELECT sample.token, scene.name FROM sample JOIN scene ON scene.token = "
            "sample.scene_token ORDER BY sample.rowid"
        )
        for token, name in self.database.execute(query):
            if name in scenes:
                yield token

    def channels(self, sample: str) -> dict[str, Row]:
        """Return a sample's keyframe rows of sample_data by the channel of their sensor."""
        found = {}
        for row in self.where("sample_data", "sample_token", sample):
            if row["is_key_frame"]:
                calibration = self.shared("calibrated_sensor", row["calibrated_sensor_token"])
                found[self.shared("sensor", calibration["sensor_token"])["channel"]] = row
        return found


def _loaded(table: str, values: tuple[Any, ...]) -> Row:
    row = {"token": values[0]}
    for (field, kind), value in zip(TABLES[table].items(), values[1:], strict=True):
        row[field] = Tables.parse(value) if _is_json(kind) else value
    return row
