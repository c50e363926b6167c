import subprocess
import sys
from copy import deepcopy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevit3d import (
    PlanError,
    SparseSwin,
    SparsityPlan,
    count_macs,
    load_swin_weights,
    record_windows,
)
from sparsevit3d.swin.kernels.dispatch import SwinBlock
from sparsevit3d.swin.layers import Choice
from sparsevit3d.swin.plan import kept_count
from sparsevit3d.swin.windows import window_table
from tests.support.networks import SHAPE, networks, randomised, sizes
from tests.support.reference_swin import Reference

PLAN = SparsityPlan.parse("0.3|0.4|0.2,0.6|0.5")


def assert_equals_reference(shape, plan, size, **choices):
    """In float64, for in float32 two windows whose scores differ in the last digit may change
    places.
    """
    (batch, height, width) = size
    reference = Reference("mmdet", shape, partial(torch.randn, dtype=torch.float64))
    net = SparseSwin(**shape.arguments(), plan=plan, **choices).double().eval()
    load_swin_weights(net, reference.state)
    images = torch.randn(batch, 3, height, width, dtype=torch.float64)
    with torch.no_grad():
        for mine, other in zip(net(images), reference(images, plan.ratios, **choices), strict=True):
            assert torch.allclose(mine, other, rtol=1e-9, atol=1e-9)


@settings(max_examples=60)
@given(
    networks(), sizes, st.sampled_from(["l2", "mean", "max"]), st.sampled_from(["stage", "block"])
)
def test_any_plan_at_any_size_equals_the_reference(network, size, importance, score_every):
    assert_equals_reference(*network, size, importance=importance, score_every=score_every)


@settings(max_examples=20)
@given(networks(), sizes)
def test_zeroing_at_any_size_equals_the_reference(network, size):
    """In the last stage alone: behind zeroed windows others come out equal, and which of equals is
    kept would be rounding's choice.
    """
    shape, plan = network
    dense = tuple((0,) * len(stage) for stage in plan.ratios[:-1])
    assert_equals_reference(
        shape, SparsityPlan((*dense, plan.ratios[-1]), may_fall=True), size, pruned="zero"
    )


@pytest.mark.parametrize(
    ("shift", "size"), [(0, (8, 12)), (2, (8, 12)), (0, (7, 13)), (2, (7, 13))]
)
def test_a_pruned_block_is_the_dense_block_on_kept_windows_and_a_copy_elsewhere(shift, size):
    block = randomised(SwinBlock(16, 2, 4, shift))
    table = window_table(*size, 4, shift)
    tokens = size[0] * size[1]
    count = len(table.tokens)
    windows = torch.stack([torch.randperm(count)[: count // 2] for _ in range(2)])
    x = torch.randn(2, tokens, 16)
    with torch.no_grad():
        dense = block(x.clone(), table, None)
        pruned = block(x.clone(), table, Choice(windows, torch.zeros(2, count)))
    kept = torch.zeros(2, tokens + 1, dtype=torch.bool)
    for image in range(2):
        kept[image, table.tokens[windows[image]].flatten()] = True
    kept = kept[:, :tokens]
    assert torch.equal(pruned[~kept], x[~kept])
    assert torch.allclose(
        pruned[kept], dense[kept], rtol=1e-5, atol=1e-5 * float(dense.abs().max())
    )
    assert not torch.equal(pruned[kept], x[kept])


def test_windows_are_scored_once_where_the_stage_first_prunes():
    net = randomised(SparseSwin(**SHAPE, window_size=4))
    net.plan = SparsityPlan.parse("0|0|0,0.5|0")
    seen = {}
    net.stages[2].blocks[2].register_forward_pre_hook(
        lambda _, inputs: seen.update(x=inputs[0].clone())
    )
    with torch.no_grad(), record_windows(net) as trace:
        net(torch.randn(2, 3, 128, 160))
    block = trace[5]
    assert (block.stage, block.block, block.shift) == (2, 2, 0)
    table = window_table(8, 10, 4, 0)
    magnitude = torch.cat([seen["x"].abs().mean(-1), torch.zeros(2, 1)], dim=1)
    expected = (magnitude[:, table.tokens] ** 2).sum(-1).sqrt()
    assert torch.allclose(torch.from_numpy(block.scores), expected, rtol=1e-5)
    best = expected.topk(kept_count(len(table.tokens), 0.5)).indices
    for image in range(2):
        assert set(block.kept[image].nonzero()[0]) == set(best[image].tolist())
    assert [one.scores is None for one in trace] == [True] * 5 + [False] + [True] * 2


def test_kept_windows_nest_along_a_stage_for_equal_shift():
    net = randomised(
        SparseSwin(embed_dims=16, depths=(6,), num_heads=(2,), window_size=4, out_indices=(0,))
    )
    net.plan = SparsityPlan.parse("0.2,0.4,0.7")
    with torch.no_grad(), record_windows(net) as trace:
        net(torch.randn(3, 3, 90, 110))
    for first, later in zip(trace, trace[2:], strict=False):
        assert first.shift == later.shift
        assert not (later.kept & ~first.kept).any()
        assert later.kept.sum() < first.kept.sum()
        assert (later.scores == first.scores).all()


def test_an_image_does_not_depend_on_its_batch_mates():
    net = randomised(SparseSwin(**SHAPE, window_size=4))
    net.plan = PLAN
    images = torch.randn(3, 3, 77, 101) * torch.tensor([0.1, 1.0, 10.0]).view(3, 1, 1, 1)
    with torch.no_grad(), record_windows(net) as together:
        whole = net(images)
    with torch.no_grad(), record_windows(net) as alone:
        single = net(images[1:2])
    for one, other in zip(together, alone, strict=True):
        assert (one.kept[1:2] == other.kept).all()
    for one, other in zip(whole, single, strict=True):
        assert torch.allclose(one[1:2], other, rtol=1e-4, atol=1e-4)


def test_the_plan_travels_in_the_state_dict(tmp_path):
    net = SparseSwin(**SHAPE, plan=str(PLAN))
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    other = SparseSwin(**SHAPE)
    other.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    assert other.plan == PLAN
    with pytest.raises(PlanError, match=r"has 4 stages\. The network has 3"):
        SparseSwin(
            embed_dims=16, depths=(2, 2, 2), num_heads=(1, 1, 1), out_indices=(2,)
        ).set_extra_state(net.get_extra_state())
    net.plan = None
    other.load_state_dict(net.state_dict())
    assert other.plan is None


@pytest.mark.parametrize("cast", [torch.Tensor.half, torch.Tensor.bfloat16, torch.Tensor.double])
def test_the_plan_survives_a_checkpoint_cast_to_another_precision(cast):
    net = SparseSwin(**SHAPE, plan=str(PLAN))
    other = SparseSwin(**SHAPE)
    other.load_state_dict({name: cast(value) for name, value in net.state_dict().items()})
    assert other.plan == PLAN


@pytest.mark.parametrize("state", [[48, 124], [-3.0], [float("nan")], [2.0**31], [[48]], [], [200]])
def test_a_damaged_plan_is_refused(state):
    with pytest.raises(PlanError):
        SparseSwin(**SHAPE).set_extra_state(torch.tensor(state))


def test_a_network_without_storage_takes_a_state_dict_as_it_is():
    net = SparseSwin(**SHAPE, window_size=4, plan=PLAN).eval()
    with torch.device("meta"):
        empty = SparseSwin(**SHAPE, window_size=4).eval()
    empty.load_state_dict(net.state_dict(), assign=True)
    images = torch.randn(1, 3, 60, 90)
    with torch.no_grad():
        assert all(
            torch.equal(one, other) for one, other in zip(empty(images), net(images), strict=True)
        )


def test_exporting_leaves_nothing_behind():
    """torch.export computes with stand-ins for tensors; were they cached, all that runs later at
    this size would be wrong.
    """
    net = SparseSwin(**SHAPE, window_size=4, plan=PLAN).eval()
    images = torch.randn(1, 3, 256, 288)
    exported = torch.export.export(net, (images,)).module()
    with torch.no_grad():
        features = net(images)
        assert all(type(feature) is torch.Tensor for feature in features)
        for feature, other in zip(features, exported(images), strict=True):
            assert torch.allclose(feature, other, rtol=1e-4, atol=1e-5)
    reference = deepcopy(net).double()(images.double())
    assert all(
        torch.allclose(one, other.float(), rtol=1e-3, atol=1e-4)
        for one, other in zip(features, reference, strict=True)
    )
    assert count_macs(net, (256, 288)) > 0


def test_a_plan_of_another_network_is_refused_and_the_old_one_kept():
    net = SparseSwin(**SHAPE, plan=str(PLAN))
    with pytest.raises(PlanError, match="The network has 4"):
        net.plan = SparsityPlan.parse("0.3|0")
    assert net.plan == PLAN


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="out_indices"):
        SparseSwin(out_indices=(4,))
    with pytest.raises(ValueError, match="num_heads"):
        SparseSwin(depths=(2, 2), num_heads=(3,))
    with pytest.raises(ValueError, match="stage 1 has 192 channels, which 7 does not divide"):
        SparseSwin(num_heads=(3, 7, 12, 24))
    with pytest.raises(ValueError, match="importance 'l1': there are l2, mean, max, random"):
        SparseSwin(importance="l1")
    with pytest.raises(ValueError, match="score_every 'net': there are stage, block"):
        SparseSwin(score_every="net")
    with pytest.raises(ValueError, match="pruned 'drop': there are copy, zero"):
        SparseSwin(pruned="drop")
    with pytest.raises(ValueError, match="frozen_stages 5"):
        SparseSwin(frozen_stages=5)


def test_recording_leaves_nothing_behind():
    net = SparseSwin(**SHAPE, window_size=4)
    with record_windows(net) as trace:
        net(torch.randn(1, 3, 64, 64))
    recorded = len(trace)
    net(torch.randn(1, 3, 64, 64))
    assert len(trace) == recorded == sum(SHAPE["depths"])
    assert all(one.share == 1 and one.scores is None for one in trace)


def test_scoring_before_every_block_sees_what_the_block_before_made():
    net = randomised(
        SparseSwin(
            embed_dims=16,
            depths=(4,),
            num_heads=(2,),
            window_size=4,
            out_indices=(0,),
            score_every="block",
        )
    )
    net.plan = "0.5,0.5"
    inputs = []
    for block in net.stages[0].blocks:
        block.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0].clone()))
    with torch.no_grad(), record_windows(net) as trace:
        net(torch.randn(1, 3, 64, 64))
    for x, block in zip(inputs, trace, strict=True):
        windows = x.abs().mean(-1)[:, window_table(16, 16, 4, block.shift).tokens]
        assert torch.allclose(
            torch.from_numpy(block.scores), (windows**2).sum(-1).sqrt(), rtol=1e-5
        )
    assert (trace[0].scores != trace[2].scores).any()


def test_zeroed_windows_are_zero_and_the_kept_ones_as_ever():
    table = window_table(8, 12, 4, 2)
    x = torch.randn(2, 96, 16)
    choice = Choice(torch.tensor([[0, 3], [5, 1]]), torch.zeros(2, 6))
    block = randomised(SwinBlock(16, 2, 4, 2))
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            block.pruned = "copy"
            copied = block(x.clone(), table, choice)
            block.pruned = "zero"
            zeroed = block(x.clone(), table, choice)
        assert torch.equal(
            zeroed, torch.where((copied == x).all(-1, keepdim=True), torch.zeros_like(x), copied)
        )
        assert (zeroed == 0).all(-1).any()


def test_random_importance_keeps_other_windows_for_another_seed():
    images = torch.randn(2, 3, 96, 96)
    kept = []
    for seed in (0, 0, 1):
        net = SparseSwin(
            **SHAPE, window_size=4, plan=PLAN, importance="random", importance_seed=seed
        ).eval()
        with torch.no_grad(), record_windows(net) as trace:
            net(images)
        kept.append(trace[0].kept)
        assert (trace[0].kept[0] == trace[0].kept[1]).all()
    assert (kept[0] == kept[1]).all()
    assert (kept[0] != kept[2]).any()


def test_importance_can_be_exchanged_like_the_plan():
    net = SparseSwin(**SHAPE, window_size=4, plan=PLAN).eval()
    choices = []
    for importance in ("l2", "random", lambda x, table: -table.sizes.expand(len(x), -1)):
        net.importance = importance
        with torch.no_grad(), record_windows(net) as trace:
            net(torch.randn(1, 3, 100, 100))
        choices.append(trace[0].scores)
    assert choices[0].max() > choices[1].max()
    assert 0 <= choices[1].min() < choices[1].max() < 1
    assert choices[2].max() < 0


def test_a_module_as_importance_is_part_of_the_network():
    class Learned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor(-1.0))
            self.linear = torch.nn.Linear(1, 1)
            torch.nn.init.constant_(self.linear.weight, 5)

        def forward(self, x, table):
            return self.weight * torch.arange(float(len(table.tokens))).expand(len(x), -1)

    net = SparseSwin(**SHAPE | {"window_size": 4, "plan": PLAN, "importance": Learned()}).eval()
    assert "importance.weight" in net.state_dict()
    # as it was given, not initialised with the rest
    assert net.importance.linear.weight.item() == 5
    copy = deepcopy(net)
    torch.nn.init.ones_(copy.importance.weight)
    net.bfloat16()
    for one, first in ((net, True), (copy, False)):
        with torch.no_grad(), record_windows(one) as trace:
            one(torch.randn(1, 3, 96, 96, dtype=next(one.parameters()).dtype))
        assert trace[0].kept[0, 0] == first
        assert trace[0].kept[0, -1] != first


def test_channels_last_images_give_equal_features():
    net = randomised(SparseSwin(**SHAPE, window_size=4, plan=PLAN))
    images = torch.randn(2, 3, 77, 101)
    with torch.no_grad():
        for mine, other in zip(
            net(images.contiguous(memory_format=torch.channels_last)), net(images), strict=True
        ):
            assert torch.allclose(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("plan", [None, "0.3|0|0.1,0.2,0.2|0"])
def test_bfloat16_stays_close_to_float32(plan):
    net = SparseSwin(embed_dims=32, num_heads=(1, 2, 4, 8), plan=plan).eval()
    images = torch.randn(1, 3, 224, 320)
    with torch.no_grad():
        with record_windows(net) as trace:
            expected = net(images)
        net.bfloat16()
        with record_windows(net) as close_trace:
            features = net(images.bfloat16())
    for feature, reference in zip(features, expected, strict=True):
        assert feature.dtype == torch.bfloat16
        assert torch.cosine_similarity(feature.float().flatten(), reference.flatten(), 0) > 0.999
    for one, other in zip(trace, close_trace, strict=True):
        assert (one.kept == other.kept).mean() > 0.95


@pytest.mark.parametrize("out_indices", [(1, 3), (3, 1), (1, 3, 3)])
def test_features_are_described_as_timm_does(out_indices):
    net = SparseSwin(**SHAPE | {"out_indices": out_indices})
    features = net(torch.randn(1, 3, 64, 128))
    assert net.feature_info.channels() == [feature.shape[1] for feature in features] == [32, 128]
    assert (
        net.feature_info.reduction() == [64 // feature.shape[2] for feature in features] == [8, 32]
    )


def test_imports_with_torch_and_numpy_alone():
    forbidden = (
        "mmengine",
        "mmcv",
        "mmdet",
        "mmdet3d",
        "nuscenes",
        "open3d",
        "matplotlib",
        "safetensors",
    )
    code = (
        "import sys; from sparsevit3d import *; "
        "found = [n for n in sys.argv[1:] if n in sys.modules]; "
        "sys.exit(str(found) if found else 0)"
    )
    subprocess.run([sys.executable, "-c", code, *forbidden], check=True)
