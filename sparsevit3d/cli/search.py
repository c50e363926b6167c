"""The front door's verbs for plans: ``sparsevit3d search`` and ``sparsevit3d search status``."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from sparsevit3d.cli.shared_options import ConfigPath, Data, From, Infos, Set, read_plan, renamed
from sparsevit3d.cli.tables import finals_table, search_table
from sparsevit3d.files import write_text
from sparsevit3d.terminal import console, progress_bar

STOPPED = "its time was over, and the same command goes on"
# What the options of a backbone's time are if nobody gives them: device, dtype, shape, latency.
NOT_GIVEN = ("cpu", "float32", None, "predicted")


class _RunByDefault(TyperGroup):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = args and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if known else ["run", *args])


search_app = typer.Typer(
    cls=_RunByDefault,
    help="Find the plan that scores best within a budget ('run', which may be left out), and see "
    "how a search is getting on.",
)


@search_app.command("run")
def run(
    config: ConfigPath,
    weights: From,
    work_dir: Annotated[
        Path,
        typer.Option(
            help="Folder for journal, plan and picture. A search that was cut off here goes on."
        ),
    ],
    max_macs: Annotated[
        str | None,
        typer.Option(
            help="Budget of MACs: a share of the dense ones, such as 0.6, or those of an image, as "
            "1.2G."
        ),
    ] = None,
    max_ms: Annotated[
        float | None,
        typer.Option(help="Budget of milliseconds. The backbone is timed on --device at --shape."),
    ] = None,
    of: Annotated[
        Literal["backbone", "detector"],
        typer.Option(
            help="What the budgets count. The whole detector is run under every plan, on keyframes "
            "of the search split, by this process."
        ),
    ] = "backbone",
    latency: Annotated[
        Literal["predicted", "measured"],
        typer.Option(
            help="How --max-ms knows times. 'predicted' adds up timed parts, on a CPU. 'measured' "
            "times every plan as a whole."
        ),
    ] = "predicted",
    device: Annotated[str, typer.Option(help="Device for --max-ms: cpu or cuda.")] = "cpu",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="Numbers for --max-ms.")
    ] = "float32",
    shape: Annotated[
        str | None,
        typer.Option(
            help="Input for --max-ms: images, channels, height, width. Default: a keyframe of the "
            "rig, at the config's size."
        ),
    ] = None,
    algorithm: Annotated[
        Literal["evolution", "random", "uniform", "front"],
        typer.Option(
            help="How plans are chosen. Random and uniform plans are there to compare with. front "
            "finds the whole front of score against cost. The cost is MACs, if both are limited."
        ),
    ] = "evolution",
    population: Annotated[int, typer.Option(help="Number of plans of the first generation.")] = 12,
    parents: Annotated[
        int,
        typer.Option(
            help="How many of the best plans become parents of the next generation. Later "
            "generations have that many plans less."
        ),
    ] = 4,
    generations: Annotated[
        int, typer.Option(help="Number of generations, with the first one.")
    ] = 4,
    start_with: Annotated[
        list[str] | None,
        typer.Option(
            help="A plan for the first generation, as a file or written out. May be repeated."
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Stop after this time, with the best plan so far. The same command goes on. "
            "Finals come on top.",
        ),
    ] = None,
    score: Annotated[
        Literal["mAP", "NDS", "loss"],
        typer.Option(help="Metric to maximise. 'loss' minimises the loss."),
    ] = "mAP",
    keyframes: Annotated[
        int | None,
        typer.Option(
            min=1, help="Evaluate on so many of the search split, evenly spread. Default: all."
        ),
    ] = None,
    finalists: Annotated[
        int,
        typer.Option(
            min=0,
            help="In the end, judge so many of the best plans and a uniform one side by side, on "
            "the whole search split. 0: name the best score.",
        ),
    ] = 4,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that evaluate plans. Default: one for each GPU, or for every --threads "
            "cores.",
        ),
    ] = None,
    threads: Annotated[
        int,
        typer.Option(
            min=1,
            help="Threads of each worker on a CPU. They may change the last digits of scores.",
        ),
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Evaluate on the Ray cluster at this address. 'auto' is this machine's, 'local' "
            "begins one."
        ),
    ] = None,
    slurm: Annotated[
        str | None,
        typer.Option(
            help="Search as a SLURM job, such as partition=gpu,timeout_min=120. When its time is "
            "over, the job is requeued and goes on."
        ),
    ] = None,
    data: Data = None,
    infos: Infos = None,
    options: Set = None,
    front: Annotated[bool, renamed("--front", "--algorithm front")] = False,
) -> None:
    """Search the plan that scores best on the search split within a budget, on adapted weights.

    The default budget is 0.6 of the MACs, and all of them with --algorithm front. Kill the
    search whenever you like. The same command goes on, evaluates nothing twice, and ends with the
    same plan. The number of workers does not change the plan. In the end the best plans are judged
    once more, side by side. Only --keyframes leaves them scenes that are new. WORK_DIR/plan.json
    says where the plan came from. finetune, eval, benchmark and visualize take this file as --plan.

    Example: sparsevit3d search configs/fcos3d_small_synthetic.py --from
    work_dirs/adapted/epoch_0001.pth --max-macs 0.6 --work-dir work_dirs/search

    Example: sparsevit3d search configs/fcos3d_small_synthetic.py --from
    work_dirs/adapted/epoch_0001.pth --max-ms 45 --work-dir work_dirs/at_45_ms

    Example: sparsevit3d search configs/fcos3d_small_512x192_carry.py --from
    work_dirs/adapted/epoch_0001.pth --of detector --max-ms 90 --work-dir work_dirs/whole

    Example: sparsevit3d search configs/fcos3d_small_synthetic.py --from
    work_dirs/adapted/epoch_0001.pth --algorithm front --work-dir work_dirs/front
    """
    share, gmacs = _macs(max_macs)
    if ray is not None and workers is not None:
        raise typer.BadParameter(
            "A Ray cluster has as many workers as it has room for. Leave out --workers.",
            param_hint="--ray",
        )
    if of == "detector" and (device, dtype, shape, latency) != NOT_GIVEN:
        raise typer.BadParameter(
            "The whole detector runs on keyframes, on the CPU, in float32. Leave out --device, "
            "--dtype, --shape and --latency.",
            param_hint="--of",
        )
    if algorithm == "uniform" and start_with:
        raise typer.BadParameter(
            "A uniform search tries every uniform plan, and no other. Leave out --start-with.",
            param_hint="--start-with",
        )
    if slurm is not None:
        from sparsevit3d.search.slurm import submit

        job = submit(_without(sys.argv[1:], "--slurm"), slurm, work_dir / "slurm")
        console.print(
            f"job {job.job_id} is submitted. Its log is {job.paths.stdout}. See how it is getting "
            f"on: sparsevit3d search status {work_dir}"
        )
        return
    import torch

    from sparsevit3d.cost.latency_table import Machine
    from sparsevit3d.search.algorithms import Settings
    from sparsevit3d.search.finals import hold_finals
    from sparsevit3d.search.objective import SPLIT, Question
    from sparsevit3d.search.run import Request, limits, search
    from sparsevit3d.search.workers import hire
    from sparsevit3d.stages.benchmark import keyframe_shape, known_device, parse_shape
    from sparsevit3d.stages.config import load_config

    experiment = load_config(config, data, infos, options or ())
    if share is gmacs is max_ms is None and algorithm != "front":
        share = 0.6
    machine = None
    if max_ms is not None and of == "backbone":
        sides = parse_shape(shape or keyframe_shape(experiment, SPLIT), experiment)
        machine = Machine.here(known_device(device), dtype, sides)
    plans = (read_plan(text, experiment) for text in start_with or ())
    request = Request(
        algorithm,
        Settings(population, parents, generations),
        share,
        gmacs,
        max_ms,
        latency,
        machine,
        of,
        tuple(map(str, plans)),
    )
    question = Question(experiment, weights, score, keyframes, threads)
    usual = torch.cuda.device_count() or max(1, len(os.sched_getaffinity(0)) // threads)
    budget = ", ".join(f"{most:.4g} {unit}" for unit, most in limits(share, gmacs, max_ms).items())
    many = partial(hire, workers=workers or usual, ray=ray)
    with progress_bar(f"plans within {budget}") as update:
        with closing(many(question)) as judge:
            path = search(question, request, work_dir, judge, update, minutes)
        done = json.loads(path.read_text())["done"]
        if done and finalists and algorithm != "front" and score != "loss":
            held = hold_finals(question, work_dir, finalists, many, update)
            if held is None:
                console.print("No finals: the split has one scene. Use a split of two or more.")
    show(work_dir)
    if algorithm == "front":
        console.print(
            f"{work_dir / 'front'}: {len(list((work_dir / 'front').glob('*.json')))} plans that "
            "none beats, cheapest first"
        )
    answer = json.loads(path.read_text())
    if answer["done"]:
        console.print(f"{path}: the best, {answer['plan']}")
    else:
        console.print(f"{path}: the best so far, {answer['plan']}. {STOPPED}.")


def _without(arguments: list[str], option: str) -> list[str]:
    """Take an option and its value out of a command line."""
    kept = list(arguments)
    for place, argument in enumerate(arguments):
        if argument == option:
            del kept[place : place + 2]
        elif argument.startswith(f"{option}="):
            del kept[place]
    return kept


def _macs(text: str | None) -> tuple[float | None, float | None]:
    """Read a share, or GMACs."""
    if text is None:
        return None, None
    try:
        number = float(text.removesuffix("G"))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a share, such as 0.6, nor GMACs, such as 1.2G.",
            param_hint="--max-macs",
        ) from None
    if text.endswith("G"):
        return None, number
    if not 0 < number <= 1:
        raise typer.BadParameter(
            f"{text} is no share between 0 and 1. For {text} GMACs write {text}G.",
            param_hint="--max-macs",
        )
    return number, None


@search_app.command()
def status(
    work_dir: Annotated[Path, typer.Argument(help="The --work-dir of a search, at work or not.")],
) -> None:
    """Show how a search is getting on: a table, and a picture of what it has found so far.

    The picture is WORK_DIR/search.png, and WORK_DIR/trials.csv has a row for each plan.

    Example: sparsevit3d search status work_dirs/search
    """
    show(work_dir)


def show(work_dir: Path) -> None:
    """Print how the search in ``work_dir`` is getting on, and draw what it has found."""
    from sparsevit3d.search.algorithms import Settings
    from sparsevit3d.search.journal import read_journal
    from sparsevit3d.search.run import JOURNAL, limits
    from sparsevit3d.swin.plan import RATIO_GRID
    from visualize.search import save_search, trials

    record = read_journal(work_dir / JOURNAL)
    request = record.request
    judged = record.judged
    budget = limits(request["max_macs"], request["max_gmacs"], request["max_ms"])
    most = (
        len(RATIO_GRID)
        if request["algorithm"] == "uniform"
        else Settings(**request["settings"]).evaluations
    )
    state = "nobody is at work on it, and the same command goes on"
    finals = None
    if (path := work_dir / "plan.json").exists():
        answer = json.loads(path.read_text())
        finals = answer.get("finals")
        # a search of an earlier version wrote its plan when it was done
        state = "done" if answer.get("done", True) else STOPPED
    console.print(
        search_table(
            request, judged, budget, most, "a search is at work on it" if record.at_work else state
        )
    )
    if finals:
        console.print(finals_table(finals))
    if judged:
        write_text(work_dir / "trials.csv", trials(judged))
        picture = work_dir / "search.png"
        save_search(judged, request["score"], budget, picture)
        console.print(
            f"{picture}: score against cost, the way there, and which block pairs get pruned"
        )
