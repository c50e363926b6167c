"""The images of a root, one camera at a time, with the objects that each of them shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet3d.datasets import NuScenesDataset
from mmdet3d.registry import DATASETS
from mmdet3d.structures import CameraInstance3DBoxes
from mmengine.dataset import ClassBalancedDataset
from numpy.typing import NDArray
from nuscenes.eval.detection.utils import detection_name_to_rel_attributes

from data_tools.images import ImageError
from data_tools.info_file import InfoFile, read_infos
from data_tools.schema import ATTRIBUTES
from sparsevit3d.errors import InputError

NO_ATTRIBUTE = ATTRIBUTES.index("None")
UNKNOWN = -100  # torch's cross entropy leaves out targets of this label


@DATASETS.register_module()
class CameraKeyframes(NuScenesDataset):
    """mmdet3d's dataset for any rig: keyframe by keyframe, the cameras in the info file's order.

    The place of an image in the dataset is ``keyframe * cameras + camera``, and so is its
    ``sample_idx``. What a root does not say stays unknown. An unknown velocity is NaN. An unknown
    attribute of a class that has attributes is ``UNKNOWN``. Neither takes part in the loss.

    Args:
        data_root (str): The nuScenes root.
        ann_file (str): The info file.
        metainfo (dict): ``classes``, the names of the classes to detect.
        **options: Keyword arguments of mmdet3d's ``NuScenesDataset``.

    Raises:
        InputError: The info file is damaged or of another root. Or no training image shows an
            object.
    """

    def __init__(self, **options: Any) -> None:
        modality = {"use_lidar": False, "use_camera": True}
        super().__init__(
            load_type="mv_image_based", box_type_3d="Camera", modality=modality, **options
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        infos = read_infos(Path(self.ann_file))
        infos.check_root(self.data_root)
        images = [
            self._image(infos, number, camera)
            for number in range(len(infos.keyframes))
            for camera in infos.cameras
        ]
        for place, image in enumerate(images):
            image["sample_idx"] = place
        if not self.test_mode and not any(len(i["ann_info"]["gt_labels_3d"]) for i in images):
            raise InputError(
                f"{infos.path}: no image shows an object of {', '.join(self.metainfo['classes'])}. "
                "Train on a split with such objects."
            )
        return images

    def __getitem__(self, index: int) -> Any:
        try:
            return super().__getitem__(index)
        except InputError:
            raise
        except Exception as error:  # mmengine raises one without a class
            if "Cannot find valid image" not in str(error):
                raise
            raise ImageError(
                f"{self.ann_file}: hardly any image shows an object inside the network's crop. "
                "Use another image_size or another split."
            ) from error

    def _image(self, infos: InfoFile, number: int, camera: str) -> dict[str, Any]:
        keyframe = infos.keyframes[number]
        path = infos.image_path(self.data_root, number, camera)
        shown = keyframe.get("cam_instances", {}).get(camera, [])
        image = {
            "images": {camera: {**keyframe["images"][camera], "img_path": str(path)}},
            "token": keyframe["token"],
            "ego2global": keyframe["ego2global"],
            "instances": shown,
        }
        if not self.test_mode:
            image["ann_info"] = self._objects(shown)
        return image

    def _objects(self, instances: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make one image's objects of the detector's classes ready for LoadAnnotations3D."""
        chosen = [row for row in instances if self.label_mapping[row["bbox_label_3d"]] >= 0]
        boxes = _table(chosen, "bbox_3d", 7)
        velocities = _table(chosen, "velocity", 2)
        labels = np.array([self.label_mapping[row["bbox_label_3d"]] for row in chosen], np.int64)
        for label in labels:
            self.num_ins_per_cat[label] += 1  # for mmdet3d's table in the log
        return {
            "gt_bboxes_3d": CameraInstance3DBoxes(
                np.concatenate([boxes, velocities], 1), box_dim=9, origin=(0.5, 0.5, 0.5)
            ),
            "gt_labels_3d": labels,
            "gt_bboxes": _table(chosen, "bbox", 4),
            "gt_bboxes_labels": labels.copy(),
            "attr_labels": self._attributes(chosen, labels),
            "centers_2d": _table(chosen, "center_2d", 2),
            "depths": np.array([row["depth"] for row in chosen], np.float32),
            "instances": chosen,
        }

    def _attributes(
        self, instances: Sequence[dict[str, Any]], labels: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return attribute labels. A class that has attributes never truly has none."""
        found = np.array([row["attr_label"] for row in instances], np.int64)
        names = self.metainfo["classes"]
        has_attributes = [bool(detection_name_to_rel_attributes(names[label])) for label in labels]
        found[np.array(has_attributes, bool) & (found == NO_ATTRIBUTE)] = UNKNOWN
        return found


@DATASETS.register_module()
class BalancedKeyframes(ClassBalancedDataset):
    """CameraKeyframes to train on, in which images of seldom classes come more than once.

    An image comes ``sqrt(oversample_thr / share)`` times, rounded up, where ``share`` is that of
    the images that show the image's most seldom class.

    Args:
        oversample_thr (float): Share of images from which on a class is not seldom.
        **options: Keyword arguments of :class:`CameraKeyframes`.
    """

    def __init__(self, oversample_thr: float, **options: Any) -> None:
        super().__init__(CameraKeyframes(**options), oversample_thr)


def _table(instances: Sequence[dict[str, Any]], key: str, columns: int) -> NDArray[np.float32]:
    return np.array([row[key] for row in instances], np.float32).reshape(-1, columns)
