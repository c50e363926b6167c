"""Time SparseSwin-T on a GPU in bfloat16 against timm's Swin-T, eager and compiled.

    pip install torch triton timm
    python benchmarks/gpu/run.py --out benchmarks/results/backbone_gpu.json

All contenders take turns in one run. First the kernels and the recorded graphs are checked against
the plain path. Then whole backbones are timed, from images on the device to feature maps, with six
cameras. Each kernel is also timed beside the torch calls that it replaces. The last line is one
line of JSON.

"efficiency" is the speed-up over the fastest dense contender, divided by how many times fewer MACs
the plan takes. Most of the time goes to compiling and tuning. Only this repository and the three
packages are needed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
from sparsevit3d import SparseSwin, SparsityPlan, count_macs
from sparsevit3d.cost.latency import time_calls
from sparsevit3d.cost.macs import default_plans
from sparsevit3d.files import write_json
from sparsevit3d.swin.importance import rank_windows, score_windows
from sparsevit3d.swin.kernels import gpu, graphs
from sparsevit3d.swin.layers import Choice, SwinBlock
from sparsevit3d.swin.windows import WindowTable, window_table, window_tokens

Call = Callable[[], object]
DEPTHS = (2, 2, 6, 2)
# timm 1.0.29 fails if a stage's map is odd, as at 900 x 1600.
SHAPES = [(6, 3, 256, 704), (6, 3, 896, 1600)]
# timm at its best: everything fused and tuned, replayed as a CUDA graph. Matrix products use
# cuBLAS. With Triton's own products as a choice, tuning took longer than the five minutes
# available.
COMPILER = {
    **{
        "max_autotune": True,
        "max_autotune_gemm_backends": "ATEN",
        "max_autotune_conv_backends": "ATEN",
    },
    **{"epilogue_fusion": True, "triton.cudagraphs": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=int, default=50, help="timed runs of each contender, after a warm-up"
    )
    parser.add_argument("--out", type=Path, help="keep the JSON here too")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(
            "this benchmark is for a GPU, and torch sees none. On a CPU: sparsevit3d benchmark"
        )
    try:
        import timm
        import triton
    except ImportError as error:
        raise SystemExit(f"{error.name} is missing: pip install torch triton timm") from None
    net = (
        SparseSwin(embed_dims=96, depths=DEPTHS, num_heads=(3, 6, 12, 24), window_size=7)
        .cuda()
        .eval()
    )
    checks = check(net)
    print(json.dumps(checks, indent=2))
    result: dict[str, Any] = {
        "versions": {
            "torch": torch.__version__,
            "triton": triton.__version__,
            "timm": timm.__version__,
        },
        "device": torch.cuda.get_device_name(),
        "dtype": "bfloat16",
        "checks": checks,
        "kernels": time_kernels(net, SHAPES[0], options.runs),
        "backbones": [],
    }
    for shape in SHAPES:
        result["backbones"].append(time_backbones(net, timm, shape, options.runs))
        if options.out:
            write_json(options.out, result)
    print(json.dumps(result))


# Correctness comes before speed.


@torch.no_grad()
def check(net: SparseSwin) -> dict[str, float]:
    """Measure how far the fast path is from the plain path, at a size with padding.

    Raises AssertionError if the two paths differ too much.
    """
    images = torch.randn(2, 3, 250, 333, device="cuda")
    found = {}
    for stage in net.stages:
        table = window_table(20, 31, 7, 3, "cuda")
        x = torch.randn(2, 20 * 31, stage.blocks[1].fc1.in_features, device="cuda")
        windows = torch.rand(2, len(table.tokens), device="cuda").argsort(1)[:, :7]
        block = deepcopy(stage.blocks[1])
        block.fast = False
        truth = block.double()(x.double(), table, Choice(windows, windows))
        block.float()
        mine = gpu.compute_block(block, x.clone(), table, windows)
        error = float((mine - truth).abs().max())
        found[f"block of {x.shape[-1]} channels, float32, largest error"] = error
        assert error < 1e-4, found
        (mine,) = gpu.score_windows(x, [table], "l2", 0)
        (truth,) = score_windows(x, [table], "l2")
        assert torch.allclose(mine, truth, rtol=1e-5), "importance of windows"
    plain = deepcopy(net)
    fast = deepcopy(net).bfloat16()
    plain.fast = False
    for plan in (None, *default_plans(net, (250, 333))):
        plain.plan = plan
        fast.plan = plan
        plain.importance = "l2"
        fast.importance = "l2"
        first, *_, again = [fast(images.bfloat16()) for _ in range(graphs.CALLS_BEFORE + 2)]
        assert all(map(torch.equal, first, again)), "a replay differs from what was recorded"
        # With scores, rounding may choose another window if two windows are nearly equal.
        plain.importance = "random"
        fast.importance = "random"
        pairs = zip(fast(images.bfloat16()), plain(images), strict=True)
        cosine = min(
            float(F.cosine_similarity(mine.float().flatten(), truth.flatten(), 0))
            for mine, truth in pairs
        )
        found[f"net under plan {plan}, bfloat16, smallest cosine to float32"] = cosine
        assert cosine > 0.9999, found
    return found


# Time whole backbones.


def time_backbones(
    net: SparseSwin, timm: Any, shape: tuple[int, int, int, int], runs: int
) -> dict[str, Any]:
    torch.compiler.reset()  # otherwise the second size would be compiled for any size
    images = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
    size = shape[-2:]
    rival = timm.create_model(
        "swin_tiny_patch4_window7_224", features_only=True, img_size=size, out_indices=(0, 1, 2, 3)
    )
    rival = rival.cuda().bfloat16().eval()
    compiled = torch.compile(rival, dynamic=False, options=COMPILER)
    dense = count_macs(net, size)
    plans = [None, *default_plans(net, size)]
    calls: dict[str, Call] = {
        "timm": lambda: rival(images),
        "timm compiled": lambda: compiled(images),
    }
    plain = deepcopy(net).bfloat16()
    plain.fast = False
    calls["SparseSwin dense, plain path"] = lambda: plain(images)
    fast = deepcopy(net).bfloat16()
    share = {}
    for plan in plans:
        name = f"SparseSwin {plan or 'dense'}"
        share[name] = count_macs(net, size, plan) / dense if plan else 1.0
        calls[name] = _under(fast, plan, images)
    rows: dict[str, Any] = {
        name: vars(one) for name, one in time_calls(calls, images, runs, warm_up=10).items()
    }
    fastest = min(row["p50_ms"] for name, row in rows.items() if share.get(name, 1) == 1)
    for name, row in rows.items():
        row["over_timm"] = rows["timm"]["p50_ms"] / row["p50_ms"]
        row["over_timm_compiled"] = rows["timm compiled"]["p50_ms"] / row["p50_ms"]
        if name in share:
            row |= {"share": share[name], "efficiency": fastest / row["p50_ms"] * share[name]}
        print(
            f"{name:45} {row['p50_ms']:8.3f} ms  p95 {row['p95_ms']:8.3f}  over compiled timm "
            f"{row['over_timm_compiled']:.2f}x"
        )
    return {"shape": shape, "dense_gmacs": shape[0] * dense / 1e9, "rows": rows}


def _under(net: SparseSwin, plan: SparsityPlan | None, images: Tensor) -> Call:
    def call() -> object:
        net.plan = plan
        return net(images)

    return call


# Time each kernel beside the torch calls that it replaces.


@torch.no_grad()
def time_kernels(
    net: SparseSwin, shape: tuple[int, int, int, int], runs: int
) -> list[dict[str, Any]]:
    """Time each kernel at each stage with half of the windows.

    Times are milliseconds on the device, as the median of runs recorded as graphs.
    """
    rows: list[dict[str, Any]] = []

    def compare(name: str, channels: int, kernel: Call, rival: Call) -> None:
        times = [_device_time(call, runs) for call in (kernel, rival)]
        rows.append({"kernel": name, "channels": channels, "ms": times[0], "torch_ms": times[1]})
        print(
            f"{name:30} {channels:4} channels  {times[0]:.4f} ms, torch {times[1]:.4f} ms, "
            f"{times[1] / times[0]:.2f}x"
        )

    fast = deepcopy(net).bfloat16()
    plain = deepcopy(net).bfloat16()
    plain.fast = False
    images = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
    compare(
        "patch embedding",
        net.embed_dims,
        lambda: fast.patch_embed(images),
        lambda: plain.patch_embed(images),
    )
    x, height, width = fast.patch_embed(images)
    for stage, plain_stage in zip(fast.stages, plain.stages, strict=True):
        table = window_table(height, width, net.window_size, net.window_size // 2, "cuda")
        for name, contenders in _kernels_and_rivals(stage.blocks[1], x, table).items():
            compare(name, x.shape[2], *contenders)
        merge = stage.downsample
        merge_plainly = plain_stage.downsample
        if merge is not None and merge_plainly is not None:
            down = partial(merge, x, height, width), partial(merge_plainly, x, height, width)
            compare("patch merging", x.shape[2], *down)
            x, height, width = down[0]()
    return rows


def _kernels_and_rivals(
    block: SwinBlock, x: Tensor, table: WindowTable
) -> dict[str, tuple[Call, Call]]:
    from sparsevit3d.swin.kernels import triton_attention
    from sparsevit3d.swin.kernels import triton_layers as layers
    from sparsevit3d.swin.kernels.triton_windows import choose_rows

    attention = block.attn
    flat = x.view(-1, x.shape[2])
    scores = torch.rand(len(x), len(table.tokens), device="cuda")
    windows = rank_windows(scores)[:, : len(table.tokens) // 2]
    chosen = choose_rows(table, windows, len(x))
    gathered = window_tokens(table, windows, len(x), x.shape[1])
    part = layers.normalise(flat, chosen, block.norm1)
    qkv = attention.qkv(part)
    hidden = layers.linear_gelu(part, block.fc1)
    packed = hidden[: len(gathered.rows)]
    padded = qkv.new_zeros(gathered.windows * block.window**2, qkv.shape[1])
    return {
        "importance of windows": (
            lambda: gpu.score_windows(x, [table], "l2", 0),
            lambda: score_windows(x, [table], "l2"),
        ),
        "rank of windows": (lambda: gpu.rank_windows(scores), lambda: rank_windows(scores)),
        "gather + LayerNorm": (
            lambda: layers.normalise(flat, chosen, block.norm1),
            lambda: block.norm1(flat.index_select(0, gathered.rows)),
        ),
        "window attention": (
            lambda: triton_attention.attend_windows(qkv, table, chosen, attention),
            lambda: attention.attend(
                padded, gathered.windows, attention.position_bias(gathered.offsets), gathered.mask
            ),
        ),
        "FC1 + GELU": (
            lambda: layers.linear_gelu(part, block.fc1),
            lambda: F.gelu(block.fc1(part)),
        ),
        "FC2 + residual + scatter": (
            lambda: layers.add_linear(flat, chosen, hidden, block.fc2),
            lambda: flat.index_add_(0, gathered.rows, block.fc2(packed)),
        ),
    }


def _device_time(call: Call, runs: int) -> float:
    """Return the time without launches: ten calls in one graph."""
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
