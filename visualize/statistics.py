"""Draw the statistics of datasets side by side: shares as bars, one colour for each dataset."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from visualize.frames import save

COLOURS = ("#4d4d4d", "#1f5fa8", "#c2571a", "#3b8f4a", "#8a5fa8", "#b8a125")
TITLES = {
    "class_share": "Share of each class",
    "distance_share": "Distance from the lidar, metres",
    "speed_share": "Speed, metres per second",
    "visibility_share": "Visible, per cent",
    "lidar_points_share": "Lidar points in a box",
    "pixels_share": "Size in the image, pixels of 1600 (root of the area)",
}


def save_statistics(
    found: Mapping[str, Mapping[str, Any]], edges: Mapping[str, Sequence[float]], path: Path
) -> None:
    """Save the picture of several datasets' statistics, whole or not at all.

    ``found`` maps each dataset's name to the result of ``data stats``. ``edges`` holds the bounds
    of the histogram bars.
    """
    figure = Figure(figsize=(17, 12), layout="constrained")
    grid = figure.subplots(3, 2).ravel()
    for axes, (key, title) in zip(grid, TITLES.items(), strict=True):
        if key == "class_share":
            labels = [name.replace("_", "\n") for name in next(iter(found.values()))[key]]
        elif key == "visibility_share":
            labels = ["0-40", "40-60", "60-80", "80-100"]
        else:
            bounds = edges[key.removesuffix("_share")]
            labels = [f"{low:g}-{high:g}" for low, high in itertools.pairwise(bounds)]
        _bars(axes, {name: row[key] for name, row in found.items()}, labels, title)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    save(figure, path, 90)


def _bars(axes: Axes, shares: Mapping[str, Any], labels: Sequence[str], title: str) -> None:
    width = 0.8 / len(shares)
    for number, (name, values) in enumerate(shares.items()):
        # The dataset does not have this figure. Its bars stay empty and its colour stays its own.
        if values is None:
            axes.bar([], [], width, color=COLOURS[number % len(COLOURS)], label=name)
            continue
        heights = list(values.values()) if isinstance(values, Mapping) else values
        places = np.arange(len(labels)) + (number - (len(shares) - 1) / 2) * width
        axes.bar(
            places,
            [100 * height for height in heights],
            width,
            color=COLOURS[number % len(COLOURS)],
            label=name,
        )
    axes.set_title(title)
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylabel("% of boxes")
    axes.spines[["top", "right"]].set_visible(False)
