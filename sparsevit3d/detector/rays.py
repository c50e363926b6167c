"""Where each pixel looks, beside its colour."""

from __future__ import annotations

from typing import Any

import torch
from mmdet3d.models.data_preprocessors import Det3DDataPreprocessor
from mmdet3d.registry import MODELS
from torch import Tensor

CHANNELS = 2
SLOPE = 4.0  # a pixel 1/4 of the focal length below the optical axis gets 1
FOCAL = 400.0  # pixels: a camera of this focal length gets 0


@MODELS.register_module()
class RayPreprocessor(Det3DDataPreprocessor):
    """Give the network the direction of each pixel, as two more channels of the image.

    On flat ground the direction of an object's foot tells its distance. A dense network reads the
    direction off the street around the object. A pruned one has not computed the street. So the
    direction is given (as in CAM-Convs, CVPR 2019). The backbone needs ``in_channels=5``.

    The first channel is how far a pixel lies below the optical axis, over the focal length. The
    second one is the focal length, and the same everywhere. Both are alike in a mirrored image.

    Options are those of ``Det3DDataPreprocessor``.
    """

    def forward(self, data: Any, training: bool = False) -> Any:
        found = super().forward(data, training)
        images = found["inputs"]["imgs"]
        cameras = [sample.metainfo["cam2img"] for sample in found["data_samples"]]
        rays = torch.stack([pixel_rays(camera, images.shape[-2:]) for camera in cameras])
        found["inputs"]["imgs"] = torch.cat([images, rays.to(images)], 1)
        return found


def pixel_rays(camera: Any, size: Any) -> Tensor:
    """(2, H, W) slope and focal length of the pixels of an image of ``size`` (height, width).

    ``camera`` is the 3 x 3 matrix in pixels of that image.
    """
    matrix = torch.as_tensor(camera, dtype=torch.float32)
    height, width = size
    rows = torch.arange(height, dtype=torch.float32) + 0.5
    slope = SLOPE * (rows - matrix[1, 2]) / matrix[1, 1]
    focal = FOCAL / matrix[1, 1] - 1
    return torch.stack([slope[:, None].expand(height, width), focal.expand(height, width)])
