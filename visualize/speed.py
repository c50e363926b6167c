"""Draw how fast a detector is.

The left half shows the backbone's time against the share of MACs, beside its rivals. The right half
shows where the rest of the time goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from visualize.frames import save

COLOURS = {"float32": "#1f5fa8", "bfloat16": "#c2571a"}
PARTS = {"backbone": "#1f5fa8", "neck": "#7fb2d9", "head": "#b8b8b8", "decode": "#5e5e5e"}


def save_speed(result: Mapping[str, Any], path: Path) -> None:
    """Save the picture of ``result``, the contents of the benchmark's JSON line.

    The dashed line of a dtype is time in proportion to MACs, starting from its dense time.
    """
    figure = Figure(figsize=(14, 5.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_backbone(left, result)
    _draw_parts(right, result["detector"])
    size = " x ".join(map(str, result["shape"]))
    device = next(iter(result["backbone"].values()))["device"]
    device = result["versions"]["processor"] if device.startswith("cpu") else device
    figure.suptitle(f"Images of {size} on {device}: {result['subject']}")
    save(figure, path, 110)


def _draw_backbone(axes: Axes, result: Mapping[str, Any]) -> None:
    for dtype, colour in COLOURS.items():
        points = _points(result, dtype)
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=colour, label=f"SparseSwin, {dtype}")
            dense = points[-1][1]
            axes.plot([0, 1], [0, dense], "--", color=colour, linewidth=1, alpha=0.6)
    markers = iter("sD^vPX*")
    for name, row in result["backbone"].items():
        if name.startswith("SparseSwin"):
            continue
        share = next((part for plan, part in result["share"].items() if name.endswith(plan)), 1)
        tied = COLOURS.get(name.rpartition(", ")[2], "#555555")
        axes.plot(
            share,
            row["p50_ms"],
            next(markers),
            color=tied,
            markerfacecolor="white",
            markersize=8,
            label=name,
        )
    axes.set(
        xlabel="share of the dense network's MACs",
        ylabel="milliseconds, median",
        xlim=(0, 1.05),
        ylim=(0, None),
    )
    axes.set_title("backbone")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")


def _draw_parts(axes: Axes, detectors: Mapping[str, Any]) -> None:
    names = list(detectors)[::-1]
    start = [0.0] * len(names)
    for part, colour in PARTS.items():
        spent = [detectors[name]["parts"][part] for name in names]
        axes.barh(names, spent, left=start, color=colour, label=part)
        start = [before + more for before, more in zip(start, spent, strict=True)]
    for place, (name, end) in enumerate(zip(names, start, strict=True)):
        axes.text(end, place, f" {detectors[name]['over_mmdet']:.2f}x", va="center", fontsize=8)
    axes.set(xlabel="milliseconds, median", xlim=(0, 1.1 * max(start)))
    axes.set_title("image to boxes, and times faster than mmdet3d's")
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(alpha=0.3, axis="x")
    axes.legend(fontsize=8, loc="lower right")


def _points(result: Mapping[str, Any], dtype: str) -> list[tuple[float, float]]:
    """Return (share, milliseconds) of a dtype's plans, with dense last."""
    rows = result["backbone"]
    found = [
        (share, rows[name]["p50_ms"])
        for plan, share in result["share"].items()
        if (name := f"SparseSwin {plan}, {dtype}") in rows
    ]
    if not found:
        return []
    return [*sorted(found), (1, rows[f"SparseSwin dense, {dtype}"]["p50_ms"])]
