"""The front door's verbs for data: ``sparsevit3d data ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsevit3d.terminal import console, progress_bar

data_app = typer.Typer(help="Make a synthetic nuScenes; make info files from any nuScenes.", no_args_is_help=True)


@data_app.command()
def synth(
    root: Annotated[Path, typer.Argument(help="A new folder, or one that an earlier call of the same settings began")],
    scenes: Annotated[tuple[int, int, int], typer.Option(help="Scenes of the splits train, search and val")] = (60, 5, 10),
    keyframes: Annotated[int, typer.Option(help="Keyframes of each scene, half a second apart")] = 2,
    size: Annotated[tuple[int, int], typer.Option(help="Width and height of the images")] = (800, 450),
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes")] = 0,
) -> None:
    """Render a small synthetic nuScenes: drives with six cameras, lidar and the 13 tables.

    Example: sparsevit3d data synth data/synthetic --scenes 60 5 10
    """
    from data_tools.synthetic.tables import Settings, make_dataset

    with progress_bar("rendering scenes") as update:
        make_dataset(root, Settings(scenes, keyframes, size[0], size[1], seed), update)
    console.print(f"{root}: {sum(scenes)} scenes, {sum(scenes) * keyframes * 6} images")


@data_app.command()
def infos(
    root: Annotated[Path, typer.Argument(help="A nuScenes root, made or real")],
    version: Annotated[str, typer.Option(help="The folder of tables")] = "v1.0-synthetic",
    split: Annotated[list[str] | None, typer.Option(help="Repeat for several; default: train, search, val")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write, if not into the root")] = None,
) -> None:
    """Write info files for mmdet3d, nuscenes_infos_SPLIT.json, from any nuScenes root.

    Example: sparsevit3d data infos data/nuscenes --version v1.0-trainval --split train --split val
    """
    from data_tools.infos import open_nuscenes, write_infos

    nusc = open_nuscenes(root, version)
    (out or root).mkdir(parents=True, exist_ok=True)
    for name in split or ("train", "search", "val"):
        path = (out or root) / f"nuscenes_infos_{name}.json"
        with progress_bar(f"keyframes of {name}") as update:
            count = write_infos(nusc, name, path, update)
        console.print(f"{path}: {count} keyframes")
