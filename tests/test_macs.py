import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sparsevit3d import PlanError, SparseSwin, SparsityPlan, count_macs

SHAPE = {"embed_dims": 16, "depths": (2, 1, 4), "num_heads": (1, 2, 4), "window_size": 4, "out_indices": (2,)}


def counted_by_torch(net, height, width):
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.randn(1, 3, height, width))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("plan", ["0|0|0,0", "0.3|0|0.1,0.6", "0.75|0.5|0.8,0.8"])
@pytest.mark.parametrize("size", [(64, 64), (128, 192)])
def test_macs_are_half_of_torchs_flops(plan, size):
    net = SparseSwin(**SHAPE, plan=plan).eval()
    assert count_macs(net, size) == counted_by_torch(net, *size)


@pytest.mark.parametrize("size", [(61, 75), (100, 230)])
def test_dense_macs_do_not_count_padding(size):
    net = SparseSwin(**SHAPE).eval()
    assert count_macs(net, size) == counted_by_torch(net, *size)


def test_swin_t_as_published():
    """97.6 G over six cameras at 256 x 704; the paper's 140.8 G also computes the window padding."""
    assert count_macs(SparseSwin(), (256, 704)) * 6 / 1e9 == pytest.approx(97.6, abs=0.05)


def test_another_plan_can_be_priced_without_setting_it():
    net = SparseSwin(**SHAPE)
    half = SparsityPlan.uniform(0.5, net.depths)
    dense, pruned = count_macs(net, (64, 64)), count_macs(net, (64, 64), half)
    assert pruned < dense
    assert net.plan is None
    net.plan = half
    assert count_macs(net, (64, 64)) == pruned
    assert count_macs(net, (64, 64), SparsityPlan.uniform(0, net.depths)) == dense
    with pytest.raises(PlanError):
        count_macs(net, (64, 64), SparsityPlan.parse("0.5"))
