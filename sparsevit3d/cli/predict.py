"""The front door's verb for one's own cameras: ``sparsevit3d predict``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsevit3d.cli.shared_options import CarriedConfig, Plan, read_plan
from sparsevit3d.terminal import console, progress_bar, show_error

if TYPE_CHECKING:
    from sparsevit3d.stages.calibration import Camera
    from sparsevit3d.stages.frames import Clock
    from sparsevit3d.stages.predict import Detector
    from sparsevit3d.stages.views import CameraView

LONGEST = 120  # bytes of an image's name that its picture's name has. File systems allow 143.
FILE = "predictions.jsonl"
FEW = 12  # images that are drawn by this very process. More are drawn while the network runs.


def predict(
    images: Annotated[list[Path], typer.Argument(help="Images or videos, or folders of them.")],
    calibration: Annotated[
        Path, typer.Option(help="A JSON file: cameras, their matrices and which files are theirs.")
    ],
    checkpoint: Annotated[
        Path, typer.Option(help="A checkpoint that train, adapt or finetune wrote.")
    ],
    plan: Plan = None,
    config: CarriedConfig = None,
    out: Annotated[
        Path, typer.Option(help="Folder for predictions.jsonl and a picture of each image.")
    ] = Path("predictions"),
    pictures: Annotated[bool, typer.Option(help="Draw a picture of each image.")] = True,
    fps_report: Annotated[
        bool, typer.Option("--fps-report", help="Tell where the time of a frame goes.")
    ] = False,
) -> None:
    """Find objects in images of your own cameras: boxes in metres as JSON, and pictures.

    No dataset is needed.

    CALIBRATION is {"front": {"intrinsic": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], "width": 1600,
    "height": 900, "images": "*front*"}}, with an entry for each camera. "images" is a pattern for
    the paths of the camera's files. If a lens bends lines, "distortion" has OpenCV's coefficients,
    and "lens" is "pinhole" or "fisheye". Distances are learnt for the cameras of training. If your
    camera has another focal length (in pixels of an image as wide), finetune first.

    Several videos are those of a rig, one of each camera. Their frames come side by side. Images
    have at most 150 megapixels. Transparency is ignored. Grey images of 16 bits are shown by their
    upper 8 bits. Pictures are at most 1600 pixels wide and high.

    The first line of predictions.jsonl names checkpoint, plan and frame of reference. Each image
    then adds a line as soon as it is done. An image that cannot be used is named and has a line
    with its error, and the exit status is 1.

    Example: sparsevit3d predict photos/ --calibration calibration.json --checkpoint
    work_dirs/sparse/epoch_0007.pth

    Example: sparsevit3d predict front.mp4 --calibration calibration.json --checkpoint
    work_dirs/sparse/epoch_0007.pth --no-pictures --fps-report
    """
    from sparsevit3d.files import sole_owner
    from sparsevit3d.stages.calibration import doubts, read_calibration
    from sparsevit3d.stages.frames import Clock, list_images
    from sparsevit3d.stages.predict import Detector

    cameras = read_calibration(calibration)
    paths = list_images(images)
    detector = Detector(checkpoint, config)
    if plan is not None:
        detector.plan = read_plan(plan, detector.config)
    for doubt in doubts(cameras):
        console.print(f"warning {calibration}: {doubt}")
    out.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    with sole_owner(out):
        done, lost, boxes = _predict_all(detector, paths, cameras, out, pictures, clock)
    console.print(f"{out / FILE}: {boxes} boxes in {done} images")
    if fps_report:
        console.print(clock.report(done))
    if lost:
        console.print(f"{lost} of {done + lost} images could not be used.")
        raise typer.Exit(1)


def _picture_name(number: int, image: Path) -> str:
    """Name an image's picture. A long name of an image is cut, between two characters."""
    stem = image.stem if "#" not in image.suffix else image.name.replace("#", "_")
    stem = os.fsencode(stem)[:LONGEST].decode("utf-8", "ignore")
    return f"{number:04d}_{stem}.jpg"


def _predict_all(
    detector: Detector,
    paths: list[Path],
    cameras: dict[str, Camera],
    out: Path,
    pictures: bool,
    clock: Clock,
) -> tuple[int, int, int]:
    """Write predictions.jsonl and the pictures, and count images, unusable ones, and boxes."""
    from sparsevit3d.processes import in_order, usual_workers
    from sparsevit3d.stages.frames import frames_in
    from sparsevit3d.stages.predict import FRAME

    frames, total = frames_in(paths, cameras)
    counts = {"done": 0, "lost": 0, "boxes": 0}
    with (out / FILE).open("w") as file, progress_bar("images") as update:

        def note(row: dict[str, Any]) -> None:
            print(json.dumps(row), file=file, flush=True)

        def failed(image: Path, error: Exception) -> None:
            counts["lost"] += 1
            note({"image": str(image), "error": str(error)})
            show_error(error)

        def found() -> Iterator[tuple[CameraView, Path]]:
            for one in detector.stream(frames, cameras, failed, pictures, clock):
                picture = _picture_name(counts["done"], one.image)
                note(one.as_dict() | ({"picture": picture} if pictures else {}))
                counts["done"] += 1
                counts["boxes"] += len(one.detections)
                update(counts["done"] + counts["lost"], total)
                if one.view is not None:
                    yield one.view, out / picture

        plan = str(detector.plan or "dense")
        note({"checkpoint": str(detector.checkpoint), "plan": plan, "frame": FRAME})
        for seconds in in_order(_draw, found(), 1 if total <= FEW else usual_workers()):
            clock.add("drawing", seconds)
    return counts["done"], counts["lost"], counts["boxes"]


def _draw(view: CameraView, picture: Path) -> float:
    """Draw a picture. Returns the seconds that it took."""
    from visualize.frames import save_frame

    start = perf_counter()
    save_frame(view, picture)
    return perf_counter() - start
