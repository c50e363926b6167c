"""Whether the world can be like that: calibrations, poses, times, boxes, names and splits.

What is only strange is a warning.

Frames as in nuScenes: boxes and ego poses in the global frame, mountings in the ego frame (x
forward, y left, z up), metres.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from pyquaternion import Quaternion

from data_tools.check.report import Problem
from data_tools.database import Row, Tables
from data_tools.schema import ATTRIBUTES, CATEGORIES, CLASSES, label_of
from data_tools.splits import own_splits, read_splits
from sparsevit3d.errors import InputError

FASTEST = 60.0  # metres per second, of anything
FARTHEST = 200.0  # metres from the ego
LATE = (
    100_000  # microseconds between a keyframe's sensors and its sample; nuScenes' are within 60,000
)
HEADINGS = {  # degrees left of straight ahead in which nuScenes' cameras look
    "CAM_FRONT": 0,
    "CAM_FRONT_LEFT": 55,
    "CAM_FRONT_RIGHT": -55,
    "CAM_BACK_LEFT": 108,
    "CAM_BACK_RIGHT": -110,
    "CAM_BACK": 180,
}
# Least and most width, length, height of each class that are no surprise, metres: far on both sides
# of nuScenes' own.
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
# longer than wide, whatever their make
LONG = ("car", "truck", "trailer", "bus", "bicycle", "motorcycle")


def calibrations(tables: Tables) -> Iterator[Problem]:
    for row in tables.all("calibrated_sensor"):
        yield from _rotation(row, "calibrated_sensor")
        sensor = _or_none(tables, "sensor", row["sensor_token"])
        if row["translation"] is not None and np.linalg.norm(row["translation"]) > 10:
            yield _strange(
                "far from its car",
                "calibrated_sensor",
                row,
                f"is mounted at {row['translation']} m",
                "give it in metres",
            )
        if sensor is not None and sensor["modality"] == "camera":
            yield from _camera(row, sensor["channel"])
    sizes = """SELECT calibrated_sensor.token, camera_intrinsic, MAX(width), MAX(height)
        FROM sample_data
        JOIN calibrated_sensor ON calibrated_sensor.token = calibrated_sensor_token
        WHERE fileformat = 'jpg' GROUP BY 1"""
    for token, text, width, height in tables.database.execute(sizes):
        matrix = np.array(Tables.parse(text) or np.zeros((3, 3)))
        if (
            matrix.shape == (3, 3)
            and width
            and not (0 < matrix[0, 2] < width and 0 < matrix[1, 2] < height)
        ):
            what = (
                f"the optical axis meets the image at {matrix[0, 2]:.0f}, {matrix[1, 2]:.0f}, "
                f"outside {width} x {height}"
            )
            yield Problem(
                "intrinsics of another size",
                "calibrated_sensor",
                token,
                what,
                "scale camera_intrinsic with the images",
            )


def _camera(row: Row, channel: str) -> Iterator[Problem]:
    matrix = row["camera_intrinsic"]
    if matrix == []:
        yield Problem(
            "no intrinsics",
            "calibrated_sensor",
            row["token"],
            "is a camera's, without camera_intrinsic",
            "add the 3 x 3 matrix",
        )
    elif matrix is not None:
        (focal_x, _, _), (_, focal_y, _), last = matrix
        if focal_x <= 0 or focal_y <= 0 or last != [0, 0, 1]:
            what = f"camera_intrinsic is {matrix}, not [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"
            yield Problem(
                "impossible intrinsics",
                "calibrated_sensor",
                row["token"],
                what,
                "put in the camera's matrix, in pixels",
            )
        elif not 0.8 < focal_x / focal_y < 1.25:
            yield _strange(
                "stretched pixels",
                "calibrated_sensor",
                row,
                f"fx / fy is {focal_x / focal_y:.2f}",
                "scale both with the image",
            )
    if (
        channel in HEADINGS
        and row["rotation"] is not None
        and np.linalg.norm(row["rotation"]) > 0.5
    ):
        x, y, _ = Quaternion(row["rotation"]).rotate((0.0, 0.0, 1.0))
        turn = (np.degrees(np.arctan2(y, x)) - HEADINGS[channel] + 180) % 360 - 180
        if abs(turn) > 40:
            what = f"{channel} looks {turn:+.0f} degrees away from where its name says"
            yield _strange(
                "camera of another name",
                "calibrated_sensor",
                row,
                what,
                "mend sensor_token or rotation",
            )


def poses(tables: Tables) -> Iterator[Problem]:
    """Ego poses turn as rotations do, bear their sensor's time, and do not jump."""
    for row in tables.all("ego_pose"):
        yield from _rotation(row, "ego_pose")
    query = """SELECT sample_data.token, ego_pose.timestamp - sample_data.timestamp FROM sample_data
        JOIN ego_pose ON ego_pose.token = ego_pose_token
        WHERE ABS(ego_pose.timestamp - sample_data.timestamp) > 1000"""
    for token, late in tables.database.execute(query):
        what = f"its ego pose is of {late / 1e6:+.3f} s from its own time"
        yield Problem(
            "pose of another time", "sample_data", token, what, "name the pose of its own time"
        )
    query = """SELECT one.token, (after.timestamp - before.timestamp) / 1e6,
        before.translation, after.translation
        FROM sample_data one JOIN sample_data two ON one.next = two.token
        JOIN ego_pose before ON before.token = one.ego_pose_token
        JOIN ego_pose after ON after.token = two.ego_pose_token"""
    for token, seconds, before, after in tables.database.execute(query):
        if before and after and seconds and seconds > 0:
            speed = np.linalg.norm(np.subtract(Tables.parse(after), Tables.parse(before))) / seconds
            if speed > FASTEST:
                what = f"the car would go {speed:.0f} m/s to where the next one is"
                yield Problem(
                    "jump of the car",
                    "sample_data",
                    token,
                    what,
                    "mend the ego poses on either side",
                )


def times(tables: Tables) -> Iterator[Problem]:
    """A keyframe's sensors fire when their sample says."""
    query = f"""SELECT sample_data.token, sample_data.timestamp - sample.timestamp FROM sample_data
        JOIN sample ON sample.token = sample_token
        WHERE is_key_frame AND ABS(sample_data.timestamp - sample.timestamp) > {LATE}"""
    for token, late in tables.database.execute(query):
        what = f"was taken {late / 1e6:+.3f} s from its sample's time"
        yield Problem(
            "sensor out of step",
            "sample_data",
            token,
            what,
            "mend its timestamp or its sample_token",
        )


def boxes(tables: Tables) -> Iterator[Problem]:
    for row in tables.all("sample_annotation"):
        yield from _rotation(row, "sample_annotation")
        instance = _or_none(tables, "instance", row["instance_token"])
        category = instance and _or_none(tables, "category", instance["category_token"])
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
        JOIN sensor ON sensor.token = sensor_token AND channel = 'LIDAR_TOP'
        JOIN ego_pose ON ego_pose.token = ego_pose_token"""
    for token, place, ego in tables.database.execute(query):
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
        yield _strange(
            "width and length swapped",
            "sample_annotation",
            row,
            what,
            "size is width, length, height",
        )
    elif (np.array(row["size"]) < least).any() or (np.array(row["size"]) > most).any():
        what = f"a {name} of {width:.2f} x {length:.2f} x {height:.2f} m (width, length, height)"
        yield _strange(
            "implausible size", "sample_annotation", row, what, "give metres: width, length, height"
        )


def _attributes(tables: Tables, row: Row, category: str) -> Iterator[Problem]:
    names = [
        found["name"]
        for token in row["attribute_tokens"]
        if (found := _or_none(tables, "attribute", token))
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
            yield _strange(
                "attribute of another class",
                "sample_annotation",
                row,
                f"a {category} is {name}",
                "give it one of its own kind",
            )


def names(tables: Tables) -> Iterator[Problem]:
    """Categories and attributes are nuScenes' own, for the devkit passes over others in silence;
    channels are of known modalities.
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
    """Splits name scenes that are there, each scene is in one, and training shares none with what
    it is judged on.
    """
    try:
        own = own_splits(tables.folder)
    except InputError as error:
        what, _, remedy = str(error).rpartition("; ")
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


def _rotation(row: Row, table: str) -> Iterator[Problem]:
    if row["rotation"] is not None and abs(np.linalg.norm(row["rotation"]) - 1) > 1e-3:
        what = (
            f"rotation {row['rotation']} is of length {np.linalg.norm(row['rotation']):.3f}, "
            f"so it is no rotation"
        )
        yield Problem(
            "no unit quaternion", table, row["token"], what, "give w, x, y, z of length 1"
        )


def _strange(kind: str, table: str, row: Row, what: str, remedy: str) -> Problem:
    return Problem(kind, table, row["token"], what, remedy, warning=True)


def _or_none(tables: Tables, table: str, token: str | None) -> Row | None:
    """A row, or None where it is missing, which ``links`` reports."""
    try:
        return tables.shared(table, token or "")
    except InputError:
        return None
