"""A drive as a recording for Rerun (https://rerun.io): cameras, boxes, lidar and window masks on one timeline. Needs ``rerun-sdk``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import rerun
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sparsevit3d.views import Boxes, CameraView, Keyframe
from visualize.frames import COLOURS, clear_boxes, shrink
from visualize.geometry import window_mask
from visualize.masks import stage_blocks
from visualize.scene import make_scene

PRUNED, KEPT = (6, 8, 12, 190), (0, 0, 0, 0)  # RGBA of what lies over a frame
WIDTH, QUALITY = 800, 80  # of a frame, pixels and JPEG's


def save_recording(keyframes: Iterable[Keyframe], path: Path, update: Callable[[int], None] = lambda done: None) -> Path:
    """``path``, which ``rerun PATH`` opens; whole or not at all."""
    unfinished = path.with_name(f".{path.stem}.partial{path.suffix}")
    rerun.set_strict_mode(True)  # or else what cannot be logged is a warning
    recording = rerun.new_recording("sparsevit3d")
    try:
        rerun.save(str(unfinished), recording=recording)
        rerun.log("ego", rerun.ViewCoordinates.FLU, static=True, recording=recording)
        rerun.log("/", rerun.AnnotationContext([(1, "pruned", PRUNED), (2, "kept", KEPT)]), static=True, recording=recording)
        for number, keyframe in enumerate(keyframes):
            rerun.set_time_sequence("keyframe", number, recording=recording)
            rerun.set_time_seconds("time", keyframe.seconds, recording=recording)
            _log(recording, keyframe)
            update(number + 1)
        rerun.disconnect(recording)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _log(recording: rerun.RecordingStream, keyframe: Keyframe) -> None:
    log = partial(rerun.log, recording=recording)
    points = make_scene(keyframe)
    log("ego/lidar", rerun.Points3D(points.points, colors=points.point_colours, radii=0.04))
    log("ego/truth", _boxes(keyframe.truth))
    log("ego/found", _boxes(clear_boxes(keyframe.predictions)))
    for number, view in enumerate(keyframe.views):
        place, small = f"ego/{view.channel}", shrink(view, WIDTH)
        log(place, rerun.Transform3D(translation=view.to_ego[:3, 3], mat3x3=view.to_ego[:3, :3]))
        log(place, rerun.Pinhole(image_from_camera=small.intrinsic, resolution=small.image.shape[1::-1]))
        log(f"{place}/frame", rerun.EncodedImage(contents=_jpeg(small), media_type="image/jpeg"))
        for trace in stage_blocks(keyframe.trace):
            mask = 1 + window_mask(small, trace, trace.kept[number]).astype(np.uint8)
            log(f"{place}/stage_{trace.stage}", rerun.SegmentationImage(mask))


def _boxes(boxes: Boxes) -> rerun.Boxes3D:
    """By their three axes: a corner of the front face to the one below, to the one beside, to the one behind it."""
    corner, beside, below, behind = (boxes.corners[:, number] for number in (0, 1, 3, 4))
    axes = np.stack([corner - behind, corner - beside, corner - below], -1)  # columns: forward, left, up
    sizes = np.linalg.norm(axes, axis=1)
    turns = Rotation.from_matrix(axes / sizes[:, None]).as_quat() if len(boxes.names) else np.zeros((0, 4))
    labels = boxes.names if boxes.scores is None else [f"{n} {s:.2f}" for n, s in zip(boxes.names, boxes.scores, strict=True)]
    colours = [(1.0, 1.0, 1.0) if boxes.scores is None else to_rgb(COLOURS[name]) for name in boxes.names]
    return rerun.Boxes3D(
        centers=boxes.centres, half_sizes=sizes / 2, quaternions=turns, colors=np.array(colours).reshape(-1, 3), labels=labels
    )


def _jpeg(view: CameraView) -> bytes:
    _, encoded = cv2.imencode(".jpg", view.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    found: NDArray[np.uint8] = np.asarray(encoded, np.uint8)
    return found.tobytes()
