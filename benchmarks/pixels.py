"""Let a detector also learn what the renderer knows of every pixel: its class and its depth.

``render_truth`` casts one ray for each 4 x 4 pixels of the network's image, for every training
image of a made root. ``PixelHook`` lets a TowerNormHead learn this truth beside the boxes, by one
convolution on the neck's finest level, which is not kept. The head's 3 x 3 convolutions then
multiply in bfloat16.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from numpy.typing import NDArray
from torch import Tensor, nn

from data_tools.schema import CAMERAS as CHANNELS
from data_tools.synthetic.dataset import Settings
from data_tools.synthetic.presets import make_drive
from data_tools.synthetic.render import World, take_photo
from data_tools.synthetic.rig import CAMERAS
from sparsevit3d.detector.head import TowerNormHead
from sparsevit3d.files import read_json
from sparsevit3d.progress import Progress, no_progress

FOLDER = "pixels"  # in the root
CELL = 4  # network pixels
# Weights of the ten classes in the detector's order, of ground, scenery and sky.
WEIGHTS = (3.0, 6, 10, 10, 10, 15, 15, 8, 15, 8, 1, 1, 0.5)
OTHERS = (12, 11, 10)  # what the renderer's owners -3, -2 and -1 are: sky, scenery, ground
SKY = 12
NEAR_OBJECT = 5.0  # weight of an object's pixel in the loss of depth
SHARE = 0.5  # weight of both losses
MOST = 200.0  # metres
MIDDLE = 2.5  # the logarithm of metres at which depths begin


def render_truth(
    root: Path, size: tuple[int, int], classes: list[str], progress: Progress = no_progress
) -> None:
    """Write class and depth of each cell for the training images of a made ``root``.

    ``size`` is that of the network's image (width, height). The image is cropped from the top. Each
    scene has one file: "classes" and "depths" (metres), (keyframes, cameras, rows, columns). Scenes
    whose file exists are left out.
    """
    found = read_json(root / "synthetic.json", "Name a made root.")
    settings = Settings(**found | {"scenes": tuple(found["scenes"])})
    names = settings.splits()["train"]
    grid = (size[0] // CELL, size[0] * settings.height // settings.width // CELL)
    top = grid[1] - size[1] // CELL
    (root / FOLDER).mkdir(exist_ok=True)
    for number, name in enumerate(names):
        path = root / FOLDER / f"{name}.npz"
        if not path.exists():
            drive = make_drive(name, settings.preset, settings.seed, number, settings.keyframes)
            table = np.array([*(classes.index(thing.name) for thing in drive.things), *OTHERS])
            moments = [World.of(drive, seconds) for seconds in drive.times()]
            photos = [[take_photo(world, camera, grid) for camera in CAMERAS] for world in moments]
            owners = np.array([[photo.owner[top:] for photo in row] for row in photos])
            depths = np.array([[photo.depth[top:] for photo in row] for row in photos])
            kinds = table[owners].astype(np.uint8)
            np.savez(path, classes=kinds, depths=np.minimum(depths, MOST).astype(np.float16))
        progress(number + 1, len(names), name)


@lru_cache(None)
def _of_scene(root: Path, scene: str) -> tuple[NDArray[np.uint8], NDArray[np.float16], list[str]]:
    stored = np.load(root / FOLDER / f"{scene}.npz")
    moments = sorted(path.stem for path in (root / "samples" / CHANNELS[0]).glob(f"{scene}__*"))
    return stored["classes"], stored["depths"], [name.rpartition("__")[2] for name in moments]


def truth_of(image: Path, mirrored: bool) -> tuple[Tensor, Tensor]:
    """Classes and depths of an image's cells, (rows, columns)."""
    scene, channel, moment = image.stem.split("__")
    classes, depths, moments = _of_scene(image.parents[2], scene)
    place = moments.index(moment), [camera.channel for camera in CAMERAS].index(channel)
    pair = torch.from_numpy(classes[place].astype(np.int64)), torch.from_numpy(depths[place])
    return tuple(each.flip(1) if mirrored else each for each in pair)  # type: ignore[return-value]


class LowConv(nn.Conv2d):
    """A convolution in bfloat16 from float32 to float32."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return super().forward(x).float()


class Learner:
    """The convolution that learns the truth, and its own optimizer."""

    def __init__(self, channels: int) -> None:
        self.convolution = nn.Conv2d(channels, 4 * (len(WEIGHTS) + 1), 1)
        for parameter in self.convolution.parameters():
            nn.init.normal_(parameter, std=0.01)
        self.optimizer = torch.optim.AdamW(self.convolution.parameters(), lr=2e-3)

    def losses(self, finest: Tensor, truth: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """The losses of a level of the neck, (N, C, H, W), whose cells are 8 pixels wide."""
        self.optimizer.step()  # by the gradients of the step before
        self.optimizer.zero_grad()
        classes = torch.stack([pair[0] for pair in truth])
        depths = torch.stack([pair[1] for pair in truth]).float()
        found = F.pixel_shuffle(self.convolution(finest.float()), 2)
        kinds = F.cross_entropy(found[:, :-1], classes, torch.tensor(WEIGHTS))
        error = (found[:, -1] + MIDDLE - depths.clamp(1).log()).abs()
        weights = torch.where(classes < min(OTHERS), NEAR_OBJECT, 1.0) * (classes != SKY)
        return {
            "loss_pixel_class": SHARE * kinds,
            "loss_pixel_depth": SHARE * (error * weights).sum() / weights.sum(),
        }


class PixelHead(TowerNormHead):
    """A TowerNormHead that also learns the class and the depth of every cell, if it is dense."""

    learner: Learner | None = None

    def loss(self, x: Any, batch_data_samples: Any, **options: Any) -> Any:
        if self.learner is None:
            self.learner = Learner(x[0].shape[1])
        metas = [sample.metainfo for sample in batch_data_samples]
        truth = [truth_of(Path(meta["img_path"]), meta.get("flip", False)) for meta in metas]
        losses = super().loss(x, batch_data_samples, **options)
        return losses | self.learner.losses(x[0], truth)


@HOOKS.register_module()
class PixelHook(Hook):
    """Make the detector's TowerNormHead a PixelHead that multiplies in bfloat16."""

    def before_train(self, runner: Any) -> None:
        head = getattr(runner.model, "module", runner.model).bbox_head
        head.__class__ = PixelHead
        for layer in head.modules():
            if type(layer) is nn.Conv2d and layer.kernel_size == (3, 3):
                layer.__class__ = LowConv
