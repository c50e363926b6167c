"""Does pruning cost accuracy? Run every arm of the study, from nothing to its score.

    python -m benchmarks.accuracy --work-dir work_dirs/accuracy --groups a b

The study takes many hours. If the command is interrupted, the same command goes on. Products lie in
the work dir, and each arm's result lies as JSON in its ``results``. The results are also copied to
``--out``. Steps run beside each other, one for each core. A step that measures times runs alone.
``study.toml`` says what is compared. ``benchmarks.accuracy.summary`` makes tables and pictures of
the results.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table

from benchmarks.accuracy.results import steps_of_group
from benchmarks.accuracy.schedule import run_steps
from benchmarks.accuracy.steps import Cost, Pace
from benchmarks.accuracy.study import Study
from benchmarks.accuracy.summary import summarise
from benchmarks.accuracy.workspace import Workspace
from data_tools.convert import write_infos
from data_tools.schema import CAMERAS
from data_tools.synthetic.dataset import SPLITS, VERSION, make_dataset
from sparsevit3d.errors import InputError
from sparsevit3d.files import differences, read_json, sole_owner, write_json
from sparsevit3d.processes import usual_workers
from sparsevit3d.swin.plan import RATIO_GRID
from sparsevit3d.terminal import console, progress_bar

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--work-dir", type=Path, required=True, help="data, weights and results; some 10 GB"
    )
    parser.add_argument("--study", type=Path, default=HERE / "study.toml", help="what is compared")
    parser.add_argument(
        "--groups", nargs="+", help="of the study, in this order; all unless told otherwise"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=HERE.parent / "results/accuracy",
        help="where results are copied to",
    )
    arguments = parser.parse_args()
    study = Study.load(arguments.study)
    workspace = Workspace(study, arguments.work_dir)
    groups = [
        group
        for group in study.groups
        if arguments.groups is None or group.name in arguments.groups
    ]
    workspace.folder.mkdir(parents=True, exist_ok=True)
    with sole_owner(
        workspace.folder,
        lambda: console.print(
            f"Another study is at work in {workspace.folder}. Waiting for it to end."
        ),
    ):
        check_settings(workspace)
        make_data(workspace)
        steps = [step for group in groups for step in steps_of_group(workspace, group)]
        costs = list(dict.fromkeys(step for step in steps if isinstance(step, Cost)))
        run_steps(workspace, [*costs, Pace()], arguments.out)
        show_outlook(workspace)
        run_steps(workspace, list(dict.fromkeys(steps)), arguments.out)
    summarise(arguments.out, study, None)


def check_settings(workspace: Workspace) -> None:
    """Check that the work dir belongs to this study, or mark the work dir as this study's.

    More arms, seeds or budgets may be added. The settings that finished steps used must stay the
    same.

    Raises InputError if a setting was changed since.
    """
    path = workspace.folder / "study.json"
    now = workspace.study.settings()
    old = read_json(path, "Name another --work-dir.") if path.exists() else {}
    before = {name: value for name, value in old.items() if name in now}
    still = {name: value for name, value in now.items() if name in old}
    if changed := differences(before, still):
        raise InputError(
            f"{path}: is of another study ({changed}). Name another --work-dir, or the old study."
        )
    write_json(path, old | now)


def make_data(workspace: Workspace) -> None:
    with progress_bar("rendering scenes") as update:
        make_dataset(workspace.data, workspace.study.data, usual_workers(), update)
    if not all((workspace.data / f"nuscenes_infos_{split}.json").exists() for split in SPLITS):
        write_infos(workspace.data, VERSION, SPLITS, workers=usual_workers())


def show_outlook(workspace: Workspace) -> None:
    """Show what to expect before the long runs.

    The outlook says whether one step of a ratio changes what every stage computes. The outlook also
    says how long the first of the long runs take.
    """
    table = Table("input", *map(str, RATIO_GRID), title="Windows that the stages compute, by ratio")
    for path in sorted((workspace.folder / "results").glob("cost_*.json")):
        remedy = "Remove it, and the same command makes it again."
        kept = read_json(path, remedy)["kept windows by stage and ratio"]
        table.add_row(
            path.stem.removeprefix("cost_"),
            *(" ".join(map(str, windows)) for windows in kept.values()),
        )
    console.print(table)
    pace = Pace().read(workspace, "images a second")
    data = workspace.study.data
    minutes = (
        data.scenes[0] * data.keyframes * len(CAMERAS) * workspace.study.epochs["train"] / pace / 60
    )
    console.print(
        f"A core trains the dense network on {pace:.1f} images a second: each base takes "
        f"{minutes:.0f} minutes."
    )


if __name__ == "__main__":
    main()
