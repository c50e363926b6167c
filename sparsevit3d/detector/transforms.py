"""Images with their cameras: loaded together and moved together.

So boxes survive target and decode at every size. Metric centre, depth, size and yaw never change
here. Only ``cam2img``, ``centers_2d`` and the 2D boxes follow the pixels.
"""

from __future__ import annotations

from typing import Any

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet3d.registry import TRANSFORMS
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from sparsevit3d.errors import InputError

# EXIF orientation of the camera. From 5 on, width and height change places.
ORIENTATION = ExifTags.Base.Orientation
PER_OBJECT = (
    "gt_bboxes",
    "gt_bboxes_labels",
    "gt_bboxes_3d",
    "gt_labels_3d",
    "attr_labels",
    "centers_2d",
    "depths",
)


class ImageError(InputError):
    """An image that is missing, unreadable, or of another size than its camera's.

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


def read_image(
    path: str, wanted: tuple[int, int] | None = None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Read (H, W, 3) BGR, and the width and height of the file.

    The image is reduced where a smaller one still covers ``wanted``, (width, height). Raises
    ImageError for a file that is missing or damaged.
    """
    try:
        with Image.open(path) as file:
            turn = file.getexif().get(ORIENTATION, 1)
            found = (file.height, file.width) if turn >= 5 else file.size
            if wanted:
                width, height = scaled_size(found, wanted)
                # Picks the smallest size that still covers this one. Only JPEG files are reduced.
                file.draft("RGB", (height, width) if turn >= 5 else (width, height))
            # Each of these steps copies the image.
            upright = file if turn == 1 else ImageOps.exif_transpose(file)
            image = np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise ImageError(f"{path}: cannot be read ({error.strerror}); put it back") from error
        raise ImageError(
            f"{path}: not a readable image ({error}); put it back, or leave its keyframe out of "
            "the info file"
        ) from error
    blue_first: NDArray[Any] = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return blue_first, found


@TRANSFORMS.register_module()
class LoadCalibratedImage(BaseTransform):
    """Load an image and its camera's matrix, which has to be for an image of this size.

    For an image of another size, every box would be elsewhere. Given the network's size, a JPEG is
    decoded no larger than FitCamera will need: at a half, a quarter or an eighth of its size. The
    decoder then computes fewer of its cosines. ``ori_shape`` is the file's own, whatever size
    ``img`` has.

    Args:
        width (int or None): Width of the network's image, in pixels. None: decode in full. Default:
            None.
        height (int or None): Height of the network's image, in pixels. None: decode in full.
            Default: None.
    """

    def __init__(self, width: int | None = None, height: int | None = None) -> None:
        self.wanted = (width, height) if width and height else None

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        (camera,) = results["images"].values()
        image, found = read_image(camera["img_path"], self.wanted)
        if found != (camera["width"], camera["height"]):
            raise ImageError(
                f"{camera['img_path']}: is {found[0]} x {found[1]}, but its camera is calibrated "
                "for "
                f"{camera['width']} x {camera['height']}; use the original image, or scale the "
                "calibration with it"
            )
        results["img"] = image
        results["cam2img"] = camera["cam2img"]
        results["img_shape"] = image.shape[:2]
        results["ori_shape"] = (found[1], found[0])
        return results


@TRANSFORMS.register_module()
class FitCamera(BaseTransform):
    """Scale an image of any size until it covers ``width`` x ``height``, then crop it to this size.

    The crop takes from the top, where the sky is, and evenly from both sides. 1600 x 900 to 704 x
    256 is the usual nuScenes protocol: scale 0.44, crop the upper 140 rows.

    Keeps ``ori_cam2img``, ``scale_factor`` (x, y) and ``img_crop_offset`` (left, top, in scaled
    pixels). These find a network pixel in the original image: ``original = (network + offset) /
    scale``. Objects that no longer show are dropped.

    Args:
        width (int): Width of the network's image, in pixels.
        height (int): Height of the network's image, in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        old_height, old_width = results.get("ori_shape", results["img"].shape)[:2]
        scaled_width, scaled_height = scaled_size(
            (old_width, old_height), (self.width, self.height)
        )
        scale = np.array([scaled_width / old_width, scaled_height / old_height])
        offset = np.array([(scaled_width - self.width) // 2, scaled_height - self.height])
        # Average over areas instead of interpolating between points. At a quarter of the size, thin
        # things would flicker.
        method = "area" if scaled_width < results["img"].shape[1] else "bilinear"
        image = mmcv.imresize(results["img"], (scaled_width, scaled_height), interpolation=method)
        image = image[offset[1] : offset[1] + self.height, offset[0] : offset[0] + self.width]

        results["img"] = np.ascontiguousarray(image)
        results["img_shape"] = image.shape[:2]
        results["pad_shape"] = image.shape[:2]
        results["scale_factor"] = tuple(scale)
        results["img_crop_offset"] = tuple(offset)
        results["ori_cam2img"] = np.array(results["cam2img"], dtype=np.float64)
        results["cam2img"] = results["ori_cam2img"].copy()
        results["cam2img"][:2] *= scale[:, None]
        results["cam2img"][:2, 2] -= offset
        if "centers_2d" in results:
            results["centers_2d"] = (results["centers_2d"] * scale - offset).astype(np.float32)
        if "gt_bboxes" in results:
            self._move_boxes(results, scale, offset)
        return results

    def _move_boxes(self, results: dict[str, Any], scale: Any, offset: Any) -> None:
        corners = results["gt_bboxes"].reshape(-1, 2, 2) * scale - offset
        corners = corners.clip(0, (self.width, self.height))
        results["gt_bboxes"] = corners.reshape(-1, 4).astype(np.float32)
        seen = (corners[:, 1] > corners[:, 0]).all(axis=1)
        for key in PER_OBJECT:
            if key in results:
                results[key] = results[key][seen]
