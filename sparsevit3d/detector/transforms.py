"""Images with their cameras: loaded together and moved together.

So boxes survive target and decode at every size. Metric centre, depth, size and yaw never change
here. Only ``cam2img``, ``centers_2d`` and the 2D boxes follow the pixels.
"""

from __future__ import annotations

from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet3d.registry import TRANSFORMS

from data_tools.images import ImageError, read_image, scaled_size

PER_OBJECT = (
    "gt_bboxes",
    "gt_bboxes_labels",
    "gt_bboxes_3d",
    "gt_labels_3d",
    "attr_labels",
    "centers_2d",
    "depths",
)


@TRANSFORMS.register_module()
class LoadCalibratedImage(BaseTransform):
    """Load an image and its camera's matrix, which has to be for an image of this size.

    For an image of another size, every box would be elsewhere. Given the network's size, an image
    is reduced by a whole number to little more than FitCamera needs. A JPEG is decoded at a half, a
    quarter or an eighth of its size, for which the decoder computes fewer of its cosines.
    ``ori_shape`` is the file's own, whatever size ``img`` has. An image that has "pixels",
    (H, W, 3) BGR, is not read.

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
        pixels = camera.get("pixels")
        image, found = (
            read_image(camera["img_path"], self.wanted)
            if pixels is None
            else (pixels, pixels.shape[1::-1])
        )
        if found != (camera["width"], camera["height"]):
            raise ImageError(
                f"{camera['img_path']}: is {found[0]} x {found[1]}, but its camera is calibrated "
                f"for {camera['width']} x {camera['height']}. Use the original image, or scale the "
                "calibration with it."
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
