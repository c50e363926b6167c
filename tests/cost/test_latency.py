import torch

from sparsevit3d import SparseSwin, measure_latency
from sparsevit3d.cost.latency import time_calls


def test_a_measurement_says_what_it_measured():
    net = (
        SparseSwin(embed_dims=16, depths=(2,), num_heads=(1,), window_size=4, out_indices=(0,))
        .to(torch.bfloat16)
        .train()
    )
    latency = measure_latency(net, (2, 3, 32, 32), runs=5, warm_up=1)
    assert 0 < latency.p50_ms <= latency.p95_ms
    assert latency.spread >= 0
    assert (latency.runs, latency.dtype) == (5, "bfloat16")
    assert f"{torch.get_num_threads()} threads" in latency.device
    assert net.training  # as it was


def test_calls_take_turns_and_warm_ups_do_not_count():
    order = []
    result = time_calls(
        {name: lambda name=name: order.append(name) for name in "ab"},
        torch.zeros(1),
        runs=3,
        warm_up=2,
    )
    assert "".join(order) == "ab" * 5
    assert result["a"].runs == result["b"].runs == 3
