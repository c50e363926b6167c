"""Keyframes as plain data, from which alone pictures are made.

The data are camera frames with their calibration and boxes, lidar points, and windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sparsevit3d.swin.trace import BlockTrace


@dataclass(frozen=True)
class Boxes:
    """N boxes in one frame, in metres.

    The frame is a camera's (x right, y down, z forward) or the ego's (x forward, y left, z up).

    Args:
        corners (array): (N, 8, 3). 0-3 the front face: left upper, right upper, right lower, left
            lower. 4-7 the rear.
        names (list of str): The N classes.
        scores (array or None): (N,) confidence. None for ground truth. Default: None.
    """

    corners: NDArray[np.floating]
    names: list[str]
    scores: NDArray[np.floating] | None = None

    def __getitem__(self, chosen: NDArray) -> Boxes:
        """The boxes at the indices, or where the mask is true."""
        numbers = np.arange(len(self.names))[chosen]
        return Boxes(
            self.corners[numbers],
            [self.names[n] for n in numbers],
            None if self.scores is None else self.scores[numbers],
        )

    @property
    def centres(self) -> NDArray[np.floating]:
        """(N, 3) centres, in the frame of the boxes."""
        return self.corners.mean(1)


NO_BOXES = Boxes(np.zeros((0, 8, 3)), [])


@dataclass(frozen=True)
class CameraView:
    """One camera's frame, and which part of it the network saw.

    ``network pixel = frame pixel * scale - offset``.

    Args:
        channel (str): The camera's name.
        image (array): (H, W, 3) RGB, the whole frame at its own size or a smaller one.
        intrinsic (array): (3, 3) of that image, in pixels.
        scale (tuple of float): x, y.
        offset (tuple of float): x, y, in network pixels.
        network_size (tuple of int): Width, height, in network pixels.
        truth (Boxes): True boxes in the camera's frame. Default: no boxes.
        predictions (Boxes): Found boxes in the camera's frame. Default: no boxes.
        to_ego (array): (4, 4) from the camera's frame to the ego's, each at its own time. Default:
            identity.
    """

    channel: str
    image: NDArray[np.uint8]
    intrinsic: NDArray[np.floating]
    scale: tuple[float, float]
    offset: tuple[float, float]
    network_size: tuple[int, int]
    truth: Boxes = field(default=NO_BOXES)
    predictions: Boxes = field(default=NO_BOXES)
    to_ego: NDArray[np.floating] = field(default_factory=lambda: np.eye(4))

    def to_frame(
        self, rectangle: tuple[float, float, float, float]
    ) -> tuple[float, float, float, float]:
        """Convert left, top, right, bottom in network pixels to the same in frame pixels."""
        left, top, right, bottom = rectangle
        (across, down) = self.scale
        (x, y) = self.offset
        return (left + x) / across, (top + y) / down, (right + x) / across, (bottom + y) / down


@dataclass(frozen=True)
class Keyframe:
    """All that was seen at one moment.

    Args:
        name (str): The split and the keyframe's number.
        seconds (float): Time since some moment that the keyframes of a drive share.
        plan (str): The plan of the forward pass, or "dense".
        views (list of CameraView): One for each camera.
        trace (list of BlockTrace): Windows of the views' shared forward pass, images in the views'
            order.
        points (array): (P, 3) lidar points in the ego frame, in metres.
        truth (Boxes): True boxes in the ego frame.
        predictions (Boxes): Found boxes in the ego frame. Boxes that several cameras saw are
            merged.
    """

    name: str
    seconds: float
    plan: str
    views: list[CameraView]
    trace: list[BlockTrace]
    points: NDArray[np.floating]
    truth: Boxes
    predictions: Boxes
