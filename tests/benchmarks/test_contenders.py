"""What the importance benchmark tries with the tokens that pruning leaves out, and with a crop."""

import numpy as np
import pytest
import torch

from benchmarks.contenders import CropRows, LinearSwin, RepresentativeSwin
from sparsevit3d import SparseSwin
from sparsevit3d.swin.layers import Choice
from sparsevit3d.swin.windows import token_mask, window_table
from tests.support.networks import randomised

SHAPE = {
    "embed_dims": 16,
    "depths": (2, 2),
    "num_heads": (1, 2),
    "window_size": 4,
    "out_indices": (0, 1),
}


def pair(kind):
    plain = randomised(SparseSwin(**SHAPE, fast=False))
    net = kind(**SHAPE).eval()
    net.load_state_dict(plain.state_dict(), strict=False)
    return net, plain


@pytest.mark.parametrize("kind", [RepresentativeSwin, LinearSwin])
def test_nothing_changes_if_nothing_is_left_out(kind):
    net, plain = pair(kind)
    images = torch.randn(2, 3, 70, 90)
    with torch.no_grad():
        for found, truth in zip(net(images), plain(images), strict=True):
            assert torch.equal(found, truth)


@pytest.mark.parametrize("images", [1, 2])
def test_tokens_that_are_left_out_get_the_residual_of_their_mean(images):
    net, plain = pair(RepresentativeSwin)
    block = net.stages[0].blocks[1]
    table = window_table(12, 16, 4, block.shift, images=images)
    x = torch.randn(2 // images, images * 12 * 16, 16)
    choice = Choice(torch.tensor([[1, 5], [0, 7]]).view(2 // images, -1), torch.empty(0))
    with torch.no_grad():
        change = (block(x.clone(), table, choice) - x).view(2, 12 * 16, 16)
        truth = plain.stages[0].blocks[1](x.clone(), table, choice).view(2, 12 * 16, 16)
    kept = token_mask(table, choice.windows, 2).flatten(1)
    x = x.view(2, 12 * 16, 16)
    assert torch.allclose((change + x)[kept], truth[kept], atol=1e-5)
    for own, mask in zip(change, kept, strict=True):
        assert own[~mask].abs().max() > 0.01
        assert torch.allclose(own[~mask], own[~mask][:1].expand_as(own[~mask]), atol=1e-5)


def test_a_linear_path_begins_as_a_copy_and_learns():
    net, plain = pair(LinearSwin)
    net.plan = "0.5|0.5"
    plain.plan = "0.5|0.5"
    images = torch.randn(1, 3, 64, 64)
    found = net(images)
    for one, truth in zip(found, plain(images), strict=True):
        assert torch.allclose(one, truth, atol=1e-5)
    sum(one.square().sum() for one in found).backward()
    assert net.stages[0].blocks[0].bypass.weight.grad.abs().max() > 0


def test_a_crop_moves_camera_and_objects_with_the_pixels():
    image = np.arange(192 * 512 * 3, dtype=np.float32).reshape(192, 512, 3)
    given = {
        "img": image,
        "img_crop_offset": (0, 12),
        "cam2img": np.array([[300.0, 0, 256], [0, 300, 96], [0, 0, 1]]),
        "centers_2d": np.float32([[100, 90], [50, 20]]),
        "depths": np.float32([10, 20]),
        "gt_bboxes": np.float32([[80, 30, 120, 160], [40, 10, 60, 40]]),
    }
    camera = given["cam2img"]
    cut = CropRows(48, 96).transform(dict(given))
    assert np.array_equal(cut["img"], image[48:144])
    assert cut["img_crop_offset"] == (0, 60)
    assert cut["gt_bboxes"].tolist() == [[80, 0, 120, 96]]  # the other object no longer shows
    assert cut["depths"].tolist() == [10]
    ray = np.linalg.inv(camera) @ [100, 90, 1]
    seen = cut["cam2img"] @ (ray * 10)
    assert np.allclose(seen[:2] / seen[2], cut["centers_2d"][0], atol=1e-4)
    assert camera[1, 2] == 96
