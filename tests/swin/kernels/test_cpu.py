"""The fast path equals the plain one, follows the weights, and steps aside where it is not for the
input.
"""

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevit3d import SparseSwin
from sparsevit3d.swin.kernels import cpu
from tests.support.networks import networks, randomised, sizes

SHAPE = {
    "embed_dims": 16,
    "depths": (2, 2),
    "num_heads": (1, 2),
    "window_size": 4,
    "out_indices": (0, 1),
}


@pytest.fixture
def used(monkeypatch):
    """How many blocks the fast path computed."""
    blocks = []
    compute = cpu.compute_block
    monkeypatch.setattr(
        cpu,
        "compute_block",
        lambda block, *rest: (blocks.append(block), compute(block, *rest))[1],
    )
    return blocks


def twins(plan=None, **changes):
    """A net that is fast and one that is not, with the same weights; importance does not depend on
    rounding.
    """
    shape = SHAPE | changes
    fast = randomised(SparseSwin(**shape, plan=plan, importance="random"))
    plain = SparseSwin(**shape, plan=plan, importance="random", fast=False).eval()
    plain.load_state_dict(fast.state_dict())
    return fast, plain


def assert_alike(fast, plain, images, tolerance=2e-5):
    with torch.no_grad():
        for mine, truth in zip(fast(images), plain(images), strict=True):
            assert (mine - truth).abs().max() <= tolerance * truth.abs().max()


@settings(max_examples=40)
@given(networks(), sizes, st.booleans(), st.sampled_from([1, 5, 64]))
def test_any_plan_at_any_size_equals_the_plain_path(network, size, qkv_bias, tile):
    shape, plan = network
    fast, plain = twins(plan, qkv_bias=qkv_bias, **shape.arguments())
    batch, height, width = size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "TILE", tile)
        patch.setattr(cpu, "VALUES", 0)
        assert_alike(fast, plain, torch.randn(batch, 3, height, width), 1e-4)


def test_a_window_that_was_not_chosen_leaves_a_block_as_it_came_in(used):
    fast, _ = twins("0.5|0.5")
    seen = {}
    block = fast.stages[0].blocks[1]
    block.register_forward_pre_hook(
        lambda _, inputs: seen.update(x=inputs[0].clone(), table=inputs[1], choice=inputs[2])
    )
    block.register_forward_hook(lambda *call: seen.update(out=call[-1].clone()))
    with torch.no_grad():
        fast(torch.randn(2, 3, 75, 90))
    assert used
    kept = torch.zeros(seen["x"].shape[:2], dtype=torch.bool)
    for image, windows in enumerate(seen["choice"].windows):
        index = seen["table"].tokens[windows]
        kept[image, index[index < seen["table"].padding]] = True
    assert torch.equal(seen["x"][~kept], seen["out"][~kept])
    assert (seen["x"][kept] != seen["out"][kept]).any(-1).all()


@pytest.mark.parametrize("plan", [None, "0.6|0.6"])
def test_bfloat16_points_where_float32_does(plan, used):
    fast, plain = twins(plan)
    images = torch.randn(2, 3, 90, 130)
    with torch.no_grad():
        for mine, truth in zip(fast.bfloat16()(images.bfloat16()), plain(images), strict=True):
            assert torch.cosine_similarity(mine.float().flatten(1), truth.flatten(1)).min() > 0.999
    assert bool(used) == (torch.bfloat16 in cpu.DTYPES)


@pytest.mark.parametrize("largest", [3, 60, 300, 3e4])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_bfloat16_is_as_exact_as_its_logits(largest, masked):
    """Logits are rounded once, by less than 1/256, whatever their size."""
    block = randomised(SparseSwin(**SHAPE)).stages[1].blocks[0]
    windows = 6
    size = 16
    qkv = torch.randn(windows * size, 3 * 32)
    norms = qkv[:, :64].unflatten(1, (2, 2, 16)).norm(dim=-1)  # of queries and keys
    qkv[:, :64] *= (largest / (norms.amax().square() / 4)).sqrt()
    qkv = qkv.bfloat16()
    bias = torch.randn(1, 2, size, size)
    mask = None
    if masked:
        mask = torch.zeros(windows, size, size).index_fill_(2, torch.arange(9), -100.0)
    found = cpu.attend(block.attn, qkv, windows, bias, mask)
    truth = block.attn.attend(qkv.float(), windows, bias, mask)
    assert found.dtype == torch.bfloat16
    error = (found - truth).unflatten(0, (windows, size)).unflatten(2, (2, 16)).transpose(1, 2)
    query, key, value = qkv.float().view(windows, size, 3, 2, 16).permute(2, 0, 3, 1, 4)
    most = value.abs().amax()
    rounded = torch.tensor(largest / 256)
    assert error.abs().max() <= (0.02 + (2 * rounded).expm1().clamp(max=2)) * most
    logits = query @ key.transpose(2, 3) / 4 + bias
    first, second = (logits if mask is None else logits + mask[:, None]).topk(2)[0].unbind(3)
    clear = first - second > 2 * rounded + 8  # here one token gets all
    assert clear.any() or largest == 3
    assert (error[clear].abs() < 0.02 * most).all()


def _optimise(net):
    net.train()
    sum(out.square().mean() for out in net(torch.randn(1, 3, 64, 64))).backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    net.eval()


def _swap_averages(net):
    for parameter in net.parameters():
        # leaves no trace on the parameter's version
        parameter.data.copy_(torch.randn_like(parameter) * 0.3)
    net.eval()


def _round(net):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.01
    net.bfloat16().float()


@pytest.mark.parametrize(
    "change",
    [_optimise, _round, _swap_averages, lambda net: net.load_state_dict(twins()[0].state_dict())],
)
def test_it_computes_with_the_weights_as_they_are_now(change, used):
    fast, plain = twins()
    images = torch.randn(1, 3, 70, 64)
    assert_alike(fast, plain, images)
    change(fast)
    with pytest.raises(AssertionError):
        assert_alike(fast, plain, images)
    plain.load_state_dict(fast.state_dict())
    assert_alike(fast, plain, images)
    assert used


def test_a_net_that_ran_can_be_copied_and_saved(tmp_path):
    fast, _ = twins("0.5|0")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = fast(images)
        torch.save(fast, tmp_path / "net.pt")
        for net in (deepcopy(fast), torch.load(tmp_path / "net.pt", weights_only=False)):
            assert all(
                torch.equal(one, other) for one, other in zip(net(images), before, strict=True)
            )


def test_it_steps_aside_where_it_is_not_for_the_input(used):
    fast, plain = twins()
    images = torch.randn(1, 3, 64, 64)
    fast(images)
    with torch.no_grad():
        plain(images)
        fast.double()(images.double())
        fast.float()
        with torch.autocast("cpu", torch.bfloat16):
            fast(images)
        assert not used
        fast(images)
        assert used


@pytest.mark.parametrize("width", [96, 90])  # whole windows, and padded ones
def test_it_compiles_as_one_graph(width):
    net = randomised(SparseSwin(**SHAPE, plan="0.5|0.5"))
    images = torch.randn(1, 3, 64, width)
    with torch.no_grad():
        compiled = torch.compile(net, fullgraph=True, dynamic=False, backend="aot_eager")
        for mine, truth in zip(compiled(images), net(images), strict=True):
            assert torch.allclose(mine, truth, rtol=1e-4, atol=1e-5)
