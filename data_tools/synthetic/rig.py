"""Where nuScenes mounts its six cameras and its lidar, and how they see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyquaternion import Quaternion

NATIVE_SIZE = (1600, 900)  # width, height for which the intrinsics below hold


@dataclass(frozen=True)
class Camera:
    """Mounting in the ego frame, and pinhole intrinsics at 1600 x 900."""

    channel: str
    position: tuple[float, float, float]  # metres
    heading: float  # degrees left of straight ahead
    focal: float  # pixels
    centre: tuple[float, float]  # principal point, pixels

    def rotation(self) -> Quaternion:
        """Return the rotation from the camera to the ego frame.

        The camera frame is x right, y down, z forward, turned by the heading.
        """
        level = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
        return Quaternion(axis=(0, 0, 1), degrees=self.heading) * Quaternion(matrix=level)

    def intrinsic(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """Return the 3 x 3 matrix for images of ``size`` (width, height).

        The native matrix is scaled with the image.
        """
        across = size[0] / NATIVE_SIZE[0]
        down = size[1] / NATIVE_SIZE[1]
        return np.array(
            [
                [self.focal * across, 0.0, self.centre[0] * across],
                [0.0, self.focal * down, self.centre[1] * down],
                [0.0, 0.0, 1.0],
            ]
        )


CAMERAS = (
    Camera("CAM_FRONT", (1.70, 0.02, 1.51), 0.0, 1266.0, (816.0, 491.0)),
    Camera("CAM_FRONT_RIGHT", (1.55, -0.49, 1.50), -55.0, 1261.0, (808.0, 495.0)),
    Camera("CAM_FRONT_LEFT", (1.52, 0.49, 1.51), 55.0, 1273.0, (827.0, 480.0)),
    Camera("CAM_BACK", (0.03, 0.00, 1.58), 180.0, 809.0, (829.0, 482.0)),
    Camera("CAM_BACK_LEFT", (1.04, 0.48, 1.59), 108.0, 1257.0, (792.0, 493.0)),
    Camera("CAM_BACK_RIGHT", (1.01, -0.48, 1.56), -110.0, 1260.0, (807.0, 501.0)),
)

LIDAR_POSITION = (0.94, 0.0, 1.84)
# nuScenes' lidar looks along its own y axis.
LIDAR_ROTATION = Quaternion(axis=(0, 0, 1), degrees=-90.0)
LIDAR_ELEVATIONS = np.radians(np.linspace(-30.67, 10.67, 32))  # elevations of the 32 beams
LIDAR_RANGE = 70.0  # metres


def lidar_directions() -> NDArray[np.float32]:
    """Return (32 * 1084, 3) unit vectors of one turn, in the lidar frame, beam by beam."""
    azimuth = np.linspace(-np.pi, np.pi, 1084, endpoint=False)
    elevation = LIDAR_ELEVATIONS[:, None]
    directions = np.stack(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.broadcast_to(np.sin(elevation), (32, 1084)),
        ],
        axis=-1,
    )
    return directions.reshape(-1, 3).astype(np.float32)
