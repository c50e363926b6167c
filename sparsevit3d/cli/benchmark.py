"""The front door's verb for speed: ``sparsevit3d benchmark``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sparsevit3d.cli.shared_options import ConfigPath, Data, Infos, Set, read_plan, target_file
from sparsevit3d.cli.tables import benchmark_tables
from sparsevit3d.errors import InputError
from sparsevit3d.terminal import console, progress_bar


def benchmark(
    config: ConfigPath,
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            help="Time this detector under its plan, on a keyframe of its data. Default: fresh "
            "weights."
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Input of fresh weights: images, channels, height, width. Default: 6x3x256x704."
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="The split whose first keyframe a checkpoint is timed on.")
    ] = "val",
    plans: Annotated[
        list[str] | None,
        typer.Option(
            "--plan",
            help="A plan or a plan file. May be repeated. Default: the checkpoint's, or those of "
            "the paper and uniform ones.",
        ),
    ] = None,
    dtypes: Annotated[
        list[str] | None,
        typer.Option(
            "--dtype",
            help="Numbers to run in. May be repeated. Default: float32, and bfloat16 if the device "
            "multiplies in it.",
        ),
    ] = None,
    runs: Annotated[
        int, typer.Option(min=2, help="Number of timed runs of each contender, after a warm-up.")
    ] = 12,
    device: Annotated[str, typer.Option(help="Device of fresh weights: cpu or cuda.")] = "cpu",
    data: Data = None,
    infos: Infos = None,
    options: Set = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File for the result as JSON (.json). A picture (.png) goes beside the file.",
            callback=target_file(".json"),
        ),
    ] = None,
) -> None:
    """Time backbone and whole detector, dense and under plans, against rivals and a floor.

    The rivals are mmdet's models and the paper's released form. All take turns in one run. The
    output is tables, then one line of JSON. "efficiency" is the speed-up over the fastest dense
    contender of the dtype or float32, divided by how many times fewer MACs the plan takes. The
    floor is the network's linear layers and attentions alone.

    Example: sparsevit3d benchmark configs/fcos3d_swin-t_704x256.py --shape 6x3x256x704 --out
    speed.json
    """
    from sparsevit3d.files import write_json
    from sparsevit3d.stages.benchmark import benchmark as measure
    from sparsevit3d.stages.benchmark import (
        channels_of,
        fresh_subject,
        trained_subject,
        usual_dtypes,
    )
    from sparsevit3d.stages.config import load_config, read_config

    if checkpoint is None:
        experiment = read_config(config, options or ())
        subject = fresh_subject(experiment, shape or f"6x{channels_of(experiment)}x256x704", device)
    elif shape is not None:
        raise InputError(
            f"--shape {shape} is for fresh weights. {checkpoint} is timed on images of its data."
        )
    else:
        experiment = load_config(config, data, infos, options or ())
        subject = trained_subject(experiment, checkpoint, split)
    chosen = [plan for text in plans or () if (plan := read_plan(text, experiment))]
    with progress_bar("timing") as update:
        result = measure(
            subject, dtypes or usual_dtypes(subject.images.device), chosen, runs, update
        )
    for table in benchmark_tables(result):
        console.print(table)
    if out is not None:
        from visualize.speed import save_speed

        write_json(out, result)
        save_speed(result, out.with_suffix(".png"))
    print(json.dumps(result))
