"""Draw the results of a search.

The picture shows score against cost, the progress of the search, and which block pairs the best
plans prune.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsevit3d.swin.plan import SparsityPlan
from visualize.frames import save

BEST = "#c2571a"
REST = "#1f5fa8"
TOP = 0.2  # share of the plans that count as the best ones


def save_search(
    judged: Sequence[Mapping[str, Any]], score: str, budget: Mapping[str, float], path: Path
) -> None:
    """Save the picture of a search.

    Args:
        judged (Sequence[Mapping[str, Any]]): the plans in the order of their evaluation, each with
            "plan", "metrics" (``score`` among them), "costs" by unit, and "generation".
        score (str): name of the metric to draw.
        budget (Mapping[str, float]): the most that a plan may cost, by unit. The first unit is the
            axis.
        path (Path): the picture to write.
    """
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
    scores = np.array([row["metrics"][score] for row in judged])
    _draw_front(left, judged, scores, *next(iter(budget.items())))
    _draw_history(middle, judged, scores)
    _draw_ratios(right, judged, scores)
    left.set_ylabel(score)
    middle.set_ylabel(score)
    figure.suptitle(
        f"{len(judged)} plans; the best, {judged[int(scores.argmax())]['plan']}, has {score} "
        f"{scores.max():.3f}"
    )
    save(figure, path, 110)


def trials(judged: Sequence[Mapping[str, Any]]) -> str:
    """Write a search as CSV: a row for each plan, with ratios, scores and costs.

    ``judged`` is as in :func:`save_search`. The column ``ratio_1_0`` is that of stage 1, pair 0.
    """
    rows = []
    for number, row in enumerate(judged):
        ratios = SparsityPlan.parse(row["plan"]).ratios
        columns = {
            f"ratio_{stage}_{pair}": ratio
            for stage, own in enumerate(ratios)
            for pair, ratio in enumerate(own)
        }
        known = {"number": number, "generation": row["generation"], "plan": row["plan"]}
        rows.append(known | columns | row["metrics"] | row["costs"])
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()


def _draw_front(
    axes: Axes, judged: Sequence[Mapping[str, Any]], scores: np.ndarray, unit: str, most: float
) -> None:
    costs = np.array([row["costs"][unit] for row in judged])
    generations = np.array([row["generation"] for row in judged])
    dots = axes.scatter(costs, scores, c=generations, cmap="viridis_r", s=22, zorder=3)
    axes.figure.colorbar(dots, ax=axes, label="generation", ticks=np.unique(generations))
    order = np.lexsort((-scores, costs))
    front = order[
        [
            bool(scores[index] > max(scores[order[:place]], default=-np.inf))
            for place, index in enumerate(order)
        ]
    ]
    axes.step(
        costs[front],
        scores[front],
        where="post",
        color=BEST,
        label="what none beats in both",
        zorder=2,
    )
    axes.plot(
        costs[scores.argmax()],
        scores.max(),
        "*",
        color=BEST,
        markersize=15,
        markeredgecolor="white",
        label="best",
        zorder=4,
    )
    axes.axvline(most, color="#555555", linestyle="--", linewidth=1, label="budget")
    axes.set(xlabel=unit, title="score against cost")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")


def _draw_history(axes: Axes, judged: Sequence[Mapping[str, Any]], scores: np.ndarray) -> None:
    numbers = np.arange(1, len(scores) + 1)
    axes.plot(numbers, scores, ".", color=REST, alpha=0.5, label="a plan")
    axes.step(numbers, np.maximum.accumulate(scores), where="post", color=BEST, label="best so far")
    for number in numbers[1:]:
        if judged[number - 1]["generation"] != judged[number - 2]["generation"]:
            axes.axvline(number - 0.5, color="#bbbbbb", linewidth=0.8, zorder=0)
    axes.set(xlabel="evaluations; a line begins a generation", title="the way there")
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize=8, loc="lower right")


def _draw_ratios(axes: Axes, judged: Sequence[Mapping[str, Any]], scores: np.ndarray) -> None:
    """Draw the ratio pruned from each block pair, by all plans and by the best plans."""
    plans = [SparsityPlan.parse(row["plan"]).ratios for row in judged]
    names = [
        f"{stage + 1}.{pair + 1}"
        for stage, pairs in enumerate(plans[0])
        for pair in range(len(pairs))
    ]
    ratios = np.array([[ratio for stage in plan for ratio in stage] for plan in plans])
    best = np.argsort(-scores, kind="stable")[: max(1, round(TOP * len(scores)))]
    places = np.arange(len(names))
    for shift, rows, colour, label in (
        (-0.2, ratios, REST, "all"),
        (0.2, ratios[best], BEST, f"best {TOP:.0%}"),
    ):
        axes.bar(
            places + shift,
            rows.mean(0),
            0.38,
            yerr=rows.std(0),
            color=colour,
            label=label,
            error_kw={"linewidth": 1, "capsize": 2},
        )
    axes.set_xticks(places, names)
    axes.set(
        xlabel="stage.block pair",
        ylabel="left out, mean and deviation",
        title="what gets pruned",
        ylim=(0, 1),
    )
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize=8)
