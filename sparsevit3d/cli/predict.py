"""The front door's verb for one's own cameras: ``sparsevit3d predict``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsevit3d.cli.shared_options import CarriedConfig, Plan, read_plan
from sparsevit3d.terminal import console, progress_bar, show_error

if TYPE_CHECKING:
    from sparsevit3d.stages.calibration import Camera
    from sparsevit3d.stages.predict import Detector

LONGEST = 120  # bytes of an image's name that its picture's name has. File systems allow 143.


def predict(
    images: Annotated[
        list[Path], typer.Argument(help="Images, or folders of .jpg and .png files.")
    ],
    calibration: Annotated[
        Path, typer.Option(help="A JSON file: cameras, their matrices and which images are theirs.")
    ],
    checkpoint: Annotated[
        Path, typer.Option(help="A checkpoint that train, adapt or finetune wrote.")
    ],
    plan: Plan = None,
    config: CarriedConfig = None,
    out: Annotated[
        Path, typer.Option(help="Folder for predictions.json and a picture of each image.")
    ] = Path("predictions"),
) -> None:
    """Find objects in images of your own cameras: boxes in metres as JSON, and pictures.

    No dataset is needed.

    CALIBRATION is {"front": {"intrinsic": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], "width": 1600,
    "height": 900, "images": "*front*"}}, with an entry for each camera. "images" is a pattern for
    the paths of the camera's images. Images must be free of lens distortion. Distances are learnt
    for the cameras of training. If your camera has another focal length (in pixels of an image as
    wide), finetune first.

    Images have at most 150 megapixels. Transparency is ignored. Grey images of 16 bits are shown by
    their upper 8 bits. Pictures are at most 1600 pixels wide and high.

    An image that cannot be used is named and left out, and the exit status is 1. predictions.json
    lists such images under "unreadable".

    Example: sparsevit3d predict photos/ --calibration calibration.json --checkpoint
    work_dirs/sparse/epoch_0007.pth
    """
    from sparsevit3d.files import sole_owner
    from sparsevit3d.stages.calibration import doubts, read_calibration
    from sparsevit3d.stages.predict import Detector, list_images

    cameras = read_calibration(calibration)
    paths = list_images(images)
    detector = Detector(checkpoint, config)
    if plan is not None:
        detector.plan = read_plan(plan, detector.config)
    for doubt in doubts(cameras):
        console.print(f"warning {calibration}: {doubt}")
    out.mkdir(parents=True, exist_ok=True)
    with sole_owner(out):
        document = _predict_all(detector, paths, cameras, out, str(checkpoint))
    boxes = sum(len(row["detections"]) for row in document["images"])
    console.print(f"{out / 'predictions.json'}: {boxes} boxes in {len(document['images'])} images")
    if lost := len(document["unreadable"]):
        console.print(f"{lost} of {len(paths)} images could not be used.")
        raise typer.Exit(1)


def _picture_name(number: int, image: Path) -> str:
    """Name an image's picture. A long name of an image is cut, between two characters."""
    stem = os.fsencode(image.stem)[:LONGEST].decode("utf-8", "ignore")
    return f"{number:04d}_{stem}.jpg"


def _predict_all(
    detector: Detector, paths: list[Path], cameras: dict[str, Camera], out: Path, checkpoint: str
) -> dict[str, Any]:
    """Write predictions.json and the pictures. Returns the content of predictions.json."""
    from sparsevit3d.files import write_json
    from sparsevit3d.stages.predict import FRAME
    from visualize.frames import save_frame

    rows: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    document = {
        "checkpoint": checkpoint,
        "plan": str(detector.plan or "dense"),
        "frame": FRAME,
        "images": rows,
        "unreadable": unreadable,
    }

    def failed(image: Path, error: Exception) -> None:
        unreadable.append({"image": str(image), "error": str(error)})
        show_error(error)

    try:
        with progress_bar("images") as update:
            for number, found in enumerate(detector.predict(paths, cameras, failed)):
                picture = out / _picture_name(number, found.image)
                save_frame(found.view, picture)
                rows.append(found.as_dict() | {"picture": picture.name})
                update(len(rows) + len(unreadable), len(paths))
    finally:  # what was found is kept if the run is stopped
        if rows or unreadable:
            write_json(out / "predictions.json", document)
    return document
