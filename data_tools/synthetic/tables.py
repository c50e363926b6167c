"""Drives as nuScenes writes them down: images, lidar files and the 13 tables of schema v1.0.

Each scene is rendered and recorded by itself (``scenes/NAME.json`` inside the root), so that an interrupted run goes on where it
stopped; the tables are put together at the end, all at once. Two things are simpler than in nuScenes: all sensors fire at the
keyframe's own time, and visibility is left unknown.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pyquaternion import Quaternion

from data_tools.synthetic.drives import CATEGORIES, EGO_LANE, GROUND_CLEARANCE, Drive, make_drive
from data_tools.synthetic.render import World, take_photo, take_sweep
from data_tools.synthetic.rig import CAMERAS, LIDAR_POSITION, LIDAR_ROTATION

VERSION = "v1.0-synthetic"
SPLITS = ("train", "search", "val")
START_MICROSECONDS = 1_600_000_000_000_000
ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "pedestrian.moving",
)
VISIBILITIES = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}
TABLES = (
    "attribute",
    "calibrated_sensor",
    "category",
    "ego_pose",
    "instance",
    "log",
    "map",
    "sample",
    "sample_annotation",
    "sample_data",
    "scene",
    "sensor",
    "visibility",
)

Tables = dict[str, list[dict[str, Any]]]


class SyntheticError(ValueError):
    """A folder that cannot take the dataset asked for; the message says what to do."""


@dataclass(frozen=True)
class Settings:
    """All that a dataset depends on: the same settings give the same bytes."""

    scenes: tuple[int, int, int] = (60, 5, 10)  # of the splits train, search, val
    keyframes: int = 2  # of each scene, half a second apart
    width: int = 800
    height: int = 450
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.scenes) < 0 or not sum(self.scenes):
            raise SyntheticError(f"scenes {self.scenes}: give three numbers, for train, search and val, not all 0")
        if self.keyframes < 1 or min(self.width, self.height) < 32 or self.seed < 0:
            raise SyntheticError("a drive needs at least 1 keyframe, images of at least 32 x 32 pixels and a seed of at least 0")

    def splits(self) -> dict[str, list[str]]:
        """Scene names by split; a drive's number is its own, so splits never share one."""
        first = 0
        splits = {}
        for split, count in zip(SPLITS, self.scenes, strict=True):
            splits[split] = [f"synthetic-{split}-{number:04d}" for number in range(first, first + count)]
            first += count
        return splits


def make_dataset(root: Path, settings: Settings, progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """Write the dataset into ``root``, or finish or keep the one of the same settings that is there; returns ``root``.

    ``progress(done, total)`` is called after each scene. Raises SyntheticError where ``root`` holds anything else.
    """
    _claim(root, settings)
    names = [name for scenes in settings.splits().values() for name in scenes]
    if not (root / VERSION).exists():
        for channel in [camera.channel for camera in CAMERAS] + ["LIDAR_TOP"]:
            (root / "samples" / channel).mkdir(parents=True, exist_ok=True)
        (root / "scenes").mkdir(exist_ok=True)
        for number, name in enumerate(names):
            record = root / "scenes" / f"{name}.json"
            if not record.exists():
                drive = make_drive(name, settings.seed, number, settings.keyframes)
                _write_json(record, _record_scene(root, drive, (settings.width, settings.height), number))
            progress(number + 1, len(names))
        _write_tables(root, settings, names)
    shutil.rmtree(root / "scenes", ignore_errors=True)
    progress(len(names), len(names))
    return root


def _claim(root: Path, settings: Settings) -> None:
    """Mark ``root`` as this dataset's, or find it so."""
    marker, wanted = root / "synthetic.json", json.loads(json.dumps(asdict(settings)))
    if marker.exists():
        found = json.loads(marker.read_text())
        if found != wanted:
            raise SyntheticError(f"{root}: holds a dataset made with {found}, not {wanted}; use another folder or remove it")
    elif root.exists() and any(path.name != "synthetic.json.partial" for path in root.iterdir()):
        raise SyntheticError(f"{root}: is not empty and no synthetic dataset; use another folder")
    else:
        root.mkdir(parents=True, exist_ok=True)
        _write_json(marker, wanted)


def _record_scene(root: Path, drive: Drive, size: tuple[int, int], number: int) -> Tables:
    """Render a drive's keyframes and return its rows."""
    rows: Tables = {name: [] for name in TABLES}
    rows["log"].append(
        {
            "token": _token(drive.name, "log"),
            "logfile": drive.name,
            "vehicle": "synthetic",
            "date_captured": "2020-09-13",
            "location": "synthetic-street",
        }
    )
    rows["calibrated_sensor"] = [_calibration(drive, channel, size) for channel in _channels()]
    for index in range(drive.keyframes):
        for table, found in _record_keyframe(root, drive, index, size, START_MICROSECONDS + number * 60_000_000).items():
            rows[table] += found
    _link_annotations(rows, drive)
    rows["scene"].append(
        {
            "token": _token(drive.name, "scene"),
            "log_token": _token(drive.name, "log"),
            "nbr_samples": drive.keyframes,
            "first_sample_token": rows["sample"][0]["token"],
            "last_sample_token": rows["sample"][-1]["token"],
            "name": drive.name,
            "description": f"A synthetic street with {len(drive.things)} objects",
        }
    )
    return rows


def _record_keyframe(root: Path, drive: Drive, index: int, size: tuple[int, int], start: int) -> Tables:
    """Render one moment with all sensors and return its rows; ``start``: microseconds of the drive's first keyframe."""
    seconds = drive.times()[index]
    stamp, world, ego = start + int(seconds * 1e6), World.of(drive, seconds), (drive.speed * seconds, EGO_LANE)
    sensors = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        photos = threads.map(lambda camera: take_photo(world, camera, ego, size), CAMERAS)
        for camera, photo in zip(CAMERAS, photos, strict=True):
            sensors.append(_sensor_row(drive, camera.channel, index, stamp, size))
            _write_bytes(root / sensors[-1]["filename"], _jpeg(photo.image))
    mount = np.array((ego[0] + LIDAR_POSITION[0], ego[1] + LIDAR_POSITION[1], LIDAR_POSITION[2]), np.float32)
    sweep = take_sweep(world, mount, LIDAR_ROTATION.rotation_matrix)
    sensors.append(_sensor_row(drive, "LIDAR_TOP", index, stamp, None))
    _write_bytes(root / sensors[-1]["filename"], sweep.points.tobytes())

    points = np.bincount(sweep.owner[sweep.owner >= 0], minlength=len(drive.things))
    measured = [int(thing) for thing in np.flatnonzero(points)]  # like nuScenes, nothing is annotated that no sensor measured
    pose = _global_pose(drive, ego, 0.0, 0.0)
    sample = {"token": _token(drive.name, "sample", index), "timestamp": stamp, "scene_token": _token(drive.name, "scene")}
    return {
        "sample": [sample | _links(drive, "sample", index)],
        "sample_data": sensors,
        "ego_pose": [{"token": row["ego_pose_token"], "timestamp": stamp} | pose for row in sensors],
        "sample_annotation": [_annotation(drive, thing, index, seconds, int(points[thing])) for thing in measured],
    }


def _sensor_row(drive: Drive, channel: str, index: int, stamp: int, size: tuple[int, int] | None) -> dict[str, Any]:
    suffix = "jpg" if size else "pcd.bin"
    return {
        "token": _token(drive.name, channel, index),
        "sample_token": _token(drive.name, "sample", index),
        "ego_pose_token": _token(drive.name, channel, index, "pose"),
        "calibrated_sensor_token": _token(drive.name, channel, "calibration"),
        "timestamp": stamp,
        "fileformat": "jpg" if size else "pcd",
        "is_key_frame": True,
        "height": size[1] if size else 0,
        "width": size[0] if size else 0,
        "filename": f"samples/{channel}/{drive.name}__{channel}__{stamp}.{suffix}",
    } | _links(drive, channel, index)


def _links(drive: Drive, kind: str, index: int) -> dict[str, str]:
    """The rows before and after in a scene."""
    return {
        "prev": _token(drive.name, kind, index - 1) if index else "",
        "next": _token(drive.name, kind, index + 1) if index + 1 < drive.keyframes else "",
    }


def _calibration(drive: Drive, channel: str, size: tuple[int, int]) -> dict[str, Any]:
    row = {"token": _token(drive.name, channel, "calibration"), "sensor_token": _token("sensor", channel)}
    for camera in CAMERAS:
        if camera.channel == channel:
            mount = {"translation": list(camera.position), "rotation": camera.rotation().elements.tolist()}
            return row | mount | {"camera_intrinsic": camera.intrinsic(size).tolist()}
    mount = {"translation": list(LIDAR_POSITION), "rotation": LIDAR_ROTATION.elements.tolist()}
    return row | mount | {"camera_intrinsic": []}


def _global_pose(drive: Drive, position: tuple[float, float], height: float, yaw: float) -> dict[str, list[float]]:
    """A pose of the road frame in the global one."""
    x, y, turn = drive.origin
    cosine, sine = np.cos(turn), np.sin(turn)
    place = [x + cosine * position[0] - sine * position[1], y + sine * position[0] + cosine * position[1], height]
    rotation = Quaternion(axis=(0, 0, 1), radians=turn + yaw)
    return {"translation": [float(value) for value in place], "rotation": rotation.elements.tolist()}


def _annotation(drive: Drive, number: int, index: int, seconds: float, points: int) -> dict[str, Any]:
    thing = drive.things[number]
    middle = GROUND_CLEARANCE + thing.size[2] / 2
    return {
        "token": _token(drive.name, "annotation", index, number),
        "sample_token": _token(drive.name, "sample", index),
        "instance_token": _token(drive.name, "instance", number),
        "visibility_token": "",
        "attribute_tokens": [_token("attribute", thing.attribute)] if thing.attribute else [],
        **_global_pose(drive, thing.at(seconds), middle, thing.yaw),
        "size": list(thing.size),
        "num_lidar_pts": points,
        "num_radar_pts": 0,
    }


def _link_annotations(rows: Tables, drive: Drive) -> None:
    """Chain each instance's annotations in time, and add its row."""
    tracks: dict[str, list[dict[str, Any]]] = {}
    for annotation in rows["sample_annotation"]:
        tracks.setdefault(annotation["instance_token"], []).append(annotation)
    category = {_token(drive.name, "instance", i): CATEGORIES[thing.name] for i, thing in enumerate(drive.things)}
    for token, track in tracks.items():
        for index, annotation in enumerate(track):
            annotation["prev"] = track[index - 1]["token"] if index else ""
            annotation["next"] = track[index + 1]["token"] if index + 1 < len(track) else ""
        rows["instance"].append(
            {
                "token": token,
                "category_token": _token("category", category[token]),
                "nbr_annotations": len(track),
                "first_annotation_token": track[0]["token"],
                "last_annotation_token": track[-1]["token"],
            }
        )


def _write_tables(root: Path, settings: Settings, names: list[str]) -> None:
    tables: Tables = {name: [] for name in TABLES}
    for name in names:
        for table, rows in json.loads((root / "scenes" / f"{name}.json").read_text()).items():
            tables[table] += rows
    tables["attribute"] = [_described("attribute", name) for name in ATTRIBUTES]
    tables["category"] = [_described("category", name) for name in CATEGORIES.values()]
    tables["visibility"] = [
        {"token": token, "level": level, "description": f"visibility {level[1:]} %"} for token, level in VISIBILITIES.items()
    ]
    tables["sensor"] = [
        {"token": _token("sensor", channel), "channel": channel, "modality": _modality(channel)} for channel in _channels()
    ]
    logs = [row["token"] for row in tables["log"]]
    tables["map"] = [{"token": _token("map"), "log_tokens": logs, "category": "semantic_prior", "filename": "maps/blank.png"}]
    (root / "maps").mkdir(exist_ok=True)
    cv2.imwrite(str(root / "maps" / "blank.png"), np.zeros((16, 16), np.uint8))

    partial = root / f"{VERSION}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for table, rows in tables.items():
        _write_json(partial / f"{table}.json", rows)
    # The devkit takes "train" and "val" for the official splits whatever splits.json says: the same scenes have a name it believes.
    splits = settings.splits()
    _write_json(partial / "splits.json", splits | {f"synthetic_{split}": scenes for split, scenes in splits.items()})
    partial.rename(root / VERSION)


def _described(table: str, name: str) -> dict[str, str]:
    return {"token": _token(table, name), "name": name, "description": name.replace(".", ", ").replace("_", " ")}


def _modality(channel: str) -> str:
    return "lidar" if channel == "LIDAR_TOP" else "camera"


def _channels() -> list[str]:
    return [camera.channel for camera in CAMERAS] + ["LIDAR_TOP"]


def _token(*names: object) -> str:
    """nuScenes' tokens are 32 hexadecimal digits; these follow from what they name."""
    return hashlib.md5("/".join(map(str, names)).encode(), usedforsecurity=False).hexdigest()


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1])


def _write_json(path: Path, document: object) -> None:
    _write_bytes(path, json.dumps(document, indent=1).encode())


def _write_bytes(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
