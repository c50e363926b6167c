"""The front door's verb for other runtimes: ``sparsevit3d export``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sparsevit3d.cli.shared_options import CarriedConfig, Checkpoint, Plan, read_plan
from sparsevit3d.terminal import console, progress_bar

if TYPE_CHECKING:
    from sparsevit3d.stages.calibration import Camera

RIG = 6  # cameras of nuScenes


def export(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Folder for the file and for detector.json.")],
    kind: Annotated[
        Literal["pt2", "onnx", "openvino"],
        typer.Option(
            "--format",
            help="pt2: compiled by AOTInductor, for C++ and Python on processors like this one. "
            "onnx: standard operators. openvino: for Intel's runtime.",
        ),
    ] = "pt2",
    part: Annotated[
        Literal["boxes", "maps", "backbone"],
        typer.Option(help="Where the file ends: at boxes, or at the maps of head or backbone."),
    ] = "boxes",
    images: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images of a pass: the cameras of your rig. Default: as many as --frames has, or "
            "6.",
        ),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images to try the file on, with --calibration. Default: a made street."
        ),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="The cameras of --frames, as predict reads them.")
    ] = None,
    plan: Plan = None,
    config: CarriedConfig = None,
) -> None:
    """Write a detector as one file that runs without Python: images in, boxes out.

    The plan is part of the file, and so are colours, decoding and suppression. Shapes are fixed.
    detector.json says how images are scaled, and what the outputs mean. Then the file and the
    detector run on the same images. If their boxes differ, nothing is kept and the exit status is
    1.

    Example: sparsevit3d export work_dirs/sparse/epoch_0007.pth --format onnx --out exported

    Example: sparsevit3d export work_dirs/sparse/epoch_0007.pth --out exported --frames photos/
    --calibration calibration.json
    """
    from sparsevit3d.stages.export import export as write
    from sparsevit3d.stages.export_check import frames_of
    from sparsevit3d.stages.predict import Detector

    if (frames is None) != (calibration is None):
        raise typer.BadParameter(
            "Images and their cameras belong together. Give both.", param_hint="--frames"
        )
    detector = Detector(checkpoint, config)
    if plan is not None:
        detector.plan = read_plan(plan, detector.config)
    with (
        _images(images, frames, calibration) as found,
        progress_bar(f"export to {kind}") as update,
    ):
        document = write(detector, out, kind, frames_of(detector, found), part, update)
    _tell(out, document)


@contextmanager
def _images(
    count: int | None, folder: Path | None, calibration: Path | None
) -> Iterator[list[tuple[Path, Camera]]]:
    from sparsevit3d.errors import InputError
    from sparsevit3d.stages.calibration import owner_of, read_calibration
    from sparsevit3d.stages.export_check import made_frames
    from sparsevit3d.stages.predict import list_images

    if folder is None or calibration is None:
        with made_frames(count or RIG) as found:
            yield found
        return
    cameras = read_calibration(calibration)
    paths = list_images([folder])
    wanted = count or len(paths)
    if wanted > len(paths):
        raise InputError(
            f"{folder}: holds {len(paths)} images, and a pass has {wanted}. Name a folder of "
            f"{wanted}, or use --images {len(paths)}."
        )
    yield [(path, cameras[owner_of(path, cameras)]) for path in paths[:wanted]]


def _tell(out: Path, document: dict[str, Any]) -> None:
    found = document["differences"]
    if "boxes" in found:
        console.print(
            f"{found['boxes']} boxes on frames that the export never saw. Scores differ by at most "
            f"{found['score']:.1g}, numbers of a box by at most {found['box']:.1g}."
        )
    else:
        console.print(f"Maps differ by at most {found['share']:.1g} of their largest number.")
    times = document["milliseconds"]
    beside = f", the detector itself {times['detector']} ms" if "detector" in times else ""
    console.print(f"{out / document['file']}: {times['file']} ms a pass{beside}")
