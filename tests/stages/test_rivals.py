"""The released form is SparseSwin's equal where no map has padding, or the benchmark would time
something else.
"""

import pytest
import torch

from sparsevit3d import SparseSwin
from sparsevit3d.stages.openvino_rival import converted
from sparsevit3d.stages.rivals import ReleasedSwin, mmdet_swin
from tests.support.networks import randomised

SHAPE = {
    "embed_dims": 16,
    "depths": (2, 3),
    "num_heads": (1, 2),
    "window_size": 4,
    "out_indices": (0, 1),
    "fast": False,
}


@pytest.mark.parametrize("plan", [None, "0.5|0.2,0.6"])
def test_the_released_form_equals_sparse_swin_on_whole_windows(plan):
    net = randomised(SparseSwin(**SHAPE, plan=plan).double())
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        for mine, theirs in zip(net(images), ReleasedSwin(net)(images), strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-9)


def test_it_differs_by_padding_which_takes_part():
    net = randomised(SparseSwin(**SHAPE).double())
    images = torch.randn(1, 3, 64, 90, dtype=torch.float64)
    with torch.no_grad():
        assert not torch.allclose(net(images)[1], ReleasedSwin(net)(images)[1], rtol=1e-3)


def test_mmdets_swin_has_our_weights_and_so_our_features():
    net = randomised(SparseSwin(**SHAPE)).eval()
    images = torch.randn(2, 3, 61, 90)
    with torch.no_grad():
        for mine, theirs in zip(net(images), mmdet_swin(net)(images), strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_openvino_gives_mmdets_features():
    pytest.importorskip("openvino")
    net = randomised(SparseSwin(**SHAPE))
    images = torch.randn(2, 3, 64, 96)
    rival = mmdet_swin(net)
    (run,) = converted(rival, images, ["float32"]).values()
    for one, other in zip(run(images), rival(images), strict=True):
        assert torch.allclose(one, other, 1e-3, 1e-4)
