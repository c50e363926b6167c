"""The front door: one verb for each thing that people do.

A room is opened only when its verb is called.
"""

from __future__ import annotations

import json
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsevit3d.cli.benchmark import benchmark
from sparsevit3d.cli.data import data_app
from sparsevit3d.cli.export import export
from sparsevit3d.cli.predict import predict
from sparsevit3d.cli.search import search_app
from sparsevit3d.cli.shared_options import (
    ConfigPath,
    Data,
    From,
    Infos,
    Plan,
    Set,
    Split,
    WorkDir,
    read_plan,
    renamed,
)
from sparsevit3d.cli.tables import score_table
from sparsevit3d.cli.visualize import visualize_app
from sparsevit3d.errors import InputError
from sparsevit3d.terminal import console, show_error, tidy_warnings, working

# Help is plain text: rich would take square brackets in it for markup.
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
app.add_typer(search_app, name="search")
app.add_typer(visualize_app, name="visualize")


def run() -> None:
    """Run the verb that was asked for. An InputError or OSError is shown as one line."""
    tidy_warnings()
    try:
        app()
    except (InputError, OSError) as error:
        show_error(error)
        raise SystemExit(1) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"sparsevit3d {version_of('sparsevit3d')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Camera-based 3D detection that computes only the windows that matter."""


@app.command()
def train(
    config: ConfigPath,
    work_dir: WorkDir,
    weights: Annotated[
        Path | None,
        typer.Option("--from", help="Go on from this checkpoint, by the config's stage 'depth'."),
    ] = None,
    data: Data = None,
    infos: Infos = None,
    options: Set = None,
) -> None:
    """Train the dense detector.

    Example: sparsevit3d train configs/fcos3d_small_synthetic.py --work-dir work_dirs/trained
    """
    from sparsevit3d.stages import train as stage
    from sparsevit3d.stages.config import load_config
    from visualize.training import training_pictures

    experiment = load_config(config, data, infos, options or (), "depth" if weights else None)
    console.print(stage.train(experiment, work_dir, weights, training_pictures))


@app.command()
def adapt(
    config: ConfigPath,
    weights: From,
    work_dir: WorkDir,
    dense: Annotated[
        bool,
        typer.Option(
            "--dense",
            help="Train the control: as long and at the same rate, but nothing is pruned.",
        ),
    ] = False,
    data: Data = None,
    infos: Infos = None,
    options: Set = None,
) -> None:
    """Adapt trained weights to pruning: every iteration runs under a random plan.

    Example: sparsevit3d adapt configs/fcos3d_small_synthetic.py --from
    work_dirs/trained/epoch_0006.pth --work-dir work_dirs/adapted
    """
    from sparsevit3d.stages import train as stage
    from sparsevit3d.stages.config import load_config
    from visualize.training import training_pictures

    experiment = load_config(config, data, infos, options or (), "adapt")
    plan = read_plan("dense", experiment) if dense else None
    if plan:
        console.print(stage.finetune(experiment, work_dir, weights, plan, training_pictures))
    else:
        console.print(stage.adapt(experiment, work_dir, weights, training_pictures))


@app.command()
def finetune(
    config: ConfigPath,
    weights: From,
    plan: Annotated[
        str,
        typer.Option(help="A plan file, a plan such as '0.3|0|0.1|0', or 'dense' for the control."),
    ],
    work_dir: WorkDir,
    data: Data = None,
    infos: Infos = None,
    options: Set = None,
) -> None:
    """Train adapted weights on under one plan. The checkpoint carries the plan.

    Example: sparsevit3d finetune configs/fcos3d_small_synthetic.py --from
    work_dirs/adapted/epoch_0001.pth --plan work_dirs/search/plan.json --work-dir work_dirs/sparse
    """
    from sparsevit3d.stages import train as stage
    from sparsevit3d.stages.config import load_config
    from visualize.training import training_pictures

    experiment = load_config(config, data, infos, options or (), "finetune")
    chosen = read_plan(plan, experiment)
    assert chosen is not None
    console.print(stage.finetune(experiment, work_dir, weights, chosen, training_pictures))


@app.command("eval")
def evaluate(
    config: Annotated[
        Path, typer.Argument(help="An experiment, such as configs/fcos3d_small_synthetic.py.")
    ],
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint that train, adapt or finetune wrote.")
    ],
    split: Split = "val",
    plan: Plan = None,
    flip: Annotated[
        bool,
        typer.Option("--flip", help="Average with the mirror image, as test-time augmentation."),
    ] = False,
    work_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the score. Default: eval_SPLIT/CHECKPOINT beside the checkpoint. The "
            "names also tell --flip, and a --plan that is not the checkpoint's own."
        ),
    ] = None,
    data: Data = None,
    infos: Infos = None,
    options: Set = None,
    results: Annotated[
        str | None, renamed("--results", "sparsevit3d score FILE --data ROOT")
    ] = None,
) -> None:
    """Print the official score of a checkpoint, by the nuScenes devkit.

    The score is mAP, NDS and the five errors, as a table and then as a line of JSON. A score that
    the truth does not define is null. Boxes of equal score rank by their order in the file, as the
    devkit ranks them.

    Under torchrun (torchrun --no-python --nproc-per-node=8 sparsevit3d eval ...) each process looks
    at its share of the images.

    Example: sparsevit3d eval configs/fcos3d_small_synthetic.py work_dirs/sparse/epoch_0007.pth
    --split val
    """
    from sparsevit3d.stages.config import load_config
    from sparsevit3d.stages.evaluate import evaluate as score_checkpoint

    with working(f"evaluating {checkpoint} on {split}"):
        experiment = load_config(config, data, infos, options or ())
        experiment.model.test_cfg.flip = flip
        chosen = read_plan(plan, experiment)
        found = score_checkpoint(experiment, checkpoint, split, work_dir, chosen)
    console.print(score_table(found, f"{split}, plan {found['plan']}{', flip' if flip else ''}"))
    if not console.quiet:
        print(json.dumps(found))


@app.command()
def score(
    results: Annotated[
        Path, typer.Argument(help="Anyone's results file, in the form that nuScenes asks for.")
    ],
    data: Annotated[
        Path, typer.Option(help="The nuScenes root whose truth the results are scored against.")
    ],
    split: Annotated[
        str,
        typer.Option(help="val, mini_val, or any other split of nuScenes or of splits.json."),
    ] = "val",
    version: Annotated[
        str | None, typer.Option(help="The folder of tables, if the root has several.")
    ] = None,
) -> None:
    """Print the official score of anyone's results file, by the nuScenes devkit.

    Config and checkpoint are not needed. The score is that of sparsevit3d eval.

    Example: sparsevit3d score results_nusc.json --data data/nuscenes --split mini_val
    """
    found = _score_file(results, data, version, split)
    count = f"{found['scenes']} of its {found['scenes_of_split']} scenes"
    console.print(score_table(found, f"{results.name} on {split}, {count}"))
    print(json.dumps(found))


def _score_file(results: Path, root: Path, version: str | None, split: str) -> dict[str, Any]:
    from data_tools.splits import find_version, missing_scenes, scenes_of_split
    from sparsevit3d.stages.scoring import open_root, score_results

    with working(f"scoring {results}"):
        version = find_version(root, version)
        scenes = sorted(scenes_of_split(root, version, split))
        missing = missing_scenes(root, version, split)
        counts = {"split": split, "scenes": len(scenes), "scenes_of_split": len(scenes) + missing}
        return counts | score_results(results, open_root(str(root), version), scenes).as_dict()


app.command()(predict)
app.command()(export)
app.command()(benchmark)


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for everything. A demo that was cut off here goes on.")
    ] = Path("demo"),
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch",
            help="Make data, train, adapt, search and finetune, in some 25 minutes on two cores.",
        ),
    ] = False,
    tiny: Annotated[
        bool,
        typer.Option(help="Run from scratch in seconds, for tests. The results mean nothing."),
    ] = False,
    real: Annotated[
        Path | None,
        typer.Option(
            help="Look also at the keyframes of this real nuScenes root with v1.0-mini tables."
        ),
    ] = None,
    real_split: Annotated[str, typer.Option(help="The split of --real to look at.")] = "mini_val",
) -> None:
    """Compare dense with pruned: scored, timed and drawn.

    The models come with this repository, or are trained here from nothing.

    Example: sparsevit3d demo --out demo
    """
    console.print(f"The demo works in {out}. Stop it whenever you like: called again, it goes on.")
    from sparsevit3d.cli.demo import FULL, TINY, run_demo

    run_demo(out, TINY if tiny else FULL if from_scratch else None, real, real_split)
