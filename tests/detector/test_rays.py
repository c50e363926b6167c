"""Each pixel's direction, as the network gets it beside the colours."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sparsevit3d import SparseSwin
from sparsevit3d.detector.rays import CHANNELS, FOCAL, SLOPE, pixel_rays
from sparsevit3d.errors import InputError
from sparsevit3d.stages.benchmark import keyframe_shape, parse_shape
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.look import load_keyframe
from sparsevit3d.stages.rivals import mmdet_swin
from sparsevit3d.stages.runner import build_runner

CONFIG = Path(__file__).parents[2] / "configs/fcos3d_small_512x192_carry.py"


def test_a_foot_on_flat_ground_tells_its_distance():
    height = 1.5  # metres of a level camera above the ground
    camera = np.array([[400.0, 0, 256], [0, 380, 90], [0, 0, 1]])
    slope = pixel_rays(camera, (192, 512))[0] / SLOPE
    for distance in (10.0, 20.0, 30.0):
        row = int(camera[1, 1] * height / distance + camera[1, 2])
        assert height / slope[row, 7] == pytest.approx(distance, rel=0.03)


def test_the_second_channel_is_the_focal_length():
    for focal in (200.0, FOCAL, 800.0):
        camera = np.array([[focal, 0, 64], [0, focal, 32], [0, 0, 1]])
        assert torch.allclose(pixel_rays(camera, (64, 128))[1], torch.tensor(FOCAL / focal - 1))


def test_rays_follow_the_cameras_of_a_keyframe_and_do_not_change_the_colours(synthetic, tmp_path):
    config = load_config(CONFIG, synthetic)
    model = build_runner(config, tmp_path).model
    batch, _ = load_keyframe(config, 0)
    found = model.data_preprocessor(batch)
    images = found["inputs"]["imgs"]
    assert images.shape[1] == 3 + CHANNELS
    for image, sample in zip(images, found["data_samples"], strict=True):
        rays = pixel_rays(sample.metainfo["cam2img"], image.shape[1:])
        assert torch.equal(image[3:], rays)
    config.model.data_preprocessor.type = "mmdet3d.Det3DDataPreprocessor"
    config.model.backbone.in_channels = 3
    plain = build_runner(config, tmp_path).model.data_preprocessor(batch)["inputs"]["imgs"]
    assert torch.equal(images[:, :3], plain)
    focal = images[:, 4, 0, 0]
    assert len(focal.unique()) > 1  # the rear camera of this rig sees a wider angle
    assert torch.equal(images, torch.cat([images[:, :3], images[:, 3:].flip(-1)], 1))  # mirrored


def test_a_benchmark_asks_for_the_channels_of_the_network(synthetic):
    config = load_config(CONFIG, synthetic)
    assert keyframe_shape(config, "val") == "6x5x192x512"
    assert parse_shape("1x5x64x96", config) == (1, 5, 64, 96)
    with pytest.raises(InputError, match="Say IMAGESx5xHEIGHTxWIDTH"):
        parse_shape("1x3x64x96", config)


def test_mmdets_swin_takes_rays_as_well():
    net = SparseSwin(
        in_channels=3 + CHANNELS,
        embed_dims=8,
        depths=(2, 2),
        num_heads=(1, 2),
        window_size=4,
        out_indices=(0, 1),
    ).eval()
    images = torch.randn(2, 3 + CHANNELS, 32, 64)
    with torch.no_grad():
        for own, other in zip(net(images), mmdet_swin(net)(images), strict=True):
            assert torch.allclose(own, other, atol=1e-5)
