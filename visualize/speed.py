"""How fast the backbone is, as a picture: time against the share of MACs, SparseSwin's plans between its rivals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = {"float32": "#1f5fa8", "bfloat16": "#c2571a"}


def save_speed(result: Mapping[str, Any], path: Path) -> None:
    """``result``: what benchmark-backbone's JSON line holds. A dtype's dashed line is time in proportion to MACs from its dense one."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for dtype, colour in COLOURS.items():
        points = _points(result, dtype)
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=colour, label=f"SparseSwin, {dtype}")
            dense = points[-1][1]
            axes.plot([0, 1], [0, dense], "--", color=colour, linewidth=1, alpha=0.6)
    markers = iter("sD^vPX*")
    for name, row in result["rows"].items():
        if name.startswith("SparseSwin"):
            continue
        share = next((part for plan, part in result["share"].items() if name.endswith(plan)), 1)
        tied = COLOURS.get(name.rpartition(", ")[2], "#555555")
        axes.plot(share, row["p50_ms"], next(markers), color=tied, markerfacecolor="white", markersize=8, label=name)
    axes.set(xlabel="share of the dense network's MACs", ylabel="milliseconds, median", xlim=(0, 1.05), ylim=(0, None))
    size = " x ".join(map(str, result["shape"]))
    axes.set_title(f"backbone, {size}, on {result['versions']['processor']}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")
    figure.savefig(path, dpi=110)


def _points(result: Mapping[str, Any], dtype: str) -> list[tuple[float, float]]:
    """(share, milliseconds) of a dtype's plans, dense last."""
    rows = result["rows"]
    found = [
        (share, rows[name]["p50_ms"]) for plan, share in result["share"].items() if (name := f"SparseSwin {plan}, {dtype}") in rows
    ]
    if not found:
        return []
    return [*sorted(found), (1, rows[f"SparseSwin dense, {dtype}"]["p50_ms"])]
