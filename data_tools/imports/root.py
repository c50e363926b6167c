"""Write a nuScenes root of frames: images, tables and splits.

What the frames do not say is missing in the root. Without velocities and without tracks, times and
ego poses, from which the devkit computes them, velocities are unknown. Attributes and visibility
are empty. The devkit drops boxes without lidar points, so a box of unknown count gets one point.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nuscenes.utils.data_classes import Box
from PIL import Image
from pyquaternion import Quaternion

from data_tools.images import read_image
from data_tools.imports.frames import Frame, Frames, Shown, Thing
from data_tools.imports.values import Matrix
from data_tools.infos import image_box
from data_tools.schema import IMAGE_FORMATS, TABLES
from data_tools.table_rows import Row, Rows, link, token, vocabulary
from sparsevit3d.errors import InputError
from sparsevit3d.files import sole_owner, whole_file, write_bytes, write_json
from sparsevit3d.progress import Progress, no_progress

VERSION = "v1.0-imported"
MARKER = "import.json"
STEP = 500_000  # microseconds between frames of a scene that have no time
PAUSE = 60_000_000  # microseconds between scenes without times
START = 1_600_000_000_000_000
SEARCH = 8  # each eighth training scene judges plans, unless a split is named search
SUFFIX = {name: form for form, names in IMAGE_FORMATS.items() for name in names}


@dataclass
class Imported:
    """What an import wrote.

    Args:
        images (int): Number of images.
        objects (int): Number of boxes.
        unseen (int): Number of boxes left out, because no image shows them.
        splits (dict): The names of each split's scenes.
        lacks (list of str): What the root does not say, such as "velocities".
    """

    images: int
    objects: int
    unseen: int
    splits: dict[str, list[str]]
    lacks: list[str]


def write_root(frames: Frames, root: Path, progress: Progress = no_progress) -> Imported:
    """Write ``root``, a new folder or one where an interrupted import stopped.

    Raises InputError for an image that cannot be used and for a folder that holds anything else.
    """
    root.mkdir(parents=True, exist_ok=True)
    with sole_owner(root):
        _claim(root)
        rows = _shared_rows(frames)
        unseen = 0
        calibrations: dict[str, Row] = {}
        stamps = _stamps(frames)
        for number, frame in enumerate(frames.frames):
            unseen += _add_frame(rows, calibrations, number, frame, stamps[number], root)
            progress(number + 1, len(frames.frames), "images")
        rows["calibrated_sensor"] = list(calibrations.values())
        link(rows)
        _add_ends(rows)
        splits = _splits(frames)
        _write_tables(rows, splits, root)
        (root / MARKER).unlink()
    return Imported(
        len(rows["sample_data"]), len(rows["sample_annotation"]), unseen, splits, _lacks(frames)
    )


def _claim(root: Path) -> None:
    """Take an empty folder, or one where an import stopped. What that import copied is removed."""
    if (root / VERSION).exists():
        raise InputError(f"{root}: holds an imported root already. Use another folder.")
    if (root / MARKER).exists():
        shutil.rmtree(root / "samples", ignore_errors=True)
        return
    if any(root.iterdir()):
        raise InputError(f"{root}: is not empty. Use another folder.")
    write_json(root / MARKER, {"import": "not finished"})


def _shared_rows(frames: Frames) -> Rows:
    """Return the rows that belong to no frame. Scenes get their ends later."""
    log = token("log")
    rows: Rows = {table: [] for table in TABLES} | vocabulary()
    rows["log"] = [
        {"token": log, "logfile": "", "vehicle": "", "date_captured": "", "location": ""}
    ]
    # The devkit looks up a map of each log, although detection needs none.
    rows["map"] = [{"token": token("map"), "log_tokens": [log], "category": "", "filename": ""}]
    rows["sensor"] = [
        {"token": token("sensor", camera), "channel": camera, "modality": "camera"}
        for camera in frames.cameras
    ]
    rows["scene"] = [
        {"token": token("scene", name), "log_token": log, "name": name, "description": ""}
        for name in dict.fromkeys(frame.scene for frame in frames.frames)
    ]
    return rows


def _add_frame(
    rows: Rows, calibrations: dict[str, Row], number: int, frame: Frame, stamp: int, root: Path
) -> int:
    """Add one moment's rows, copy its images, and count the objects that no image shows."""
    sample = token("sample", number)
    pose = np.eye(4) if frame.ego_to_global is None else frame.ego_to_global
    rows["sample"].append(
        {"token": sample, "timestamp": stamp, "scene_token": token("scene", frame.scene)}
    )
    rows["ego_pose"].append({"token": token("pose", number), "timestamp": stamp} | _placed(pose))
    sizes = {}
    for camera, shown in frame.images.items():
        calibration = _calibration(frame.scene, camera, shown)
        calibrations[calibration["token"]] = calibration
        name, form, sizes[camera] = _copy(shown.file, root, camera, number)
        rows["sample_data"].append(
            {
                "token": token("image", number, camera),
                "sample_token": sample,
                "ego_pose_token": token("pose", number),
                "calibrated_sensor_token": calibration["token"],
                "timestamp": stamp,
                "fileformat": form,
                "is_key_frame": True,
                "height": sizes[camera][1],
                "width": sizes[camera][0],
                "filename": name,
            }
        )
    seen = [thing for thing in frame.objects if _is_seen(thing, frame, sizes)]
    for place, thing in enumerate(seen):
        to_global = pose @ frame.images[thing.camera].to_ego
        linked = thing.track is not None and _has_motion(frame)
        track = (frame.scene, thing.track) if linked else (number, place, "alone")
        rows["sample_annotation"].append(
            {"token": token("box", number, place), "sample_token": sample}
            | _annotation(thing, to_global, token("instance", *track))
        )
    return len(frame.objects) - len(seen)


def _has_motion(frame: Frame) -> bool:
    """Whether the places of a track in this and the next frame say how fast it moves."""
    return frame.time is not None and frame.ego_to_global is not None


def _stamps(frames: Frames) -> list[int]:
    """Return the frames' times in microseconds. Times that are not given follow each other."""
    stamps = []
    made = START
    last: dict[str, int] = {}
    for frame in frames.frames:
        if frame.time is not None:
            stamps.append(round(frame.time * 1e6))
            continue
        made = max(made, last[frame.scene] + STEP) if frame.scene in last else made + PAUSE
        last[frame.scene] = made
        stamps.append(made)
    return stamps


def _calibration(scene: str, camera: str, shown: Shown) -> Row:
    """Return a calibration that belongs to one scene, as in nuScenes. Chains follow it."""
    lens = shown.intrinsic.tolist()
    return {
        "token": token("calibration", scene, camera, lens, shown.to_ego.tolist()),
        "sensor_token": token("sensor", camera),
        **_placed(shown.to_ego),
        "camera_intrinsic": lens,
    }


def _placed(transform: Matrix) -> Row:
    rotation = Quaternion(matrix=transform[:3, :3], rtol=1e-3, atol=1e-3)
    return {"translation": transform[:3, 3].tolist(), "rotation": rotation.elements.tolist()}


def _copy(source: Path, root: Path, camera: str, number: int) -> tuple[str, str, tuple[int, int]]:
    """Copy an image into the root. Returns its name there, its fileformat, width and height."""
    _, size = read_image(source)  # whole, so that a truncated image is refused here
    with Image.open(source) as image:
        form = SUFFIX.get(image.format or "")
    if form is None:
        raise InputError(f"{source}: is neither JPEG nor PNG. Save it as one of them.")
    name = f"samples/{camera}/{number:06d}_{source.stem}.{form}"
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, source.read_bytes())
    return name, form, size


def _box(thing: Thing) -> Box:
    """Return the box in its camera's frame."""
    cosine = np.cos(thing.yaw)
    sine = np.sin(thing.yaw)
    # The columns point forward, left and up. Up is -y, because y points down.
    axes = np.array([[cosine, sine, 0], [0, 0, -1], [-sine, cosine, 0]])
    length, width, height = thing.size
    return Box(thing.center, [width, length, height], Quaternion(matrix=axes))


def _is_seen(thing: Thing, frame: Frame, sizes: dict[str, tuple[int, int]]) -> bool:
    """Whether some image shows a part of the object. A root holds no truth that nobody can see."""
    for camera, shown in frame.images.items():
        box = _box(thing)
        moved = np.linalg.inv(shown.to_ego) @ frame.images[thing.camera].to_ego
        box.rotate(Quaternion(matrix=moved[:3, :3], rtol=1e-3, atol=1e-3))
        box.translate(moved[:3, 3])
        if box.center[2] > 0 and image_box(box, shown.intrinsic, *sizes[camera]):
            return True
    return False


def _annotation(thing: Thing, to_global: Matrix, instance: str) -> Row:
    box = _box(thing)
    box.rotate(Quaternion(matrix=to_global[:3, :3], rtol=1e-3, atol=1e-3))
    box.translate(to_global[:3, 3])
    row: Row = {
        "instance_token": instance,
        "visibility_token": "",
        "attribute_tokens": [token("attribute", thing.attribute)] if thing.attribute else [],
        "translation": box.center.tolist(),
        "size": box.wlh.tolist(),
        "rotation": box.orientation.elements.tolist(),
        "num_lidar_pts": 1 if thing.lidar_points is None else thing.lidar_points,
        "num_radar_pts": 0,
        "category_token": token("category", thing.category),  # link moves it to the instance
    }
    if thing.visibility is not None:
        row["visibility_token"] = str(1 + int(np.digitize(thing.visibility, (0.4, 0.6, 0.8))))
    if thing.velocity is not None:
        row["velocity"] = _over_ground(thing.velocity, to_global)
    return row


def _over_ground(velocity: tuple[float, float], to_global: Matrix) -> list[float]:
    """Turn a velocity to the global frame. A camera that looks down measures along the ground."""
    across, ahead = velocity
    x, y = to_global[:2, 2] / np.linalg.norm(to_global[:2, 2])
    return [across * y + ahead * x, ahead * y - across * x, 0.0]


def _add_ends(rows: Rows) -> None:
    for scene in rows["scene"]:
        own = [row["token"] for row in rows["sample"] if row["scene_token"] == scene["token"]]
        scene["nbr_samples"] = len(own)
        scene["first_sample_token"] = own[0]
        scene["last_sample_token"] = own[-1]


def _splits(frames: Frames) -> dict[str, list[str]]:
    """Return the scenes of each split.

    Without any split, each fifth scene is for ``val`` and the others are for ``train``. Without
    ``search``, each eighth scene of ``train`` goes there.
    """
    of_scene = {frame.scene: frame.split for frame in frames.frames}
    if not any(of_scene.values()):
        of_scene = {
            scene: "val" if place % 5 == 4 else "train" for place, scene in enumerate(of_scene)
        }
    splits: dict[str, list[str]] = {}
    for scene, split in of_scene.items():
        if split:
            splits.setdefault(split, []).append(scene)
    train = splits.get("train", [])
    if "search" not in splits and len(train) >= SEARCH:
        splits["search"] = train[SEARCH - 1 :: SEARCH]
        splits["train"] = [scene for scene in train if scene not in set(splits["search"])]
    return splits


def _lacks(frames: Frames) -> list[str]:
    """List what no frame or object says."""
    things = [thing for frame in frames.frames for thing in frame.objects]
    poses = any(frame.ego_to_global is not None for frame in frames.frames)
    tracks = Counter(
        (frame.scene, thing.track)
        for frame in frames.frames
        for thing in frame.objects
        if thing.track is not None and _has_motion(frame)
    )
    moving = any(count > 1 for count in tracks.values())
    known = {
        "velocities": moving or any(thing.velocity is not None for thing in things),
        "attributes": any(thing.attribute is not None for thing in things),
        "visibility": any(thing.visibility is not None for thing in things),
        "ego poses": poses,
    }
    return [name for name, is_known in known.items() if not is_known]


def _write_tables(rows: Rows, splits: dict[str, list[str]], root: Path) -> None:
    partial = root / f"{VERSION}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for table in TABLES:
        with whole_file(partial / f"{table}.json") as file:
            file.write(_as_list(rows[table]))
    # The devkit takes "train" and "val" for the official splits, whatever splits.json says.
    write_json(
        partial / "splits.json",
        splits | {f"imported_{split}": scenes for split, scenes in splits.items()},
    )
    partial.rename(root / VERSION)


def _as_list(rows: Iterable[Row]) -> bytes:
    lines = ",\n".join(json.dumps(row) for row in rows)
    return f"[{lines}]\n".encode()
