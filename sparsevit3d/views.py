"""What there is to look at, as plain data: camera frames with their calibration and boxes. Pictures are made from these alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Boxes:
    """N boxes in a camera's frame: x right, y down, z forward, metres."""

    corners: NDArray[np.floating]  # (N, 8, 3); 0-3 one face in order round, 4-7 the opposite one in the same order
    names: list[str]
    scores: NDArray[np.floating] | None = None  # (N,); None for ground truth


NO_BOXES = Boxes(np.zeros((0, 8, 3)), [])


@dataclass(frozen=True)
class CameraView:
    """One camera's frame, and which part of it the network saw: ``network pixel = frame pixel * scale - offset``."""

    channel: str
    image: NDArray[np.uint8]  # (H, W, 3) RGB, as on disk
    intrinsic: NDArray[np.floating]  # (3, 3) of that image
    scale: tuple[float, float]  # x, y
    offset: tuple[float, float]  # x, y, network pixels
    network_size: tuple[int, int]  # width, height
    truth: Boxes = field(default=NO_BOXES)
    predictions: Boxes = field(default=NO_BOXES)

    def to_frame(self, rectangle: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in network pixels to the same in frame pixels."""
        left, top, right, bottom = rectangle
        (across, down), (x, y) = self.scale, self.offset
        return (left + x) / across, (top + y) / down, (right + x) / across, (bottom + y) / down
