"""Measure how time and memory grow with an image.

Swin-T's backbone takes one image of 0.1 to 4 megapixels, dense and pruned, beside mmdet's backbone.

    python benchmarks/growth.py --out benchmarks/results/growth_cpu.json

Every figure comes from its own process. Milliseconds are the median of runs. Memory is the most
that the process held above its memory with the network ready. ``exponent`` is the slope of
log(cost) over log(pixels). ``fixed`` is the cost at no pixels of a straight line through the two
smallest sizes. The last line is one line of JSON. A picture lies beside the file.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

SIZES = [(256, 448), (384, 640), (544, 960), (768, 1344), (1088, 1920), (1536, 2688)]
NETS = ("mmdet", "SparseSwin dense", "SparseSwin 0.3", "SparseSwin 0.6", "SparseSwin 0.8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each, after two more")
    parser.add_argument(
        "--out", type=Path, help="keep the JSON here too, and the picture beside it"
    )
    parser.add_argument(
        "--one",
        nargs=3,
        metavar=("NET", "HEIGHT", "WIDTH"),
        help="measure one of them, in this process",
    )
    options = parser.parse_args()
    if options.one:
        print(
            json.dumps(
                measure(options.one[0], int(options.one[1]), int(options.one[2]), options.runs)
            )
        )
        return
    result: dict[str, Any] = {
        "megapixels": [height * width / 1e6 for height, width in SIZES],
        "nets": {},
    }
    for name in NETS:
        rows = [_in_its_own_process(name, height, width, options.runs) for height, width in SIZES]
        result["nets"][name] = {key: [row[key] for row in rows] for key in rows[0]}
        for key in ("ms", "mib"):
            result["nets"][name] |= {
                f"{key}_{fit}": value
                for fit, value in _fit(result["megapixels"], [row[key] for row in rows]).items()
            }
        print(name, json.dumps(result["nets"][name]), flush=True)
    if options.out:
        from sparsevit3d.files import write_json

        write_json(options.out, result)
        draw(result, options.out.with_suffix(".png"))
    print(json.dumps(result))


def _in_its_own_process(name: str, height: int, width: int, runs: int) -> dict[str, float]:
    command = [
        sys.executable,
        __file__,
        "--one",
        name,
        str(height),
        str(width),
        "--runs",
        str(runs),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} at {height} x {width} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, height: int, width: int, runs: int) -> dict[str, float]:
    import torch

    from sparsevit3d import SparseSwin, SparsityPlan
    from sparsevit3d.cost.latency import time_calls

    net: torch.nn.Module = SparseSwin(
        embed_dims=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window_size=7
    ).eval()
    if name == "mmdet":
        from sparsevit3d.stages.rivals import mmdet_swin

        net = mmdet_swin(net)
    elif not name.endswith("dense"):
        net.plan = SparsityPlan.uniform(float(name.split()[1]), (2, 2, 6, 2))
    with torch.no_grad():
        net(torch.randn(1, 3, 64, 64))  # one-time set-up of libraries is not counted for the image
        images = torch.randn(1, 3, height, width)
        before = _forget_the_peak()
        net(images)
        net(images)
        peak = _memory("VmHWM") - before
        times = time_calls({name: lambda: net(images)}, images, runs, warm_up=0)[name]
    return {"ms": times.p50_ms, "mib": peak / 1024}


def _forget_the_peak() -> float:
    gc.collect()
    # Without this call freed memory would be reused and the reuse would go unnoticed.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(field: str) -> float:
    """Return a memory field of this process, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(field)).split()[1])


def _fit(pixels: list[float], costs: list[float]) -> dict[str, float]:
    slope = float(np.polyfit(np.log(pixels), np.log(costs), 1)[0])
    fixed = costs[0] - (costs[1] - costs[0]) / (pixels[1] - pixels[0]) * pixels[0]
    return {"exponent": slope, "fixed": fixed}


def draw(result: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, key, title in zip(
        figure.subplots(1, 2),
        ("ms", "mib"),
        ("milliseconds, median", "peak memory, MiB"),
        strict=True,
    ):
        for name, net in result["nets"].items():
            style = "--" if name == "mmdet" else "-"
            axes.loglog(
                result["megapixels"],
                net[key],
                f"o{style}",
                label=f"{name}: pixels^{net[key + '_exponent']:.2f}",
                markersize=4,
            )
        axes.set(xlabel="megapixels of one image", title=title)
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
