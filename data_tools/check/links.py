"""Check the references between tables.

Tokens must lead to a row, chains must hold in both directions, and counts must be true.

Every check is a query of the database, so memory does not grow with the dataset. Rows that lack a
field (NULL) were reported before and are left out here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from data_tools import rig
from data_tools.check.report import Problem
from data_tools.database import Tables
from data_tools.schema import TABLES
from sparsevit3d.errors import InputError

OUT = "take the row out, or put back what it names"
CHAINS = {
    "sample": "scene_token",
    "sample_data": "calibrated_sensor_token",
    "sample_annotation": "instance_token",
}


def duplicates(tables: Tables) -> Iterator[Problem]:
    for table in TABLES:
        query = f"SELECT token, COUNT(*) FROM {table} GROUP BY token HAVING COUNT(*) > 1"
        for token, count in tables.database.execute(query):
            yield Problem(
                "duplicate token",
                table,
                token,
                f"{count} rows have it",
                "keep one of them. Give the others new tokens",
            )
    for name, count in tables.database.execute(
        "SELECT name, COUNT(*) FROM scene GROUP BY name HAVING COUNT(*) > 1"
    ):
        yield Problem(
            "duplicate scene",
            "scene",
            name,
            f"{count} scenes have this name",
            "give each its own, or drop a copy",
        )


def references(tables: Tables) -> Iterator[Problem]:
    for table, fields in TABLES.items():
        for field, kind in fields.items():
            if not kind.startswith("> "):
                continue
            other = kind[2:].rstrip("?*")
            if kind.endswith("*"):
                source = (
                    f"(SELECT {table}.token AS token, value AS named FROM {table}, "
                    f"json_each({table}.{field}))"
                )
            else:
                source = f"(SELECT token, {field} AS named FROM {table} WHERE {field} != '')"
            query = (
                f"SELECT token, named FROM {source} WHERE named NOT IN (SELECT token FROM {other})"
            )
            for token, named in tables.database.execute(query):
                yield Problem(
                    "dangling reference",
                    table,
                    token,
                    f"{field} is {named!r}, which {other} does not have",
                    OUT,
                )


def chains(tables: Tables) -> Iterator[Problem]:
    """Check that prev and next agree on both sides.

    The neighbour must name the row in return, belong to the same scene, sensor or instance, and be
    later.
    """
    remedy = "mend prev and next on both sides"
    for table, owner in CHAINS.items():
        for field, back in (("next", "prev"), ("prev", "next")):
            query = (
                f"SELECT one.token, one.{field} FROM {table} one JOIN {table} other ON "
                f"one.{field} = other.token"
            )
            for token, named in tables.database.execute(f"{query} WHERE other.{back} != one.token"):
                yield Problem(
                    "broken chain",
                    table,
                    token,
                    f"its {field} is {named!r}, whose {back} is another",
                    remedy,
                )
        query = (
            f"SELECT one.token, other.token FROM {table} one JOIN {table} other ON one.next "
            "= other.token"
        )
        for token, named in tables.database.execute(f"{query} WHERE one.{owner} != other.{owner}"):
            yield Problem(
                "mixed chain",
                table,
                token,
                f"its next, {named!r}, is of another {owner.removesuffix('_token')}",
                remedy,
            )
        before = "one"
        after = "other"
        if table == "sample_annotation":  # an annotation's time is its sample's
            before = "before"
            after = "after"
            query += (
                " JOIN sample before ON before.token = one.sample_token JOIN sample after "
                "ON after.token = other.sample_token"
            )
        for token, named in tables.database.execute(
            f"{query} WHERE {after}.timestamp <= {before}.timestamp"
        ):
            what = f"its next, {named!r}, is not later"
            yield Problem(
                "timestamps out of order",
                table,
                token,
                what,
                "sort the chain by time, or mend the timestamps",
            )


def scenes(tables: Tables) -> Iterator[Problem]:
    yield from _counted(
        tables,
        "scene",
        "sample",
        "scene_token",
        "nbr_samples",
        ("first_sample_token", "last_sample_token"),
    )
    fields = ("first_annotation_token", "last_annotation_token")
    yield from _counted(
        tables, "instance", "sample_annotation", "instance_token", "nbr_annotations", fields
    )


def _counted(
    tables: Tables, table: str, other: str, owner: str, count: str, ends: tuple[str, str]
) -> Iterator[Problem]:
    """Check that a row names the right number of its rows in another table, and the right ends.

    ``count`` is the field with the number of rows in ``other``. ``ends`` are the fields with the
    first and last row of their chain.
    """
    found = f"(SELECT COUNT(*) FROM {other} WHERE {owner} = {table}.token)"
    for token, said, true in tables.database.execute(
        f"SELECT token, {count}, {found} FROM {table} WHERE {count} != {found}"
    ):
        yield Problem(
            "wrong count",
            table,
            token,
            f"{count} is {said}, but it has {true} in {other}",
            f"set {count} to {true}",
        )
    for field, side in zip(ends, ("prev", "next"), strict=True):
        query = f"""SELECT {table}.token, {field} FROM {table}
        JOIN {other} ON {other}.token = {field}
            WHERE {other}.{owner} != {table}.token OR {other}.{side} != ''"""
        for token, named in tables.database.execute(query):
            what = (
                f"{field} is {named!r}, which is not the {field.split('_')[0]} of its {other} rows"
            )
            yield Problem(
                "wrong end", table, token, what, f"set {field} to the one whose {side} is empty"
            )


def keyframes(tables: Tables) -> Iterator[Problem]:
    """Check that each sample has one keyframe of each camera, and of the lidar if there is one.

    An instance must be annotated at most once in a sample.
    """
    try:
        sensors = rig.sensors(tables)
    except InputError:
        remedy = "add a row of modality camera for each camera"
        yield Problem("no camera", "sensor", "sensor.json", "no sensor is a camera", remedy)
        return
    query = """SELECT sample.token, sensor.channel, COUNT(sample_data.token) FROM sample
        LEFT JOIN sample_data ON sample_data.sample_token = sample.token
        AND sample_data.is_key_frame
        LEFT JOIN calibrated_sensor ON calibrated_sensor.token = sample_data.calibrated_sensor_token
        LEFT JOIN sensor ON sensor.token = calibrated_sensor.sensor_token
        GROUP BY sample.token, sensor.channel ORDER BY sample.token"""
    rows = tables.database.execute(query)
    token: str | None = None
    found: dict[str | None, int] = {}
    for sample, channel, count in itertools.chain(rows, [(None, None, 0)]):
        if sample != token:
            if token is not None:
                yield from _keyframe(token, found, sensors)
            token = sample
            found = {}
        found[channel] = count
    query = (
        "SELECT sample_token, instance_token FROM sample_annotation GROUP BY sample_token, "
        "instance_token HAVING COUNT(*) > 1"
    )
    for sample, instance in tables.database.execute(query):
        what = f"instance {instance!r} is annotated in it more than once"
        yield Problem(
            "object twice", "sample", sample, what, "keep one of its boxes in sample_annotation"
        )


def _keyframe(
    token: str, found: dict[str | None, int], sensors: tuple[str, ...]
) -> Iterator[Problem]:
    for channel in sensors:
        if channel not in found:
            what = f"no keyframe of {channel}"
            remedy = "add its row to sample_data, or take the sample out"
            yield Problem("missing sensor", "sample", token, what, remedy)
        elif found[channel] > 1:
            what = f"{found[channel]} keyframes of {channel}"
            yield Problem(
                "sensor twice", "sample", token, what, "set is_key_frame of all but one to false"
            )


def unused(tables: Tables) -> Iterator[Problem]:
    """Report instances and scenes that no annotation or sample belongs to."""
    for table, other, owner in (
        ("instance", "sample_annotation", "instance_token"),
        ("scene", "sample", "scene_token"),
    ):
        query = (
            f"SELECT token FROM {table} WHERE NOT EXISTS (SELECT 1 FROM {other} WHERE "
            f"{owner} = {table}.token)"
        )
        for (token,) in tables.database.execute(query):
            yield Problem(
                "nothing belongs to it",
                table,
                token,
                f"no row of {other} names it",
                "take it out",
                warning=True,
            )
