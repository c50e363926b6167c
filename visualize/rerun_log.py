"""Save a drive as a recording for Rerun (https://rerun.io).

The recording shows cameras, boxes, lidar and window masks on one timeline. Needs ``rerun-sdk``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import rerun
from matplotlib.colors import to_rgb
from scipy.spatial.transform import Rotation

from sparsevit3d.files import whole_file
from sparsevit3d.stages.views import Boxes, Keyframe
from visualize.frames import COLOURS, clear_boxes, jpeg, shrink
from visualize.geometry import paint
from visualize.masks import stage_block
from visualize.scene import make_scene

# RGBA colours of the window masks over a frame.
STATES = [
    (1, "pruned", (6, 8, 12, 190)),
    (2, "kept", (0, 0, 0, 0)),
    (3, "cropped", (60, 66, 82, 190)),
]
WIDTH = 800  # pixels of a frame
QUALITY = 80  # of a frame's JPEG


def save_recording(keyframes: Iterable[Keyframe], path: Path, stage: int = 1) -> Path:
    """Save a recording, whole or not at all, and return its path.

    The command ``rerun PATH`` opens the file. The masks are those of ``stage``. Raises OSError that
    names the file if the recording cannot be written, as where the disk is full.
    """
    recording = rerun.new_recording("sparsevit3d")
    # Without strict, Rerun only warns of data that cannot be logged.
    log = partial(rerun.log, recording=recording, strict=True)
    # Rerun's own file writer reports no error, so its bytes are written here.
    stream = rerun.binary_stream(recording)
    with whole_file(path) as file:
        try:
            log("ego", rerun.ViewCoordinates.FLU, static=True)
            log("/", rerun.AnnotationContext(STATES), static=True)
            for number, keyframe in enumerate(keyframes):
                rerun.set_time_sequence("keyframe", number, recording=recording)
                rerun.set_time_seconds("time", keyframe.seconds, recording=recording)
                _log(log, keyframe, stage)
                file.write(stream.read())
        finally:
            rerun.disconnect(recording)
    return path


def _log(log: Callable[..., None], keyframe: Keyframe, stage: int) -> None:
    trace = stage_block(keyframe.trace, stage)
    points = make_scene(keyframe, stage)
    log("ego/lidar", rerun.Points3D(points.points, colors=points.point_colours, radii=0.04))
    log("ego/truth", _boxes(keyframe.truth))
    log("ego/found", _boxes(clear_boxes(keyframe.predictions)))
    for number, view in enumerate(keyframe.views):
        place = f"ego/{view.channel}"
        small = shrink(view, WIDTH)
        log(place, rerun.Transform3D(translation=view.to_ego[:3, 3], mat3x3=view.to_ego[:3, :3]))
        log(
            place,
            rerun.Pinhole(image_from_camera=small.intrinsic, resolution=small.image.shape[1::-1]),
        )
        log(
            f"{place}/frame",
            rerun.EncodedImage(contents=jpeg(small.image, QUALITY), media_type="image/jpeg"),
        )
        state = paint(small, trace, 1 + trace.kept[number].astype(np.uint8), 3)
        log(f"{place}/stage_{stage}", rerun.SegmentationImage(state))


def _boxes(boxes: Boxes) -> rerun.Boxes3D:
    """Return boxes for Rerun, oriented by their three axes.

    The axes lead from a corner of the front face to the corner below, to the corner beside, and to
    the corner behind.
    """
    corner, beside, below, behind = (boxes.corners[:, number] for number in (0, 1, 3, 4))
    # The columns are forward, left and up.
    axes = np.stack([corner - behind, corner - beside, corner - below], -1)
    sizes = np.linalg.norm(axes, axis=1)
    turns = (
        Rotation.from_matrix(axes / sizes[:, None]).as_quat()
        if len(boxes.names)
        else np.zeros((0, 4))
    )
    labels = (
        boxes.names
        if boxes.scores is None
        else [f"{n} {s:.2f}" for n, s in zip(boxes.names, boxes.scores, strict=True)]
    )
    colours = [
        (1.0, 1.0, 1.0) if boxes.scores is None else to_rgb(COLOURS[name]) for name in boxes.names
    ]
    return rerun.Boxes3D(
        centers=boxes.centres,
        half_sizes=sizes / 2,
        quaternions=turns,
        colors=np.array(colours).reshape(-1, 3),
        labels=labels,
    )
