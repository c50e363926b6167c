"""A synthetic nuScenes on disk: any number of drives, in memory that does not grow.

Any number of processes can share the work. Each drive is rendered and recorded by itself
(``scenes/NAME.json`` inside the root), so that an interrupted run goes on where the run stopped.
The tables are put together at the end, all at once. The same settings give the same bytes for any
number of workers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_tools.schema import CAMERAS, LIDAR, TABLES
from data_tools.synthetic.presets import PRESETS, make_drive
from data_tools.synthetic.tables import record_drive
from data_tools.table_rows import token, vocabulary
from sparsevit3d.errors import InputError
from sparsevit3d.files import (
    differences,
    read_json,
    sole_owner,
    whole_file,
    write_bytes,
    write_json,
)
from sparsevit3d.processes import in_order
from sparsevit3d.progress import Progress, no_progress

VERSION = "v1.0-synthetic"
SPLITS = ("train", "search", "val")


@dataclass(frozen=True)
class Settings:
    """All that a dataset depends on: the same settings give the same bytes."""

    scenes: tuple[int, int, int] = (60, 5, 10)  # scenes in the splits train, search, val
    keyframes: int = 2  # keyframes of each scene, half a second apart
    width: int = 800
    height: int = 450
    seed: int = 0
    preset: str = "easy"
    sweeps: bool = False  # whether the lidar turns at 10 Hz between keyframes

    def __post_init__(self) -> None:
        if min(self.scenes) < 0 or not sum(self.scenes):
            raise InputError(
                f"scenes {self.scenes}: give three numbers, for train, search and val, not all 0."
            )
        if self.keyframes < 1 or min(self.width, self.height) < 32 or self.seed < 0:
            raise InputError(
                "a drive needs at least 1 keyframe, images of at least 32 x 32 pixels and a seed "
                "of at least 0."
            )
        if self.preset not in PRESETS:
            raise InputError(f"preset {self.preset!r}: there are {', '.join(PRESETS)}")

    def splits(self) -> dict[str, list[str]]:
        """Return scene names by split.

        Each drive has its own number, so splits never share a drive.
        """
        names = list(self.names())
        bounds = np.cumsum((0, *self.scenes))
        return {
            split: names[start:end]
            for split, start, end in zip(SPLITS, bounds, bounds[1:], strict=False)
        }

    def names(self) -> Iterator[str]:
        number = 0
        for split, count in zip(SPLITS, self.scenes, strict=True):
            for _ in range(count):
                yield f"synthetic-{split}-{number:04d}"
                number += 1


def make_dataset(
    root: Path, settings: Settings, workers: int = 1, progress: Progress = no_progress
) -> Path:
    """Write the dataset into ``root`` and return ``root``.

    If ``root`` holds a dataset of the same settings, the dataset is finished or kept.
    ``progress(done, total)`` is called after each scene.

    Raises InputError if ``root`` holds anything else or if another call is at work in ``root``.
    """
    _claim(root, settings)
    with sole_owner(root):
        _finish(root, settings, workers, progress)
    return root


def _finish(root: Path, settings: Settings, workers: int, progress: Progress) -> None:
    total = sum(settings.scenes)
    if not (root / VERSION).exists():
        for channel in (*CAMERAS, LIDAR):
            (root / "samples" / channel).mkdir(parents=True, exist_ok=True)
        if settings.sweeps:
            (root / "sweeps" / LIDAR).mkdir(parents=True, exist_ok=True)
        (root / "scenes").mkdir(exist_ok=True)
        jobs = ((root, settings, number, name) for number, name in enumerate(settings.names()))
        for done, _ in enumerate(in_order(_record, jobs, workers), start=1):
            progress(done, total)
        _write_tables(root, settings)
    shutil.rmtree(root / "scenes", ignore_errors=True)
    progress(total, total)


def _record(root: Path, settings: Settings, number: int, name: str) -> None:
    """Render one drive, unless an earlier call did."""
    record = root / "scenes" / f"{name}.json"
    if not record.exists():
        drive = make_drive(name, settings.preset, settings.seed, number, settings.keyframes)
        look = PRESETS[settings.preset].look
        write_json(
            record,
            record_drive(root, drive, look, (settings.width, settings.height), settings.sweeps),
        )


def _claim(root: Path, settings: Settings) -> None:
    """Mark ``root`` as this dataset's, or check that an earlier call did.

    Raises InputError if ``root`` holds anything else.
    """
    marker = root / "synthetic.json"
    wanted = json.loads(json.dumps(asdict(settings)))
    if marker.exists():
        found = read_json(marker, f"Use another folder, or remove {root}.")
        if changed := differences(found, wanted):
            raise InputError(
                f"{root}: holds a dataset of other settings ({changed}). Use another folder, or "
                "remove it."
            )
    elif root.exists() and any(path.name != ".partial.synthetic.json" for path in root.iterdir()):
        raise InputError(f"{root}: is not empty and no synthetic dataset. Use another folder.")
    else:
        root.mkdir(parents=True, exist_ok=True)
        write_json(marker, wanted)


def _write_tables(root: Path, settings: Settings) -> None:
    (root / "maps").mkdir(exist_ok=True)
    write_bytes(
        root / "maps" / "blank.png", bytes(cv2.imencode(".png", np.zeros((16, 16), np.uint8))[1])
    )
    partial = root / f"{VERSION}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    shared = _shared_rows(settings)
    with ExitStack() as stack:
        files = {
            table: stack.enter_context(whole_file(partial / f"{table}.json")) for table in TABLES
        }
        for table, file in files.items():
            file.write(b"[")
            file.write(
                ",\n".join(json.dumps(row, indent=0) for row in shared.get(table, ())).encode()
            )
        begun = {table: bool(shared.get(table)) for table in TABLES}
        for name in settings.names():
            for table, rows in json.loads((root / "scenes" / f"{name}.json").read_text()).items():
                for row in rows:
                    files[table].write(
                        (",\n" if begun[table] else "").encode()
                        + json.dumps(row, indent=0).encode()
                    )
                    begun[table] = True
        for file in files.values():
            file.write(b"]\n")
    # The devkit takes "train" and "val" for the official splits, whatever splits.json says. The
    # same scenes therefore also have a name that the devkit looks up in splits.json.
    splits = settings.splits()
    write_json(
        partial / "splits.json",
        splits | {f"synthetic_{split}": scenes for split, scenes in splits.items()},
    )
    partial.rename(root / VERSION)


def _shared_rows(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the tables that belong to no drive."""
    logs = [token(name, "log") for name in settings.names()]
    channels = [*((name, "camera") for name in CAMERAS), (LIDAR, "lidar")]
    return {
        **vocabulary(),
        "sensor": [
            {"token": token("sensor", channel), "channel": channel, "modality": kind}
            for channel, kind in channels
        ],
        "map": [
            {
                "token": token("map"),
                "log_tokens": logs,
                "category": "semantic_prior",
                "filename": "maps/blank.png",
            }
        ],
    }
