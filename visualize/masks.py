"""Draw window masks on camera frames.

A mask shows computed windows clear and pruned windows dimmed. Other sheets show how important the
windows were, and how long windows lasted through the layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from sparsevit3d.errors import InputError
from sparsevit3d.stages.views import CameraView, Keyframe
from sparsevit3d.swin.trace import BlockTrace
from visualize.frames import (
    BACKGROUND,
    box_handles,
    camera_sheet,
    draw_all_boxes,
    draw_label,
    draw_legend,
    in_layout,
    plain,
    save,
    show_frame,
    shrink,
)
from visualize.geometry import paint, survival, window_map, window_rectangles

GRID_LINE = "#7fffd4"
UNSEEN = (0.26, 0.28, 0.33)
IMPORTANCE = "inferno"  # colour map of importance
LAYERS = "viridis"  # colour map of survival
THUMBNAIL = 320  # pixels of a frame's width


def stage_blocks(traces: Sequence[BlockTrace]) -> list[BlockTrace]:
    """Return for each stage the block without shift that computes least.

    Windows are usually scored once per stage. All other blocks of the stage then compute these
    windows as well.
    """
    if not traces:
        raise InputError("the trace is empty. Run the network within record_windows(net).")
    stages: dict[int, list[BlockTrace]] = {}
    for trace in sorted(traces, key=lambda trace: trace.stage):
        stages.setdefault(trace.stage, []).append(trace)
    return [
        min(blocks, key=lambda trace: (bool(trace.shift), trace.share, -trace.block))
        for blocks in stages.values()
    ]


def stage_block(traces: Sequence[BlockTrace], stage: int) -> BlockTrace:
    """Return the block of :func:`stage_blocks` that belongs to ``stage``."""
    blocks = {trace.stage: trace for trace in stage_blocks(traces)}
    if stage not in blocks:
        raise InputError(f"there is no stage {stage}. There are {', '.join(map(str, blocks))}")
    return blocks[stage]


def save_masks(
    keyframe: Keyframe, folder: Path, title: str, each_block: bool = False
) -> list[Path]:
    """Save all pictures of a keyframe's windows and return their paths.

    The pictures are a mask sheet and an importance sheet for each stage, a sheet with every block
    as a thumbnail, and a survival sheet. ``each_block`` adds separate sheets with mask and
    importance for each block, shifted blocks included.
    """
    if each_block:
        shown = {f"stage{trace.stage}_block{trace.block}": trace for trace in keyframe.trace}
    else:
        shown = {f"stage{trace.stage}": trace for trace in stage_blocks(keyframe.trace)}
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, trace in shown.items():
        paths.append(save(mask_sheet(keyframe.views, trace, title), folder / f"windows_{name}.png"))
        if trace.scores is not None:
            paths.append(
                save(
                    importance_sheet(keyframe.views, trace, title),
                    folder / f"importance_{name}.png",
                )
            )
    paths.append(save(block_sheet(keyframe, title), folder / "blocks.png"))
    paths.append(save(survival_sheet(keyframe, title), folder / "survival.png"))
    return paths


def mask_sheet(views: Sequence[CameraView], trace: BlockTrace, title: str) -> Figure:
    """Draw the windows of one block over all cameras.

    ``views`` are in the order of the trace's batch.
    """

    def draw(axis: Axes, view: CameraView, number: int) -> None:
        kept = trace.kept[number]
        draw_mask(axis, view, trace, kept)
        draw_all_boxes(axis, view)
        draw_label(axis, view, f"{kept.sum()} of {len(kept)} windows, {kept.mean():.0%}")

    figure = camera_sheet(views, f"{title}\n{_caption(trace)}", draw)
    draw_legend(
        figure,
        [
            *box_handles(view.predictions for view in views),
            Patch(color=UNSEEN, label="cropped: not seen by the network"),
        ],
    )
    return figure


def _caption(trace: BlockTrace) -> str:
    down, across = trace.grid
    kept = f"computes {trace.share:.0%} of them" if trace.share < 1 else "computes them all"
    kind = f"shifted by {trace.shift} tokens" if trace.shift else "plain"
    return (
        f"stage {trace.stage}, block {trace.block}: {down} x {across} windows a camera, "
        f"{kind}, {kept} (clear; pruned ones are dimmed)"
    )


def draw_mask(axis: Axes, view: CameraView, trace: BlockTrace, kept: NDArray[np.bool_]) -> None:
    """Draw the frame with pruned windows dimmed and kept windows outlined."""
    show_frame(axis, dimmed(view, trace, kept))
    _outline_windows(axis, view, trace, kept, 0.45, 0.6)


def dimmed(view: CameraView, trace: BlockTrace, kept: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the frame with pruned windows darkened.

    Parts that the network did not see, because the image was cropped, lie behind fog.
    """
    numbers = window_map(view, trace)
    image = view.image.astype(np.float32)
    grey = image.mean(-1, keepdims=True)
    dark = 0.2 * image + 0.14 * grey
    clear = np.append(kept, False)[numbers][..., None]
    return (
        np.where(clear, image, np.where(numbers[..., None] >= 0, dark, fog(grey)))
        .clip(0, 255)
        .astype(np.uint8)
    )


def fog(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the colour of (H, W, 1) grey pixels that the network did not see."""
    return np.asarray(0.3 * grey + 255 * np.array(UNSEEN, np.float32))


def _outline_windows(
    axis: Axes,
    view: CameraView,
    trace: BlockTrace,
    chosen: NDArray[np.bool_],
    thickness: float,
    alpha: float,
) -> None:
    outlines = [
        _outline(view, part)
        for window in np.flatnonzero(chosen)
        for part in window_rectangles(trace, int(window))
    ]
    axis.add_collection(
        LineCollection(outlines, colors=GRID_LINE, linewidths=thickness, alpha=alpha)
    )


def _outline(
    view: CameraView, rectangle: tuple[float, float, float, float]
) -> list[tuple[float, float]]:
    width, height = view.network_size  # edge tokens may reach past the image
    left, top, right, bottom = view.to_frame(
        (*rectangle[:2], min(rectangle[2], width), min(rectangle[3], height))
    )
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def importance_sheet(views: Sequence[CameraView], trace: BlockTrace, title: str) -> Figure:
    """Draw how important the windows of a block were, as a heat map.

    All cameras share one scale. Kept windows are outlined.
    """
    if trace.scores is None:
        raise InputError(
            f"stage {trace.stage} prunes nothing, so it scored no window. Choose a plan that "
            "prunes it."
        )
    scale = Normalize(float(trace.scores.min()), float(trace.scores.max()))

    def draw(axis: Axes, view: CameraView, number: int) -> None:
        assert trace.scores is not None
        show_frame(
            axis,
            heated(
                view,
                paint(view, trace, trace.scores[number].astype(np.float64), np.nan),
                scale,
                IMPORTANCE,
            ),
        )
        _outline_windows(axis, view, trace, trace.kept[number], 0.6, 0.9)
        draw_label(axis, view, f"keeps {trace.kept[number].mean():.0%}")

    down, across = trace.grid
    caption = (
        f"importance of stage {trace.stage}'s {down} x {across} windows a camera; those "
        f"kept by block {trace.block} are outlined"
    )
    figure = camera_sheet(views, f"{title}\n{caption}", draw)
    _scale(figure, scale, IMPORTANCE, "importance")
    return figure


def survival_sheet(keyframe: Keyframe, title: str) -> Figure:
    """Draw how long each part of the frames lasts: the share of blocks that computed it."""
    scale = Normalize(0, 1)

    def draw(axis: Axes, view: CameraView, number: int) -> None:
        lasted = survival(view, keyframe.trace, number)
        show_frame(axis, heated(view, lasted, scale, LAYERS))
        draw_all_boxes(axis, view)
        draw_label(axis, view, f"computed in {np.nanmean(lasted):.0%} of the blocks")

    caption = (
        f"how much of the depth each place gets: share of the {len(keyframe.trace)} blocks "
        "that computed it"
    )
    figure = camera_sheet(keyframe.views, f"{title}\n{caption}", draw)
    _scale(figure, scale, LAYERS, "share of blocks")
    return figure


def heated(
    view: CameraView, values: NDArray[np.float64], scale: Normalize, colours: str
) -> NDArray[np.uint8]:
    """Return the frame in grey under the colours of (H, W) ``values``.

    Pixels with NaN lie behind fog.
    """
    grey = view.image.mean(-1, keepdims=True).astype(np.float32)
    warm = 255 * colormaps[colours](scale(np.nan_to_num(values)))[..., :3]
    mixed = 0.6 * warm + 0.4 * grey
    return np.where(np.isnan(values)[..., None], fog(grey), mixed).clip(0, 255).astype(np.uint8)


def _scale(figure: Figure, scale: Normalize, colours: str, label: str) -> None:
    axis = figure.add_axes((0.3, 0.032, 0.4, 0.012))
    bar = figure.colorbar(ScalarMappable(scale, colours), cax=axis, orientation="horizontal")
    bar.ax.tick_params(colors="white", labelsize=8, length=2, pad=1)
    figure.text(0.295, 0.037, label, color="white", fontsize=9, ha="right", va="center")


def block_sheet(keyframe: Keyframe, title: str) -> Figure:
    """Draw every block in its row and every camera in its column.

    Plain and shifted windows alternate.
    """
    numbers = in_layout(keyframe.views)
    views = [shrink(keyframe.views[number], THUMBNAIL) for number in numbers]
    height = max(view.image.shape[0] for view in views)
    width = max(view.image.shape[1] for view in views)
    mosaic = np.zeros((len(keyframe.trace), height, len(views), width, 3), np.uint8)
    for row, trace in enumerate(keyframe.trace):
        for column, (number, view) in enumerate(zip(numbers, views, strict=True)):
            tall, wide = view.image.shape[:2]
            mosaic[row, :tall, column, :wide] = dimmed(view, trace, trace.kept[number])
    rows = len(keyframe.trace)
    columns = len(views)
    figure = Figure(
        figsize=(16, 16 * 0.92 / columns * rows * height / width + 0.9), facecolor=BACKGROUND
    )
    axis = figure.add_axes((0.075, 0.005, 0.92, 1 - 0.9 / figure.get_figheight()))
    axis.imshow(
        mosaic.reshape(rows * height, columns * width, 3),
        extent=(0, columns, rows, 0),
        aspect="auto",
    )
    axis.set_yticks(
        np.arange(rows) + 0.5,
        [_row_label(trace) for trace in keyframe.trace],
        color="white",
        fontsize=8,
    )
    axis.set_xticks(
        np.arange(columns) + 0.5, [plain(view.channel) for view in views], color="white"
    )
    axis.tick_params(length=0, top=True, labeltop=True, labelbottom=False, bottom=False)
    axis.vlines(np.arange(1, columns), 0, rows, color=BACKGROUND, linewidth=3)
    stages = [trace.stage for trace in keyframe.trace]
    axis.hlines(
        [n for n in range(1, rows) if stages[n] != stages[n - 1]],
        0,
        columns,
        color=BACKGROUND,
        linewidth=9,
    )
    axis.hlines(
        [n for n in range(1, rows) if stages[n] == stages[n - 1]],
        0,
        columns,
        color=BACKGROUND,
        linewidth=2,
    )
    axis.spines[:].set_visible(False)
    figure.suptitle(
        f"{title}\nevery block: what it computes is clear",
        color="white",
        fontsize=13,
        y=1 - 0.08 / figure.get_figheight(),
    )
    return figure


def _row_label(trace: BlockTrace) -> str:
    return (
        f"stage {trace.stage}\nblock "
        f"{trace.block}\n{'shifted' if trace.shift else 'plain'}\n{trace.share:.0%} kept"
    )
