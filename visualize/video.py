"""Make a video of a drive.

A frame shows the boxes found, the windows pruned, and the street from above, side by side.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v2 as imageio
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sparsevit3d.errors import InputError
from sparsevit3d.files import whole_path
from sparsevit3d.stages.views import CameraView, Keyframe
from sparsevit3d.swin.trace import BlockTrace
from visualize.bird import draw_bird
from visualize.frames import (
    BACKGROUND,
    aspect,
    box_handles,
    draw_all_boxes,
    draw_label,
    pixels,
    show_frame,
    shrink,
)
from visualize.layout import camera_rows
from visualize.masks import draw_mask, stage_block

SIZE = (1920, 1080)  # pixels
BLOCK = (0.627, 0.45)  # width and height of all cameras together, as shares of the picture
GAP = 0.002
RATE = 2.0  # keyframes a second, as nuScenes takes them


def save_video(keyframes: Iterable[Keyframe], path: Path, title: str, stage: int = 0) -> Path:
    """Save a video of a drive, whole or not at all, and return its path.

    The format is MP4, or GIF if the file name ends in .gif. The format is also GIF if the encoder
    (imageio-ffmpeg) is not installed.

    Raises InputError if the file name ends in neither .mp4 nor .gif. Raises OSError that names the
    file if the video cannot be written, as where the disk is full.
    """
    if path.suffix.lower() not in (".mp4", ".gif"):
        raise InputError(f"{path}: a video is .mp4 or .gif.")
    if find_spec("imageio_ffmpeg") is None:
        path = path.with_suffix(".gif")
    moving = path.suffix.lower() == ".gif"
    how: dict[str, Any] = (
        {"duration": 1000 / RATE, "loop": 0}
        if moving
        else {"fps": RATE, "macro_block_size": 8, "quality": 7}
    )
    count = 0
    with whole_path(path) as partial:
        # Without closing, a writer would leave its encoder running after an error.
        with closing(_Writer(partial, how)) as writer:
            for keyframe in keyframes:
                image = video_frame(keyframe, title, stage)
                writer.add(image[::2, ::2] if moving else image)
                count += 1
        if not moving:
            _must_hold(partial, count)
    return path


class _Writer:
    """imageio's writer, whose errors are of the kind that the disk gives.

    Args:
        path (Path): The file.
        how (dict): The format's options.
    """

    def __init__(self, path: Path, how: dict[str, Any]) -> None:
        self.writer = imageio.get_writer(path, **how)

    def add(self, image: NDArray[np.uint8]) -> None:
        with _encoding():
            self.writer.append_data(image)

    def close(self) -> None:
        with _encoding():
            self.writer.close()


@contextmanager
def _encoding() -> Iterator[None]:
    """Raise OSError with a number where the encoder fails. Its own error has none."""
    try:
        yield
    except OSError as error:
        if error.errno:
            raise
        raise OSError(errno.EIO, "The encoder ended early") from error


def _must_hold(path: Path, count: int) -> None:
    """Raise OSError unless ``path`` is a video of ``count`` frames.

    The encoder does not report that the disk is full. Its file is then cut off.
    """
    from imageio_ffmpeg import count_frames_and_secs

    try:
        found, _ = count_frames_and_secs(path)
    except RuntimeError:  # no player opens the file
        found = 0
    if found != count:
        raise OSError(errno.EIO, f"The encoder wrote {found} of {count} frames")


def video_frame(keyframe: Keyframe, title: str, stage: int = 0) -> NDArray[np.uint8]:
    """Draw one moment as (1080, 1920, 3) pixels."""
    trace = stage_block(keyframe.trace, stage)
    figure = Figure(figsize=(SIZE[0] / 100, SIZE[1] / 100), dpi=100, facecolor=BACKGROUND)
    for number, corner in enumerate(corners(keyframe.views)):
        small = shrink(keyframe.views[number], round(SIZE[0] * corner.width))
        _draw_pair(figure, small, corner, trace, trace.kept[number])
    axis = figure.add_axes((0.632, 0.16, 0.365, 0.365 * SIZE[0] / SIZE[1]))
    draw_bird(axis, keyframe)
    kept = f"stage {stage} computes {trace.share:.0%} of its windows"
    for height, text in (
        (0.972, f"{title}   {keyframe.name}"),
        (0.487, f"{kept}: pruned ones are dimmed"),
    ):
        figure.text(0.005, height, text, color="white", fontsize=15, va="center")
    figure.text(0.632, 0.972, f"plan {keyframe.plan}", color="white", fontsize=15, va="center")
    figure.text(
        0.632, 0.835, "from above, rings every 10 m", color="white", fontsize=15, va="center"
    )
    legend: dict[str, Any] = {
        "loc": "upper left",
        "bbox_to_anchor": (0.628, 0.14),
        "ncols": 4,
        "frameon": False,
        "labelcolor": "white",
    }
    figure.legend(handles=box_handles(view.predictions for view in keyframe.views), **legend)
    return pixels(figure)


class Corner(NamedTuple):
    """Where a camera's frame stands in its block, as shares of the picture.

    Args:
        left (float): From the left edge of the picture.
        down (float): From the upper edge of the block to the lower edge of the frame.
        width (float): Of the frame.
        height (float): Of the frame.
    """

    left: float
    down: float
    width: float
    height: float


def corners(views: Sequence[CameraView]) -> list[Corner]:
    """Return where each view stands: by where it looks, and as large as the block lets it be."""
    places = camera_rows(views)
    columns = max(map(len, places))
    width = BLOCK[0] / columns - GAP
    wanted = width * SIZE[0] / SIZE[1] * max(map(aspect, views))
    height = min(wanted, BLOCK[1] / len(places) - GAP)
    width *= height / wanted
    found = {
        number: Corner(0.004 + column * (width + GAP), (row + 1) * (height + GAP), width, height)
        for row, numbers in enumerate(places)
        for column, number in enumerate(numbers)
    }
    return [found[number] for number in range(len(views))]


def _draw_pair(
    figure: Figure,
    view: CameraView,
    corner: Corner,
    trace: BlockTrace,
    kept: NDArray[np.bool_],
) -> None:
    """Draw a camera's frame with boxes, and below it the frame with its mask."""
    for top, masked in ((0.955, False), (0.47, True)):
        bottom = top - corner.down
        axis = figure.add_axes((corner.left, bottom, corner.width, corner.height))
        if masked:
            draw_mask(axis, view, trace, kept)
        else:
            show_frame(axis, view.image)
        draw_all_boxes(axis, view)
        draw_label(axis, view, f"{kept.mean():.0%}" if masked else "")
