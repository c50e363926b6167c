"""Draw how the detector of real roads learns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from visualize.frames import save


def save_curves(arms: Mapping[str, Mapping[str, Any]], path: Path) -> Path:
    """Save the AP of cars over the epochs, a line for each arm, and return the path."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for arm in arms.values():
        epochs, precisions = zip(*arm["curve"], strict=True)
        label = f"{arm['name']}: {100 * arm['AP_of_cars']:.1f}"
        axis.plot(epochs, [100 * value for value in precisions], marker=".", label=label)
    axis.set(xlabel="epoch of 356 real frames", ylabel="AP of cars on val, points", ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right")
    return save(figure, path, dpi=90)
