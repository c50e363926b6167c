"""Check each table by itself: whether it exists, is JSON, and has all fields of the right kind."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data_tools.check.report import Problem
from data_tools.database import Row, rows_of, store
from data_tools.schema import TABLES
from sparsevit3d.errors import InputError
from sparsevit3d.progress import Progress

ANEW = "download the metadata of this version again"
# v1.0-test has no row of instance or sample_annotation.
MAY_BE_EMPTY = ("map", "visibility", "attribute", "instance", "sample_annotation")

Add = Callable[[Problem], None]


def load_tables(
    database: sqlite3.Connection, folder: Path, add: Add, rows: dict[str, int], progress: Progress
) -> bool:
    """Store all tables and report what is wrong with their rows.

    ``rows`` receives the number of rows of each table. Returns False if a table cannot be read.
    """
    whole = True
    for number, (table, fields) in enumerate(TABLES.items()):
        progress(number, len(TABLES), "tables")
        path = folder / f"{table}.json"
        rows[table] = 0
        if not path.is_file():
            add(Problem("missing table", table, path.name, "there is no such file", ANEW))
            store(database, table, [])
            whole = False
            continue
        try:
            store(database, table, _clean(rows_of(path), table, fields, add, rows))
        except InputError as error:
            database.execute("ROLLBACK")
            what, _, remedy = str(error).removeprefix(f"{path}: ").rpartition(". ")
            add(Problem("unreadable table", table, path.name, what, remedy))
            whole = False
        if whole and not rows[table] and table not in MAY_BE_EMPTY:
            add(Problem("empty table", table, path.name, "has no row", ANEW))
    progress(len(TABLES), len(TABLES), "tables")
    return whole


def _clean(
    found: Iterator[Any], table: str, fields: dict[str, str], add: Add, rows: dict[str, int]
) -> Iterator[Row]:
    """Yield the rows without the values that cannot be used, and report each such value."""
    for number, row in enumerate(found):
        if not isinstance(row, dict):
            add(
                Problem(
                    "no row",
                    table,
                    f"entry {number}",
                    f"is {str(row)[:60]!r}, not a row of fields",
                    ANEW,
                )
            )
            continue
        token = row.get("token")
        if not _is_text(token) or not token:
            add(
                Problem(
                    "no token",
                    table,
                    f"entry {number}",
                    f"its token is {token!r}",
                    "give it a token of its own, or take it out",
                )
            )
            continue
        rows[table] += 1
        clean: Row = {"token": token}
        for field, kind in fields.items():
            if field not in row and kind == "vector3?":
                continue
            if field not in row:
                add(
                    Problem(
                        "missing field", table, token, f"has no {field}", f"add {field}, or {ANEW}"
                    )
                )
            elif fault := _fault(kind, row[field]):
                what = f"{field} is {str(row[field])[:80]}, {fault}"
                remedy = "put the right numbers in, or take the row and what names it out"
                add(
                    Problem(
                        "not finite" if fault == "not finite" else "wrong kind of value",
                        table,
                        token,
                        what,
                        remedy,
                    )
                )
            else:
                clean[field] = row[field]
        yield clean


def _fault(kind: str, value: Any) -> str:
    """Return what is wrong with a field's value, or '' if nothing is."""
    if kind == "flag":
        return "" if isinstance(value, bool) else "not true or false"
    if kind == "count":
        return "" if type(value) is int and abs(value) < 2**63 else "not a whole number of 64 bits"
    if kind.endswith("*"):
        return (
            "" if isinstance(value, list) and all(map(_is_text, value)) else "not a list of tokens"
        )
    if kind.startswith("vector"):
        return _numbers_fault(value, int(kind.removesuffix("?")[-1]))
    if kind == "matrix3":
        if value == []:
            return ""
        if not isinstance(value, list) or len(value) != 3:
            return "not 3 x 3 numbers, nor []"
        return next((fault for line in value if (fault := _numbers_fault(line, 3))), "")
    if not _is_text(value):
        return "not text"
    return "empty" if kind.startswith(">") and not kind.endswith("?") and not value else ""


def _is_text(value: Any) -> bool:
    """Whether the value is text that can be encoded and can name a file."""
    return (
        isinstance(value, str)
        and "\0" not in value
        and not any("\ud800" <= letter <= "\udfff" for letter in value)
    )


def _numbers_fault(value: Any, count: int) -> str:
    if (
        not isinstance(value, list)
        or len(value) != count
        or not all(type(each) in (int, float) for each in value)
    ):
        return f"not {count} numbers"
    return "" if all(map(math.isfinite, value)) else "not finite"
