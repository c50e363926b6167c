"""What a plan costs, measured as wall-clock time of real runs.

Several things take turns in one run, so that drift meets all of them alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from sparsevit3d.devices import device_name, wait
from sparsevit3d.progress import Progress, no_progress


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call.

    Args:
        p50_ms (float): Median, in milliseconds.
        p95_ms (float): 95th percentile, in milliseconds.
        spread (float): The middle half's width over the median: the noise to read ratios against.
        runs (int): Timed calls.
        device (str): Name of the device, with its threads for a CPU.
        dtype (str): Torch's name of the dtype.
    """

    p50_ms: float
    p95_ms: float
    spread: float
    runs: int
    device: str
    dtype: str

    def __str__(self) -> str:
        return (
            f"{self.p50_ms:.1f} ms (p95 {self.p95_ms:.1f} ms, spread {self.spread:.0%}, "
            f"{self.runs} runs, "
            f"{self.device}, {self.dtype})"
        )


def measure_latency(
    net: nn.Module, shape: tuple[int, ...], runs: int = 30, warm_up: int = 5
) -> Latency:
    """Time ``net`` in eval mode, without gradients, on its own device and dtype.

    The input is random, of ``shape`` (B, C, H, W).
    """
    parameter = next(net.parameters())
    images = torch.randn(shape, device=parameter.device, dtype=parameter.dtype)
    training = net.training
    net.eval()
    try:
        return time_calls({"net": lambda: net(images)}, parameter, runs, warm_up)["net"]
    finally:
        net.train(training)


def time_calls(
    calls: Mapping[str, Callable[[], object]],
    like: torch.Tensor,
    runs: int = 30,
    warm_up: int = 5,
    progress: Progress = no_progress,
) -> dict[str, Latency]:
    """Time each call ``runs`` times after ``warm_up`` rounds, taking turns.

    ``like`` is a tensor of the device and dtype measured. Raises ValueError for fewer than 2 runs.
    """
    if runs < 2:
        raise ValueError(f"{runs} runs: at least 2 are needed to tell a spread.")
    samples: dict[str, list[float]] = {name: [] for name in calls}
    with torch.no_grad():
        for turn in range(warm_up + runs):
            for name, call in calls.items():
                progress(turn, warm_up + runs, name if turn >= warm_up else f"warm-up: {name}")
                wait(like.device)
                start = time.perf_counter()
                call()
                wait(like.device)
                if turn >= warm_up:
                    samples[name].append((time.perf_counter() - start) * 1e3)
    return {name: _summary(times, like) for name, times in samples.items()}


def _summary(times: list[float], like: torch.Tensor) -> Latency:
    cuts = statistics.quantiles(times, n=20, method="inclusive")  # 5 % steps
    median = statistics.median(times)
    device = device_name(like.device)
    if like.device.type == "cpu":
        device = f"{device}, {torch.get_num_threads()} threads"
    return Latency(
        median,
        cuts[18],
        (cuts[14] - cuts[4]) / median,
        len(times),
        device,
        str(like.dtype).split(".")[1],
    )
