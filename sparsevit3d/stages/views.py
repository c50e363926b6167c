"""What there is to look at, as plain data: camera frames with their calibration and boxes, lidar
points, windows.

Pictures are made from these alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sparsevit3d.swin.trace import BlockTrace


@dataclass(frozen=True)
class Boxes:
    """N boxes in one frame, metres: a camera's (x right, y down, z forward) or the ego's (x
    forward, y left, z up).
    """

    # (N, 8, 3). 0-3 the front face: left upper, right upper, right lower, left lower. 4-7 the rear.
    corners: NDArray[np.floating]
    names: list[str]
    scores: NDArray[np.floating] | None = None  # (N,); None for ground truth

    def __getitem__(self, chosen: NDArray) -> Boxes:
        """Those at the indices, or where the mask is true."""
        numbers = np.arange(len(self.names))[chosen]
        return Boxes(
            self.corners[numbers],
            [self.names[n] for n in numbers],
            None if self.scores is None else self.scores[numbers],
        )

    @property
    def centres(self) -> NDArray[np.floating]:
        """(N, 3)."""
        return self.corners.mean(1)


NO_BOXES = Boxes(np.zeros((0, 8, 3)), [])


@dataclass(frozen=True)
class CameraView:
    """One camera's frame, and which part of it the network saw: ``network pixel = frame pixel *
    scale - offset``.
    """

    channel: str
    image: NDArray[np.uint8]  # (H, W, 3) RGB, as on disk
    intrinsic: NDArray[np.floating]  # (3, 3) of that image
    scale: tuple[float, float]  # x, y
    offset: tuple[float, float]  # x, y, network pixels
    network_size: tuple[int, int]  # width, height
    truth: Boxes = field(default=NO_BOXES)
    predictions: Boxes = field(default=NO_BOXES)
    # (4, 4) from the camera's frame, each at its own time
    to_ego: NDArray[np.floating] = field(default_factory=lambda: np.eye(4))

    def to_frame(
        self, rectangle: tuple[float, float, float, float]
    ) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in network pixels to the same in frame pixels."""
        left, top, right, bottom = rectangle
        (across, down) = self.scale
        (x, y) = self.offset
        return (left + x) / across, (top + y) / down, (right + x) / across, (bottom + y) / down


@dataclass(frozen=True)
class Keyframe:
    """All there is to see of one moment."""

    name: str
    seconds: float  # since some moment that the keyframes of a drive share
    plan: str
    views: list[CameraView]
    trace: list[BlockTrace]  # of the views' shared forward pass, in their order
    points: NDArray[np.floating]  # (P, 3) of the lidar, ego frame, metres
    truth: Boxes  # ego frame
    predictions: Boxes  # ego frame; what several cameras saw is merged
