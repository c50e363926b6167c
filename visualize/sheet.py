"""Draw many frames on one sheet, to show what a dataset looks like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from visualize.frames import save

COLUMNS = 4
FRAME = (640, 360)  # pixels of a frame on the sheet, more or less


def save_contact_sheet(
    frames: Sequence[tuple[NDArray[np.uint8], str]], path: Path, title: str
) -> None:
    """Save one sheet of ``frames``, (H, W, 3) RGB with a caption each, whole or not at all."""
    rows = -(-len(frames) // COLUMNS)
    figure = Figure(figsize=(4.3 * COLUMNS, 2.65 * rows + 0.4), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, COLUMNS, squeeze=False)).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (image, caption) in zip(grid, frames, strict=False):
        axes.imshow(image)
        axes.set_title(caption, fontsize=8)
    figure.suptitle(title)
    save(figure, path)
