"""Tables that the front door prints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.table import Column, Table
from rich.text import Text

# By the error that a root without them does not define.
LACKING = {"mAVE": "velocities", "mAAE": "attributes"}


def score_table(score: dict[str, Any], title: str) -> Table:
    """Table of the official scores. A caption says why a score is not defined."""
    names = ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")
    table = Table(*names, title=title, caption=_undefined(score))
    table.add_row(*("-" if score[name] is None else f"{score[name]:.4f}" for name in names))
    return table


def _undefined(score: dict[str, Any]) -> str | None:
    if score["mAP"] is None:
        return "Not scored: the split has no truth."
    if lacking := [what for name, what in LACKING.items() if score[name] is None]:
        return f"NDS is not defined: the truth has no {' and no '.join(lacking)}."
    return None


def benchmark_tables(result: dict[str, Any]) -> list[Table]:
    """Tables of what ``benchmark`` measured: the backbone, and the whole detector by its parts."""
    size = " x ".join(map(str, result["shape"]))
    backbone = _narrow_table(
        f"backbone, {size}", "p50 ms", "p95 ms", "spread", "MACs", "over\nmmdet", "efficiency"
    )
    for name, row in result["backbone"].items():
        share = f"{row['share']:.1%}" if "share" in row else ""
        efficiency = f"{row['efficiency']:.2f}" if "efficiency" in row else ""
        backbone.add_row(name, *_numbers(row), share, f"{row['over_mmdet']:.2f}x", efficiency)
    parts = list(next(iter(result["detector"].values()))["parts"])
    detector = _narrow_table(
        f"image to boxes, {size}", "p50 ms", "spread", *parts, "boxes*", "over\nmmdet"
    )
    detector.caption = "* before and after suppression, of all images"
    for name, row in result["detector"].items():
        detector.add_row(
            name,
            f"{row['p50_ms']:.1f}",
            f"{row['spread']:.0%}",
            *(f"{row['parts'][part]:.1f}" for part in parts),
            " ".join(map(str, row["boxes"].values())),
            f"{row['over_mmdet']:.2f}x",
        )
    return [backbone, detector]


def _narrow_table(title: str, *columns: str) -> Table:
    """Fit nine columns into a terminal of 80 characters. Names break between words, not within."""
    contender = Column("contender", min_width=17)
    return Table(
        contender,
        *columns,
        title=title,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )


def _numbers(row: dict[str, Any]) -> tuple[str, str, str]:
    return f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}", f"{row['spread']:.0%}"


def search_table(
    request: dict[str, Any],
    judged: list[dict[str, Any]],
    budget: dict[str, float],
    most: int,
    state: str,
) -> Table:
    """Table of a search's journal: what it is for, how far it is, and the best so far."""
    score = request["score"]
    table = Table("", "", title=f"search by {request['algorithm']}", show_header=False)
    table.add_row(
        "wanted",
        f"highest {score} at no more than "
        f"{', '.join(f'{limit:.4g} {unit}' for unit, limit in budget.items())}",
    )
    generation = max((row["generation"] for row in judged), default=0)
    table.add_row(
        "so far", f"{len(judged)} plans of at most {most}, generation {generation}; {state}"
    )
    if judged:
        best = max(judged, key=lambda row: row["metrics"][score])
        costs = ", ".join(f"{cost:.4g} {unit}" for unit, cost in best["costs"].items())
        table.add_row("best", f"{best['plan']}: {score} {best['metrics'][score]:.4f} at {costs}")
    return table


def finals_table(result: dict[str, Any]) -> Table:
    """Table of a search's finals: how far each plan is behind the best one."""
    score = result["score"]
    table = Table("plan", "scenes", score, "points behind", "", title="finals: the best, paired")
    for place, row in enumerate(result["standings"]):
        mean, low, high = (100 * each for each in row["behind"])
        told = "surely behind" if row["told_apart"] else "not told apart"
        if row["plan"] == result["uniform"]:
            told += ", uniform"
        behind = f"{mean:.2f} ({low:.2f} to {high:.2f})"
        cells = ("", "named") if place == 0 else (behind, told)
        table.add_row(row["plan"], str(row["scenes"]), f"{100 * row['score']:.2f}", *cells)
    table.caption = (
        f"The search had judged on {result['seen_by_search']} of the split's scenes before."
    )
    if needed := result["scenes_for_half_a_point"]:
        table.caption += f" A difference of half a point needs some {needed} scenes to be told."
    return table


def recall_table(rows: Iterable[tuple[str, ...]], plan: str, choices: Iterable[str]) -> Table:
    """Table of what ``visualize recall`` found: pixels and objects that windows keep.

    ``choices`` say how windows were chosen, in the order of a row's shares.
    """
    names = ("stage", "windows", "of", "objects", "% of pixels", "% of objects")
    table = Table(*names, title=f"plan {plan}, kept {', '.join(choices)}")
    before = "0"
    for row in rows:
        if row[0] != before:
            table.add_section()
        before = row[0]
        table.add_row(*row)
    return table


def problem_tables(report: dict[str, Any]) -> list[Table]:
    """Table of what ``data check`` found: a row for each kind of problem and table.

    Errors are red. A row shows the first token of its problem. Without problems there is no table.
    """
    if not report["problems"]:
        return []
    table = Table(
        "problem", "where", "count", Column("first of them, and what to do", overflow="fold")
    )
    for row in report["problems"]:
        first = row["examples"][0]
        mark = "yellow" if row["warning"] else "bold red"
        told = Text(f"{first['token']}: {first['what']}\n") + Text(first["remedy"], style="green")
        table.add_row(Text(row["kind"], mark), row["table"], str(row["count"]), told)
    return [table]


def statistics_table(found: dict[str, Any]) -> Table:
    """Table of what ``data stats`` counted: a column for each dataset."""
    table = Table(
        "", *found, title="mean width x length x height in metres after each class's share"
    )

    datasets = list(found.values())
    table.add_row("keyframes", *(str(each["keyframes"]) for each in datasets))
    boxes = (f"{each['boxes_per_keyframe']:.1f}" for each in datasets)
    table.add_row("boxes per keyframe", *boxes)
    for name in datasets[0]["class_share"]:
        shares = (
            f"{each['class_share'][name]:.1%}  {_size(each['mean_size'][name])}"
            for each in datasets
        )
        table.add_row(name, *shares)
    covered = (_percent(each["covered_share_of_image"]) for each in datasets)
    table.add_row("covered by boxes", *covered)
    for title, key, first in (
        ("nearer than 30 m", "distance_share", 3),
        ("slower than 0.2 m/s", "speed_share", 1),
        ("less than 40% visible", "visibility_share", 1),
        ("at most 4 lidar points", "lidar_points_share", 3),
        ("smaller than 40 px", "pixels_share", 3),
    ):
        table.add_row(title, *(_percent(_sum_of_first(each[key], first)) for each in datasets))
    return table


def _sum_of_first(shares: list[float] | None, count: int) -> float | None:
    return sum(shares[:count]) if shares else None


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _size(size: list[float] | None) -> str:
    return "" if size is None else " x ".join(f"{side:.2f}" for side in size)
