"""The front door's verbs for data: ``sparsevit3d data ...``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sparsevit3d.cli.data_import import import_app
from sparsevit3d.cli.shared_options import renamed, target_file
from sparsevit3d.cli.tables import problem_tables, statistics_table
from sparsevit3d.terminal import console, progress_bar

data_app = typer.Typer(
    help="Make a nuScenes root, or import one. Make info files of any root.", no_args_is_help=True
)
data_app.add_typer(import_app, name="import")


@data_app.command()
def synth(
    root: Annotated[
        Path,
        typer.Argument(
            help="A new folder, or one that an earlier call of the same settings began."
        ),
    ],
    scenes: Annotated[
        tuple[int, int, int],
        typer.Option(help="Number of scenes of the splits train, search and val."),
    ] = (60, 5, 10),
    keyframes: Annotated[
        int, typer.Option(help="Number of keyframes of each scene, half a second apart.")
    ] = 2,
    size: Annotated[tuple[int, int], typer.Option(help="Width and height of images.")] = (
        800,
        450,
    ),
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same bytes, for any number of workers.")
    ] = 0,
    preset: Annotated[
        str,
        typer.Option(
            help="easy is one sunny street, standard is like nuScenes, hard has crowds and rain."
        ),
    ] = "easy",
    sweeps: Annotated[
        bool, typer.Option("--sweeps", help="Let the lidar turn at 10 Hz between keyframes, too.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes. Default: one for each core.")
    ] = None,
) -> None:
    """Render a synthetic nuScenes: drives with six cameras, lidar and the 13 tables.

    Interrupted, the same command goes on.

    Example: sparsevit3d data synth data/synthetic --scenes 60 5 10 --preset standard
    """
    from data_tools.synthetic.dataset import Settings, make_dataset
    from sparsevit3d.processes import usual_workers

    settings = Settings(scenes, keyframes, size[0], size[1], seed, preset, sweeps)
    with progress_bar("rendering scenes") as update:
        make_dataset(root, settings, workers or usual_workers(), update)
    console.print(f"{root}: {sum(scenes)} scenes, {sum(scenes) * keyframes * 6} images")


@data_app.command()
def infos(
    root: Annotated[
        Path,
        typer.Argument(help="A nuScenes root, made or real: the folder of samples/ and v1.0-..."),
    ],
    version: Annotated[
        str | None, typer.Option(help="The folder of tables. Default: the only one.")
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="Splits, as train,val. Default: train, search and val, or what the root has."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to. Default: the root.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes. Default: one for each core.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Take over mmdet3d's own info file, a pickle, for one split."),
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Run any code that is in that pickle.")
    ] = False,
    splits: Annotated[str | None, renamed("--splits", "--split")] = None,
) -> None:
    """Write info files for mmdet3d, nuscenes_infos_SPLIT.json, from any nuScenes root.

    Interrupted, the same command goes on.

    A split is one of nuScenes' own (train, val, mini_val ...), one of the root's splits.json, or
    search. search holds the 50 training scenes on which plans are judged. train then lacks these
    scenes.

    Example: sparsevit3d data infos data/nuscenes --version v1.0-trainval --split train,val
    """
    from data_tools.convert import from_mmdet3d, info_path, write_infos
    from data_tools.splits import find_version, usual_splits
    from sparsevit3d.processes import usual_workers

    names = [name for each in split or () for name in each.split(",")]
    if source is not None:
        if not trust_pickle:
            raise typer.BadParameter(
                f"Reading {source} runs whatever code is in it. If you trust its maker, add "
                "--trust-pickle."
            )
        if len(names) != 1:
            raise typer.BadParameter(
                "Name the one split of the file with --split.", param_hint="--from"
            )
        count = from_mmdet3d(source, root, find_version(root, version), names[0], out or root)
        console.print(f"{info_path(out or root, names[0])}: {count} keyframes")
        return
    version = find_version(root, version)
    names = names or usual_splits(root, version)
    if not names:
        raise typer.BadParameter(
            f"{root / version} names no splits of its own. Name them with --split.",
            param_hint="--split",
        )
    with progress_bar("info files") as update:
        counts = write_infos(root, version, names, out, workers or usual_workers(), update)
    for name, count in counts.items():
        console.print(f"{info_path(out or root, name)}: {count} keyframes")


@data_app.command()
def check(
    root: Annotated[
        Path,
        typer.Argument(help="A nuScenes root, made or real: the folder of samples/ and v1.0-..."),
    ],
    version: Annotated[
        str | None, typer.Option(help="The folder of tables. Default: the only one.")
    ] = None,
    all_files: Annotated[
        bool,
        typer.Option(
            "--all-files", help="Decode all files, instead of one keyframe of each scene."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON, for programs.")
    ] = False,
) -> None:
    """Look for everything that is wrong with a root.

    Checked are tables, references, calibrations, times, boxes, splits and files. Each problem is
    named with its table, its token and what to do. The exit status is 1 where there are errors.
    Warnings (strange, but breaking nothing) leave the status 0.

    Example: sparsevit3d data check data/nuscenes --version v1.0-trainval
    """
    from data_tools.check.run import check as run_check
    from data_tools.splits import find_version
    from sparsevit3d.processes import usual_workers

    version = find_version(root, version)
    if as_json:
        report = run_check(root, version, all_files, usual_workers())
        print(json.dumps(report.as_dict(), indent=1))
    else:
        with progress_bar("looking at") as update:
            report = run_check(root, version, all_files, usual_workers(), update)
        for table in problem_tables(report.as_dict()):
            console.print(table)
        rows = sum(report.rows.values())
        looked = f"{rows} rows and {report.files} files, {report.decoded} of them decoded"
        console.print(f"{root}: {report.errors} errors, {report.warnings} warnings in {looked}")
    raise typer.Exit(1 if report.errors else 0)


@data_app.command()
def stats(
    roots: Annotated[list[Path], typer.Argument(help="nuScenes roots, made or real, to compare.")],
    version: Annotated[
        str | None, typer.Option(help="The folder of tables. Default: the only one of each root.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Save a picture here (.png or .jpg), and the figures beside it (.json).",
            callback=target_file(".png", ".jpg"),
        ),
    ] = None,
) -> None:
    """Count what roots are like, beside the published figures of nuScenes.

    Counted are classes, sizes, distances, speeds, visibility and pixels.

    Example: sparsevit3d data stats data/synthetic data/nuscenes --out stats.png
    """
    from data_tools.splits import find_version
    from data_tools.statistics import EDGES, published, statistics
    from sparsevit3d.files import write_json
    from sparsevit3d.processes import usual_workers
    from visualize.statistics import save_statistics

    found = {"nuScenes, published": published()}
    for root in roots:
        tables = find_version(root, version)
        with progress_bar(f"keyframes of {root.name}") as update:
            found[root.name if root.name not in found else str(root)] = statistics(
                root, tables, usual_workers(), update
            )
    console.print(statistics_table(found))
    if out is not None:
        save_statistics(found, EDGES, out)
        write_json(
            out.with_suffix(".json"),
            {"bars": {name: list(edges) for name, edges in EDGES.items()}, "datasets": found},
        )
        console.print(f"{out} and {out.with_suffix('.json')}")


@data_app.command()
def sheet(
    root: Annotated[Path, typer.Argument(help="A nuScenes root, made or real.")],
    version: Annotated[
        str | None, typer.Option(help="The folder of tables. Default: the only one.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="The picture to save, a .png or .jpg.", callback=target_file(".png", ".jpg")
        ),
    ] = Path("sheet.png"),
    count: Annotated[int, typer.Option(min=1, help="Number of frames.")] = 24,
    seed: Annotated[int, typer.Option(help="Seed that chooses the frames.")] = 0,
) -> None:
    """Put random camera frames of a root on one sheet, to look at.

    Example: sparsevit3d data sheet data/synthetic --out sheet.png
    """
    from data_tools.frames import random_frames
    from data_tools.images import read_image
    from data_tools.splits import find_version
    from visualize.sheet import FRAME, save_contact_sheet

    frames = [
        (read_image(path, FRAME)[0][..., ::-1], caption)
        for path, caption in random_frames(root, find_version(root, version), count, seed)
    ]
    save_contact_sheet(frames, out, f"{len(frames)} random frames of {root.name}")
    console.print(out)
