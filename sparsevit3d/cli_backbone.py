"""The front door's verb for the backbone's speed: ``sparsevit3d benchmark-backbone``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sparsevit3d.terminal import backbone_table, console


def benchmark_backbone(
    config: Annotated[Path, typer.Argument(help="An experiment, such as configs/fcos3d_swin-t_704x256.py")],
    shape: Annotated[str, typer.Option(help="Images, their channels, height and width")] = "6x3x256x704",
    dtypes: Annotated[list[str] | None, typer.Option("--dtype", help="May be repeated; default: float32, bfloat16")] = None,
    plans: Annotated[
        list[str] | None, typer.Option("--plan", help="May be repeated; default: for Swin-T the paper's, and uniform ones")
    ] = None,
    runs: Annotated[int, typer.Option(min=2, help="Timed runs of each contender, after a warm-up")] = 20,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Keep the result here as JSON, and beside it a picture of it")] = None,
) -> None:
    """Time the config's backbone against mmdet's Swin, eager and compiled, the form that the paper's authors released, and its floor.

    All take turns in one run, on random images with fresh weights; no checkpoint or data is needed. A table, then one line of JSON.
    "efficiency" is the speed-up over the fastest dense contender, divided by how many times fewer MACs the plan takes.

    Example: sparsevit3d benchmark-backbone configs/fcos3d_swin-t_704x256.py --shape 1x3x448x800
    """
    from sparsevit3d.stages.benchmark_backbone import benchmark_backbone as measure
    from sparsevit3d.stages.experiment import read_config

    with console.status("timing"):
        result = measure(read_config(config), shape, dtypes or ("float32", "bfloat16"), plans, runs, device)
    console.print(backbone_table(result))
    if out is not None:
        from sparsevit3d.stages.files import write_json
        from visualize.speed import save_speed

        write_json(out, result)
        save_speed(result, out.with_suffix(".png"))
    print(json.dumps(result))
