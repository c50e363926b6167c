"""Window masks on camera frames: what the backbone computed is clear, what it left out is dimmed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from sparsevit3d.trace import BlockTrace
from sparsevit3d.views import CameraView
from visualize.frames import COLOURS, clear_boxes, draw_boxes
from visualize.geometry import window_mask, window_rectangles

LAYOUT = (("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"), ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"))
BACKGROUND, GRID_LINE, UNSEEN = "#14171c", "#7fffd4", (0.26, 0.28, 0.33)
LONGEST_SIDE = 800  # pixels of a frame on the sheet


def stage_blocks(traces: Sequence[BlockTrace]) -> list[BlockTrace]:
    """For each stage the last block with plain windows: what it computes, all plain blocks of the stage before it computed too."""
    return [
        [trace for trace in traces if trace.stage == stage and not trace.shift][-1]
        for stage in sorted({trace.stage for trace in traces})
    ]


def save_sheets(views: Sequence[CameraView], traces: Sequence[BlockTrace], folder: Path, title: str) -> list[Path]:
    """One sheet per stage: the six cameras as nuScenes lays them out. ``views`` in the order of the traces' batch."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for trace in stage_blocks(traces):
        path = folder / f"windows_stage{trace.stage}.png"
        save_sheet(views, trace, path, title)
        paths.append(path)
    return paths


def save_sheet(views: Sequence[CameraView], trace: BlockTrace, path: Path, title: str) -> None:
    """Draw the windows of one block over all cameras."""
    figure, axes = plt.subplots(2, 3, figsize=(16, 6.9), facecolor=BACKGROUND)
    figure.subplots_adjust(left=0.004, right=0.996, top=0.915, bottom=0.05, wspace=0.008, hspace=0.02)
    for axis in axes.flat:
        axis.axis("off")
    places = {channel: axes[row][column] for row, line in enumerate(LAYOUT) for column, channel in enumerate(line)}
    for number, view in enumerate(views):
        _draw_view(places[view.channel], view, trace, trace.kept[number])
    figure.suptitle(f"{title}\n{_caption(trace)}", color="white", fontsize=13, y=0.985)
    _legend(figure, views)
    partial = path.with_name(f".{path.name}.partial.png")
    figure.savefig(partial, dpi=100, facecolor=BACKGROUND)
    plt.close(figure)
    partial.replace(path)


def _caption(trace: BlockTrace) -> str:
    down, across = trace.grid
    kept = f"computes {trace.share:.0%} of them" if trace.share < 1 else "computes them all"
    return f"stage {trace.stage}, block {trace.block}: {down} x {across} windows a camera, {kept} (clear; pruned ones are dimmed)"


def _draw_view(axis: Axes, view: CameraView, trace: BlockTrace, kept: NDArray[np.bool_]) -> None:
    height, width = view.image.shape[:2]
    axis.imshow(dimmed(view, trace, kept)[:: _step(width), :: _step(width)], extent=(0, width, height, 0), aspect="auto")
    rectangles = [rectangle for window in np.flatnonzero(kept) for rectangle in window_rectangles(trace, int(window))]
    axis.add_collection(LineCollection([_outline(view, r) for r in rectangles], colors=GRID_LINE, linewidths=0.45, alpha=0.6))
    draw_boxes(axis, view, view.truth, "white", 0.9, ":")
    draw_boxes(axis, view, clear_boxes(view.predictions), None, 1.3, "-")
    label = f"{view.channel.removeprefix('CAM_').replace('_', ' ').lower()}   {kept.sum()} of {len(kept)} windows"
    axis.text(8, 8, label, color="white", fontsize=9, va="top", transform=axis.transData, bbox={"color": "#000000a0", "lw": 0})
    axis.set(xlim=(0, width), ylim=(height, 0))


def dimmed(view: CameraView, trace: BlockTrace, kept: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The frame with pruned windows darkened, and behind fog where the network saw nothing because the image was cropped."""
    clear = window_mask(view, trace, kept)
    seen = window_mask(view, trace, np.ones_like(kept))
    image = view.image.astype(np.float32)
    grey = image.mean(-1, keepdims=True)
    dark = 0.2 * image + 0.14 * grey
    unseen = 0.3 * grey + 255 * np.array(UNSEEN, np.float32)
    return np.where(clear[..., None], image, np.where(seen[..., None], dark, unseen)).clip(0, 255).astype(np.uint8)


def _outline(view: CameraView, rectangle: tuple[float, float, float, float]) -> list[tuple[float, float]]:
    left, top, right, bottom = view.to_frame(rectangle)
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def _legend(figure: Figure, views: Sequence[CameraView]) -> None:
    found = {name for view in views for name in clear_boxes(view.predictions).names}
    handles: list[Artist] = [
        Line2D([], [], color="white", linestyle=":", label="ground truth"),
        Patch(color=UNSEEN, label="cropped: not seen by the network"),
    ]
    handles += [Line2D([], [], color=COLOURS[name], label=f"{name.replace('_', ' ')} found") for name in COLOURS if name in found]
    figure.legend(handles=handles, loc="lower center", ncols=11, frameon=False, labelcolor="white", fontsize=9)


def _step(width: int) -> int:
    return max(1, width // LONGEST_SIDE)
