"""Read images: upright, in three colours of 8 bits, and no larger than needed.

The detector's loader, ``data check`` and the pictures read a camera's images here. They refuse the
same files.

Transparency is ignored: a pixel keeps the colour that the file holds. Grey of 16 bits keeps its
upper 8 bits.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from sparsevit3d.errors import InputError

PIXELS = 150_000_000  # an image of more is refused, because its pixels would fill the memory
# What to do with EXIF's orientations. Every other value means an upright image.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # orientations in which width and height change places
# Pillow's modes that it turns into RGB as they are meant.
COLOURS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes of grey of 16 bits
DEEP_FORMATS = ("PNG", "PPM")  # formats in which 65535 of a deep mode is white

# PIXELS is the limit. Pillow warns before that.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageError(InputError):
    """An image that is missing, unreadable, too large, or of another size than its camera's.

    Args:
        message (str): What is wrong and what to do. A worker's traceback before it is cut off.
    """

    def __init__(self, message: str) -> None:
        # From a loader's worker, torch wraps the message in the worker's traceback. Only the
        # traceback's last line says anything.
        super().__init__(message.rpartition("ImageError: ")[2].strip())


def scaled_size(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """Scale an image of ``size`` until it covers ``wanted``. All are (width, height)."""
    cover = max(wanted[0] / size[0], wanted[1] / size[1])
    return round(size[0] * cover), round(size[1] * cover)


def image_size(path: str | Path) -> tuple[int, int]:
    """Read the width and height of an upright image, without its pixels.

    Raises ImageError for a file that :func:`read_image` would refuse by its header.
    """
    with _opened(path) as (file, turn):
        return _turned(file.size, turn)


def read_image(
    path: str | Path, wanted: tuple[int, int] | None = None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Read (H, W, 3) BGR, and the width and height of the file.

    The image is reduced where a smaller one still covers ``wanted``, (width, height). Raises
    ImageError for a file that is missing or damaged, and for one that cannot be shown as it is
    meant.
    """
    with _opened(path) as (file, turn):
        found = _turned(file.size, turn)
        covering = _turned(scaled_size(found, wanted or found), turn)
        # Picks the smallest size that still covers this one. Only JPEG files are reduced.
        file.draft("RGB", covering)
        # Each of these steps copies the image.
        image = _in_colour(file)
        factor = min(image.width // covering[0], image.height // covering[1])
        if factor > 1:
            image = image.reduce(factor)
        if turn in TURNS:
            image = image.transpose(TURNS[turn])
        pixels = np.asarray(image)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), np.uint8), found


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Image.Image, int]]:
    """Open an image that can be shown. Yields the file and its EXIF orientation."""
    try:
        with Image.open(path) as file:
            _must_be_shown(path, file)
            yield file, file.getexif().get(ExifTags.Base.Orientation, 1)
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        count = re.search(r"\d+", str(error))
        raise _too_large(path, int(count[0]) if count else 0) from error
    except Exception as error:  # Pillow raises whatever the damage happens to hit
        if isinstance(error, OSError) and error.errno:
            raise ImageError(f"{path}: cannot be read ({error.strerror}). Put it back.") from error
        raise ImageError(
            f"{path}: not a readable image ({error}). Put it back, or leave its keyframe out of "
            "the info file."
        ) from error


def _must_be_shown(path: str | Path, file: Image.Image) -> None:
    count = file.width * file.height
    if count > PIXELS:
        raise _too_large(path, count, f"{file.width} x {file.height} pixels, ")
    if file.mode not in COLOURS and not (file.mode in DEEP and file.format in DEEP_FORMATS):
        raise ImageError(
            f"{path}: is a {file.format} of mode {file.mode}, whose black and white are not known. "
            "Save it in 8 bits, as a JPEG or PNG."
        )


def _too_large(path: str | Path, count: int, size: str = "") -> ImageError:
    return ImageError(
        f"{path}: has {size}{count / 1e6:.0f} megapixels, more than {PIXELS / 1e6:.0f}. "
        "Scale the image down, and its calibration with it."
    )


def _turned(size: tuple[int, int], turn: int) -> tuple[int, int]:
    """Width and height after the EXIF orientation ``turn``, or before it."""
    return (size[1], size[0]) if turn in SIDEWAYS else size


def _in_colour(file: Image.Image) -> Image.Image:
    """The image in RGB of 8 bits."""
    if file.mode in DEEP:
        grey = np.asarray(file).clip(0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    return file if file.mode == "RGB" else file.convert("RGB")
