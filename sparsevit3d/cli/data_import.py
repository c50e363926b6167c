"""The front door's verbs for other people's data: ``sparsevit3d data import ...``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsevit3d.terminal import console, progress_bar

if TYPE_CHECKING:
    from data_tools.imports.frames import Frames

import_app = typer.Typer(
    help="Make a nuScenes root of your own frames, of KITTI or of Astyx.", no_args_is_help=True
)
Out = Annotated[
    Path, typer.Argument(help="The new root. After an interruption, the same command begins anew.")
]


@import_app.command()
def frames(
    source: Annotated[
        Path, typer.Argument(help="A JSON file: cameras, and for each frame its images and boxes.")
    ],
    out: Out,
) -> None:
    """Make a root of one JSON file that says what your images show.

    FRAMES.json is {"cameras": {"front": {"intrinsic": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]}},
    "frames": [{"images": {"front": "1.jpg"}, "objects": [{"class": "car", "center": [x, y, z],
    "size": [length, width, height], "yaw": 0.1}]}]}. Boxes are in the camera's frame: x right, y
    down, z forward, metres. Several cameras, ego poses, times, tracks, velocities, attributes,
    visibility and splits are optional: docs/your-data.md describes them.

    Example: sparsevit3d data import frames recordings/frames.json data/mine
    """
    from data_tools.imports.frames import read_frames

    _write(read_frames(source), out)


@import_app.command()
def kitti(
    source: Annotated[Path, typer.Argument(help="The folder of image_2, label_2 and calib.")],
    out: Out,
    split: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE, such as train=ImageSets/train.txt. Repeat for each split."),
    ] = None,
    drives: Annotated[
        Path | None,
        typer.Option(
            help='JSON with the drive of each frame, {"000000": "DRIVE"}. Without --split each '
            "fifth drive is for val."
        ),
    ] = None,
) -> None:
    """Make a root of KITTI's object data.

    DontCare regions are in the image alone. The nuScenes score knows no such regions, so a box
    found there counts as false. Misc and Tram have no class and are left out.

    Example: sparsevit3d data import kitti kitti/training data/kitti --split train=train.txt
    --split val=val.txt
    """
    from data_tools.imports.frames import parse_frames
    from data_tools.imports.kitti import read_kitti

    found = read_kitti(source, _splits(split), drives)
    _write(parse_frames(found.document, source, str(source)), out, found.left_out)


@import_app.command()
def astyx(
    source: Annotated[
        Path, typer.Argument(help="The folder of camera_front, groundtruth_obj3d and calibration.")
    ],
    out: Out,
    split: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE, a frame's number in each line. Repeat for each split."),
    ] = None,
) -> None:
    """Make a root of Astyx HiRes2019: one front camera on roads around Munich.

    Example: sparsevit3d data import astyx dataset_astyx_hires2019 data/astyx
    """
    from data_tools.imports.astyx import read_astyx
    from data_tools.imports.frames import parse_frames

    found = read_astyx(source, _splits(split))
    _write(parse_frames(found.document, source, str(source)), out, found.left_out)


def _splits(texts: list[str] | None) -> dict[str, Path]:
    """Read ``NAME=FILE`` of each split."""
    pairs = [text.partition("=")[::2] for text in texts or ()]
    for name, path in pairs:
        if not name or not path:
            raise typer.BadParameter(f"{name or path!r} is not NAME=FILE.", param_hint="--split")
    if len({name for name, _ in pairs}) < len(pairs):
        raise typer.BadParameter("a split is named twice. Give it one file.", param_hint="--split")
    return {name: Path(path) for name, path in pairs}


def _write(content: Frames, out: Path, left_out: Mapping[str, int] | None = None) -> None:
    """Write the root, and say what is in it and what is not."""
    from data_tools.imports.root import write_root

    with progress_bar("images") as update:
        done = write_root(content, out, update)
    splits = ", ".join(f"{name} {len(scenes)}" for name, scenes in done.splits.items())
    facts = [f"{done.images} images, {done.objects} boxes. Scenes: {splits}."]
    if done.unseen:
        facts.append(f"Left out: {done.unseen} boxes that no image shows.")
    if left_out:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(left_out.items()))
        facts.append(f"Left out, for lack of a class: {counts}.")
    if done.lacks:
        facts.append(f"The frames do not say: {', '.join(done.lacks)}.")
    facts.append(f"Next: sparsevit3d data infos {out}")
    for fact in facts:
        console.print(fact, markup=False)
