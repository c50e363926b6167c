"""The front door's pictures: ``sparsevit3d visualize ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsevit3d.cli.report import compare, recall, report
from sparsevit3d.cli.shared_options import (
    Checkpoint,
    ConfigPath,
    Data,
    Infos,
    Plan,
    Set,
    Split,
    open_split,
    target_file,
)
from sparsevit3d.terminal import console, tracked

visualize_app = typer.Typer(
    help="Pictures of what was pruned, and of what was found.", no_args_is_help=True
)
for verb in (compare, recall, report):
    visualize_app.command()(verb)

Stage = Annotated[
    int,
    typer.Option(
        help="The stage whose windows are shown, from 0. Later stages have larger windows."
    ),
]


Number = Annotated[
    int, typer.Option("--keyframe", help="Number of the keyframe in the split, from 0.")
]


@visualize_app.command()
def masks(
    config: ConfigPath,
    checkpoint: Checkpoint,
    out: Annotated[
        Path,
        typer.Option(help="Folder for pictures. Those of a keyframe go to OUT/SPLIT_KEYFRAME."),
    ],
    each_block: Annotated[
        bool,
        typer.Option(
            "--each-block",
            help="Make a sheet for each block, shifted ones too, and not only for each stage.",
        ),
    ] = False,
    split: Split = "val",
    number: Number = 0,
    plan: Plan = None,
    data: Data = None,
    infos: Infos = None,
    options: Set = None,
) -> None:
    """Draw what was pruned of a keyframe's camera frames.

    For each stage there are the windows computed (pruned ones dimmed, boxes on top) and how
    important they were. There are also every block, plain and shifted, and how long each place
    lasted through the layers.

    Example: sparsevit3d visualize masks configs/fcos3d_small_synthetic.py
    work_dirs/sparse/epoch_0007.pth --out pictures
    """
    from visualize.masks import save_masks

    keyframes, chosen = open_split(config, checkpoint, split, plan, data, infos, options)
    keyframe = keyframes.look(number, chosen)
    for path in save_masks(
        keyframe,
        out / f"{split}_{number:04d}",
        f"{split}, keyframe {number}, plan {keyframe.plan}",
        each_block,
    ):
        console.print(path)


@visualize_app.command()
def boxes(
    config: ConfigPath,
    checkpoint: Checkpoint,
    out: Annotated[
        Path,
        typer.Option(help="Folder for pictures. Those of a keyframe go to OUT/SPLIT_KEYFRAME."),
    ],
    split: Split = "val",
    number: Number = 0,
    plan: Plan = None,
    data: Data = None,
    infos: Infos = None,
    options: Set = None,
) -> None:
    """Draw what was found and what is true, on the camera frames and from above.

    The view from above has the lidar's points.

    Example: sparsevit3d visualize boxes configs/fcos3d_small_synthetic.py
    work_dirs/sparse/epoch_0007.pth --out pictures
    """
    from visualize.bird import bird_sheet
    from visualize.frames import box_sheet, save

    keyframes, chosen = open_split(config, checkpoint, split, plan, data, infos, options)
    keyframe = keyframes.look(number, chosen)
    folder = out / f"{split}_{number:04d}"
    title = f"{split}, keyframe {number}, plan {keyframe.plan}"
    folder.mkdir(parents=True, exist_ok=True)
    console.print(save(box_sheet(keyframe, title), folder / "boxes.png"))
    console.print(save(bird_sheet(keyframe, title), folder / "bird.png"))


@visualize_app.command()
def scene(
    config: ConfigPath,
    checkpoint: Checkpoint,
    out: Annotated[
        Path,
        typer.Option(help="The picture, a .png or .jpg.", callback=target_file(".png", ".jpg")),
    ] = Path("scene.png"),
    show: Annotated[
        bool,
        typer.Option("--show", help="Open a window to look around in. That needs a display."),
    ] = False,
    stage: Stage = 0,
    split: Split = "val",
    number: Number = 0,
    plan: Plan = None,
    data: Data = None,
    infos: Infos = None,
    options: Set = None,
) -> None:
    """Draw a keyframe in three dimensions: lidar, boxes, cameras and ground.

    The lidar has the cameras' colours, dark where windows were pruned.

    Example: sparsevit3d visualize scene configs/fcos3d_small_synthetic.py
    work_dirs/sparse/epoch_0007.pth --out scene.png
    """
    from visualize.scene import make_scene, save_scene
    from visualize.scene import show as open_window

    keyframes, chosen = open_split(config, checkpoint, split, plan, data, infos, options)
    keyframe = keyframes.look(number, chosen)
    if show:
        open_window(make_scene(keyframe, stage), keyframe.name)
    else:
        console.print(save_scene(keyframe, out, stage))


@visualize_app.command()
def video(
    config: ConfigPath,
    checkpoint: Checkpoint,
    out: Annotated[
        Path,
        typer.Option(help="The video, an .mp4 or a .gif.", callback=target_file(".mp4", ".gif")),
    ] = Path("drive.mp4"),
    stage: Stage = 1,
    split: Split = "val",
    number: Annotated[
        int, typer.Option("--keyframe", help="Number of one of the drive's keyframes, from 0.")
    ] = 0,
    plan: Plan = None,
    data: Data = None,
    infos: Infos = None,
    options: Set = None,
) -> None:
    """Make a drive a video: frames with boxes, masks, and the street from above, side by side.

    Example: sparsevit3d visualize video configs/fcos3d_small_synthetic.py
    work_dirs/sparse/epoch_0007.pth --out drive.mp4
    """
    from visualize.video import save_video

    keyframes, chosen = open_split(config, checkpoint, split, plan, data, infos, options)
    drive = keyframes.drive(number)
    shown = (keyframes.look(one, chosen) for one in tracked(drive, "keyframes"))
    console.print(save_video(shown, out, checkpoint.parent.name, stage))


@visualize_app.command()
def rerun(
    config: ConfigPath,
    checkpoint: Checkpoint,
    out: Annotated[
        Path, typer.Option(help="The recording, an .rrd.", callback=target_file(".rrd"))
    ] = Path("drive.rrd"),
    stage: Stage = 1,
    split: Split = "val",
    number: Annotated[
        int, typer.Option("--keyframe", help="Number of one of the drive's keyframes, from 0.")
    ] = 0,
    plan: Plan = None,
    data: Data = None,
    infos: Infos = None,
    options: Set = None,
) -> None:
    """Record a drive for Rerun's viewer: cameras, boxes, lidar and masks on a timeline.

    Needs: pip install 'sparsevit3d[rerun]'

    Example: sparsevit3d visualize rerun configs/fcos3d_small_synthetic.py
    work_dirs/sparse/epoch_0007.pth --out drive.rrd
    """
    from visualize.rerun_log import save_recording

    keyframes, chosen = open_split(config, checkpoint, split, plan, data, infos, options)
    drive = keyframes.drive(number)
    shown = (keyframes.look(one, chosen) for one in tracked(drive, "keyframes"))
    path = save_recording(shown, out, stage)
    console.print(f"{path}: open it with 'rerun {path}'")
