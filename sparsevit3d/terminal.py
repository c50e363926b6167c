"""What the front door shows: one console, its progress bars and tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console(quiet=os.environ.get("RANK", "0") != "0")  # of several processes under torchrun the first one speaks


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[..., None]]:
    """Yields ``update(done, total, note)``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=2) as bar:
        task = bar.add_task(title, total=None, note="")
        yield lambda done, total, note="": bar.update(task, completed=done, total=total, note=note)


def score_table(score: dict[str, Any], title: str) -> Table:
    names = ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")
    table = Table(*names, title=title)
    table.add_row(*(f"{score[name]:.4f}" for name in names))
    return table


def benchmark_table(result: dict[str, Any]) -> Table:
    table = Table("", "contender", "p50 ms", "p95 ms", "spread", "speed-up over the fastest dense", title="six cameras")
    for part in ("backbone", "detector"):
        for name, latency in result[part]["latency"].items():
            ratio = f"{result[part]['speedup']:.2f}x" if name == "sparse" else ""
            numbers = f"{latency['p50_ms']:.1f}", f"{latency['p95_ms']:.1f}", f"{latency['spread']:.0%}"
            table.add_row(part, name, *numbers, ratio)
    return table


def backbone_table(result: dict[str, Any]) -> Table:
    title = "backbone, " + " x ".join(map(str, result["shape"]))
    table = Table("contender", "p50 ms", "p95 ms", "spread", "MACs", "over mmdet", "efficiency", title=title)
    for name, row in result["rows"].items():
        share = next((f"{part:.1%}" for plan, part in result["share"].items() if f" {plan}" in name), "")
        efficiency = f"{row['efficiency']:.2f}" if "efficiency" in row else ""
        numbers = f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}", f"{row['spread']:.0%}"
        table.add_row(name, *numbers, share, f"{row['over_mmdet']:.2f}x", efficiency)
    return table
