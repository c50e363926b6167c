"""A user's own cameras, as a calibration file describes them.

A calibration file names cameras, their matrices, and the images that are theirs. A file with one
camera may leave out "images"::

    {"front": {"intrinsic": [[1266.4, 0, 816.3], [0, 1266.4, 491.5], [0, 0, 1]],
               "width": 1600, "height": 900, "images": "*front*.jpg"}}

A lens that bends lines has "distortion", OpenCV's coefficients (k1, k2, p1, p2, k3 ...). A fisheye
has "lens": "fisheye" as well (k1, k2, k3, k4). The network sees straightened images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data_tools.intrinsics import Fault, axis_faults, matrix_faults
from sparsevit3d.errors import InputError, first_line
from sparsevit3d.files import parse_object

FORM = (
    'A calibration is {"NAME": {"intrinsic": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], '
    '"width": W, "height": H, "images": "PATTERN"}}. "distortion" and "lens" may follow.'
)

LONGEST = 100_000  # pixels of an image's side
FLOATS = 10**300  # whole numbers below are floats as well
# How many coefficients OpenCV knows for each kind of lens.
LENSES = {"pinhole": (4, 5, 8, 12, 14), "fisheye": (4,)}


@dataclass(frozen=True)
class Camera:
    """A camera, by OpenCV's models.

    Args:
        intrinsic (array): (3, 3), in pixels of an image of this size.
        width (int): Width of its images, in pixels.
        height (int): Height of its images, in pixels.
        images (str): A pattern for the paths of its images. Default: "*".
        distortion (tuple of float): Coefficients of the lens. Empty: images are free of distortion.
            Default: ().
        lens (str): "pinhole" or "fisheye": which model the coefficients are of. Default: "pinhole".
    """

    intrinsic: NDArray[np.float64]
    width: int
    height: int
    images: str = "*"
    distortion: tuple[float, ...] = ()
    lens: str = "pinhole"

    def straight(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image (H, W, 3) as a pinhole camera of the same matrix would have taken it."""
        if not self.distortion:
            return pixels
        return np.asarray(cv2.remap(pixels, *self._straight, cv2.INTER_LINEAR), np.uint8)

    @cached_property
    def _straight(self) -> tuple[Any, Any]:
        """Where each pixel of a straight image lies in a bent one."""
        find: Any = cv2.fisheye if self.lens == "fisheye" else cv2
        size = (self.width, self.height)
        bent = np.array(self.distortion, np.float64)
        still = np.eye(3)
        maps = find.initUndistortRectifyMap(
            self.intrinsic, bent, still, self.intrinsic, size, cv2.CV_16SC2
        )
        return maps[0], maps[1]


def read_calibration(path: Path | str) -> dict[str, Camera]:
    """Read cameras by name.

    Raises InputError that names the file, the camera and what is wrong with it.
    """
    try:
        document = parse_object(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). {FORM}") from error
    except ValueError as error:
        raise InputError(f"{path}: is no calibration ({first_line(error)}). {FORM}") from error
    if not document:
        raise InputError(f"{path}: names no camera. {FORM}")
    return {
        name: _camera(entry, f"{path}: camera {name!r}", len(document) == 1)
        for name, entry in document.items()
    }


def _camera(entry: Any, where: str, alone: bool) -> Camera:
    wanted = {"intrinsic", "width", "height", "images"}
    if not isinstance(entry, dict) or not (
        wanted - ({"images"} if alone else set()) <= entry.keys() <= wanted | {"distortion", "lens"}
    ):
        found = shorten(sorted(entry) if isinstance(entry, dict) else entry)
        raise InputError(f"{where} has {found}. {FORM}")
    for side in ("width", "height"):
        if type(entry[side]) is not int or not 0 < entry[side] <= LONGEST:
            raise InputError(
                f"{where}: {side} is {shorten(entry[side])}, not a number of pixels. Count the "
                "images' pixels."
            )
    matrix = entry["intrinsic"]
    if not _is_matrix(matrix):
        raise InputError(
            f"{where}: intrinsic is {shorten(matrix)}, not a 3 x 3 matrix of numbers. {FORM}"
        )
    images = entry.get("images", "*")
    if not isinstance(images, str):
        raise InputError(f"{where}: images is {shorten(images)}, not a pattern. {FORM}")
    lens = entry.get("lens", "pinhole")
    if lens not in LENSES:
        raise InputError(f"{where}: lens is {shorten(lens)}. There are {' and '.join(LENSES)}.")
    bent = entry.get("distortion", [])
    counts = LENSES[lens]
    if (
        not isinstance(bent, list)
        or not all(map(_is_number, bent))
        or len(bent) not in (0, *counts)
    ):
        raise InputError(
            f"{where}: distortion is {shorten(bent)}, not OpenCV's coefficients of a {lens} lens. "
            f"Give {' or '.join(map(str, counts))} numbers."
        )
    camera = Camera(
        np.array(matrix, np.float64), entry["width"], entry["height"], images, tuple(bent), lens
    )
    for fault in _faults(camera):
        if not fault.warning:
            raise InputError(f"{where}: {_sentences(fault)}")
    return camera


def _is_matrix(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(row, list) and len(row) == 3 for row in value)
        and all(_is_number(number) for row in value for number in row)
    )


def _is_number(value: Any) -> bool:
    """Whether ``value`` is a number that fits a float. ``matrix_faults`` tells of NaN."""
    return type(value) is float or (type(value) is int and abs(value) < FLOATS)


def doubts(calibration: Mapping[str, Camera]) -> Iterator[str]:
    """Say of each camera what is strange about its matrix, though it may be true."""
    for name, camera in calibration.items():
        for fault in _faults(camera):
            yield f"camera {name!r}: {_sentences(fault)}"


def _faults(camera: Camera) -> Iterator[Fault]:
    yield from matrix_faults(camera.intrinsic)
    yield from axis_faults(camera.intrinsic, (camera.width, camera.height))


def _sentences(fault: Fault) -> str:
    return f"{fault.what}. {fault.remedy[0].upper()}{fault.remedy[1:]}."


def owner_of(image: Path, calibration: Mapping[str, Camera]) -> str:
    """Name the camera whose pattern an image's path matches.

    Raises InputError if no camera's does, or several do.
    """
    owners = [name for name, camera in calibration.items() if fnmatch(str(image), camera.images)]
    if len(owners) == 1:
        return owners[0]
    found = f"several cameras ({', '.join(owners)})" if owners else "no camera"
    patterns = ", ".join(f"{name}: {camera.images}" for name, camera in calibration.items())
    raise InputError(
        f"{image}: matches {found} in the calibration ({patterns}). Change the patterns of images."
    )
