"""SparseSwin-T on a GPU in bfloat16 against timm's Swin-T, eager and compiled, all taking turns in one run.

    pip install torch triton timm
    python benchmarks/gpu/run.py --out benchmarks/results/backbone_gpu.json

First it is made sure that the kernels and the recorded graphs compute what the plain path does, then they are timed: whole backbones,
images on the device to feature maps, six cameras; and each kernel beside the torch calls that it replaces. Ends with one line of JSON.
"efficiency" is the speed-up over the fastest dense contender, divided by how many times fewer MACs the plan takes. Most of the few minutes go to
``max-autotune``; nothing but this repository and the three packages is needed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
from sparsevit3d import SparseSwin, SparsityPlan, count_macs, fast_gpu
from sparsevit3d.latency import time_calls
from sparsevit3d.macs import default_plans
from sparsevit3d.sparse_swin import Choice, SwinBlock
from sparsevit3d.windows import window_table, window_tokens

Call = Callable[[], object]
DEPTHS = (2, 2, 6, 2)
SHAPES = [(6, 3, 256, 704), (6, 3, 900, 1600)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="timed runs of each contender, after a warm-up")
    parser.add_argument("--out", type=Path, help="keep the JSON here too")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark is for a GPU, and torch sees none; on a CPU: sparsevit3d benchmark")
    try:
        import timm
        import triton
    except ImportError as error:
        raise SystemExit(f"{error.name} is missing: pip install torch triton timm") from None
    net = SparseSwin(embed_dims=96, depths=DEPTHS, num_heads=(3, 6, 12, 24), window_size=7).cuda().eval()
    checks = check(net)
    print(json.dumps(checks, indent=2))
    result: dict[str, Any] = {
        "versions": {"torch": torch.__version__, "triton": triton.__version__, "timm": timm.__version__},
        "device": torch.cuda.get_device_name(),
        "dtype": "bfloat16",
        "checks": checks,
        "kernels": time_kernels(net, SHAPES[0], options.runs),
        "backbones": [],
    }
    for shape in SHAPES:
        result["backbones"].append(time_backbones(net, timm, shape, options.runs))
        if options.out:
            options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


# Correct before fast.


@torch.no_grad()
def check(net: SparseSwin) -> dict[str, float]:
    """How far the fast path is from the plain one, at a size with padding. Raises AssertionError where it is another thing."""
    images, found = torch.randn(2, 3, 250, 333, device="cuda"), {}
    for stage in net.stages:
        table = window_table(20, 31, 7, 3, "cuda")
        x = torch.randn(2, 20 * 31, stage.blocks[1].fc1.in_features, device="cuda")
        windows = torch.rand(2, len(table.tokens), device="cuda").argsort(1)[:, :7]
        block = deepcopy(stage.blocks[1])
        block.fast = False
        truth = block.double()(x.double(), table, Choice(windows, windows))
        block.float()
        mine = fast_gpu.compute_block(block, x.clone(), table, windows)
        found[f"block of {x.shape[-1]} channels, float32, largest error"] = error = float((mine - truth).abs().max())
        assert error < 1e-4, found
    plain, fast = deepcopy(net), deepcopy(net).bfloat16()
    plain.fast = False
    for plan in (None, *default_plans(net, (250, 333))):
        plain.plan = fast.plan = plan
        plain.importance = fast.importance = "l2"
        first, *_, again = [fast(images.bfloat16()) for _ in range(fast_gpu.CALLS_BEFORE + 2)]
        assert all(map(torch.equal, first, again)), "a replay differs from what was recorded"
        plain.importance = fast.importance = "random"  # by scores, rounding may choose another window where two are all but equal
        pairs = zip(fast(images.bfloat16()), plain(images), strict=True)
        cosine = min(float(F.cosine_similarity(mine.float().flatten(), truth.flatten(), 0)) for mine, truth in pairs)
        found[f"net under plan {plan}, bfloat16, smallest cosine to float32"] = cosine
        assert cosine > 0.999, found
    return found


# Whole backbones.


def time_backbones(net: SparseSwin, timm: Any, shape: tuple[int, int, int, int], runs: int) -> dict[str, Any]:
    torch._dynamo.reset()  # or the second size would be compiled for any size
    images = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
    size = shape[-2:]
    rival = timm.create_model("swin_tiny_patch4_window7_224", features_only=True, img_size=size, out_indices=(0, 1, 2, 3))
    rival = rival.cuda().bfloat16().eval()
    compiled = torch.compile(rival, mode="max-autotune", dynamic=False)
    dense = count_macs(net, size)
    plans = [None, *default_plans(net, size)]
    calls: dict[str, Call] = {"timm": lambda: rival(images), "timm compiled": lambda: compiled(images)}
    plain = deepcopy(net).bfloat16()
    plain.fast = False
    one_graph = torch.compile(deepcopy(plain), fullgraph=True, dynamic=False)
    calls["SparseSwin dense, plain path"] = lambda: plain(images)
    calls["SparseSwin dense, plain path compiled"] = lambda: one_graph(images)
    fast = deepcopy(net).bfloat16()
    share = {}
    for plan in plans:
        name = f"SparseSwin {plan or 'dense'}"
        share[name] = count_macs(net, size, plan) / dense if plan else 1.0
        calls[name] = _under(fast, plan, images)
    rows: dict[str, Any] = {name: vars(one) for name, one in time_calls(calls, images, runs, warm_up=10).items()}
    fastest = min(row["p50_ms"] for name, row in rows.items() if share.get(name, 1) == 1)
    for name, row in rows.items():
        row["over_timm"] = rows["timm"]["p50_ms"] / row["p50_ms"]
        row["over_timm_compiled"] = rows["timm compiled"]["p50_ms"] / row["p50_ms"]
        if name in share:
            row |= {"share": share[name], "efficiency": fastest / row["p50_ms"] * share[name]}
        print(f"{name:45} {row['p50_ms']:8.3f} ms  p95 {row['p95_ms']:8.3f}  over compiled timm {row['over_timm_compiled']:.2f}x")
    return {"shape": shape, "dense_gmacs": shape[0] * dense / 1e9, "rows": rows}


def _under(net: SparseSwin, plan: SparsityPlan | None, images: Tensor) -> Call:
    def call() -> object:
        net.plan = plan
        return net(images)

    return call


# Each kernel beside what it replaces.


@torch.no_grad()
def time_kernels(net: SparseSwin, shape: tuple[int, int, int, int], runs: int) -> list[dict[str, Any]]:
    """At each stage, half of the windows: milliseconds on the device, the median of runs recorded as graphs."""
    rows, (batch, _, height, width) = [], shape
    height, width = height // 4, width // 4
    for stage in deepcopy(net).bfloat16().stages:
        block = stage.blocks[1]
        for name, contenders in _kernels_and_rivals(block, batch, height, width).items():
            times = [_device_time(call, runs) for call in contenders]
            rows.append({"kernel": name, "channels": block.fc1.in_features, "ms": times[0], "torch_ms": times[1]})
            print(
                f"{name:35} {block.fc1.in_features:4} channels  {times[0]:.4f} ms, torch {times[1]:.4f} ms, {times[1] / times[0]:.2f}x"
            )
        height, width = (height + 1) // 2, (width + 1) // 2
    return rows


def _kernels_and_rivals(block: SwinBlock, batch: int, height: int, width: int) -> dict[str, tuple[Call, Call]]:
    from sparsevit3d import triton_kernels as kernels

    attention, channels, table = block.attn, block.fc1.in_features, window_table(height, width, block.window, block.shift, "cuda")
    x = torch.randn(batch * height * width, channels, device="cuda", dtype=torch.bfloat16)
    windows = torch.rand(batch, len(table.tokens), device="cuda").argsort(1)[:, : len(table.tokens) // 2].contiguous()
    chosen, gathered = kernels.choose_rows(table, windows, batch), window_tokens(table, windows, batch, height * width)
    qkv = kernels.norm_linear(x, chosen, block.norm1, attention.qkv)
    hidden = kernels.norm_linear(x, chosen, block.norm2, block.fc1, gelu=True)
    padded, packed = qkv.new_zeros(gathered.windows * block.window**2, 3 * channels), hidden[: len(gathered.rows)]
    biases = attention.relative_position_bias_table, attention.qkv.bias
    return {
        "gather + LayerNorm + QKV": (
            lambda: kernels.norm_linear(x, chosen, block.norm1, attention.qkv),
            lambda: attention.qkv(block.norm1(x.index_select(0, gathered.rows))),
        ),
        "window attention": (
            lambda: kernels.attend_windows(qkv, table, windows, chosen, attention.heads, *biases),
            lambda: attention.attend(padded, gathered.windows, attention.position_bias(gathered.offsets), gathered.mask),
        ),
        "gather + LayerNorm + FC1 + GELU": (
            lambda: kernels.norm_linear(x, chosen, block.norm2, block.fc1, gelu=True),
            lambda: F.gelu(block.fc1(block.norm2(x.index_select(0, gathered.rows)))),
        ),
        "FC2 + residual + scatter": (
            lambda: kernels.add_linear(x, chosen, hidden, block.fc2),
            lambda: x.index_add_(0, gathered.rows, block.fc2(packed)),
        ),
    }


def _device_time(call: Call, runs: int) -> float:
    """Without launches: the call ten times in a graph."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(10):
            call()
    return time_calls({"": graph.replay}, torch.empty(0, device="cuda"), runs)[""].p50_ms / 10


if __name__ == "__main__":
    main()
