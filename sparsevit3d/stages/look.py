"""Look at a keyframe through a detector: what each camera shows, what was found there, and which windows were computed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmdet3d.registry import DATASETS
from mmdet3d.structures import CameraInstance3DBoxes
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from sparsevit3d.plan import SparsityPlan
from sparsevit3d.stages.experiment import load_detector, use_split
from sparsevit3d.stages.files import ExperimentError
from sparsevit3d.stages.hooks import backbone_of
from sparsevit3d.trace import BlockTrace, record_windows
from sparsevit3d.views import Boxes, CameraView

CAMERAS = 6


def keyframe_count(config: Config) -> int:
    return len(json.loads(Path(config.test_dataloader.dataset.ann_file).read_text())["data_list"])


def load_keyframe(config: Config, number: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A keyframe's six images of the config's test split as the detector's batch, and its cameras' infos, in mmdet3d's order."""
    count = keyframe_count(config)
    if not 0 <= number < count:
        raise ExperimentError(f"--keyframe {number}: {config.test_dataloader.dataset.ann_file} has keyframes 0 to {count - 1}")
    dataset = DATASETS.build(config.test_dataloader.dataset)
    indices = range(number * CAMERAS, (number + 1) * CAMERAS)
    return pseudo_collate([dataset[index] for index in indices]), [dataset.get_data_info(index) for index in indices]


def look_at_keyframe(
    config: Config, checkpoint: Path, split: str, number: int, plan: SparsityPlan | None
) -> tuple[list[CameraView], list[BlockTrace]]:
    """Views of the six cameras and the trace of their shared forward pass, in the same order."""
    config = copy.deepcopy(config)
    use_split(config, split)
    batch, infos = load_keyframe(config, number)
    model = load_detector(config, checkpoint, plan)
    with torch.no_grad(), record_windows(backbone_of(model)) as trace:
        samples = model.test_step(batch)
    truth = json.loads(Path(config.test_dataloader.dataset.ann_file).read_text())["data_list"][number]["cam_instances"]
    views = []
    for sample, info in zip(samples, infos, strict=True):
        ((channel, image),) = info["images"].items()
        views.append(camera_view(sample, Path(image["img_path"]), channel, config, _truth(truth[channel], list(config.classes))))
    return views, trace


def camera_view(sample: Any, image: Path, channel: str, config: Config, truth: Boxes) -> CameraView:
    """One image with what the detector said of it."""
    found = sample.pred_instances_3d
    return CameraView(
        channel,
        _read_image(image),
        np.array(sample.metainfo["ori_cam2img"]),
        sample.metainfo["scale_factor"],
        sample.metainfo["img_crop_offset"],
        tuple(config.image_size),
        truth,
        _boxes(found.bboxes_3d, [config.classes[label] for label in found.labels_3d], found.scores_3d.cpu().numpy()),
    )


def _truth(instances: list[dict[str, Any]], names: list[str]) -> Boxes:
    boxes = torch.tensor([row["bbox_3d"] for row in instances], dtype=torch.float32).reshape(-1, 7)
    return _boxes(CameraInstance3DBoxes(boxes, origin=(0.5, 0.5, 0.5)), [names[row["bbox_label"]] for row in instances])


def _boxes(boxes: CameraInstance3DBoxes, names: list[str], scores: Any = None) -> Boxes:
    # mmdet3d's corners 0, 1, 5, 4 are one side of a camera box in order, and 3, 2, 6, 7 the other.
    corners = boxes.corners.cpu().numpy() if len(names) else np.zeros((0, 8, 3))
    return Boxes(corners[:, [0, 1, 5, 4, 3, 2, 6, 7]], names, scores)


def _read_image(path: Path) -> Any:
    return mmcv.imread(str(path), channel_order="rgb")  # LoadCalibratedImage has read it before: it is there, and an image
