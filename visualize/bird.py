"""Draw a keyframe from above: lidar, truth and predictions, in the ego frame.

The car is in the middle and points up.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon
from numpy.typing import NDArray

from sparsevit3d.stages.views import Boxes, CameraView, Keyframe
from visualize.frames import BACKGROUND, COLOURS, box_handles, clear_boxes

REACH = 55.0  # metres to each side (nuScenes scores cars up to 50)
RINGS = (10, 20, 30, 40, 50)  # metres
# Outline of the ego car, in metres. The origin lies over the rear axle.
CAR = np.array([[3.1, 0.0], [2.3, 0.9], [-1.0, 0.9], [-1.0, -0.9], [2.3, -0.9]])


def bird_sheet(keyframe: Keyframe, title: str) -> Figure:
    """Draw one square picture with a legend."""
    figure = Figure(figsize=(9, 9.9), facecolor=BACKGROUND)
    axis = figure.add_axes((0.01, 0.05, 0.98, 0.98 * 9 / 9.9))
    draw_bird(axis, keyframe)
    handles = [
        *box_handles([keyframe.predictions], "-"),
        Line2D(
            [],
            [],
            color="#8b949e",
            marker=".",
            linestyle="",
            label=f"lidar, {len(keyframe.points):,} points",
        ),
    ]
    figure.legend(
        handles=handles, loc="lower center", ncols=5, frameon=False, labelcolor="white", fontsize=9
    )
    figure.suptitle(
        f"{title}\nfrom above: rings every 10 m; a line from a box's middle points where it heads",
        color="white",
        fontsize=12,
    )
    return figure


def draw_bird(axis: Axes, keyframe: Keyframe) -> None:
    """Draw a keyframe with forward pointing up and left pointing left.

    The x axis of the ego frame runs along the picture's y axis. The y axis of the ego frame runs
    against the picture's x axis.
    """
    axis.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", facecolor="#0d1014")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    for view in keyframe.views:
        axis.add_patch(Polygon(_seen(view), color="#7fffd4", alpha=0.035, lw=0))
    for radius in RINGS:
        axis.add_patch(Circle((0, 0), radius, fill=False, edgecolor="#3b424c", linewidth=0.7))
        x = radius * np.sin(np.pi / 4)
        axis.text(
            x,
            -x,
            f"{radius} m",
            color="#8b949e",
            fontsize=7,
            ha="center",
            va="center",
            bbox={"color": "#0d1014", "pad": 0.5},
        )
    points = keyframe.points
    # Higher points are brighter.
    lighter = np.clip((points[:, 2] + 0.5) / 4, 0, 1) if len(points) else np.zeros(0)
    across, up = _above(points).T
    axis.scatter(
        across,
        up,
        s=0.9,
        c=lighter,
        cmap="bone",
        vmin=-0.9,
        vmax=1.1,
        linewidths=0,
        rasterized=True,
    )
    axis.add_patch(Polygon(_above(CAR), facecolor="#e6edf3", edgecolor="none"))
    _draw(axis, keyframe.truth, "white", 0.9)
    _draw(axis, clear_boxes(keyframe.predictions), None, 1.7)


def _above(places: NDArray[np.floating]) -> NDArray[np.floating]:
    """Convert (..., 2 or 3) places in the ego frame to (..., 2) places in the picture."""
    return np.stack([-places[..., 1], places[..., 0]], -1)


def _draw(axis: Axes, boxes: Boxes, colour: str | None, thickness: float) -> None:
    if not boxes.names:
        return
    ground = _above(boxes.corners[:, [2, 3, 7, 6, 2]])  # the lower edges of front and rear
    front = _above(boxes.corners[:, :4].mean(1))
    heading = np.stack([_above(boxes.centres), front], 1)
    colours = [colour or COLOURS[name] for name in boxes.names]
    for lines in (list(ground), list(heading)):
        axis.add_collection(LineCollection(lines, colors=colours, linewidths=thickness))


def _seen(view: CameraView) -> NDArray[np.floating]:
    """Return the wedge that a camera sees, up to the picture's reach."""
    width = view.image.shape[1]
    focal = view.intrinsic[0, 0]
    middle = view.intrinsic[0, 2]
    sides = np.array([[0, 0, 0], [-middle / focal, 0, 1], [(width - middle) / focal, 0, 1]]) * [
        REACH,
        0,
        REACH,
    ]
    return _above(sides @ view.to_ego[:3, :3].T + view.to_ego[:3, 3])
