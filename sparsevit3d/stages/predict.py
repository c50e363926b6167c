"""Predict: boxes for images of one's own calibrated cameras, without any dataset.

    detector = Detector("work_dirs/sparse/epoch_0007.pth")
    predictions = list(detector.predict(["street.jpg"], read_calibration("calibration.json")))
    print(predictions[0].detections)  # name, score, centre in metres ...

A calibration file names cameras, their matrices, and the images that are theirs. A file with one
camera may leave out "images"::

    {"front": {"intrinsic": [[1266.4, 0, 816.3], [0, 1266.4, 491.5], [0, 0, 1]],
               "width": 1600, "height": 900, "images": "*front*.jpg"}}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet3d.structures import CameraInstance3DBoxes
from mmengine.dataset import pseudo_collate
from numpy.typing import NDArray

from sparsevit3d.backbone import backbone_of
from sparsevit3d.detector.transforms import read_image
from sparsevit3d.errors import InputError
from sparsevit3d.stages.config import read_config
from sparsevit3d.stages.look import camera_view
from sparsevit3d.stages.runner import load_detector
from sparsevit3d.stages.submission import attribute_name
from sparsevit3d.stages.views import NO_BOXES, CameraView
from sparsevit3d.swin.plan import SparsityPlan
from sparsevit3d.swin.trace import BlockTrace, record_windows

FRAME = (
    "camera: x right, y down, z forward; centre, length, height and width in metres, "
    "yaw in radians about y, velocity in m/s"
)
FORM = (
    'a calibration is {"NAME": {"intrinsic": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], '
    '"width": W, "height": H, "images": "PATTERN"}}'
)
BATCH = 6  # images that go through the network together


@dataclass(frozen=True)
class Camera:
    """A pinhole camera, its images free of distortion.

    Args:
        intrinsic (array): (3, 3), in pixels of an image of this size.
        width (int): Width of its images, in pixels.
        height (int): Height of its images, in pixels.
        images (str): A pattern for the paths of its images. Default: "*".
    """

    intrinsic: NDArray[np.float64]
    width: int
    height: int
    images: str = "*"


@dataclass(frozen=True)
class Detection:
    """One box in its camera's frame: x right, y down, z forward.

    Args:
        name (str): The class.
        score (float): How sure the detector is.
        attribute (str): nuScenes' attribute.
        centre (tuple of float): x, y and z, in metres.
        length (float): In metres.
        height (float): In metres.
        width (float): In metres.
        yaw (float): Radians about y. 0 where the box points along x, pi / 2 where it points at the
            camera.
        velocity (tuple of float): Along x and z, in metres per second.
    """

    name: str
    score: float
    attribute: str
    centre: tuple[float, float, float]
    length: float
    height: float
    width: float
    yaw: float
    velocity: tuple[float, float]


@dataclass(frozen=True)
class Prediction:
    """What was found in one image.

    Args:
        image (Path): The image file.
        camera (str): The camera's name in the calibration.
        detections (list of Detection): The boxes, best first.
        view (CameraView): The same as plain data for pictures.
    """

    image: Path
    camera: str
    detections: list[Detection]
    view: CameraView

    def as_dict(self) -> dict[str, Any]:
        """Make it ready for JSON, without the view."""
        return {
            "image": str(self.image),
            "camera": self.camera,
            "detections": [asdict(found) for found in self.detections],
        }


def read_calibration(path: Path | str) -> dict[str, Camera]:
    """Read cameras by name.

    Raises InputError that names the file, the camera and what is wrong with it.
    """
    try:
        document = json.loads(Path(path).read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error})") from error
    if not isinstance(document, dict) or not document:
        raise InputError(f"{path}: names no camera; {FORM}")
    return {
        name: _camera(entry, f"{path}: camera {name!r}", len(document) == 1)
        for name, entry in document.items()
    }


def _camera(entry: Any, where: str, alone: bool) -> Camera:
    wanted = {"intrinsic", "width", "height", "images"}
    if not isinstance(entry, dict) or not (
        wanted - ({"images"} if alone else set()) <= entry.keys() <= wanted
    ):
        raise InputError(
            f"{where} has {sorted(entry) if isinstance(entry, dict) else entry!r}; {FORM}"
        )
    try:
        matrix = np.array(entry["intrinsic"], dtype=np.float64)
    except (ValueError, TypeError):
        matrix = np.zeros(0)
    if (
        matrix.shape != (3, 3)
        or not np.isfinite(matrix).all()
        or not (matrix[[0, 1], [0, 1]] > 0).all()
        or tuple(matrix[2]) != (0, 0, 1)
    ):
        raise InputError(
            f"{where}: intrinsic is {entry['intrinsic']}, not [[fx, 0, cx], [0, fy, cy], [0, 0, "
            "1]] in pixels"
        )
    for side in ("width", "height"):
        if type(entry[side]) is not int or entry[side] <= 0:
            raise InputError(f"{where}: {side} is {entry[side]!r}, not a number of pixels")
    return Camera(matrix, entry["width"], entry["height"], str(entry.get("images", "*")))


class Detector:
    """A trained detector. ``plan`` is its checkpoint's own until another plan is assigned.

    Args:
        checkpoint (Path or str): The weights and their plan.
        config (Path, str or None): The experiment. None: the ``config.py`` that training left
            beside the checkpoint. Default: None.

    Raises:
        InputError: A file is missing, damaged or does not fit.
    """

    def __init__(self, checkpoint: Path | str, config: Path | str | None = None) -> None:
        path = Path(config) if config is not None else Path(checkpoint).with_name("config.py")
        if config is None and not path.is_file():
            raise InputError(
                f"{checkpoint}: has no config.py beside it; name its experiment with --config"
            )
        self.config = read_config(path)
        self.model = load_detector(self.config, Path(checkpoint), None)
        self.pipeline = Compose(self.config.test_dataloader.dataset.pipeline)

    @property
    def plan(self) -> SparsityPlan | None:
        return backbone_of(self.model).plan

    @plan.setter
    def plan(self, plan: SparsityPlan | str | None) -> None:
        backbone_of(self.model).plan = plan

    def predict(
        self, images: Sequence[Path | str], calibration: Mapping[str, Camera]
    ) -> Iterator[Prediction]:
        """Yield one prediction for each image, in order.

        Raises InputError for an image that matches no camera or several. Raises ImageError for an
        image that is missing, unreadable or of another size than its camera's.
        """
        # Find mistakes before any work.
        owned = [(Path(image), _owner(Path(image), calibration)) for image in images]
        for start in range(0, len(owned), BATCH):
            batch = owned[start : start + BATCH]
            inputs = [
                self.pipeline(_as_info(image, name, calibration[name])) for image, name in batch
            ]
            with torch.no_grad():
                samples = self.model.test_step(pseudo_collate(inputs))
            for (image, name), sample in zip(batch, samples, strict=True):
                view = camera_view(sample, image, name, self.config, NO_BOXES)
                yield Prediction(image, name, self._detections(sample.pred_instances_3d), view)

    def windows(self, image: Path | str) -> tuple[CameraView, list[BlockTrace]]:
        """Find which windows are computed of an image of any camera.

        The view has no boxes, because boxes would need a calibration.
        """
        _, (width, height) = read_image(str(image))
        camera = Camera(
            np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], float),
            width,
            height,
        )
        with record_windows(backbone_of(self.model)) as trace:
            (prediction,) = self.predict([image], {"any": camera})
        return replace(prediction.view, predictions=NO_BOXES), trace

    def _detections(self, found: Any) -> list[Detection]:
        rows = zip(
            found.bboxes_3d.gravity_center.tolist(),
            found.bboxes_3d.tensor.tolist(),
            [self.config.classes[label] for label in found.labels_3d],
            found.attr_labels.tolist(),
            found.scores_3d.tolist(),
            strict=True,
        )
        detections = []
        for centre, box, name, attribute, score in rows:
            length, height, width, yaw, *velocity = box[3:]
            attribute = attribute_name(attribute, name)
            detections.append(
                Detection(
                    name,
                    score,
                    attribute,
                    tuple(centre),
                    length,
                    height,
                    width,
                    yaw,
                    tuple(velocity),
                )
            )
        return sorted(detections, key=lambda detection: -detection.score)


def list_images(paths: Sequence[Path]) -> list[Path]:
    """List the images among ``paths``, in order.

    A folder gives its .jpg, .jpeg and .png files by name. Raises InputError for a path that does
    not exist and for a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such image or folder")
        inside = (
            sorted(p for p in path.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
            if path.is_dir()
            else [path]
        )
        if not inside:
            raise InputError(f"{path}: holds no .jpg, .jpeg or .png file")
        found += inside
    return found


def _owner(image: Path, calibration: Mapping[str, Camera]) -> str:
    owners = [name for name, camera in calibration.items() if fnmatch(str(image), camera.images)]
    if len(owners) != 1:
        which = (
            f"of several cameras, {' and '.join(owners)}"
            if owners
            else f"of none of the cameras {', '.join(calibration)}"
        )
        raise InputError(f"{image}: by the calibration's patterns of images it is {which}")
    return owners[0]


def _as_info(image: Path, name: str, camera: Camera) -> dict[str, Any]:
    """Describe an image as mmdet3d's datasets do."""
    entry = {
        "img_path": str(image),
        "cam2img": camera.intrinsic.tolist(),
        "width": camera.width,
        "height": camera.height,
    }
    return {"images": {name: entry}, "box_type_3d": CameraInstance3DBoxes, "sample_idx": 0}
