"""Draw many frames on one sheet, to show what a dataset looks like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

COLUMNS = 4


def save_contact_sheet(frames: Sequence[tuple[Path, str]], path: Path, title: str) -> None:
    """Save one sheet of ``frames``, image files with a caption each."""
    rows = -(-len(frames) // COLUMNS)
    figure = Figure(figsize=(4.3 * COLUMNS, 2.65 * rows + 0.4), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, COLUMNS, squeeze=False)).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (file, caption) in zip(grid, frames, strict=False):
        with Image.open(file) as image:
            image.draft("RGB", (640, 360))
            axes.imshow(image.convert("RGB"))
        axes.set_title(caption, fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=100)
