"""Camera frames with boxes on them.

A picture shows one frame, or all frames of a keyframe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from sparsevit3d.files import whole_path
from sparsevit3d.stages.views import Boxes, CameraView, Keyframe
from visualize.geometry import box_lines
from visualize.layout import camera_rows

COLOURS = {
    "car": "#ff9e00",
    "truck": "#ff6347",
    "bus": "#ff7f50",
    "trailer": "#ffcf40",
    "construction_vehicle": "#e9967a",
    "pedestrian": "#4f9dff",
    "motorcycle": "#ff3d63",
    "bicycle": "#e05fd0",
    "traffic_cone": "#59e0c5",
    "barrier": "#b0c4de",
}
BACKGROUND = "#14171c"
LEAST_SCORE = 0.2  # predictions below are not drawn
WIDTH = 528  # pixels of a frame on a sheet, where three stand side by side
SHEET = 16.0  # inches


def clear_boxes(boxes: Boxes) -> Boxes:
    """Keep the predictions that are worth drawing."""
    return boxes if boxes.scores is None else boxes[boxes.scores >= LEAST_SCORE]


def shrink(view: CameraView, width: int = WIDTH) -> CameraView:
    """Return the same view with a frame of ``width`` pixels, if its own frame is wider."""
    factor = width / view.image.shape[1]
    if factor >= 1:
        return view
    height = round(view.image.shape[0] * factor)
    size = (factor, height / view.image.shape[0])
    image = np.asarray(
        cv2.resize(view.image, (width, height), interpolation=cv2.INTER_AREA), np.uint8
    )
    scale = (view.scale[0] / size[0], view.scale[1] / size[1])
    return replace(view, image=image, intrinsic=np.diag([*size, 1.0]) @ view.intrinsic, scale=scale)


def show_frame(axis: Axes, image: NDArray[np.uint8]) -> None:
    """Show an image that fills its axis, where one unit of the axis is one pixel."""
    height, width = image.shape[:2]
    axis.imshow(image, extent=(0, width, height, 0), aspect="auto")
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.axis("off")


def draw_boxes(
    axis: Axes, view: CameraView, boxes: Boxes, colour: str | None, thickness: float, style: str
) -> None:
    """Draw the edges of boxes, in one colour or each class in its own.

    Edges behind the camera or outside the frame are cut off.
    """
    height, width = view.image.shape[:2]
    lines = [box_lines(corners, view.intrinsic, (width, height)) for corners in boxes.corners]
    colours = [
        colour or COLOURS[name]
        for name, edges in zip(boxes.names, lines, strict=True)
        for _ in edges
    ]
    if colours:
        axis.add_collection(
            LineCollection(
                list(np.concatenate(lines)), colors=colours, linewidths=thickness, linestyles=style
            )
        )


def draw_all_boxes(axis: Axes, view: CameraView) -> None:
    """Draw truth dotted in white and predictions in the colours of their classes."""
    draw_boxes(axis, view, view.truth, "white", 0.9, ":")
    draw_boxes(axis, view, clear_boxes(view.predictions), None, 1.3, "-")


def draw_label(axis: Axes, view: CameraView, text: str = "") -> None:
    axis.text(
        8,
        8,
        f"{plain(view.channel)}   {text}",
        color="white",
        fontsize=9,
        va="top",
        bbox={"color": "#000000a0", "lw": 0},
    )


def camera_sheet(
    views: Sequence[CameraView], title: str, draw: Callable[[Axes, CameraView, int], None]
) -> Figure:
    """Draw all cameras of a rig on one sheet, by where they look.

    ``draw`` is called with each camera's axis, the shrunk view, and the view's place among
    ``views``.
    """
    places = camera_rows(views)
    columns = max(map(len, places))
    height = 1.05 * SHEET / columns * max(map(aspect, views))  # inches of a row
    whole = height * len(places) + 0.6
    figure = Figure(figsize=(SHEET, whole), facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(places), columns, squeeze=False)
    figure.subplots_adjust(
        left=0.004, right=0.996, top=1 - 0.6 / whole, bottom=0.33 / whole, wspace=0.008, hspace=0.02
    )
    for axis in axes.ravel():
        axis.axis("off")
    for row, numbers in zip(axes, places, strict=True):
        for axis, number in zip(row, numbers, strict=False):
            small = shrink(views[number], 3 * WIDTH // columns)
            show_frame(axis, small.image)
            draw(axis, small, number)
    figure.suptitle(title, color="white", fontsize=13, y=1 - 0.1 / whole)
    return figure


def aspect(view: CameraView) -> float:
    """Return the height of a frame over its width."""
    height, width = view.image.shape[:2]
    return height / width


def box_handles(found: Iterable[Boxes], style: Literal[":", "-"] = ":") -> list[Artist]:
    """Return a legend's handles: truth, and the classes ``found``."""
    names = {name for boxes in found for name in clear_boxes(boxes).names}
    truth = Line2D([], [], color="white", linestyle=style, label="ground truth")
    return [
        truth,
        *(
            Line2D([], [], color=COLOURS[name], label=f"{plain(name)} found")
            for name in COLOURS
            if name in names
        ),
    ]


def plain(name: str) -> str:
    """Return a class or camera name as people write it."""
    return name.removeprefix("CAM_").replace("_", " ").lower()


def in_layout(views: Sequence[CameraView]) -> list[int]:
    """Return the places of views in the order of the sheet, row by row."""
    return [number for row in camera_rows(views) for number in row]


def draw_legend(figure: Figure, handles: Sequence[Artist]) -> None:
    figure.legend(
        handles=handles, loc="lower center", ncols=11, frameon=False, labelcolor="white", fontsize=9
    )


def box_sheet(keyframe: Keyframe, title: str) -> Figure:
    """Draw all cameras with truth and predictions."""

    def draw(axis: Axes, view: CameraView, number: int) -> None:
        draw_all_boxes(axis, view)
        draw_label(
            axis,
            view,
            f"{len(view.truth.names)} true, {len(clear_boxes(view.predictions).names)} found",
        )

    figure = camera_sheet(keyframe.views, title, draw)
    draw_legend(figure, box_handles(view.predictions for view in keyframe.views))
    return figure


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure as (H, W, 3) pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """Encode (H, W, 3) RGB pixels as a JPEG file."""
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(np.asarray(encoded, np.uint8))


def save(figure: Figure, path: Path, dpi: int = 100) -> Path:
    """Save a figure, whole or not at all, and return its path."""
    # Level 2 takes half the time of the usual level 6 and makes files a tenth larger.
    quick = {"compress_level": 2} if path.suffix == ".png" else {}
    with whole_path(path) as partial:
        figure.savefig(partial, dpi=dpi, facecolor=figure.get_facecolor(), pil_kwargs=quick)
    return path


def save_frame(view: CameraView, path: Path) -> None:
    """Save the whole frame with the boxes found in it.

    Each box has its class, score and distance.
    """
    height, width = view.image.shape[:2]
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    axis = figure.add_axes((0, 0, 1, 1))
    show_frame(axis, view.image)
    boxes = clear_boxes(view.predictions)
    draw_boxes(axis, view, boxes, None, max(1.2, width / 900), "-")
    scores = np.ones(len(boxes.names)) if boxes.scores is None else boxes.scores
    for number in np.argsort(scores):  # the best is drawn last, on top
        _label(axis, view, boxes.corners[number], boxes.names[number], scores[number])
    save(figure, path)


def _label(
    axis: Axes, view: CameraView, corners: NDArray[np.floating], name: str, score: float
) -> None:
    height, width = view.image.shape[:2]
    lines = box_lines(corners, view.intrinsic, (width, height))
    if not len(lines):
        return
    first, upper = lines.min(axis=(0, 1))
    left = max(first, 4)
    top = max(upper, width / 60)
    text = f"{plain(name)} {score:.2f}  {np.linalg.norm(corners.mean(axis=0)):.0f} m"
    style = {"facecolor": COLOURS[name], "edgecolor": "none", "pad": 1.5, "alpha": 0.85}
    axis.text(left, top, text, color="black", fontsize=max(7, width / 180), va="bottom", bbox=style)
