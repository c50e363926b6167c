"""Images as the network gets them: no larger than needed, and the same whoever loads them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from PIL import Image

from data_tools.images import ImageError
from sparsevit3d.detector.transforms import FitCamera, LoadCalibratedImage
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.hooks import set_generators

CONFIGS = Path(__file__).parents[2] / "configs"
MATRIX = [[1266.0, 0.0, 816.0], [0.0, 1266.0, 491.0], [0.0, 0.0, 1.0]]


def load(path, size, wanted=()):
    entry = {"img_path": str(path), "cam2img": MATRIX, "width": size[0], "height": size[1]}
    return LoadCalibratedImage(*wanted)({"images": {"CAM_FRONT": entry}})


@pytest.fixture
def frame(tmp_path):
    """Smooth, with edges: a frame of 1600 x 900."""
    y, x = np.mgrid[:900, :1600]
    image = np.stack([x / 1600, y / 900, (np.sin(x / 40) * np.sin(y / 30) + 1) / 2], axis=-1)
    image[300:600, 400:900] = (0.9, 0.1, 0.2)
    Image.fromarray((image * 255).astype(np.uint8)).save(tmp_path / "frame.jpg", quality=80)
    return tmp_path / "frame.jpg"


@pytest.mark.parametrize(
    ("wanted", "decoded"),
    [((704, 256), (450, 800)), ((384, 128), (225, 400)), ((1600, 900), (900, 1600))],
)
def test_a_reduced_jpeg_gives_the_same_image_and_camera(frame, wanted, decoded):
    reduced = load(frame, (1600, 900), wanted)
    whole = load(frame, (1600, 900))
    assert reduced["img"].shape[:2] == decoded
    assert reduced["ori_shape"] == whole["ori_shape"] == (900, 1600)
    one = FitCamera(*wanted)(reduced)
    other = FitCamera(*wanted)(whole)
    assert one["img"].shape == other["img"].shape == (wanted[1], wanted[0], 3)
    assert one["scale_factor"] == other["scale_factor"]
    assert np.array_equal(one["cam2img"], other["cam2img"])
    difference = np.abs(one["img"].astype(int) - other["img"])
    assert difference.mean() < 1.5


def test_of_real_frames_too(real):
    for path in sorted((real / "samples").glob("CAM_*/*.jpg")):
        one, other = (
            FitCamera(704, 256)(load(path, (1600, 900), wanted))["img"]
            for wanted in ((704, 256), ())
        )
        assert np.abs(one.astype(int) - other).mean() < 2.5


def test_colours_are_blue_green_red(tmp_path):
    Image.new("RGB", (64, 36), (250, 120, 10)).save(tmp_path / "orange.png")
    assert load(tmp_path / "orange.png", (64, 36), (32, 18))["img"][0, 0].tolist() == [10, 120, 250]


def test_a_camera_held_upright(tmp_path):
    image = Image.new("RGB", (64, 36))
    image.paste((255, 255, 255), (0, 0, 32, 36))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right to be upright
    image.save(tmp_path / "upright.jpg", exif=exif)
    found = load(tmp_path / "upright.jpg", (36, 64))["img"]
    assert found.shape == (64, 36, 3)
    assert found[:20].mean() > 250 > 5 > found[44:].mean()


def test_a_truncated_image_is_refused(frame):
    frame.write_bytes(frame.read_bytes()[:-4000])
    with pytest.raises(ImageError, match=r"not a readable image \(image file is truncated"):
        load(frame, (1600, 900), (704, 256))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_seed_loads_the_same_batches(synthetic, workers):
    config = load_config(
        CONFIGS / "fcos3d_swin-t_704x256.py",
        synthetic,
        options=[f"train_dataloader.num_workers={workers}"],
    )
    epochs = []
    for seed in (3, 3, 4):
        set_generators(seed)
        loader = Runner.build_dataloader(config.train_dataloader, seed=0)
        epochs.append([torch.stack(batch["inputs"]["img"]) for batch in loader])
    assert all(torch.equal(one, other) for one, other in zip(epochs[0], epochs[1], strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(epochs[0], epochs[2], strict=True))
