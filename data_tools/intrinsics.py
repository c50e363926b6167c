"""Check whether a camera's matrix can be true, for ``data check`` and for a user's calibration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FOCAL = (1.0, 1e6)  # pixels: from a few pixels in all to the longest telescope
PLAUSIBLE = (0.8, 1.25)  # fx / fy of pixels that are about square
# Where the optical axis meets an image, as shares of its width and height. A cropped image may have
# the axis off its middle, above all from top to bottom.
MIDDLE = ((0.3, 0.7), (0.2, 0.8))


@dataclass(frozen=True)
class Fault:
    """What is wrong with a matrix.

    Args:
        kind (str): The kind of fault, in a few words.
        what (str): What is wrong, with the values.
        remedy (str): What to do.
        warning (bool): Whether the matrix may be true all the same. Default: False.
    """

    kind: str
    what: str
    remedy: str
    warning: bool = False


def matrix_faults(matrix: NDArray[np.float64]) -> Iterator[Fault]:
    """Yield what is wrong with a (3, 3) matrix of any image."""
    (focal_x, _, _), (_, focal_y, _), _ = matrix.tolist()
    low, high = FOCAL
    if (
        not np.isfinite(matrix).all()
        or not low <= min(focal_x, focal_y) <= max(focal_x, focal_y) <= high
        or matrix[1, 0] != 0
        or any(matrix[2] != (0, 0, 1))
    ):
        yield Fault(
            "impossible intrinsics",
            f"intrinsic is {matrix.tolist()}, not [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]",
            "put in the camera's matrix, in pixels",
        )
    elif not PLAUSIBLE[0] < focal_x / focal_y < PLAUSIBLE[1]:
        yield Fault(
            "stretched pixels",
            f"fx / fy is {focal_x / focal_y:.2f}",
            "scale both with the image",
            warning=True,
        )


def axis_faults(matrix: NDArray[np.float64], size: tuple[int, int]) -> Iterator[Fault]:
    """Yield what is wrong with a matrix for images of this width and height."""
    axis = matrix[:2, 2]
    shares = axis / size
    what = (
        f"the optical axis meets the image at {axis[0]:.0f}, {axis[1]:.0f}, {{}} "
        f"{size[0]} x {size[1]}"
    )
    remedy = "scale the matrix with the images"
    if not ((shares > 0) & (shares < 1)).all():
        yield Fault("intrinsics of another size", what.format("outside"), remedy)
    elif not all(low < share < high for share, (low, high) in zip(shares, MIDDLE, strict=True)):
        yield Fault("axis off the middle", what.format("far from the middle of"), remedy, True)
