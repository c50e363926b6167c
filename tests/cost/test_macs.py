import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sparsevit3d import (
    PlanError,
    SparseSwin,
    SparsityPlan,
    count_macs,
    count_traced_macs,
    record_windows,
)
from sparsevit3d.cost.macs import size_of_equal_macs
from tests.support.networks import plans

SHAPE = {
    "embed_dims": 16,
    "depths": (2, 1, 4),
    "num_heads": (1, 2, 4),
    "window_size": 4,
    "out_indices": (2,),
}


def counted_by_torch(net, height, width):
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.randn(1, 3, height, width))
    return counter.get_total_flops() / 2


def net_of(plan, window=4, **more):
    depths = [2 * len(stage) for stage in plan.ratios]
    heads = [1 << stage for stage in range(len(depths))]
    arguments = {
        "embed_dims": 8,
        "depths": depths,
        "num_heads": heads,
        "window_size": window,
        "out_indices": (),
    }
    # torch counts no oneDNN
    return SparseSwin(**arguments, plan=str(plan), fast=False, **more).eval()


@settings(max_examples=30)
@given(plans, st.integers(1, 130), st.integers(1, 200), st.sampled_from([2, 3, 4, 7]))
def test_macs_are_half_of_torchs_flops(plan, height, width, window):
    """At any size, padding included: the price of a plan is what it takes to run its fullest
    windows; the trace says what ran.
    """
    fullest = net_of(
        plan, window, importance=lambda x, table: table.sizes.float().expand(len(x), -1)
    )
    assert count_macs(fullest, (height, width)) == counted_by_torch(fullest, height, width)

    net = net_of(plan, window)
    with record_windows(net) as trace:
        flops = counted_by_torch(net, height, width)
    assert count_traced_macs(net, trace).tolist() == [flops]
    assert flops <= count_macs(net, (height, width))


@settings(max_examples=20)
@given(plans, st.integers(1, 3), st.integers(1, 3))
def test_every_image_takes_the_price_where_nothing_is_padded(plan, down, across):
    side = 4 * 4 << (len(plan.ratios) - 1)  # whole windows in every stage
    net = net_of(plan)
    assert count_macs(net, (side * down, side * across)) == counted_by_torch(
        net, side * down, side * across
    )


def test_a_trace_is_of_one_pass():
    net = net_of(SparsityPlan.parse("0.5"))
    with record_windows(net) as trace:
        net(torch.randn(1, 3, 36, 36))
        net(torch.randn(2, 3, 36, 36))
    for wrong in ([], trace):
        with pytest.raises(
            ValueError,
            match=f"a trace of {len(wrong)} blocks: one forward pass of this network has 2",
        ):
            count_traced_macs(net, wrong)


def test_images_that_keep_other_windows_of_a_padded_map_take_other_macs():
    first_or_last = torch.stack([-torch.arange(9.0), torch.arange(9.0)])
    net = net_of(SparsityPlan.parse("0.5"), importance=lambda x, table: first_or_last)
    # 9 x 9 tokens: 3 x 3 windows, those at the edge with a single row or column
    images = torch.randn(2, 3, 36, 36)
    with torch.no_grad(), record_windows(net) as trace:
        net(images)
    first, last = count_traced_macs(net, trace)
    assert first > last
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        net(images)
    assert 2 * (first + last) == counter.get_total_flops()


def test_swin_t_as_published():
    """97.6 G over six cameras at 256 x 704. The paper's 140.8 G also computes window padding."""
    assert count_macs(SparseSwin(), (256, 704)) * 6 / 1e9 == pytest.approx(97.6, abs=0.05)


def test_another_plan_can_be_priced_without_setting_it():
    net = SparseSwin(**SHAPE)
    half = SparsityPlan.uniform(0.5, net.depths)
    dense = count_macs(net, (64, 64))
    pruned = count_macs(net, (64, 64), half)
    assert pruned < dense
    assert net.plan is None
    net.plan = half
    assert count_macs(net, (64, 64)) == pruned
    assert count_macs(net, (64, 64), SparsityPlan.uniform(0, net.depths)) == dense
    with pytest.raises(PlanError):
        count_macs(net, (64, 64), SparsityPlan.parse("0.5"))


@pytest.mark.parametrize("plan", ["0.5|0.3|0.5,0.5", "0|0|0,0", "0.8|0.8|0.8,0.8"])
@pytest.mark.parametrize("size", [(64, 192), (90, 160)])
def test_a_shrunken_image_of_equal_cost(plan, size):
    """It costs no more than the plan, of the same shape the next larger one does, and its sides are
    whole patches.
    """
    net = SparseSwin(**SHAPE)
    dense = SparsityPlan.uniform(0, SHAPE["depths"])
    plan = SparsityPlan.parse(plan)
    height, width = size_of_equal_macs(net, size, plan)
    assert height % 4 == width % 4 == 0
    assert abs(height - width * size[0] / size[1]) <= 4
    assert count_macs(net, (height, width), dense) <= count_macs(net, size, plan)
    larger = (max(4, round((width // 4 + 1) * size[0] / size[1]) * 4), width + 4)
    assert plan.is_dense or count_macs(net, larger, dense) > count_macs(net, size, plan)
