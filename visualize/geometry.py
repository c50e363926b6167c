"""Where windows and boxes lie on a camera's frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsevit3d.trace import BlockTrace
from sparsevit3d.views import CameraView

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom

# A box's 12 edges, by corner: two faces and what joins them.
EDGES = [(i, (i + 1) % 4) for i in range(4)] + [(4 + i, 4 + (i + 1) % 4) for i in range(4)] + [(i, 4 + i) for i in range(4)]
NEAR = 0.1  # metres in front of the camera, from where on things are drawn


def window_rectangles(trace: BlockTrace, window: int) -> list[Rectangle]:
    """The network pixels that a window's tokens came from: one rectangle, or up to four where a shifted window wraps around the map."""
    down, across = trace.grid
    row, column = divmod(window, across)
    rows = _runs(row, down, trace.window, trace.shift, trace.map_size[0])
    columns = _runs(column, across, trace.window, trace.shift, trace.map_size[1])
    stride = trace.stride
    return [(left * stride, top * stride, right * stride, bottom * stride) for top, bottom in rows for left, right in columns]


def _runs(index: int, count: int, window: int, shift: int, length: int) -> list[tuple[int, int]]:
    """Along one axis: the runs of tokens [first, last) of a window after a cyclic shift, without what is padding."""
    padded = count * window
    first = index * window + shift
    runs = [(first, min(first + window, padded)), (0, first + window - padded)]
    clipped = [(start, min(end, length)) for start, end in runs]
    return [(start, end) for start, end in clipped if start < end]


def window_mask(view: CameraView, trace: BlockTrace, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W) of the view's frame: which pixels lie in windows that are ``chosen`` (windows,)."""
    mask = np.zeros(view.image.shape[:2], dtype=bool)
    for window in np.flatnonzero(chosen):
        for rectangle in window_rectangles(trace, int(window)):
            left, top, right, bottom = (round(value) for value in view.to_frame(_within(rectangle, view.network_size)))
            mask[max(top, 0) : bottom, max(left, 0) : right] = True
    return mask


def _within(rectangle: Rectangle, size: tuple[int, int]) -> Rectangle:
    left, top, right, bottom = rectangle
    return left, top, min(right, size[0]), min(bottom, size[1])


def box_lines(corners: NDArray[np.floating], intrinsic: NDArray[np.floating]) -> NDArray[np.float64]:
    """(E, 2, 2) line segments in frame pixels of one box's edges (8, 3), cut off where they pass behind the camera."""
    lines = []
    for one, other in EDGES:
        start, end = np.asarray(corners[one], float), np.asarray(corners[other], float)
        if start[2] < NEAR and end[2] < NEAR:
            continue
        if start[2] < NEAR or end[2] < NEAR:
            cut = start + (end - start) * (NEAR - start[2]) / (end[2] - start[2])
            start, end = (cut, end) if start[2] < NEAR else (start, cut)
        points = np.stack([start, end]) @ np.asarray(intrinsic).T
        lines.append(points[:, :2] / points[:, 2:])
    return np.array(lines).reshape(-1, 2, 2)
