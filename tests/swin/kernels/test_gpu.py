"""The GPU's kernels equal the plain path: under Triton's interpreter where there is no GPU, so that
they are tested everywhere.
"""

import gc
import subprocess
import sys
import weakref
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevit3d import SparseSwin
from sparsevit3d.swin.importance import rank_windows, score_windows
from sparsevit3d.swin.kernels import gpu, graphs, torch_private
from sparsevit3d.swin.windows import window_table
from tests.support.console import ROOT
from tests.support.networks import randomised

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = [(14, 21), (12, 17), (6, 9), (5, 3)]  # whole windows; padding; odd; smaller than a window
CHANNELS = 32
HEADS = 2
WINDOW = 7


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    if DEVICE == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")  # see conftest.py


def block_of(shift, qkv_bias=True):
    net = SparseSwin(
        embed_dims=CHANNELS,
        depths=(2,),
        num_heads=(HEADS,),
        window_size=WINDOW,
        out_indices=(0,),
        qkv_bias=qkv_bias,
    )
    return randomised(net.to(DEVICE).eval()).stages[0].blocks[bool(shift)]


def chosen_windows(table, batch, share):
    if share == 1:
        return None
    order = rank_windows(torch.rand(batch, len(table.tokens), device=DEVICE))
    return order[:, : max(1, int(order.shape[1] * share))]


def plain(block, x, table, windows):
    from sparsevit3d.swin.layers import Choice

    choice = None if windows is None else Choice(windows, torch.empty(0))
    with torch.no_grad():
        return block.compute(x.clone(), table, choice)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("share", [1, 0.6, 0.1])
def test_a_block_equals_the_plain_one(size, shift, share):
    block = block_of(shift)
    table = window_table(*size, WINDOW, shift, DEVICE)
    x = torch.randn(2, size[0] * size[1], CHANNELS, device=DEVICE)
    windows = chosen_windows(table, 2, share)
    truth = plain(deepcopy(block).double(), x.double(), table, windows)
    with torch.no_grad():
        mine = gpu.compute_block(block, x.clone(), table, windows)
    assert torch.allclose(mine.double(), truth, rtol=1e-5, atol=1e-5)
    assert torch.allclose(mine, plain(block, x, table, windows), rtol=1e-5, atol=1e-5)
    untouched = (truth == x.double()).all(-1)
    assert torch.equal(mine[untouched], x[untouched])
    assert untouched.any() == (windows is not None and windows.shape[1] < len(table.tokens))


def test_padded_keys_are_zero_where_qkv_has_no_bias():
    block = block_of(3, qkv_bias=False)
    table = window_table(12, 17, WINDOW, 3, DEVICE)
    x = torch.randn(1, 12 * 17, CHANNELS, device=DEVICE)
    with torch.no_grad():
        mine = gpu.compute_block(block, x.clone(), table, None)
    assert torch.allclose(mine, plain(block, x, table, None), rtol=1e-5, atol=1e-5)


@pytest.fixture
def on_kernels(monkeypatch):
    """Kernels for any input: they are for half precision on a GPU."""
    monkeypatch.setattr("sparsevit3d.swin.kernels.cpu.supports", lambda *_: False)
    monkeypatch.setattr(gpu, "_supports_input", lambda *_: True)


@pytest.mark.parametrize("plan", [None, "0.5|0.2,0.6"])
@pytest.mark.parametrize("size", [(60, 50), (62, 49)])  # odd maps; patches over the edge
@pytest.mark.parametrize(("importance", "budget"), [("l2", "image"), ("density", "batch")])
def test_a_whole_net_equals_the_plain_one(plan, size, importance, budget, on_kernels):
    shape = {
        "embed_dims": 16,
        "depths": (2, 3),
        "num_heads": (1, 2),
        "window_size": 4,
        "out_indices": (0, 1),
        "importance": importance,
        "budget": budget,
    }
    net = randomised(SparseSwin(**shape, plan=plan).to(DEVICE).eval())
    plain = SparseSwin(**shape, fast=False).to(DEVICE).eval()
    plain.load_state_dict(net.state_dict())
    images = torch.randn(2, 3, *size, device=DEVICE).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for mine, truth in zip(net.compute(images), plain.compute(images), strict=True):
            assert torch.allclose(mine, truth, rtol=1e-4, atol=1e-5)


def test_maps_that_a_hook_laid_out_otherwise_are_read_right(on_kernels):
    shape = {
        "embed_dims": 16,
        "depths": (1, 1),
        "num_heads": (1, 2),
        "window_size": 4,
        "out_indices": (0, 1),
    }
    net = randomised(SparseSwin(**shape).to(DEVICE).eval())
    net.stages[0].register_forward_hook(
        lambda stage, inputs, x: x.transpose(1, 2).contiguous().transpose(1, 2)
    )
    images = torch.randn(1, 3, 36, 40, device=DEVICE)
    with torch.no_grad():
        mine = net.compute(images)
        net.fast = False
        for one, truth in zip(mine, net.compute(images), strict=True):
            assert torch.allclose(one, truth, rtol=1e-4, atol=1e-5)


def test_images_of_other_channels_are_refused_as_by_torch(on_kernels):
    with pytest.raises(RuntimeError, match="expected input"), torch.no_grad():
        small_net().compute(torch.randn(1, 1, 32, 32))


@pytest.mark.parametrize("importance", ["l2", "mean", "max", "random"])
@pytest.mark.parametrize("size", SIZES)
def test_scores_are_those_of_the_plain_path(importance, size):
    x = torch.randn(2, size[0] * size[1], 48, device=DEVICE)
    tables = [window_table(*size, WINDOW, shift, DEVICE) for shift in (0, 3)]
    x[0, 0, 0] = float("nan")
    mine = gpu.score_windows(x, tables, importance, seed=1)
    for one, truth in zip(mine, score_windows(x, tables, importance, seed=1), strict=True):
        assert torch.allclose(one, truth, rtol=1e-5, equal_nan=True)


@given(
    st.lists(
        st.lists(
            st.sampled_from([0.0, 1.5, 2.0, float("inf"), float("nan")]), min_size=150, max_size=150
        ),
        min_size=2,
        max_size=2,
    )
)
@settings(max_examples=10)
def test_ranks_are_those_of_a_stable_sort(scores):
    scores = torch.tensor(scores, device=DEVICE)
    assert torch.equal(gpu.rank_windows(scores), rank_windows(scores))


@pytest.mark.parametrize(
    ("dtype", "tiles"),
    [
        ("bf16", 1),
        pytest.param("bf16", 99, marks=pytest.mark.slow),
        pytest.param("fp16", 99, marks=pytest.mark.slow),
    ],
)
def test_kernels_compile_for_a_gpu_that_is_not_here(dtype, tiles, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    script = ROOT / "tests/support/compile_kernels.py"
    done = subprocess.run(
        [sys.executable, script, dtype, str(tiles)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"_attend_windows {min(tiles, 3)}",
        f"_linear {min(tiles, 8)}",
    ]


class Replayed:
    """Stands for a CUDA graph, which only a GPU has: it is recorded with features, and counts its
    replays.
    """

    def __init__(self):
        self.replays = 0

    def replay(self):
        self.replays += 1


@pytest.fixture
def recorded(monkeypatch):
    """What was recorded, in order: the bookkeeping around CUDA graphs, on any machine."""
    found = []

    def record(compute, x, hold):
        found.append(graphs.Recording(Replayed(), x.clone(), compute(x), hold()))
        return found[-1]

    monkeypatch.setattr(graphs, "record", record)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=0))
    with torch.no_grad():
        yield found


def small_net(**options):
    return SparseSwin(
        embed_dims=16, depths=(2,), num_heads=(1,), window_size=4, out_indices=(0,), **options
    ).eval()


def recordings_of(net):
    addresses = torch_private.addresses_of(torch_private.all_modules(net))
    return graphs.recordings_of(net, addresses)


def call(net, images):
    return recordings_of(net).run(net.compute, images, (net.plan, net.importance), list)


def test_the_third_call_records_and_each_plan_and_size_by_itself(recorded):
    net = small_net()
    images = torch.randn(1, 3, 32, 32)
    for plan, size in ((None, 32), ("0.5", 32), ("0.5", 48)):
        net.plan = plan
        before = len(recorded)
        for _ in range(graphs.CALLS_BEFORE):
            call(net, torch.randn(1, 3, size, 32))
        assert len(recorded) == before
        for _ in range(3):
            call(net, images if size == 32 else torch.randn(1, 3, size, 32))
        assert len(recorded) == before + 1
        assert recorded[-1].graph.replays == 3


def test_plans_that_take_turns_do_not_push_out_each_other(recorded, monkeypatch):
    monkeypatch.setattr(graphs, "RECORDINGS", 2)
    net = small_net()
    images = torch.randn(1, 3, 32, 32)
    for _ in range(10):
        for plan in (None, "0.3", "0.5"):
            net.plan = plan
            call(net, images)
    assert len(recorded) == 2
    for _ in range(graphs.IDLE + 3):
        call(net, images)
    assert len(recorded) == 3


def test_recordings_end_with_their_net_its_addresses_and_its_dtype(recorded):
    net = small_net()
    images = torch.randn(1, 3, 32, 32)
    known = recordings_of(net)
    assert recordings_of(net) is known
    net.stages[0].blocks[0].fc1.weight.add_(1)
    assert recordings_of(net) is known
    net.stages[0].blocks[0].fc1.weight.data = torch.zeros_like(net.stages[0].blocks[0].fc1.weight)
    assert recordings_of(net) is not known
    known = recordings_of(net)
    assert recordings_of(net.to(torch.float64)) is not known
    for _ in range(4):
        call(net, images.double())
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


on_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="CUDA graphs need a GPU")


def half_net(**options):
    net = SparseSwin(
        embed_dims=32, depths=(2, 2), num_heads=(1, 2), window_size=7, out_indices=(0, 1), **options
    )
    return randomised(net.cuda().eval()).bfloat16()


@on_gpu
@pytest.mark.parametrize("plan", [None, "0.5|0.5"])
def test_replays_equal_what_was_recorded_for_other_images_too(plan):
    net = half_net(plan=plan)
    with torch.no_grad():
        for _ in range(6):
            images = torch.randn(2, 3, 60, 90, device="cuda", dtype=torch.bfloat16)
            assert all(
                torch.equal(one, other)
                for one, other in zip(net(images), net.compute(images), strict=True)
            )


@on_gpu
def test_replays_follow_weights_plans_and_whoever_watches():
    net = half_net()
    images = torch.randn(2, 3, 60, 90, device="cuda", dtype=torch.bfloat16)
    with torch.no_grad():
        before = [net(images)[0] for _ in range(4)][-1]
        net.plan = "0.5|0.5"
        assert not torch.equal(net(images)[0], before)
        net.plan = None
        assert torch.equal(net(images)[0], before)
        seen = []
        handle = net.stages[0].register_forward_hook(lambda *_: seen.append(1))
        net(images)
        handle.remove()
        assert seen
        for change in (
            lambda weight: weight.add_(1),
            lambda weight: setattr(weight, "data", weight + 1),
        ):
            change(net.stages[0].blocks[0].fc2.weight)
            for _ in range(4):
                assert all(
                    torch.equal(one, other)
                    for one, other in zip(net(images), net.compute(images), strict=True)
                )
            assert not torch.equal(net(images)[0], before)
