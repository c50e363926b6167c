"""Small networks of random weights, and what hypothesis draws them and their plans from."""

import torch
from hypothesis import strategies as st

from sparsevit3d import SparsityPlan
from tests.support.reference_swin import Shape

SHAPE = {
    "embed_dims": 16,
    "depths": (2, 1, 3, 2),
    "num_heads": (1, 2, 4, 4),
    "out_indices": (0, 1, 2, 3),
}


def randomised(net):
    """All parameters random, LayerNorm biases included: with zero ones, wrong padding would not
    show.
    """
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    net.eval()
    return net


def assert_same_features(net, images, expected):
    """Fail unless the features of ``net`` are those expected, but for rounding."""
    with torch.no_grad():
        for mine, other in zip(net.eval()(images), expected, strict=True):
            assert (mine - other).abs().max() <= 1e-4 * other.abs().max()


@st.composite
def networks(draw):
    """A shape, odd depths and windows of any size among them, and a plan for it, which may fall."""
    depths = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    ratios = st.sampled_from([0, 0.1, 0.25, 0.5, 0.8, 0.97])
    stages = tuple(tuple(draw(ratios) for _ in range((depth + 1) // 2)) for depth in depths)
    shape = Shape(8, depths, (1, 2, 4)[: len(depths)], draw(st.integers(1, 8)))
    return shape, SparsityPlan(stages, may_fall=True)


sizes = st.tuples(st.integers(1, 3), st.integers(1, 150), st.integers(1, 150))
stages = st.lists(st.floats(0, 0.999), min_size=1, max_size=4).map(tuple)
plans = st.lists(stages, min_size=1, max_size=4).map(
    lambda ratios: SparsityPlan(tuple(ratios), may_fall=True)
)
