"""Where the cameras of a rig stand in a picture: by where they look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparsevit3d.stages.views import CameraView

LONGEST_ROW = 3  # so many cameras still share one row


def camera_rows(views: Sequence[CameraView]) -> list[list[int]]:
    """Return the places of ``views`` row by row, as they stand in a picture.

    Up to three cameras share a row, from left to right. Of more, those that look ahead most are in
    the upper row, and the others are below as one sees them in a mirror, the left ones on the left.
    Views whose place in the ego frame is unknown keep their order.
    """
    headings = [_heading(view) for view in views]
    leftmost = sorted(range(len(views)), key=lambda number: -headings[number])
    if len(views) <= LONGEST_ROW:
        return [leftmost]
    ahead = sorted(range(len(views)), key=lambda number: abs(headings[number]))
    upper = set(ahead[: (len(views) + 1) // 2])
    lower = [number for number in range(len(views)) if number not in upper]
    return [
        [number for number in leftmost if number in upper],
        sorted(lower, key=lambda number: headings[number] % 360),
    ]


def camera_ahead(views: Sequence[CameraView]) -> int:
    """Return the place of the view that looks most nearly straight ahead."""
    return min(range(len(views)), key=lambda number: abs(_heading(views[number])))


def _heading(view: CameraView) -> float:
    """Return where a camera looks, in degrees left of straight ahead."""
    x, y = view.to_ego[:2, 2]
    return float(np.round(np.degrees(np.arctan2(y, x)))) if np.hypot(x, y) > 0.1 else 0.0
