"""The verbs that compare windows or plans with each other: compare, recall and report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsevit3d.cli.shared_options import (
    CarriedConfig,
    Checkpoint,
    ConfigPath,
    Data,
    Infos,
    Plan,
    Set,
    Split,
    open_split,
    read_plan,
    target_file,
)
from sparsevit3d.cli.tables import recall_table
from sparsevit3d.errors import InputError
from sparsevit3d.terminal import console, tracked

if TYPE_CHECKING:
    from sparsevit3d.stages.look import Keyframes
    from sparsevit3d.swin.importance import Importance
    from sparsevit3d.swin.plan import SparsityPlan

SHOWN = 5  # plans of a search's front that a report compares

Count = Annotated[
    int,
    typer.Option(
        "--keyframes", min=1, help="Number of keyframes at most, evenly spread over the split."
    ),
]


def compare(
    image: Annotated[Path, typer.Argument(help="Any image.")],
    checkpoint: Checkpoint,
    config: CarriedConfig = None,
    plan: Plan = None,
    out: Annotated[
        Path,
        typer.Option(help="The picture, a .png or .jpg.", callback=target_file(".png", ".jpg")),
    ] = Path("comparison.png"),
) -> None:
    """At equal cost, draw a shrunken image beside the windows that matter of the whole one.

    This is the article's Figure 1, for any image.

    Example: sparsevit3d visualize compare street.jpg work_dirs/sparse/epoch_0007.pth --plan
    '0.5|0.5|0.4|0.3'
    """
    from sparsevit3d.backbone import backbone_of
    from sparsevit3d.cost.macs import count_macs, size_of_equal_macs
    from sparsevit3d.stages.predict import Detector
    from sparsevit3d.swin.plan import SparsityPlan
    from visualize.compare import save_comparison

    detector = Detector(checkpoint, config)
    if plan is not None:
        detector.plan = read_plan(plan, detector.config)
    net = backbone_of(detector.model)
    dense = SparsityPlan.uniform(0, net.depths)
    if net.plan is None or net.plan.is_dense:
        raise typer.BadParameter(
            f"{checkpoint} has no plan that prunes anything. Give one, such as '0.5|0.5|0.4|0.3'.",
            param_hint="--plan",
        )
    view, trace = detector.windows(image)
    size = view.network_size[::-1]
    small = size_of_equal_macs(net, size, net.plan)
    gmacs = (
        count_macs(net, size, dense) / 1e9,
        count_macs(net, small, dense) / 1e9,
        count_macs(net, size) / 1e9,
    )
    console.print(save_comparison(view, trace, small[::-1], gmacs, out))


def recall(
    config: ConfigPath,
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Folder for recall.json and recall.png.")],
    count: Count = 40,
    split: Split = "val",
    plan: Plan = None,
    data: Data = None,
    infos: Infos = None,
    options: Set = None,
) -> None:
    """Did the pedestrian stay in?

    Counts the share of the pixels inside true objects' boxes, and of the objects, in kept windows.
    Shares are by class, distance and stage. They are compared with as many windows chosen by L2
    norm, by where objects of the training split were, at random, and at best. The output is a
    table, a picture and JSON.

    Example: sparsevit3d visualize recall configs/fcos3d_small_synthetic.py
    work_dirs/sparse/epoch_0007.pth --out recall
    """
    from sparsevit3d.files import write_json
    from visualize.recall import LABELS, Tally, recall_rows, save_recall

    keyframes, chosen = open_split(config, checkpoint, split, plan, data, infos, options)
    rivals = _rivals(keyframes)
    tally = Tally(list(rivals))
    numbers = keyframes.spread(count)
    for number in tracked(numbers, "keyframes"):
        own = keyframes.look(number, chosen)
        looks = {name: keyframes.look(number, chosen, way) for name, way in rivals.items()}
        tally.add(own, rivals=looks)
    found = tally.as_dict()
    if not found["stages"][0]["all"]["objects"]:
        raise InputError(
            f"{keyframes.info_file}: the {len(numbers)} keyframes looked at show no true object. "
            "Use another --split."
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "recall.json", found)
    save_recall(found, out / "recall.png", split)
    choices = [LABELS[choice] for choice in found["stages"][0]["all"]["share_of_objects"]]
    console.print(recall_table(recall_rows(found), found["plan"], choices))
    console.print(out / "recall.png")


def _rivals(keyframes: Keyframes) -> dict[str, str | Importance]:
    """Other ways to choose windows than the detector's own, by name."""
    from data_tools.info_file import read_infos
    from sparsevit3d.backbone import backbone_of
    from sparsevit3d.stages.prior import Prior

    net = backbone_of(keyframes.model)
    rivals: dict[str, str | Importance] = {"l2": "l2"}
    before = keyframes.info_file.with_name("nuscenes_infos_train.json")
    if before.is_file():
        views = keyframes.look(0).views
        rivals["place"] = Prior(read_infos(before), views, net.patch_size)
    else:
        console.print(f"{before}: no such file, so where objects of train were is unknown.")
    return {name: way for name, way in rivals.items() if name != net.importance}


def report(
    config: ConfigPath,
    checkpoint: Checkpoint,
    out: Annotated[
        Path, typer.Option(help="The page, an .html.", callback=target_file(".html"))
    ] = Path("report.html"),
    count: Count = 10,
    plans: Annotated[
        list[str] | None,
        typer.Option(
            "--plan", help="A plan to compare, as a file or written out. May be repeated."
        ),
    ] = None,
    search: Annotated[
        Path | None,
        typer.Option(
            help="The --work-dir of a search. The page shows its scores and plans along its front."
        ),
    ] = None,
    split: Split = "val",
    data: Data = None,
    infos: Infos = None,
    options: Set = None,
) -> None:
    """Make one page to look around in, a file that needs no network.

    The page has keyframes, cameras, stages and plans, and two plans side by side. The points of its
    charts open their masks.

    Without --plan or --search: the checkpoint's own plan, and dense.

    Example: sparsevit3d visualize report configs/fcos3d_small_synthetic.py
    work_dirs/adapted/epoch_0001.pth --search work_dirs/search
    """
    from sparsevit3d.backbone import backbone_of
    from sparsevit3d.cost.macs import count_macs
    from sparsevit3d.swin.plan import SparsityPlan
    from visualize.report import Report, ReportedPlan

    keyframes, _ = open_split(config, checkpoint, split, None, data, infos, options)
    net = backbone_of(keyframes.model)
    size = tuple(keyframes.config.image_size[::-1])
    dense = SparsityPlan.uniform(0, net.depths)

    def share(plan: SparsityPlan) -> float:
        return count_macs(net, size, plan) / count_macs(net, size, dense)

    judged, best, score = _searched(search, share) if search else ({}, [], "")
    wanted = [*best, *(read_plan(text, keyframes.config) for text in plans or ())] or [
        net.plan or dense
    ]
    shown = list(dict.fromkeys([*(plan for plan in wanted if plan is not None), dense]))
    named = [
        ReportedPlan("dense" if plan.is_dense else str(plan), share(plan), judged.get(plan))
        for plan in shown
    ]
    page = Report(
        f"{checkpoint.parent.name} on {split}",
        named,
        [{"share": share(p), "score": s} for p, s in judged.items()],
        score,
    )
    for number in tracked(keyframes.spread(count), "keyframes"):
        page.add([keyframes.look(number, plan) for plan in shown])
    path = page.save(out)
    console.print(f"{path}: {path.stat().st_size / 1e6:.1f} MB. Open the page in a browser.")


def _searched(
    work_dir: Path, share: Callable[[SparsityPlan], float]
) -> tuple[dict[SparsityPlan, float], list[SparsityPlan], str]:
    """Read a search's scores by plan, a few plans of its front, and the score's name.

    The front is that of score against ``share``. The plans are spread from end to end.
    """
    from sparsevit3d.search.front import pareto_front
    from sparsevit3d.search.journal import read_journal
    from sparsevit3d.search.run import JOURNAL
    from sparsevit3d.swin.plan import SparsityPlan

    record = read_journal(work_dir / JOURNAL)
    score = record.request["score"]
    judged = {SparsityPlan.parse(row["plan"]): row["metrics"][score] for row in record.judged}
    if not judged:
        raise typer.BadParameter(f"{work_dir} has judged no plan yet.", param_hint="--search")
    front = pareto_front(judged, {plan: share(plan) for plan in judged})
    places = {round(place * (len(front) - 1) / (SHOWN - 1)) for place in range(SHOWN)}
    return judged, [front[place] for place in sorted(places, reverse=True)], score
