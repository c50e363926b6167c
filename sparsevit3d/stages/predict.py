"""Predict: boxes for images of one's own calibrated cameras, without any dataset.

    detector = Detector("work_dirs/sparse/epoch_0007.pth")
    predictions = list(detector.predict(["street.jpg"], read_calibration("calibration.json")))
    print(predictions[0].detections)  # name, score, centre in metres ...

``calibration`` says what a calibration file holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet3d.registry import MODELS
from mmdet3d.structures import CameraInstance3DBoxes
from mmengine.dataset import pseudo_collate
from numpy.typing import NDArray

from data_tools.images import ImageError, image_size, read_image
from sparsevit3d.backbone import backbone_of
from sparsevit3d.errors import InputError
from sparsevit3d.stages.calibration import Camera, owner_of, read_calibration
from sparsevit3d.stages.carried_config import blame_config, config_beside
from sparsevit3d.stages.config import read_config
from sparsevit3d.stages.frames import Clock, Frame, list_images
from sparsevit3d.stages.look import camera_view
from sparsevit3d.stages.runner import load_into
from sparsevit3d.stages.submission import attribute_name
from sparsevit3d.stages.views import NO_BOXES, CameraView
from sparsevit3d.swin.importance import PLACE
from sparsevit3d.swin.plan import SparsityPlan
from sparsevit3d.swin.trace import BlockTrace, record_windows

__all__ = [
    "FRAME",
    "Camera",
    "Detection",
    "Detector",
    "Frame",
    "Prediction",
    "list_images",
    "read_calibration",
]

FRAME = (
    "camera: x right, y down, z forward; centre, length, height and width in metres, "
    "yaw in radians about y, velocity in m/s"
)
BATCH = 6  # images that go through the network together

Failed = Callable[[Path, ImageError], None]


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
        view (CameraView or None): The same as plain data for pictures.
    """

    image: Path
    camera: str
    detections: list[Detection]
    view: CameraView | None

    def as_dict(self) -> dict[str, Any]:
        """Make it ready for JSON, without the view."""
        return {
            "image": str(self.image),
            "camera": self.camera,
            "detections": [asdict(found) for found in self.detections],
        }


class Read(NamedTuple):
    """A frame, its straightened or given pixels if any, and its inputs, or why there are none."""

    frame: Frame
    pixels: NDArray[np.uint8] | None
    inputs: Any


class Detector:
    """A trained detector. ``plan`` is its checkpoint's own until another plan is assigned.

    Args:
        checkpoint (Path or str): The weights and their plan.
        config (Path, str or None): The experiment, a file that is run. None: the ``config.py`` that
            training left beside the checkpoint, which is read as data and not run. Default: None.

    Raises:
        InputError: A file is missing, damaged or does not fit.
    """

    def __init__(self, checkpoint: Path | str, config: Path | str | None = None) -> None:
        # A config that is named is run, so its errors are its own to tell.
        self._guard: Callable[[], AbstractContextManager[None]] = nullcontext
        if config is None:
            self.config = config_beside(Path(checkpoint))
            self._guard = partial(blame_config, Path(checkpoint))
        else:
            self.config = read_config(Path(config))
        with self._guard():
            model = MODELS.build(self.config.model)
            self.pipeline = Compose(self.config.test_dataloader.dataset.pipeline)
        self.checkpoint = Path(checkpoint)
        self.model = load_into(model, self.checkpoint, None)
        net = backbone_of(self.model)
        net.budget = "image"  # images come from anywhere, and must not depend on each other
        if net.importance == PLACE:
            raise InputError(
                f"{checkpoint}: knows where the cameras of its rig look, and these images are of "
                f"any camera. Train with importance='density' instead of {PLACE!r}."
            )

    @property
    def plan(self) -> SparsityPlan | None:
        return backbone_of(self.model).plan

    @plan.setter
    def plan(self, plan: SparsityPlan | str | None) -> None:
        backbone_of(self.model).plan = plan

    def predict(
        self,
        images: Sequence[Path | str],
        calibration: Mapping[str, Camera],
        failed: Failed | None = None,
    ) -> Iterator[Prediction]:
        """Yield one prediction for each image, in order. See :meth:`stream`.

        Raises InputError for an image that matches no camera or several.
        """
        # Find mistakes before any work.
        owned = [Frame(Path(image), owner_of(Path(image), calibration)) for image in images]
        yield from self.stream(owned, calibration, failed)

    def find(
        self, images: Sequence[NDArray[np.uint8]], cameras: Sequence[Camera]
    ) -> list[list[Detection]]:
        """Boxes in ``images``, (H, W, 3) blue, green, red, one list for each, best first.

        ``cameras`` has the camera of each image. Images go through the network together. Raises
        ImageError for an image of another size than its camera's.
        """
        known = {str(number): camera for number, camera in enumerate(cameras)}
        frames = [Frame(Path(name), name, image) for name, image in zip(known, images, strict=True)]
        read = self._read(iter(frames), len(frames), known, Clock())
        return [found.detections for found in self._look(read, None, views=False, clock=Clock())]

    def stream(
        self,
        frames: Iterable[Frame],
        calibration: Mapping[str, Camera],
        failed: Failed | None = None,
        views: bool = True,
        clock: Clock | None = None,
    ) -> Iterator[Prediction]:
        """Yield one prediction for each frame, in order, while the next frames are read.

        A frame that is missing, unreadable or of another size than its camera's goes to ``failed``,
        with the ImageError, and is left out. Without ``failed``, the ImageError is raised.

        Args:
            frames (iterable of Frame): The frames, which may be endless.
            calibration (dict): The cameras by name.
            failed (callable or None): Takes the frame's name and the ImageError. Default: None.
            views (bool): Whether predictions have views, which pictures need. Default: True.
            clock (Clock or None): Gets the seconds of "reading" and "network". Default: None.
        """
        clock = clock or Clock()
        source = iter(frames)
        with ThreadPoolExecutor(1) as reader:
            following = reader.submit(self._read, source, BATCH, calibration, clock)
            while batch := following.result():
                following = reader.submit(self._read, source, BATCH, calibration, clock)
                yield from self._look(batch, failed, views, clock)

    def _read(
        self, source: Iterator[Frame], count: int, calibration: Mapping[str, Camera], clock: Clock
    ) -> list[Read]:
        """Prepare the next ``count`` frames for the network."""
        with clock.part("reading"):
            return [self._prepare(frame, calibration) for frame in islice(source, count)]

    def _prepare(self, frame: Frame, calibration: Mapping[str, Camera]) -> Read:
        camera = calibration[frame.camera]
        try:
            pixels = frame.pixels
            if camera.distortion:
                image = read_image(frame.name)[0] if pixels is None else pixels
                _must_be_of(camera, image, frame.name)
                pixels = camera.straight(image)
            with self._guard():
                return Read(
                    frame, pixels, self.pipeline(as_info(frame.name, "any", camera, pixels))
                )
        except ImageError as error:
            return Read(frame, None, error)

    def _look(
        self, batch: list[Read], failed: Failed | None, views: bool, clock: Clock
    ) -> Iterator[Prediction]:
        whole = []
        for read in batch:
            if not isinstance(read.inputs, ImageError):
                whole.append(read)
            elif failed is None:
                raise read.inputs
            else:
                failed(read.frame.name, read.inputs)
        if not whole:
            return
        with clock.part("network"), torch.no_grad(), self._guard():
            samples = self.model.test_step(pseudo_collate([read.inputs for read in whole]))
        for (frame, pixels, _), sample in zip(whole, samples, strict=True):
            with self._guard():
                source = frame.name if pixels is None else pixels
                view = camera_view(sample, source, frame.camera, self.config) if views else None
                found = self._detections(sample.pred_instances_3d)
            yield Prediction(frame.name, frame.camera, found, view)

    def windows(self, image: Path | str) -> tuple[CameraView, list[BlockTrace]]:
        """Find which windows are computed of an image of any camera.

        The view has no boxes, because boxes would need a calibration.
        """
        width, height = image_size(image)
        camera = Camera(
            np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], float),
            width,
            height,
        )
        with record_windows(backbone_of(self.model)) as trace:
            (prediction,) = self.predict([image], {"any": camera})
        assert prediction.view is not None
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


def _must_be_of(camera: Camera, image: NDArray[np.uint8], name: Path) -> None:
    height, width = image.shape[:2]
    if (width, height) != (camera.width, camera.height):
        raise ImageError(
            f"{name}: is {width} x {height}, but its camera is calibrated for {camera.width} x "
            f"{camera.height}. Use the original image, or scale the calibration with it."
        )


def as_info(
    image: Path, name: str, camera: Camera, pixels: NDArray[np.uint8] | None = None
) -> dict[str, Any]:
    """Describe an image as mmdet3d's datasets do. With ``pixels`` (H, W, 3) BGR it is not read."""
    entry = {
        "img_path": str(image),
        "pixels": pixels,
        "cam2img": camera.intrinsic.tolist(),
        "width": camera.width,
        "height": camera.height,
    }
    return {"images": {name: entry}, "box_type_3d": CameraInstance3DBoxes, "sample_idx": 0}
