"""Check whether objects are plausible: boxes, names and splits. Implausible values are warnings.

Boxes and ego poses are in the global frame, in metres.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from data_tools import rig
from data_tools.check.report import Problem
from data_tools.check.sensors import FASTEST, rotation_problems, row_or_none, strange
from data_tools.database import Row, Tables
from data_tools.schema import ATTRIBUTES, CATEGORIES, CLASSES, label_of
from data_tools.splits import own_splits, read_splits
from sparsevit3d.errors import InputError

FARTHEST = 200.0  # metres from the ego
# Least and greatest plausible width, length and height of each class, in metres. The bounds lie far
# outside the sizes that nuScenes itself has.
SIZES = {
    "car": ((1.0, 2.0, 0.9), (3.5, 8.0, 3.5)),
    "truck": ((1.2, 3.0, 1.2), (4.5, 22.0, 5.5)),
    "trailer": ((1.0, 1.5, 0.8), (4.5, 25.0, 5.5)),
    "bus": ((1.8, 4.0, 2.0), (4.5, 22.0, 5.5)),
    "construction_vehicle": ((0.8, 1.5, 1.0), (6.0, 20.0, 10.0)),
    "bicycle": ((0.2, 0.8, 0.6), (1.5, 3.0, 2.6)),
    "motorcycle": ((0.3, 1.0, 0.6), (2.0, 4.0, 2.6)),
    "pedestrian": ((0.2, 0.2, 0.6), (2.0, 2.5, 2.6)),
    "traffic_cone": ((0.1, 0.1, 0.2), (1.5, 1.5, 2.0)),
    "barrier": ((0.2, 0.1, 0.3), (6.0, 4.0, 3.5)),
}
# Classes in which every make is longer than wide.
LONG = ("car", "truck", "trailer", "bus", "bicycle", "motorcycle")


def boxes(tables: Tables) -> Iterator[Problem]:
    for row in tables.all("sample_annotation"):
        yield from rotation_problems(row, "sample_annotation")
        instance = row_or_none(tables, "instance", row["instance_token"])
        category = instance and row_or_none(tables, "category", instance["category_token"])
        if row["size"] is not None:
            yield from _size(row, category["name"] if category else None)
        for field in ("num_lidar_pts", "num_radar_pts"):
            if row[field] is not None and row[field] < 0:
                yield Problem(
                    "negative count",
                    "sample_annotation",
                    row["token"],
                    f"{field} is {row[field]}",
                    "count them again",
                )
        if category is not None and row["attribute_tokens"] is not None:
            yield from _attributes(tables, row, category["name"])
    query = """SELECT sample_annotation.token, sample_annotation.translation, ego_pose.translation
        FROM sample_annotation
        JOIN sample_data ON sample_data.sample_token = sample_annotation.sample_token
        AND is_key_frame
        JOIN calibrated_sensor ON calibrated_sensor.token = calibrated_sensor_token
        JOIN sensor ON sensor.token = sensor_token AND channel = ?
        JOIN ego_pose ON ego_pose.token = ego_pose_token"""
    channel = _reference(tables)
    for token, place, ego in tables.database.execute(query, (channel,)):
        if place and ego:
            x, y, z = np.subtract(Tables.parse(place), Tables.parse(ego))
            if np.hypot(x, y) > FARTHEST or abs(z) > 30:
                what = f"is {np.hypot(x, y):.0f} m from the car and {z:+.0f} m above it"
                remedy = "give translation in the global frame, metres"
                yield Problem("far away", "sample_annotation", token, what, remedy, warning=True)
    query = """SELECT one.token, (after.timestamp - before.timestamp) / 1e6,
        one.translation, two.translation
        FROM sample_annotation one JOIN sample_annotation two ON one.next = two.token
        JOIN sample before ON before.token = one.sample_token
        JOIN sample after ON after.token = two.sample_token"""
    for token, seconds, before, after in tables.database.execute(query):
        if before and after and seconds and seconds > 0:
            speed = np.linalg.norm(np.subtract(Tables.parse(after), Tables.parse(before))) / seconds
            if speed > FASTEST:
                what = f"would go {speed:.0f} m/s to where it is next"
                yield Problem(
                    "jump of an object",
                    "sample_annotation",
                    token,
                    what,
                    "mend translation or instance_token",
                    warning=True,
                )


def _reference(tables: Tables) -> str:
    try:
        return rig.reference(dict.fromkeys(rig.sensors(tables)))
    except InputError:  # a root without cameras, which links reports
        return ""


def _size(row: Row, category: str | None) -> Iterator[Problem]:
    width, length, height = row["size"]
    if min(row["size"]) <= 0:
        what = f"size is {row['size']}, not above 0"
        remedy = "give width, length and height in metres, or take the box out"
        yield Problem("empty box", "sample_annotation", row["token"], what, remedy)
        return
    label = label_of(category) if category else -1
    if label < 0:
        return
    name = CLASSES[label]
    least, most = SIZES[name]
    if name in LONG and width > 1.1 * length:
        what = f"a {name} {width:.2f} m wide and {length:.2f} m long"
        yield strange(
            "width and length swapped",
            "sample_annotation",
            row,
            what,
            "size is width, length, height",
        )
    elif (np.array(row["size"]) < least).any() or (np.array(row["size"]) > most).any():
        what = f"a {name} of {width:.2f} x {length:.2f} x {height:.2f} m (width, length, height)"
        yield strange(
            "implausible size", "sample_annotation", row, what, "give metres: width, length, height"
        )


def _attributes(tables: Tables, row: Row, category: str) -> Iterator[Problem]:
    names = [
        found["name"]
        for token in row["attribute_tokens"]
        if (found := row_or_none(tables, "attribute", token))
    ]
    if len(names) > 1:
        yield Problem(
            "several attributes",
            "sample_annotation",
            row["token"],
            f"has {', '.join(names)}",
            "leave it one: only the first counts",
        )
    for name in names:
        part = category.split(".")
        kind = name.partition(".")[0]
        fits = {
            "cycle": part[-1] in ("bicycle", "motorcycle"),
            "pedestrian": part[0] == "human",
            "vehicle": part[0] == "vehicle",
        }
        if not fits.get(kind, True):
            yield strange(
                "attribute of another class",
                "sample_annotation",
                row,
                f"a {category} is {name}",
                "give it one of its own kind",
            )


def names(tables: Tables) -> Iterator[Problem]:
    """Check that categories and attributes are nuScenes' own.

    The devkit ignores unknown categories and attributes in silence. Sensors must have known
    modalities.
    """
    for table, known in (("category", CATEGORIES), ("attribute", ATTRIBUTES[:-1])):
        for row in tables.all(table):
            if row["name"] is not None and row["name"] not in known:
                remedy = f"rename it to one of {', '.join(known)}"
                yield Problem(
                    f"unknown {table}",
                    table,
                    row["token"],
                    f"{row['name']!r} is none of nuScenes'",
                    remedy,
                )
    for row in tables.all("sensor"):
        if row["modality"] not in ("camera", "lidar", "radar", None):
            what = f"modality of {row['channel']} is {row['modality']!r}"
            yield Problem(
                "unknown modality", "sensor", row["token"], what, "make it camera, lidar or radar"
            )


def splits(tables: Tables) -> Iterator[Problem]:
    """Check that splits name existing scenes and that training shares no scene with its evaluation.

    Each scene must be in some split.
    """
    try:
        own = own_splits(tables.folder)
    except InputError as error:
        what, _, remedy = str(error).rpartition(". ")
        yield Problem(
            "unreadable splits",
            "splits",
            "splits.json",
            what or str(error),
            remedy if what else "mend it",
        )
        return
    present = {row["name"] for row in tables.all("scene")}
    for split, scenes in own.items():
        for scene in sorted(set(scenes) - present):
            yield Problem(
                "unknown scene",
                "splits",
                scene,
                f"{split} names it, no scene bears that name",
                "mend the name, or take it out",
            )
        for scene, count in Counter(scenes).items():
            if count > 1:
                yield Problem(
                    "scene twice",
                    "splits",
                    scene,
                    f"{split} names it {count} times",
                    "name it once",
                )
    for judged in ("search", "val"):
        for scene in sorted(set(own.get("train", ())) & set(own.get(judged, ()))):
            what = f"is in train and in {judged}: a score on it means nothing"
            yield Problem("scene in two splits", "splits", scene, what, "leave it in one of them")
    known = {scene for scenes in read_splits(tables.folder).values() for scene in scenes}
    for scene in sorted(name for name in present if name is not None and name not in known):
        yield Problem(
            "scene in no split",
            "splits",
            scene,
            "nothing will ever read it",
            "name it in splits.json",
            warning=True,
        )
