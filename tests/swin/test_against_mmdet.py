"""SparseSwin equals mmdet's Swin: its features when nothing is pruned, and how it reads weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevit3d import SparseSwin, SparsityPlan, load_swin_weights
from tests.support.networks import SHAPE, assert_same_features, randomised
from tests.support.reference_swin import Reference, Shape

SwinTransformer = pytest.importorskip("mmdet.models.backbones").SwinTransformer
ConfigDict = pytest.importorskip("mmengine.config").ConfigDict
WEIGHTS = Shape(16, (2, 2, 1), (1, 2, 4), 4)


def pair(window, **changes):
    theirs = randomised(SwinTransformer(**SHAPE | changes, window_size=window))
    ours = SparseSwin(**SHAPE | changes, window_size=window).eval()
    load_swin_weights(ours, theirs.state_dict())
    return ours, theirs


@settings(max_examples=15)
@given(
    st.integers(1, 190),
    st.integers(1, 190),
    st.integers(1, 3),
    st.sampled_from([4, 5, 7]),
    st.booleans(),
)
def test_dense_equals_mmdet_at_any_size(height, width, batch, window, zeros):
    ours, theirs = pair(window)
    ours.plan = SparsityPlan.uniform(0, ours.depths) if zeros else None
    images = torch.randn(batch, 3, height, width)
    with torch.no_grad():
        for mine, other in zip(ours(images), theirs(images), strict=True):
            assert mine.shape == other.shape
            assert (mine - other).abs().max() <= 1e-5 * other.abs().max()


def test_mmdets_own_swin_gives_its_weights():
    theirs = SwinTransformer(**WEIGHTS.arguments())
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.eval()
    net = SparseSwin(**WEIGHTS.arguments())
    images = torch.randn(2, 3, 96, 130)
    assert load_swin_weights(net, theirs.state_dict()).layout == "mmdet"
    assert_same_features(net, images, theirs(images))


@pytest.mark.parametrize("window", [3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_tables_of_another_window_are_resized_as_mmdet_does(window, dtype, tmp_path):
    state = {name: value.to(dtype) for name, value in Reference("mmdet", WEIGHTS).state.items()}
    torch.save(
        {"state_dict": {f"backbone.{name}": value for name, value in state.items()}},
        tmp_path / "window4.pth",
    )
    shape = WEIGHTS._replace(window_size=window)
    theirs = SwinTransformer(
        **shape.arguments(),
        init_cfg=ConfigDict(type="Pretrained", checkpoint=str(tmp_path / "window4.pth")),
    )
    if dtype == torch.float32:
        theirs.init_weights()
    else:  # mmdet's own resizing would stay in float16
        torch.save(
            {"state_dict": {f"backbone.{name}": value.float() for name, value in state.items()}},
            tmp_path / "float.pth",
        )
        theirs.init_cfg.checkpoint = str(tmp_path / "float.pth")
        theirs.init_weights()
    theirs.eval()
    net = SparseSwin(**shape.arguments())
    images = torch.randn(1, 3, 90, 130)
    report = load_swin_weights(net, tmp_path / "window4.pth")
    assert len(report.resized) == 5  # one of each block
    assert set(report.resized) <= set(report.loaded)
    assert "5 resized" in str(report)
    assert_same_features(net, images, theirs(images))
