"""FCOS3D on SparseSwin, registered for configs: ``type="SparseFCOS3D"`` with ``backbone=dict(type="SparseSwin", ...)``."""

from __future__ import annotations

from typing import Any

from mmdet3d.models.detectors import FCOSMono3D
from mmdet3d.registry import MODELS

import sparsevit3d.backbone  # noqa: F401  registers SparseSwin


@MODELS.register_module()
class SparseFCOS3D(FCOSMono3D):
    """mmdet3d's FCOS3D, decoding in network pixels.

    ``FCOSMono3D`` asks its head to divide the predicted centre by the scale factor, and the head then unprojects it with the camera of
    the *scaled* image: right at full size, metres off at any other. FitCamera moves the camera with the image, so nothing is rescaled.
    """

    def predict(self, batch_inputs: dict[str, Any], batch_data_samples: Any, rescale: bool = False) -> Any:
        del rescale
        return super().predict(batch_inputs, batch_data_samples, rescale=False)
