"""Look at keyframes through a detector.

A keyframe holds what each camera shows, what was found there, and which windows were computed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet3d.registry import DATASETS
from mmdet3d.structures import CameraInstance3DBoxes
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from numpy.typing import NDArray

from data_tools.images import image_size, read_image
from data_tools.info_file import InfoFile, read_infos
from data_tools.rig import full_path
from data_tools.schema import CLASSES, LIDAR
from sparsevit3d.backbone import backbone_of
from sparsevit3d.errors import InputError
from sparsevit3d.stages.config import use_split
from sparsevit3d.stages.runner import load_detector
from sparsevit3d.stages.submission import camera_to_ego, merged
from sparsevit3d.stages.views import NO_BOXES, Boxes, CameraView, Keyframe
from sparsevit3d.swin.importance import Importance
from sparsevit3d.swin.plan import SparsityPlan
from sparsevit3d.swin.trace import record_windows

Pictures = Callable[[Keyframe], dict[str, NDArray[np.uint8]]]
EVERYWHERE = 60.0  # metres, farther than any class is scored
PICTURE = 1600  # pixels: most width and height of a picture, unless the network's image is larger


class Keyframes:
    """A split's keyframes as a detector sees them. Info file and model are loaded once.

    Args:
        config (Config): The experiment, with its data.
        model (Any): mmdet3d's detector, in eval mode.
        split (str): The split whose info file to read.

    Raises:
        InputError: A file is missing or damaged.
    """

    def __init__(self, config: Config, model: Any, split: str) -> None:
        config = copy.deepcopy(config)
        use_split(config, split)
        self.config = config
        self.split = split
        self.names = list(config.classes)
        self.info_file = Path(config.test_dataloader.dataset.ann_file)
        self.rig = read_infos(self.info_file)
        self.infos = self.rig.keyframes
        self.dataset = DATASETS.build(config.test_dataloader.dataset)
        self.model = model
        self._read: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.infos)

    def drive(self, number: int) -> list[int]:
        """List the keyframes of the same drive, in order.

        These are neighbours in the info file that are no more than two seconds apart. If one scene
        begins where another ends, both are one drive.
        """
        check_number(number, len(self), self.info_file)
        times = [info["timestamp"] for info in self.infos]
        first = number
        last = number
        while first > 0 and 0 < times[first] - times[first - 1] < 2:
            first -= 1
        while last + 1 < len(times) and 0 < times[last + 1] - times[last] < 2:
            last += 1
        return list(range(first, last + 1))

    def spread(self, count: int) -> list[int]:
        """Choose ``count`` keyframes, evenly spread, or all if there are no more."""
        return [round(place) for place in np.linspace(0, len(self) - 1, min(count, len(self)))]

    def look(
        self,
        number: int,
        plan: SparsityPlan | None = None,
        importance: str | Importance | None = None,
    ) -> Keyframe:
        """Look at a keyframe under ``plan``, with windows chosen by ``importance``.

        None: the detector's own.
        """
        if number not in self._read:  # the last keyframe is kept, for a look under another plan
            self._read = {number: read_keyframe(self.dataset, self.rig, number)}
        batch, image_infos = self._read[number]
        net = backbone_of(self.model)
        own = (net.plan, net.importance)
        shown = plan or net.plan
        try:
            net.plan = shown
            net.importance = importance or net.importance
            with torch.no_grad(), record_windows(net) as trace:
                samples = self.model.test_step(batch)
        finally:
            net.plan, net.importance = own
        info = self.infos[number]
        views = [self._view(*each, info) for each in zip(samples, image_infos, strict=True)]
        found = merged(
            info,
            [
                (camera, sample.cpu().pred_instances_3d)
                for camera, sample in zip(self.rig.cameras, samples, strict=True)
            ],
            np.full(len(self.names), EVERYWHERE),
        )
        return Keyframe(
            f"{self.split} {number}",
            info["timestamp"],
            "dense" if shown is None or shown.is_dense else str(shown),
            views,
            trace,
            self._points(info),
            self._truth_in_ego(info),
            Boxes(
                _corners(found.centres, found.sizes, found.rotations),
                [self.names[n] for n in found.labels],
                found.scores,
            ),
        )

    def _view(self, sample: Any, image_info: dict[str, Any], info: dict[str, Any]) -> CameraView:
        ((channel, image),) = image_info["images"].items()
        # A test split has no public truth.
        instances = info.get("cam_instances", {}).get(channel, [])
        truth = self._truth(instances)
        return camera_view(
            sample,
            Path(image["img_path"]),
            channel,
            self.config,
            truth,
            camera_to_ego(info, channel),
        )

    def _truth(self, instances: list[dict[str, Any]]) -> Boxes:
        rows, names = self._detectable(instances)
        boxes = torch.tensor([row["bbox_3d"] for row in rows], dtype=torch.float32).reshape(-1, 7)
        return _camera_boxes(CameraInstance3DBoxes(boxes, origin=(0.5, 0.5, 0.5)), names)

    def _truth_in_ego(self, info: dict[str, Any]) -> Boxes:
        rows, names = self._detectable(info.get("instances", []))
        values = torch.tensor([row["bbox_3d"] for row in rows], dtype=torch.float64).reshape(-1, 7)
        yaw = values[:, 6].numpy()
        zero = np.zeros(len(rows))
        one = np.ones(len(rows))
        turns = np.stack(
            [np.cos(yaw), -np.sin(yaw), zero, np.sin(yaw), np.cos(yaw), zero, zero, zero, one], -1
        ).reshape(-1, 3, 3)
        to_ego = np.array(info["lidar_points"]["lidar2ego"])
        centres = values[:, :3].numpy() @ to_ego[:3, :3].T + to_ego[:3, 3]
        corners = _corners(centres, values[:, [4, 3, 5]].numpy(), to_ego[:3, :3] @ turns)
        return Boxes(corners, names)

    def _detectable(
        self, instances: list[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Keep the objects of the detector's classes, and name the class of each.

        An info file numbers all ten classes of nuScenes, a detector may look for some.
        """
        known = [row for row in instances if row["bbox_label_3d"] >= 0]
        named = [(row, CLASSES[row["bbox_label_3d"]]) for row in known]
        own = [(row, name) for row, name in named if name in self.names]
        return [row for row, _ in own], [name for _, name in own]

    def _points(self, info: dict[str, Any]) -> NDArray[np.float32]:
        """(P, 3) lidar points in the ego frame.

        There are none where the root lacks a lidar or its files.
        """
        name = info["lidar_points"].get("lidar_path")
        path = full_path(self.config.data_root, LIDAR, name) if name else None
        if path is None or not path.is_file():
            return np.zeros((0, 3), np.float32)
        values = np.fromfile(path, np.float32)
        columns = info["lidar_points"]["num_pts_feats"]
        if len(values) % columns:
            raise InputError(
                f"{path}: is cut off: {len(values)} numbers are no rows of {columns}. Copy it anew."
            )
        to_ego = np.array(info["lidar_points"]["lidar2ego"], np.float32)
        return values.reshape(-1, columns)[:, :3] @ to_ego[:3, :3].T + to_ego[:3, 3]


def open_keyframes(config: Config, checkpoint: Path, split: str) -> Keyframes:
    """Open the keyframes of ``split`` with the detector of a checkpoint."""
    return Keyframes(config, load_detector(config, checkpoint, None), split)


class PictureHook(Hook):
    """After each epoch, draw the first keyframe of the training split for TensorBoard.

    A failure to draw is a warning in the log, because pictures are not worth a training.

    Args:
        draw (callable): Makes RGB pictures, by name, of a keyframe.
        plan (SparsityPlan or None): The plan to look under. None: the detector's own.
    """

    priority = "LOWEST"  # after the epoch is saved

    def __init__(self, draw: Pictures, plan: SparsityPlan | None) -> None:
        self.draw = draw
        self.plan = plan
        self.keyframes: Keyframes | None = None

    def after_train_epoch(self, runner: Any) -> None:
        if not is_main_process():
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        split = Path(runner.cfg.train_dataloader.dataset.ann_file).stem.removeprefix(
            "nuscenes_infos_"
        )
        model.eval()
        try:
            self.keyframes = self.keyframes or Keyframes(runner.cfg, model, split)
            for name, picture in self.draw(self.keyframes.look(0, self.plan)).items():
                runner.visualizer.add_image(name, picture, runner.epoch + 1)
        except (ValueError, OSError) as error:
            runner.logger.warning(f"no pictures of epoch {runner.epoch + 1}: {error}")
        finally:
            model.train()


def load_keyframe(config: Config, number: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Load a keyframe's images as the detector's batch, and its cameras' infos.

    The images are of the config's test split. Both are in the rig's order.
    """
    part = config.test_dataloader.dataset
    return read_keyframe(DATASETS.build(part), read_infos(Path(part.ann_file)), number)


def read_keyframe(
    dataset: Any, infos: InfoFile, number: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Do the same as ``load_keyframe`` for a dataset that is loaded."""
    check_number(number, len(infos.keyframes), infos.path)
    cameras = len(infos.cameras)
    indices = range(number * cameras, (number + 1) * cameras)
    return pseudo_collate([dataset[index] for index in indices]), [
        dataset.get_data_info(index) for index in indices
    ]


def check_number(number: int, count: int, info_file: Path) -> None:
    if not 0 <= number < count:
        raise InputError(f"--keyframe {number}: {info_file} has keyframes 0 to {count - 1}")


def camera_view(
    sample: Any,
    image: Path | NDArray[np.uint8],
    channel: str,
    config: Config,
    truth: Boxes = NO_BOXES,
    to_ego: NDArray[np.floating] | None = None,
) -> CameraView:
    """Join one image, a file or (H, W, 3) BGR pixels, with what the detector found in it.

    The view's picture is at most PICTURE pixels wide and high, or as large as the network's image.
    """
    found = sample.pred_instances_3d
    picture, shrunk = _picture(image, max(PICTURE, *config.image_size))
    across, down = np.array(sample.metainfo["scale_factor"]) / shrunk
    return CameraView(
        channel,
        picture,
        np.diag([*shrunk, 1.0]) @ np.array(sample.metainfo["ori_cam2img"]),
        (float(across), float(down)),
        sample.metainfo["img_crop_offset"],
        tuple(config.image_size),
        truth,
        _camera_boxes(
            found.bboxes_3d,
            [config.classes[label] for label in found.labels_3d],
            found.scores_3d.cpu().numpy(),
        ),
        np.eye(4) if to_ego is None else to_ego,
    )


def _camera_boxes(boxes: CameraInstance3DBoxes, names: Sequence[str], scores: Any = None) -> Boxes:
    # mmdet3d's corners 4 to 7 are the front, the right upper one first, and 0 to 3 the rear. A
    # box's length lies along x at yaw 0.
    corners = boxes.corners.cpu().numpy() if len(names) else np.zeros((0, 8, 3))
    return Boxes(corners[:, [5, 4, 7, 6, 1, 0, 3, 2]], list(names), scores)


def _corners(centres: NDArray, sizes: NDArray, rotations: NDArray) -> NDArray[np.float64]:
    """(N, 8, 3) corners of boxes of (width, length, height).

    The columns of a rotation point forward, left and up.
    """
    front = np.array([[1, 1, 1], [1, -1, 1], [1, -1, -1], [1, 1, -1]])
    signs = np.concatenate([front, front * [-1, 1, 1]]) / 2
    return np.asarray(
        centres[:, None] + (signs * sizes[:, None, [1, 0, 2]]) @ rotations.transpose(0, 2, 1)
    )


def _picture(
    source: Path | NDArray[np.uint8], longest: int
) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """Take an image in RGB, at most ``longest`` pixels wide and high.

    Also returns its width and height as shares of the source's.
    """
    width, height = image_size(source) if isinstance(source, Path) else source.shape[1::-1]
    factor = min(1.0, longest / max(width, height))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = read_image(source, size)[0] if isinstance(source, Path) else source
    if image.shape[1::-1] != size:
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return image[..., ::-1].copy(), (size[0] / width, size[1] / height)
