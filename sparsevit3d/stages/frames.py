"""Frames as they come: from images, folders and videos, each with its camera."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Lock
from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray

from sparsevit3d.errors import InputError
from sparsevit3d.stages.calibration import Camera, owner_of

IMAGES = (".jpg", ".jpeg", ".png")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
WHOLE = 0.95  # of the frames that a video's header promises, which it often rounds


@dataclass(frozen=True)
class Frame:
    """One image to look at.

    Args:
        name (Path): Its file. Of a video: the file, "#" and the number of the frame, from 0.
        camera (str): Its camera's name in the calibration.
        pixels (array or None): (H, W, 3) blue, green, red. None: the file is read. Default: None.
    """

    name: Path
    camera: str
    pixels: NDArray[np.uint8] | None = None


class Clock:
    """Where the time of a stream goes: seconds by part of the work, whichever thread does it."""

    def __init__(self) -> None:
        self.begun = perf_counter()
        self.seconds = defaultdict[str, float](float)
        self._lock = Lock()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.add(name, perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        with self._lock:
            self.seconds[name] += seconds

    def report(self, frames: int) -> str:
        """Say how many frames a second there were, and what each part took of a frame."""
        took = perf_counter() - self.begun
        parts = ", ".join(
            f"{name} {1000 * seconds / max(1, frames):.1f} ms"
            for name, seconds in sorted(self.seconds.items(), key=lambda item: -item[1])
        )
        return f"{frames / took:.1f} frames a second. Of a frame: {parts}. Parts run side by side."


def list_images(paths: Sequence[Path]) -> list[Path]:
    """List the images and videos among ``paths``, in order.

    A folder gives its images by name, or its videos if it has no image. Raises InputError for a
    path that does not exist and for a folder without either.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such image, video or folder. Check the path.")
        inside = [path]
        if path.is_dir():
            files = sorted(path.iterdir())
            inside = [file for file in files if file.suffix.lower() in IMAGES]
            inside = inside or [file for file in files if file.suffix.lower() in VIDEOS]
        if not inside:
            raise InputError(
                f"{path}: holds no .jpg, .jpeg or .png file and no video. Name images or videos, "
                "or a folder of them."
            )
        found += inside
    return found


def frames_in(
    paths: Sequence[Path], calibration: Mapping[str, Camera]
) -> tuple[Iterator[Frame], int]:
    """All frames of ``paths`` with their cameras, and how many there are.

    Images come first. Videos are a rig's: their frames come side by side, until one of them ends.

    Raises InputError for a file that matches no camera or several, for a video that cannot be read,
    and for two videos of one camera. All of this is before the first frame.
    """
    owned = [(path, owner_of(path, calibration)) for path in paths]
    videos = [pair for pair in owned if pair[0].suffix.lower() in VIDEOS]
    by_camera: dict[str, Path] = {}
    for path, camera in videos:
        if camera in by_camera:
            raise InputError(
                f"{path}: is of camera {camera!r}, and so is {by_camera[camera]}. Give one video "
                "of each camera."
            )
        by_camera[camera] = path
    images = [Frame(*pair) for pair in owned if pair not in videos]
    counts = [_length(path) for path, _ in videos]
    total = len(images) + min(counts, default=0) * len(videos)
    return chain(images, _side_by_side(videos, min(counts, default=0))), total


def _length(path: Path) -> int:
    video = cv2.VideoCapture(str(path))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    video.release()
    if count < 1:
        raise InputError(f"{path}: is no video that OpenCV can read. Convert it to .mp4 (H.264).")
    return count


def _side_by_side(videos: Sequence[tuple[Path, str]], count: int) -> Iterator[Frame]:
    """The frames of all videos, until one ends. A video that breaks off is told in a warning."""
    opened = [cv2.VideoCapture(str(path)) for path, _ in videos]
    try:
        number = 0
        while opened:
            read = [video.read() for video in opened]
            goods = [good for good, _ in read]
            if not all(goods):
                if number < WHOLE * count:
                    path = videos[goods.index(False)][0]
                    warnings.warn(
                        f"{path}: breaks off at frame {number} of {count}. Convert it anew.",
                        stacklevel=2,
                    )
                return
            for (path, camera), (_, pixels) in zip(videos, read, strict=True):
                name = path.with_name(f"{path.name}#{number:06d}")
                yield Frame(name, camera, np.asarray(pixels, np.uint8))
            number += 1
    finally:
        for video in opened:
            video.release()
