"""Weights of the real torchvision and timm.

Neither installs beside a CPU build of torch, so these are skipped there; run them where there is a
GPU, in any environment with torch, torchvision, timm and pytest. ``test_weights.py`` checks their
layouts everywhere.
"""

import pytest
import torch
import torch.nn.functional as F

from sparsevit3d import SparseSwin, load_swin_weights

ARGUMENTS = {
    "embed_dims": 16,
    "depths": (2, 2, 2),
    "num_heads": (1, 2, 4),
    "window_size": 4,
    "out_indices": (0, 1, 2),
}
IMAGES = (2, 3, 160, 192)  # every map is larger than a window: on a smaller one, neither shifts


def loaded(theirs):
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.eval()
    net = SparseSwin(**ARGUMENTS).eval()
    return net, load_swin_weights(net, theirs.state_dict())


def assert_equal(mine, other):
    assert (mine - other).abs().max() <= 1e-4 * other.abs().max()


@torch.no_grad()
def test_torchvision():
    models = pytest.importorskip("torchvision.models.swin_transformer", exc_type=ImportError)
    theirs = models.SwinTransformer([4, 4], 16, [2, 2, 2], [1, 2, 4], [4, 4], num_classes=5)
    net, report = loaded(theirs)
    assert report.layout == "torchvision"
    assert {"head.weight", "head.bias"} <= set(report.ignored)
    images = torch.randn(IMAGES)
    assert_equal(net(images)[-1], theirs.norm(theirs.features(images)).permute(0, 3, 1, 2))


def timms_swin(features_only):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    shape = {
        "embed_dim": 16,
        "depths": (2, 2, 2),
        "num_heads": (1, 2, 4),
        "window_size": 4,
        "img_size": IMAGES[2:],
    }
    return timm.create_model("swin_tiny_patch4_window7_224", features_only=features_only, **shape)


@torch.no_grad()
def test_timm():
    theirs = timms_swin(False)
    net, report = loaded(theirs)
    assert report.layout == "timm"
    images = torch.randn(IMAGES)
    assert_equal(net(images)[-1], theirs.forward_features(images).permute(0, 3, 1, 2))


@torch.no_grad()
def test_timm_features_only():
    theirs = timms_swin(True)
    net, report = loaded(theirs)
    assert report.layout == "timm"
    assert net.feature_info.channels() == theirs.feature_info.channels()
    assert net.feature_info.reduction() == theirs.feature_info.reduction()
    images = torch.randn(IMAGES)
    for mine, other in zip(net(images), theirs(images), strict=True):
        # timm's are not normalised, ours are
        assert_equal(mine, F.layer_norm(other, other.shape[-1:]).permute(0, 3, 1, 2))
