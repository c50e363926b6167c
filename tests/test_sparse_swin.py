import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.backbones import SwinTransformer

from sparsevit3d import PlanError, SparseSwin, SparsityPlan, load_swin_weights, record_windows
from sparsevit3d.plan import kept_count
from sparsevit3d.sparse_swin import Choice, SwinBlock
from sparsevit3d.windows import window_table

SHAPE = {"embed_dims": 16, "depths": (2, 1, 3, 2), "num_heads": (1, 2, 4, 4), "out_indices": (0, 1, 2, 3)}
PLAN = SparsityPlan.parse("0.3|0.4|0.2,0.6|0.5")


def randomised(net):
    """All parameters random, LayerNorm biases included: with zero ones, wrong padding would not show."""
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    net.eval()
    return net


def pair(window, **changes):
    theirs = randomised(SwinTransformer(**SHAPE | changes, window_size=window))
    ours = SparseSwin(**SHAPE | changes, window_size=window).eval()
    load_swin_weights(ours, theirs.state_dict())
    return ours, theirs


@settings(max_examples=15)
@given(st.integers(1, 190), st.integers(1, 190), st.integers(1, 3), st.sampled_from([4, 5, 7]), st.booleans())
def test_dense_equals_mmdet_at_any_size(height, width, batch, window, zeros):
    ours, theirs = pair(window)
    ours.plan = SparsityPlan.uniform(0, ours.depths) if zeros else None
    images = torch.randn(batch, 3, height, width)
    with torch.no_grad():
        for mine, other in zip(ours(images), theirs(images), strict=True):
            assert mine.shape == other.shape
            assert (mine - other).abs().max() <= 1e-5 * other.abs().max()


def test_dense_gradients_equal_mmdet():
    ours, theirs = pair(7, drop_path_rate=0.0)
    images = torch.randn(2, 3, 60, 100)
    for net in (ours, theirs):
        sum((feature**2).mean() for feature in net(images)).backward()
    own = dict(ours.named_parameters())
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    reference = SparseSwin(**SHAPE)
    load_swin_weights(reference, gradients)
    for name, gradient in reference.named_parameters():
        assert torch.allclose(own[name].grad, gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max())), name


@pytest.mark.parametrize(("shift", "size"), [(0, (8, 12)), (2, (8, 12)), (0, (7, 13)), (2, (7, 13))])
def test_a_pruned_block_is_the_dense_block_on_kept_windows_and_a_copy_elsewhere(shift, size):
    block = randomised(SwinBlock(16, 2, 4, shift, 4, True, 0.0))
    table = window_table(*size, 4, shift)
    tokens, count = size[0] * size[1], len(table.tokens)
    windows = torch.stack([torch.randperm(count)[: count // 2] for _ in range(2)])
    x = torch.randn(2, tokens, 16)
    with torch.no_grad():
        dense, pruned = block(x.clone(), table, None), block(x.clone(), table, Choice(windows, torch.zeros(2, count)))
    kept = torch.zeros(2, tokens + 1, dtype=torch.bool)
    for image in range(2):
        kept[image, table.tokens[windows[image]].flatten()] = True
    kept = kept[:, :tokens]
    assert torch.equal(pruned[~kept], x[~kept])
    assert torch.allclose(pruned[kept], dense[kept], rtol=1e-5, atol=1e-5 * float(dense.abs().max()))
    assert not torch.equal(pruned[kept], x[kept])


def test_windows_are_scored_once_where_the_stage_first_prunes():
    net = randomised(SparseSwin(**SHAPE, window_size=4))
    net.plan = SparsityPlan.parse("0|0|0,0.5|0")
    seen = {}
    net.stages[2].blocks[2].register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0].clone()))
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
    net = randomised(SparseSwin(embed_dims=16, depths=(6,), num_heads=(2,), window_size=4, out_indices=(0,)))
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


def test_gradients_flow_through_kept_and_copied_windows():
    block = randomised(SwinBlock(8, 2, 4, 2, 4, True, 0.0)).double().train()
    table = window_table(6, 7, 4, 2)
    choice = Choice(torch.tensor([[1, 2]]), torch.zeros(1, len(table.tokens)))
    x = torch.randn(1, 42, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: block(value, table, choice), (x,))


def test_stochastic_depth_falls_on_whole_images():
    block = randomised(SwinBlock(8, 2, 4, 0, 4, True, drop_path=0.5)).train()
    table = window_table(8, 8, 4, 0)
    x = torch.randn(40, 64, 8)
    same = (block(x, table, None) == x).all(-1)
    dropped = same.all(1)
    assert (same.any(1) == dropped).all()  # never a part of an image
    assert 0 < dropped.sum() < 40


def test_the_plan_travels_in_the_state_dict(tmp_path):
    net = SparseSwin(**SHAPE, plan=str(PLAN))
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    other = SparseSwin(**SHAPE)
    other.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    assert other.plan == PLAN
    net.plan = None
    other.load_state_dict(net.state_dict())
    assert other.plan is None
    with pytest.raises(PlanError, match="5 block pairs; this network has 3"):
        SparseSwin(embed_dims=16, depths=(2, 2, 2), num_heads=(1, 1, 1), out_indices=(2,)).set_extra_state(net.get_extra_state())


def test_a_plan_of_another_network_is_refused_and_the_old_one_kept():
    net = SparseSwin(**SHAPE, plan=str(PLAN))
    with pytest.raises(PlanError, match="the network has 4"):
        net.plan = SparsityPlan.parse("0.3|0")
    assert net.plan == PLAN


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="out_indices"):
        SparseSwin(out_indices=(4,))
    with pytest.raises(ValueError, match="num_heads"):
        SparseSwin(depths=(2, 2), num_heads=(3,))


def test_recording_leaves_nothing_behind():
    net = SparseSwin(**SHAPE, window_size=4)
    with record_windows(net) as trace:
        net(torch.randn(1, 3, 64, 64))
    recorded = len(trace)
    net(torch.randn(1, 3, 64, 64))
    assert len(trace) == recorded == sum(SHAPE["depths"])
    assert all(one.share == 1 and one.scores is None for one in trace)


def test_imports_with_torch_alone():
    forbidden = ("mmengine", "mmcv", "mmdet", "mmdet3d", "nuscenes", "open3d", "matplotlib")
    code = "import sys, sparsevit3d; found = [n for n in sys.argv[1:] if n in sys.modules]; sys.exit(str(found) if found else 0)"
    subprocess.run([sys.executable, "-c", code, *forbidden], check=True)
