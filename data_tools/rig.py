"""What the rest of the project asks of a root's rig: its cameras, their order, and the reference.

A root's cameras are its sensors of modality camera. Their number, names, sizes and lenses are free.
nuScenes' own six come first, in mmdet3d's order. Others follow in the order of the sensor table.

The reference sensor gives a keyframe its frame and its time. It is the lidar on nuScenes' roots. A
root without that lidar has its first camera instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from data_tools.schema import CAMERAS, LIDAR
from sparsevit3d.errors import InputError

if TYPE_CHECKING:
    from data_tools.database import Tables


def ordered(channels: Iterable[str]) -> tuple[str, ...]:
    """Sort camera channels: nuScenes' six in mmdet3d's order, then the others as they come."""
    found = list(dict.fromkeys(channels))
    known = [name for name in CAMERAS if name in found]
    return (*known, *(name for name in found if name not in known))


@lru_cache(4)
def cameras(tables: Tables) -> tuple[str, ...]:
    """Return the channels of a root's cameras, in order.

    Raises InputError if the root has no camera.
    """
    rows = tables.all("sensor")
    found = ordered(row["channel"] for row in rows if row["modality"] == "camera")
    if not found:
        raise InputError(
            f"{tables.folder / 'sensor.json'}: no sensor has the modality camera. "
            "Add a row for each camera."
        )
    return found


@lru_cache(4)
def sensors(tables: Tables) -> tuple[str, ...]:
    """Return the channels that every keyframe needs: all cameras, and the lidar if there is one."""
    rows = tables.all("sensor")
    has_lidar = any(row["channel"] == LIDAR and row["modality"] == "lidar" for row in rows)
    return (*cameras(tables), LIDAR) if has_lidar else cameras(tables)


def reference(channels: Mapping[str, Any]) -> str:
    """Choose a keyframe's reference sensor among its channels: the lidar, or the first camera."""
    return LIDAR if LIDAR in channels else ordered(channels)[0]


def short_path(filename: str, channel: str) -> str:
    """Return how an info file names a sensor's file.

    mmdet3d's form, the bare name, stands for a file in ``samples/CHANNEL``. Any other file keeps
    the path that the tables have.
    """
    path = PurePosixPath(filename)
    if str(path) == f"samples/{channel}/{path.name}":
        return path.name
    return filename if "/" in filename else f"./{filename}"


def full_path(root: Path | str, channel: str, path: str) -> Path:
    """Return the file that ``path``, made by :func:`short_path`, stands for."""
    return Path(root) / path if "/" in path else Path(root) / "samples" / channel / path
