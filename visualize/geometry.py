"""Where windows and boxes lie on a camera's frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sparsevit3d.stages.views import CameraView
from sparsevit3d.swin.trace import BlockTrace

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom

# The 12 edges of a box by their corners: two faces and the edges between them.
EDGES = (
    [(i, (i + 1) % 4) for i in range(4)]
    + [(4 + i, 4 + (i + 1) % 4) for i in range(4)]
    + [(i, 4 + i) for i in range(4)]
)
NEAR = 0.1  # metres in front of the camera from which on things are drawn


def window_rectangles(trace: BlockTrace, window: int) -> list[Rectangle]:
    """Return the network pixels that a window's tokens came from.

    The result is one rectangle, or up to four if a shifted window wraps around the map.
    """
    down, across = trace.grid
    row, column = divmod(window, across)
    rows = _runs(row, down, trace.window, trace.shift, trace.map_size[0])
    columns = _runs(column, across, trace.window, trace.shift, trace.map_size[1])
    stride = trace.stride
    return [
        (left * stride, top * stride, right * stride, bottom * stride)
        for top, bottom in rows
        for left, right in columns
    ]


def _runs(index: int, count: int, window: int, shift: int, length: int) -> list[tuple[int, int]]:
    """Return the runs of tokens [first, last) of a window along one axis.

    The window is shifted cyclically. Padding is left out.
    """
    padded = count * window
    first = index * window + shift
    runs = [(first, min(first + window, padded)), (0, first + window - padded)]
    clipped = [(start, min(end, length)) for start, end in runs]
    return [(start, end) for start, end in clipped if start < end]


def window_map(view: CameraView, trace: BlockTrace) -> NDArray[np.int64]:
    """Return (H, W) of the view's frame: the window that holds the token of each pixel's centre.

    The value is -1 where the network saw nothing.
    """
    height, width = view.image.shape[:2]
    row = _windows_along(height, view.scale[1], view.offset[1], view.network_size[1], trace, 0)
    column = _windows_along(width, view.scale[0], view.offset[0], view.network_size[0], trace, 1)
    return np.where((row < 0)[:, None] | (column < 0), -1, row[:, None] * trace.grid[1] + column)


def _windows_along(
    length: int, scale: float, offset: float, size: int, trace: BlockTrace, axis: int
) -> NDArray[np.int64]:
    """Return each pixel's row or column of windows along one axis of a frame.

    The value is -1 outside the part that the network saw.
    """
    pixels = np.floor((np.arange(length) + 0.5) * scale - offset + 1e-9).astype(np.int64)
    token = pixels // trace.stride
    seen = (pixels >= 0) & (pixels < size) & (token < trace.map_size[axis])
    return np.where(
        seen, (token - trace.shift) % (trace.grid[axis] * trace.window) // trace.window, -1
    )


def paint(view: CameraView, trace: BlockTrace, values: NDArray[Any], unseen: Any) -> NDArray[Any]:
    """Return (H, W) of the view's frame, with each pixel's value that of its window.

    ``values`` has shape (windows,). Pixels in no window get ``unseen``.
    """
    return np.append(values, np.array(unseen, values.dtype))[window_map(view, trace)]


def window_mask(
    view: CameraView, trace: BlockTrace, chosen: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return (H, W) of the view's frame: which pixels lie in ``chosen`` windows.

    ``chosen`` has shape (windows,).
    """
    return paint(view, trace, chosen, False)


def survival(view: CameraView, traces: Sequence[BlockTrace], image: int) -> NDArray[np.float64]:
    """Return (H, W) of the view's frame: the share of blocks that computed each pixel.

    The value is NaN where the network saw nothing. ``image`` is the view's place in the traces'
    batch. The article's last figure shows the survival of windows through the layers.
    """
    total = np.zeros(view.image.shape[:2])
    for trace in traces:
        total += paint(view, trace, trace.kept[image].astype(np.float64), np.nan)
    return total / len(traces)


def box_lines(
    corners: NDArray[np.floating],
    intrinsic: NDArray[np.floating],
    size: tuple[int, int] | None = None,
) -> NDArray[np.float64]:
    """Return one box's edges as (E, 2, 2) line segments in frame pixels.

    ``corners`` has shape (8, 3). Edges are cut off where they pass behind the camera. If ``size``
    (width, height) is given, edges are also cut off at the border of the frame.
    """
    lines = []
    for one, other in EDGES:
        start = np.asarray(corners[one], float)
        end = np.asarray(corners[other], float)
        if start[2] < NEAR and end[2] < NEAR:
            continue
        if start[2] < NEAR or end[2] < NEAR:
            cut = start + (end - start) * (NEAR - start[2]) / (end[2] - start[2])
            start, end = (cut, end) if start[2] < NEAR else (start, cut)
        points = np.stack([start, end]) @ np.asarray(intrinsic).T
        line = points[:, :2] / points[:, 2:]
        inside = line if size is None else clip_line(line, size)
        if inside is not None:
            lines.append(inside)
    return np.array(lines).reshape(-1, 2, 2)


def clip_line(line: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64] | None:
    """Clip a segment to a frame of ``size`` (width, height), by Liang and Barsky (1984).

    Returns a (2, 2) segment, or None if the segment lies outside the frame.
    """
    start = line[0]
    along = line[1] - line[0]
    first = 0.0
    last = 1.0
    for axis in (0, 1):
        if along[axis] == 0:
            if not 0 <= start[axis] <= size[axis]:
                return None
            continue
        ends = sorted([-start[axis] / along[axis], (size[axis] - start[axis]) / along[axis]])
        first = max(first, ends[0])
        last = min(last, ends[1])
    return np.stack([start + first * along, start + last * along]) if first < last else None


def box_outline(
    corners: NDArray[np.floating], intrinsic: NDArray[np.floating], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the polygon (V, 2) in frame pixels that a box (8, 3) covers of a frame of ``size``.

    The corners are in order around the polygon. The polygon has no corners if the box is not in the
    frame.
    """
    ends = box_lines(corners, intrinsic).reshape(-1, 2)
    if len(ends) < 3:
        return np.zeros((0, 2))
    hull = shapely.MultiPoint(ends).convex_hull.intersection(shapely.box(0, 0, *size))
    return (
        np.array(hull.exterior.coords)[:-1]
        if isinstance(hull, shapely.Polygon) and not hull.is_empty
        else np.zeros((0, 2))
    )
