"""Boxes on one camera's frame."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files, not windows

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray

from sparsevit3d.views import Boxes, CameraView
from visualize.geometry import box_lines

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
LEAST_SCORE = 0.2  # predictions below are not drawn


def clear_boxes(boxes: Boxes) -> Boxes:
    """The predictions that are worth drawing."""
    if boxes.scores is None:
        return boxes
    clear = np.flatnonzero(boxes.scores >= LEAST_SCORE)
    return Boxes(boxes.corners[clear], [boxes.names[index] for index in clear], boxes.scores[clear])


def draw_boxes(axis: Axes, view: CameraView, boxes: Boxes, colour: str | None, thickness: float, style: str) -> None:
    """Their edges, in one colour or each class in its own."""
    for corners, name in zip(boxes.corners, boxes.names, strict=True):
        lines = box_lines(corners, view.intrinsic)
        axis.add_collection(LineCollection(list(lines), colors=colour or COLOURS[name], linewidths=thickness, linestyles=style))


def save_frame(view: CameraView, path: Path) -> None:
    """The whole frame with the boxes found in it, each with its class, score and distance."""
    height, width = view.image.shape[:2]
    figure = plt.figure(figsize=(width / 100, height / 100), dpi=100)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.axis("off")
    axis.imshow(view.image, extent=(0, width, height, 0), aspect="auto")
    boxes = clear_boxes(view.predictions)
    draw_boxes(axis, view, boxes, None, max(1.2, width / 900), "-")
    scores = np.ones(len(boxes.names)) if boxes.scores is None else boxes.scores
    for number in np.argsort(scores):  # the best on top
        _label(axis, view, boxes.corners[number], boxes.names[number], scores[number])
    axis.set(xlim=(0, width), ylim=(height, 0))
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    figure.savefig(partial)
    plt.close(figure)
    partial.replace(path)


def _label(axis: Axes, view: CameraView, corners: NDArray[np.floating], name: str, score: float) -> None:
    lines = box_lines(corners, view.intrinsic)
    height, width = view.image.shape[:2]
    if not len(lines):
        return
    (right, bottom), (first, upper) = lines.max(axis=(0, 1)), lines.min(axis=(0, 1))
    if right < 0 or bottom < 0 or first > width or upper > height:
        return
    left, top = max(first, 4), max(upper, width / 60)
    text = f"{name.replace('_', ' ')} {score:.2f}  {np.linalg.norm(corners.mean(axis=0)):.0f} m"
    style = {"facecolor": COLOURS[name], "edgecolor": "none", "pad": 1.5, "alpha": 0.85}
    axis.text(left, top, text, color="black", fontsize=max(7, width / 180), va="bottom", bbox=style)
