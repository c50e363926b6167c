"""Pictures of how pruning changes accuracy, from the results of the accuracy study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from visualize.frames import save

WORSE = "#c2571a"
BETTER = "#1f5fa8"
ALIKE = "#444c56"
WIDE = "#8b949e"


def save_rivals(arms: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw mAP over the backbone's time and over the time from image to boxes.

    Every arm is a large point and every seed a small one. A time that any arm lacks is left out. If
    no time is left, the axis is the backbone's GMACs.
    """
    arms = [arm for arm in arms if arm["group"] == "a"]
    timed = ("backbone, ms", "image to boxes, ms")
    untimed = {cost for arm in arms for cost in timed if arm[cost] is None}
    costs = [cost for cost in timed if cost not in untimed]
    costs = costs or ["backbone, GMACs"]
    figure = Figure(figsize=(6 * len(costs), 5.5), layout="constrained")
    for axes, cost in zip(
        figure.subplots(1, len(costs), sharey=True, squeeze=False)[0], costs, strict=True
    ):
        for number, arm in enumerate(arms):
            values = 100 * np.array(arm["mAP by seed"])
            colour = f"C{number}"
            label = (
                f"{arm['arm']}: {arm['input'][0]} x {arm['input'][1]}, "
                f"{arm['backbone, GMACs']:.2f} GMACs"
            )
            axes.scatter([arm[cost]] * len(values), values, 14, color=colour, alpha=0.6)
            axes.scatter([arm[cost]], [values.mean()], 80, color=colour, label=label, zorder=3)
        axes.margins(x=0.1)
        axes.set(
            xlabel=f"{cost}, {'an image' if 'GMACs' in cost else 'six images on one core'}",
            xlim=(0, None),
        )
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("mAP, points")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(
        "Pruned, shrunk and dense detectors on synthetic nuScenes: small points are seeds, large "
        "ones their means"
    )
    save(figure, path, 110)


def save_differences(differences: Sequence[dict[str, Any]], widest: float, path: Path) -> None:
    """Draw paired differences with their intervals, mAP on the left and NDS on the right.

    An interval is grey if half its width exceeds ``widest``. A grey interval is too wide to show
    anything. A difference of one seed says nothing about other seeds and is labelled "one seed".
    """
    figure = Figure(figsize=(13, 1.2 + 0.19 * len(differences)), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), ("mAP", "NDS"), strict=True):
        rows = [each for each in differences if each["metric"] == metric]
        labels = [
            f"{each['arm']}  −  {each['against']}{'' if each['seeds'] > 1 else ', one seed'}"
            for each in rows
        ]
        _intervals(axes, rows, labels, "mean", widest)
        axes.set_xlabel(f"points of {metric}, 95% interval over scenes and seeds")
    figure.suptitle(
        "Blue: better; orange: worse; black: no difference shown; grey: inconclusive", fontsize=10
    )
    save(figure, path, 110)


def save_failures(
    found: dict[str, dict[str, dict[str, float]]], arm: str, other: str, path: Path
) -> None:
    """Draw how many more objects ``arm`` finds than ``other``.

    The rows are classes, distances, sizes, speeds and lights.
    """
    rows = [
        (of, value, row)
        for of, values in found.items()
        if of != "all"
        for value, row in values.items()
    ]
    figure = Figure(figsize=(10, 1.2 + 0.24 * len(rows)), layout="constrained")
    axes = figure.subplots()
    labels = [
        f"{value.replace('_', ' ')}{'' if of in ('class', 'light') else f' {of}'}   "
        f"{row['objects']:.0f}"
        for of, value, row in rows
    ]
    _intervals(axes, [row for *_, row in rows], labels, "difference", np.inf)
    axes.set_xlabel(
        f"share of objects that {arm} finds less that of {other}, points, 95% interval; beside "
        "the names: how many objects"
    )
    save(figure, path, 110)


def save_ratios(sweeps: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw what a ratio does to weights that were adapted but not finetuned.

    The left half prunes all stages, the right half one stage alone. A sweep is of one seed, and its
    first plan is dense.
    """
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    everywhere, alone = figure.subplots(1, 2, sharey=True)
    for sweep in sweeps:
        # Rows of (ratio, difference, interval) by the one pruned stage. The key None means all
        # stages.
        lines: dict[int | None, list[tuple[float, ...]]] = {}
        for row in sweep["plans"]:
            ratios = [max(map(float, stage.split(","))) for stage in row["plan"].split("|")]
            pruned = [stage for stage, ratio in enumerate(ratios) if ratio]
            line = lines.setdefault(pruned[0] if len(pruned) == 1 else None, [])
            line.append((max(ratios), *row["points from dense"]["mAP"]))
        for stage, line in lines.items():
            axes, colour = (everywhere, WORSE) if stage is None else (alone, f"C{stage}")
            ratio, mean, low, high = np.array(line).T
            label = None if stage is None or sweep is not sweeps[0] else f"stage {stage}"
            axes.errorbar(
                ratio,
                mean,
                (mean - low, high - mean),
                fmt="o-",
                color=colour,
                linewidth=1,
                markersize=4,
                label=label,
            )
    everywhere.set(
        xlabel="ratio in all stages", ylabel="points of mAP from dense, 95% interval over scenes"
    )
    alone.set(xlabel="ratio in one stage alone")
    alone.legend()
    for axes in (everywhere, alone):
        axes.axhline(0, color="black", linewidth=0.8)
        axes.grid(alpha=0.3)
    figure.suptitle(
        "What a ratio costs weights that were adapted to random plans and not finetuned: a line "
        "for each seed"
    )
    save(figure, path, 110)


def _intervals(
    axes: Axes, rows: Sequence[dict[str, Any]], labels: Sequence[str], middle: str, widest: float
) -> None:
    for place, row in enumerate(rows):
        wide = (row["high"] - row["low"]) / 2 > widest
        colour = WIDE if wide else WORSE if row["high"] < 0 else BETTER if row["low"] > 0 else ALIKE
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2)
        axes.plot([row[middle]], [place], "o", color=colour)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(alpha=0.3, axis="x")
