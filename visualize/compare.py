"""Draw the article's Figure 1 for any image.

The figure compares two ways to the same cost: shrinking the whole image, or computing only the
windows that matter of the full-size image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from sparsevit3d.stages.views import CameraView
from sparsevit3d.swin.trace import BlockTrace
from visualize.frames import BACKGROUND, save
from visualize.geometry import window_mask
from visualize.masks import GRID_LINE, dimmed, stage_blocks

ZOOM = 4  # the detail is as wide as a fourth of the image


def save_comparison(
    view: CameraView,
    traces: Sequence[BlockTrace],
    small: tuple[int, int],
    gmacs: tuple[float, float, float],
    path: Path,
) -> Path:
    """Save the comparison of a dense, a shrunken and a pruned pass, and return its path.

    Args:
        view (CameraView): the image to compare on.
        traces (Sequence[BlockTrace]): traces of the pass of this view alone.
        small (tuple[int, int]): width and height of the shrunken input.
        gmacs (tuple[float, float, float]): GMACs of the dense, shrunken and pruned pass.
        path (Path): the picture to write.
    """
    blocks = stage_blocks(traces)
    seen = as_the_network_sees(view)
    trace = next((trace for trace in blocks if trace.scores is not None), blocks[0])
    whole = seen.image
    shrunken = np.asarray(cv2.resize(whole, small, interpolation=cv2.INTER_AREA), np.uint8)
    shares = ", ".join(f"{trace.share:.0%}" for trace in blocks)
    panels = [
        (whole, f"everything: {whole.shape[1]} x {whole.shape[0]} pixels, {gmacs[0]:.2f} GMACs"),
        (shrunken, f"shrunk: {small[0]} x {small[1]} pixels, {gmacs[1]:.2f} GMACs"),
        (
            dimmed(seen, trace, trace.kept[0]),
            f"pruned: {shares} of windows by stage (here: {trace.stage}), {gmacs[2]:.2f} GMACs",
        ),
    ]
    left, top, right, bottom = detail(seen, trace, shrunken)
    height, width = whole.shape[:2]
    figure = Figure(figsize=(18, 18 / 3 * height / width * 2 + 1.1), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    for column, (image, title) in enumerate(panels):
        above, below = (
            figure.add_axes((column / 3 + 0.003, low, 1 / 3 - 0.006, 0.43)) for low in (0.48, 0.01)
        )
        for axis in (above, below):
            axis.imshow(image, extent=(0, width, height, 0), aspect="auto", interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        above.set_title(title, color="white", fontsize=11)
        above.add_patch(
            Rectangle(
                (left, top),
                right - left,
                bottom - top,
                fill=False,
                edgecolor=GRID_LINE,
                linewidth=1.5,
            )
        )
        below.set(xlim=(left, right), ylim=(bottom, top))
    caption = "below: the part whose kept windows hold most of what shrinking loses"
    figure.text(0.5, 0.46, caption, color="white", fontsize=10, ha="center", va="center")
    return save(figure, path)


def as_the_network_sees(view: CameraView) -> CameraView:
    """Return the view with the pixels that went into the network, at the network's size."""
    large = tuple(
        round(side * factor)
        for side, factor in zip(view.image.shape[1::-1], view.scale, strict=True)
    )
    resized = cv2.resize(view.image, large, interpolation=cv2.INTER_AREA)
    moved = np.array([[1.0, 0, -view.offset[0]], [0, 1, -view.offset[1]]])
    image = cv2.warpAffine(resized, moved, view.network_size)
    intrinsic = np.diag([*view.scale, 1.0]) @ view.intrinsic
    intrinsic[:2, 2] -= view.offset
    return CameraView(
        view.channel,
        np.asarray(image, np.uint8),
        intrinsic,
        (1.0, 1.0),
        (0.0, 0.0),
        view.network_size,
    )


def detail(
    view: CameraView, trace: BlockTrace, shrunken: NDArray[np.uint8]
) -> tuple[int, int, int, int]:
    """Choose the part of the image in which shrinking loses most of what the kept windows hold.

    Returns left, top, right and bottom. The part is a fourth of the image wide.
    """
    height, width = view.image.shape[:2]
    part = (width // ZOOM, height // ZOOM)
    lost = np.abs(view.image.astype(float) - cv2.resize(shrunken, (width, height))).mean(-1)
    held = lost * window_mask(view, trace, trace.kept[0])
    mean = cv2.boxFilter(held, -1, part, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inside = mean[: height - part[1] + 1, : width - part[0] + 1]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(left), int(top), int(left) + part[0], int(top) + part[1]
