"""Statistics of a nuScenes root, in numbers that can be compared with another root's.

Only the ten classes count, and only the tables are read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.database import Row, Tables, build
from data_tools.infos import held_together, keyframe
from data_tools.schema import CLASSES
from data_tools.splits import scene_names
from sparsevit3d.errors import InputError
from sparsevit3d.processes import in_order
from sparsevit3d.progress import Progress, no_progress

CHUNK = 16  # keyframes in one piece of work
# Rows and columns of the grid that measures how much of an image the 2D boxes cover.
CELLS = (90, 160)

# Bounds of the histogram bars: metres from the lidar, metres per second, lidar points, and pixels
# (square root of a 2D box's area at 1600 x 900).
EDGES = {
    "distance": (0, 10, 20, 30, 40, 50, 60, 80, 120),
    "speed": (0, 0.2, 1, 2, 5, 10, 15, 20, 60),
    "lidar_points": (0, 1, 2, 5, 10, 20, 50, 100, 1000, 100000),
    "pixels": (0, 10, 20, 40, 80, 160, 320, 640, 1600),
}

# v1.0-trainval as the devkit's list_categories() prints it: the number of boxes, and the mean
# width, length and height in metres. v1.0-trainval has 34,149 keyframes.
PUBLISHED_KEYFRAMES = 34_149
PUBLISHED: dict[str, tuple[int, tuple[float, float, float]]] = {
    "car": (493_322, (1.95, 4.62, 1.73)),
    "truck": (88_519, (2.51, 6.93, 2.84)),
    "trailer": (24_860, (2.90, 12.29, 3.87)),
    "bus": (16_321, (2.93, 11.07, 3.47)),  # rigid and bendy buses, weighted by their counts
    "construction_vehicle": (14_671, (2.85, 6.37, 3.19)),
    "bicycle": (11_859, (0.60, 1.70, 1.28)),
    "motorcycle": (12_617, (0.77, 2.11, 1.47)),
    # Adults, children, construction workers and police officers. The size is the adults' alone.
    "pedestrian": (220_194, (0.67, 0.73, 1.77)),
    "traffic_cone": (97_959, (0.41, 0.41, 1.07)),
    "barrier": (152_087, (2.53, 0.50, 0.98)),
}


@dataclass
class Statistics:
    """Sums over keyframes. The sums of two pieces of work can be added."""

    keyframes: int = 0
    images: int = 0
    boxes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CLASSES), np.int64))
    # summed width, length, height of each class, metres
    sizes: NDArray[np.float64] = field(default_factory=lambda: np.zeros((len(CLASSES), 3)))
    # boxes at each of nuScenes' four levels
    visibility: NDArray[np.int64] = field(default_factory=lambda: np.zeros(4, np.int64))
    covered: float = 0.0  # summed share of each image that 2D boxes cover
    bars: dict[str, NDArray[np.int64]] = field(
        default_factory=lambda: {
            name: np.zeros(len(edges) - 1, np.int64) for name, edges in EDGES.items()
        }
    )

    def add(self, other: Statistics) -> None:
        self.keyframes += other.keyframes
        self.images += other.images
        self.covered += other.covered
        for mine, theirs in (
            (self.boxes, other.boxes),
            (self.sizes, other.sizes),
            (self.visibility, other.visibility),
        ):
            mine += theirs
        for name, bars in other.bars.items():
            self.bars[name] += bars

    def as_dict(self) -> dict[str, Any]:
        """Return means and shares for a table or a picture.

        A value is None if the root does not say it.
        """
        total = int(self.boxes.sum())
        return {
            "keyframes": self.keyframes,
            "boxes_per_keyframe": total / self.keyframes,
            "class_share": {
                name: _share(int(count), total)
                for name, count in zip(CLASSES, self.boxes, strict=True)
            },
            "mean_size": {
                name: (size / count).round(3).tolist() if count else None
                for name, size, count in zip(CLASSES, self.sizes, self.boxes, strict=True)
            },
            "visibility_share": _shares(self.visibility)
            if self.visibility.sum() > total / 2
            else None,
            "covered_share_of_image": self.covered / self.images if self.images else None,
            **{f"{name}_share": _shares(bars) for name, bars in self.bars.items()},
        }


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0


def _shares(bars: NDArray[np.int64]) -> list[float] | None:
    total = int(bars.sum())
    return [count / total for count in bars.tolist()] if total else None


def published() -> dict[str, Any]:
    """Return the published figures of nuScenes v1.0-trainval in the same form as ``as_dict``.

    Figures that are not published are None.
    """
    total = sum(count for count, _ in PUBLISHED.values())
    return {
        "keyframes": PUBLISHED_KEYFRAMES,
        "boxes_per_keyframe": total / PUBLISHED_KEYFRAMES,
        "class_share": {name: PUBLISHED[name][0] / total for name in CLASSES},
        "mean_size": {name: list(PUBLISHED[name][1]) for name in CLASSES},
        "visibility_share": None,
        "covered_share_of_image": None,
        **{f"{name}_share": None for name in EDGES},
    }


def statistics(
    root: Path, version: str, workers: int, progress: Progress = no_progress
) -> dict[str, Any]:
    """Return the statistics of all keyframes of a root.

    Raises InputError if there is no keyframe or if the tables are not consistent.
    """
    total = Statistics()
    folder = root / version
    with tempfile.TemporaryDirectory() as scratch:
        index = Path(scratch) / "tables.sqlite"
        build(folder, index, no_progress)
        tables = Tables(index, folder)
        (count,) = tables.database.execute("SELECT COUNT(*) FROM sample").fetchone()
        if not count:
            raise InputError(
                f"{folder / 'sample.json'}: has no keyframe. 'sparsevit3d data check' lists what "
                "is wrong."
            )
        try:
            for piece in in_order(_piece, _jobs(index, folder), workers):
                total.add(piece)
                progress(total.keyframes, count)
        finally:
            _tables.cache_clear()
    return total.as_dict()


def _jobs(index: Path, folder: Path) -> Iterator[tuple[Path, Path, list[str]]]:
    tokens = Tables(index, folder).samples(set(scene_names(folder)))
    while piece := list(islice(tokens, CHUNK)):
        yield index, folder, piece


def _piece(index: Path, folder: Path, tokens: list[str]) -> Statistics:
    tables = _tables(index, folder)
    found = Statistics()
    for token in tokens:
        with held_together(tables, token):
            _count(
                found,
                keyframe(tables, token),
                tables.where("sample_annotation", "sample_token", token),
            )
    return found


@lru_cache(1)
def _tables(index: Path, folder: Path) -> Tables:
    return Tables(index, folder)


def _count(found: Statistics, info: Row, annotations: list[Row]) -> None:
    found.keyframes += 1
    values: dict[str, list[float]] = {name: [] for name in EDGES}
    for row, annotation in zip(info["instances"], annotations, strict=True):
        if row["bbox_label"] < 0:
            continue
        x, y, _, length, width, height, _ = row["bbox_3d"]
        found.boxes[row["bbox_label"]] += 1
        found.sizes[row["bbox_label"]] += (width, length, height)
        values["distance"].append(float(np.hypot(x, y)))
        values["lidar_points"].append(row["num_lidar_pts"])
        if np.isfinite(row["velocity"][0]):
            values["speed"].append(float(np.hypot(*row["velocity"])))
        if annotation["visibility_token"] in ("1", "2", "3", "4"):
            found.visibility[int(annotation["visibility_token"]) - 1] += 1
    for name, instances in info.get("cam_instances", {}).items():
        found.images += 1
        scale = 1600 / info["images"][name]["width"]
        covered = np.zeros(CELLS, bool)
        for row in instances:
            left, top, right, bottom = np.array(row["bbox"]) * scale
            values["pixels"].append(float(np.sqrt((right - left) * (bottom - top))))
            covered[
                int(top / 10) : int(np.ceil(bottom / 10)), int(left / 10) : int(np.ceil(right / 10))
            ] = True
        found.covered += float(covered.mean())
    for name, edges in EDGES.items():
        found.bars[name] += np.histogram(np.clip(values[name], edges[0], edges[-1] - 1e-6), edges)[
            0
        ]
