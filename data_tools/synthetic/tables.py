"""A drive as nuScenes writes it down: images, lidar files and the drive's own table rows.

Three things are simpler than in nuScenes. All sensors fire at the keyframe's own time. There is no
radar, which the devkit's evaluator does not need. Between keyframes only the lidar turns, and only
if sweeps are wanted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pyquaternion import Quaternion

from data_tools.schema import CAMERAS as CHANNELS
from data_tools.schema import LIDAR, TABLES
from data_tools.synthetic.camera import Look, develop, encode
from data_tools.synthetic.drives import GROUND_CLEARANCE, KEYFRAME_SECONDS, Drive
from data_tools.synthetic.render import World, take_photo, take_sweep, visible_shares
from data_tools.synthetic.rig import CAMERAS, LIDAR_POSITION, LIDAR_ROTATION
from data_tools.table_rows import Row, Rows, link, token
from sparsevit3d.files import write_bytes

START_MICROSECONDS = 1_600_000_000_000_000
TURNS = 5  # turns of the lidar from one keyframe to the next (10 Hz)


def record_drive(root: Path, drive: Drive, look: Look, size: tuple[int, int], sweeps: bool) -> Rows:
    """Render a drive's keyframes into ``root`` and return the drive's rows."""
    rows: Rows = {name: [] for name in TABLES}
    log = token(drive.name, "log")
    scene = token(drive.name, "scene")
    place = {
        "vehicle": "synthetic",
        "date_captured": "2020-09-13",
        "location": f"synthetic-{drive.layout.name}",
    }
    rows["log"].append({"token": log, "logfile": drive.name, **place})
    rows["calibrated_sensor"] = [
        _calibration(drive, channel, size) for channel in (*CHANNELS, LIDAR)
    ]
    for index in range(drive.keyframes):
        for table, found in _record_keyframe(root, drive, look, index, size, sweeps).items():
            rows[table] += found
    link(rows)
    what = f"{drive.layout.name}, {drive.light.name}, {len(drive.things)} objects"
    ends = {
        "first_sample_token": rows["sample"][0]["token"],
        "last_sample_token": rows["sample"][-1]["token"],
    }
    counts = {"nbr_samples": drive.keyframes, **ends}
    rows["scene"].append(
        {"token": scene, "log_token": log, **counts, "name": drive.name, "description": what}
    )
    return rows


def _record_keyframe(
    root: Path, drive: Drive, look: Look, index: int, size: tuple[int, int], sweeps: bool
) -> Rows:
    """Render one moment with all sensors and return its rows.

    The lidar's turns until the next keyframe are included.
    """
    seconds = drive.times()[index]
    world = World.of(drive, seconds)
    data = []
    poses = []
    for number, camera in enumerate(CAMERAS):
        rng = np.random.default_rng([*drive.seed, index, number])
        image = develop(
            take_photo(world, camera, size),
            camera,
            drive.layout.ego_speed,
            drive.light.name,
            look,
            rng,
        )
        data.append(_sensor_row(drive, camera.channel, index, 0, size))
        write_bytes(root / data[-1]["filename"], encode(image, look.quality))
    sweep = take_sweep(world, LIDAR_POSITION, LIDAR_ROTATION.rotation_matrix)
    data.append(_sensor_row(drive, LIDAR, index, 0, None))
    write_bytes(root / data[-1]["filename"], sweep.points.tobytes())
    if sweeps and index + 1 < drive.keyframes:
        for turn in range(1, TURNS):
            between = World.of(drive, seconds + turn * KEYFRAME_SECONDS / TURNS)
            data.append(_sensor_row(drive, LIDAR, index, turn, None))
            write_bytes(
                root / data[-1]["filename"],
                take_sweep(
                    between, LIDAR_POSITION, LIDAR_ROTATION.rotation_matrix
                ).points.tobytes(),
            )
    for row in data:
        pose = _global_pose(drive, drive.ego((row["timestamp"] - _stamp(drive, 0)) / 1e6), 0.0, 0.0)
        poses.append({"token": row["ego_pose_token"], "timestamp": row["timestamp"]} | pose)

    points = np.bincount(sweep.owner[sweep.owner >= 0], minlength=len(drive.things))
    shares = visible_shares(world, len(drive.things))
    # As in nuScenes, only things that a sensor measured are annotated.
    measured = [int(thing) for thing in np.flatnonzero(points)]
    sample = {
        "token": token(drive.name, "sample", index),
        "timestamp": _stamp(drive, seconds),
        "scene_token": token(drive.name, "scene"),
    }
    return {
        "sample": [sample],
        "sample_data": data,
        "ego_pose": poses,
        "sample_annotation": [
            _annotation(drive, thing, index, int(points[thing]), float(shares[thing]))
            for thing in measured
        ],
    }


def _stamp(drive: Drive, seconds: float) -> int:
    """Return a time in microseconds, where drives follow each other."""
    return (
        START_MICROSECONDS
        + drive.seed[1] * (60_000_000 + drive.keyframes * 500_000)
        + round(seconds * 1e6)
    )


def _sensor_row(
    drive: Drive, channel: str, index: int, turn: int, size: tuple[int, int] | None
) -> Row:
    stamp = _stamp(drive, index * KEYFRAME_SECONDS + turn * KEYFRAME_SECONDS / TURNS)
    suffix = "jpg" if size else "pcd.bin"
    folder = "sweeps" if turn else "samples"
    name = (drive.name, channel, index, turn)
    return {
        "token": token(*name),
        # nuScenes assigns a sweep to the keyframe that is nearest in time.
        "sample_token": token(drive.name, "sample", index + (turn > TURNS / 2)),
        "ego_pose_token": token(*name, "pose"),
        "calibrated_sensor_token": token(drive.name, channel, "calibration"),
        "timestamp": stamp,
        "fileformat": "jpg" if size else "pcd",
        "is_key_frame": turn == 0,
        "height": size[1] if size else 0,
        "width": size[0] if size else 0,
        "filename": f"{folder}/{channel}/{drive.name}__{channel}__{stamp}.{suffix}",
    }


def _calibration(drive: Drive, channel: str, size: tuple[int, int]) -> Row:
    row = {
        "token": token(drive.name, channel, "calibration"),
        "sensor_token": token("sensor", channel),
    }
    for camera in CAMERAS:
        if camera.channel == channel:
            mount = {
                "translation": list(camera.position),
                "rotation": camera.rotation().elements.tolist(),
            }
            return row | mount | {"camera_intrinsic": camera.intrinsic(size).tolist()}
    mount = {"translation": list(LIDAR_POSITION), "rotation": LIDAR_ROTATION.elements.tolist()}
    return row | mount | {"camera_intrinsic": []}


def _global_pose(
    drive: Drive, position: tuple[float, float], height: float, yaw: float
) -> dict[str, list[float]]:
    """Convert a pose of the road frame to the global frame."""
    x, y, turn = drive.origin
    cosine = np.cos(turn)
    sine = np.sin(turn)
    place = [
        x + cosine * position[0] - sine * position[1],
        y + sine * position[0] + cosine * position[1],
        height,
    ]
    rotation = Quaternion(axis=(0, 0, 1), radians=turn + yaw)
    return {
        "translation": [float(value) for value in place],
        "rotation": rotation.elements.tolist(),
    }


def _annotation(drive: Drive, number: int, index: int, points: int, visible: float) -> Row:
    thing = drive.things[number]
    seconds = drive.times()[index]
    attribute = thing.attribute_at(seconds)
    return {
        "token": token(drive.name, "annotation", index, number),
        "sample_token": token(drive.name, "sample", index),
        "instance_token": token(drive.name, "instance", number),
        "visibility_token": str(1 + int(np.digitize(visible, (0.4, 0.6, 0.8)))),
        "attribute_tokens": [token("attribute", attribute)] if attribute else [],
        **_global_pose(drive, thing.at(seconds), GROUND_CLEARANCE + thing.size[2] / 2, thing.yaw),
        "size": list(thing.size),
        "num_lidar_pts": points,
        "num_radar_pts": 0,
        "category_token": token("category", thing.category),  # link moves it to the instance
    }
