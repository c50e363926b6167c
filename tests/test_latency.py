import re
from pathlib import Path

import pytest
import torch

from sparsevit3d import SparseSwin, measure_latency
from sparsevit3d.latency import multiplies_bfloat16, time_calls
from sparsevit3d.stages.hooks import AutocastOptimWrapper


def test_a_measurement_says_what_it_measured():
    net = SparseSwin(embed_dims=16, depths=(2,), num_heads=(1,), window_size=4, out_indices=(0,)).to(torch.bfloat16).train()
    latency = measure_latency(net, (2, 3, 32, 32), runs=5, warm_up=1)
    assert 0 < latency.p50_ms <= latency.p95_ms
    assert latency.spread >= 0
    assert (latency.runs, latency.dtype) == (5, "bfloat16")
    assert "cpu" in latency.device
    assert net.training  # as it was


def test_calls_take_turns_and_warm_ups_do_not_count():
    order = []
    result = time_calls({name: lambda name=name: order.append(name) for name in "ab"}, torch.zeros(1), runs=3, warm_up=2)
    assert "".join(order) == "ab" * 5
    assert result["a"].runs == result["b"].runs == 3


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="asks Linux what the processor can do")
def test_training_is_in_bfloat16_where_the_processor_multiplies_in_it():
    able = bool(re.search(r"\b(amx_bf16|avx512_bf16|bf16)\b", Path("/proc/cpuinfo").read_text()))
    assert multiplies_bfloat16(torch.device("cpu")) == able
    assert multiplies_bfloat16(torch.device("cuda"))
    if not torch.cuda.is_available():
        net = torch.nn.Linear(2, 2)
        with AutocastOptimWrapper(torch.optim.SGD(net.parameters(), lr=0.1)).optim_context(net):
            assert net(torch.ones(1, 2)).dtype == (torch.bfloat16 if able else torch.float32)
