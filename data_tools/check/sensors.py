"""Check whether sensors are plausible: calibrations, poses and times. Strange values are warnings.

Mountings are in the ego frame (x forward, y left, z up). Ego poses are in the global frame. Both
are in metres.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pyquaternion import Quaternion

from data_tools.check.report import Problem
from data_tools.database import Row, Tables
from data_tools.intrinsics import Fault, axis_faults, matrix_faults
from sparsevit3d.errors import InputError

FASTEST = 60.0  # metres per second, for the ego and for any object
# Greatest plausible difference between a keyframe's sensor and its sample, in microseconds.
# nuScenes' own differences are within 60,000.
LATE = 100_000
HEADINGS = {  # viewing directions of nuScenes' cameras, in degrees left of straight ahead
    "CAM_FRONT": 0,
    "CAM_FRONT_LEFT": 55,
    "CAM_FRONT_RIGHT": -55,
    "CAM_BACK_LEFT": 108,
    "CAM_BACK_RIGHT": -110,
    "CAM_BACK": 180,
}


def calibrations(tables: Tables) -> Iterator[Problem]:
    for row in tables.all("calibrated_sensor"):
        yield from rotation_problems(row, "calibrated_sensor")
        sensor = row_or_none(tables, "sensor", row["sensor_token"])
        if row["translation"] is not None and np.linalg.norm(row["translation"]) > 10:
            yield strange(
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
        JOIN sensor ON sensor.token = sensor_token
        WHERE modality = 'camera' GROUP BY 1"""
    for token, text, width, height in tables.database.execute(sizes):
        matrix = np.array(Tables.parse(text) or (), np.float64)
        if matrix.shape == (3, 3) and width and height:
            for fault in axis_faults(matrix, (width, height)):
                yield _as_problem(fault, token)


def _as_problem(fault: Fault, token: str) -> Problem:
    return Problem(
        fault.kind, "calibrated_sensor", token, fault.what, fault.remedy, warning=fault.warning
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
        for fault in matrix_faults(np.array(matrix, np.float64)):
            yield _as_problem(fault, row["token"])
    if (
        channel in HEADINGS
        and row["rotation"] is not None
        and np.linalg.norm(row["rotation"]) > 0.5
    ):
        x, y, _ = Quaternion(row["rotation"]).rotate((0.0, 0.0, 1.0))
        turn = (np.degrees(np.arctan2(y, x)) - HEADINGS[channel] + 180) % 360 - 180
        if abs(turn) > 40:
            what = f"{channel} looks {turn:+.0f} degrees away from where its name says"
            yield strange(
                "camera of another name",
                "calibrated_sensor",
                row,
                what,
                "mend sensor_token or rotation",
            )


def poses(tables: Tables) -> Iterator[Problem]:
    """Check that ego poses are rotations, have their sensor's time, and do not jump."""
    for row in tables.all("ego_pose"):
        yield from rotation_problems(row, "ego_pose")
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
    """Check that a keyframe's sensors fire at their sample's time."""
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


def rotation_problems(row: Row, table: str) -> Iterator[Problem]:
    if row["rotation"] is not None and abs(np.linalg.norm(row["rotation"]) - 1) > 1e-3:
        what = (
            f"rotation {row['rotation']} is of length {np.linalg.norm(row['rotation']):.3f}, "
            "so it is no rotation"
        )
        yield Problem(
            "no unit quaternion", table, row["token"], what, "give w, x, y, z of length 1"
        )


def strange(kind: str, table: str, row: Row, what: str, remedy: str) -> Problem:
    return Problem(kind, table, row["token"], what, remedy, warning=True)


def row_or_none(tables: Tables, table: str, token: str | None) -> Row | None:
    """Return a row, or None if the row is missing. ``links`` reports missing rows."""
    try:
        return tables.shared(table, token or "")
    except InputError:
        return None
