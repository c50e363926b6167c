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

# A box's 12 edges, by corner: two faces and what joins them.
EDGES = (
    [(i, (i + 1) % 4) for i in range(4)]
    + [(4 + i, 4 + (i + 1) % 4) for i in range(4)]
    + [(i, 4 + i) for i in range(4)]
)
NEAR = 0.1  # metres in front of the camera, from where on things are drawn


def window_rectangles(trace: BlockTrace, window: int) -> list[Rectangle]:
    """The network pixels that a window's tokens came from: one rectangle, or up to four where a
    shifted window wraps around the map.
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
    """Along one axis: the runs of tokens [first, last) of a window after a cyclic shift, without
    what is padding.
    """
    padded = count * window
    first = index * window + shift
    runs = [(first, min(first + window, padded)), (0, first + window - padded)]
    clipped = [(start, min(end, length)) for start, end in runs]
    return [(start, end) for start, end in clipped if start < end]


def window_map(view: CameraView, trace: BlockTrace) -> NDArray[np.int64]:
    """(H, W) of the view's frame: the window whose tokens each pixel's centre fell to; -1 where the
    network saw nothing.
    """
    height, width = view.image.shape[:2]
    row = _windows_along(height, view.scale[1], view.offset[1], view.network_size[1], trace, 0)
    column = _windows_along(width, view.scale[0], view.offset[0], view.network_size[0], trace, 1)
    return np.where((row < 0)[:, None] | (column < 0), -1, row[:, None] * trace.grid[1] + column)


def _windows_along(
    length: int, scale: float, offset: float, size: int, trace: BlockTrace, axis: int
) -> NDArray[np.int64]:
    """Along one axis of a frame: each pixel's row or column of windows, -1 outside of what the
    network saw.
    """
    pixels = np.floor((np.arange(length) + 0.5) * scale - offset + 1e-9).astype(np.int64)
    token = pixels // trace.stride
    seen = (pixels >= 0) & (pixels < size) & (token < trace.map_size[axis])
    return np.where(
        seen, (token - trace.shift) % (trace.grid[axis] * trace.window) // trace.window, -1
    )


def paint(view: CameraView, trace: BlockTrace, values: NDArray[Any], unseen: Any) -> NDArray[Any]:
    """(H, W) of the view's frame: at each pixel its window's of the ``values`` (windows,)."""
    return np.append(values, np.array(unseen, values.dtype))[window_map(view, trace)]


def window_mask(
    view: CameraView, trace: BlockTrace, chosen: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(H, W) of the view's frame: which pixels lie in windows that are ``chosen`` (windows,)."""
    return paint(view, trace, chosen, False)


def survival(view: CameraView, traces: Sequence[BlockTrace], image: int) -> NDArray[np.float64]:
    """(H, W) of the view's frame: in how many of the blocks each pixel was computed, as a share of
    those that there are; NaN: unseen.

    The article's last figure shows it through the layers. ``image``: the view's place in the
    traces' batch.
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
    """(E, 2, 2) line segments in frame pixels of one box's edges (8, 3), cut off where they pass
    behind the camera, and, of a frame of ``size`` (width, height), where they leave it.
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
    """(2, 2) what of a segment lies within a frame of ``size`` (width, height), by Liang and Barsky
    (1984); None: nothing.
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
    """(V, 2) the polygon in frame pixels that one box (8, 3) covers of a frame of ``size``, in
    order round; none: it is not in it.
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
