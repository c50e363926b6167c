"""Is the search better than luck?

Search algorithms run over many seeds on a table of plans that were all really evaluated.

    python benchmarks/search.py [--table benchmarks/results/plan_table.json] \\
        [--out benchmarks/results/search.json]

Evolution, random and uniform search run under three budgets, over 50 seeds. An algorithm needs
evaluations until the best plan seen is within 1% of the best plan that exists (mAP on the split
that searches see). The results are the median number of evaluations, its 95% bootstrap interval,
and the share of seeds that got there at all.

The winner's score on ``val``, which no search saw, stands beside the dense network's. The whole
front in one search is compared with one search for each of its budgets. Both use equal evaluations
and are judged by the hypervolume of the plans found. The run takes seconds. The last line is one
line of JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pymoo.indicators.hv import HV
from rich.table import Table

from sparsevit3d.files import read_json, write_json
from sparsevit3d.search.algorithms import (
    Algorithm,
    Evolution,
    RandomSearch,
    Settings,
    UniformSearch,
)
from sparsevit3d.search.budget import Budget, Limit
from sparsevit3d.search.front import Front
from sparsevit3d.swin.plan import SparsityPlan
from sparsevit3d.terminal import console

BUDGETS = (0.5, 0.6, 0.75)  # shares of the dense MACs
NEAR = 0.01  # share of the best score that a near plan may lack
SEEDS = 50
LONG = Settings(population=12, parents=4, generations=80)  # until no plan is left to ask for
KINDS: dict[str, type[Algorithm]] = {
    "evolution": Evolution,
    "random": RandomSearch,
    "uniform": UniformSearch,
}
COLOURS = {
    "evolution": "#c2571a",
    "random": "#1f5fa8",
    "uniform": "#5e5e5e",
    "front": "#c2571a",
    "searches": "#1f5fa8",
}
FRONT_BUDGETS = (0.45, 0.55, 0.65, 0.75, 0.85)
FRONT_SETTINGS = Settings(population=20, parents=8, generations=9)
# Settings of a single search, which is cut off after its part of the front's evaluations.
SINGLE_SETTINGS = Settings(population=8, parents=3, generations=12)


class Plans:
    """The table of plans: by plan its share of the MACs, and mAP on both splits."""

    def __init__(self, document: dict[str, Any]) -> None:
        rows = {SparsityPlan.parse(text): row for text, row in document["plans"].items()}
        self.share = {plan: row[0] for plan, row in rows.items()}
        self.search = {plan: row[1] for plan, row in rows.items()}
        self.val = {plan: row[3] for plan, row in rows.items()}
        self.grid = document["grid"]
        self.depths = tuple(2 * len(stage) for stage in next(iter(rows)).ratios)

    def budget(self, most: float) -> Budget:
        return Budget(Limit("share of dense MACs", most, self.share.__getitem__))

    def asked(
        self,
        kind: type[Algorithm],
        most: float,
        settings: Settings,
        seed: int,
        enough: float = np.inf,
    ) -> list[SparsityPlan]:
        """Return all plans that a search asks for, in its order, until a plan scores ``enough``."""
        algorithm = kind(self.depths, self.budget(most), settings, seed, self.grid)
        while (plans := algorithm.ask()) and max(algorithm.scores.values(), default=0.0) < enough:
            algorithm.tell({plan: self.search[plan] for plan in plans})
        return list(algorithm.scores)


def main() -> None:
    results = Path(__file__).parent / "results"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, default=results / "plan_table.json")
    parser.add_argument("--out", type=Path, default=results / "search.json")
    arguments = parser.parse_args()
    plans = Plans(read_json(arguments.table, "Make it anew with benchmarks/plan_table.py."))
    budgets = {str(most): under(plans, most) for most in BUDGETS}
    dense = SparsityPlan.uniform(0, plans.depths)
    document = {
        "command": "benchmarks/search.py",
        "plans": len(plans.share),
        "seeds": SEEDS,
        "dense": {"mAP on search": plans.search[dense], "mAP on val": plans.val[dense]},
        "rank correlation of mAP on search and val": rank_correlation(plans),
        "budgets": budgets,
        "front": fronts(plans),
    }
    write_json(arguments.out, document)
    draw(document, arguments.out.with_suffix(".png"))
    show(document)
    print(json.dumps(document))


def under(plans: Plans, most: float) -> dict[str, Any]:
    """Compare the algorithms under one budget.

    The result holds the best score that exists and how each algorithm came near the best score.
    """
    allowed = [plan for plan, share in plans.share.items() if share <= most]
    best = max(allowed, key=plans.search.__getitem__)
    enough = plans.search[best] * (1 - NEAR)
    found = {
        name: [
            needed(plans.asked(kind, most, LONG, seed, enough), plans, enough)
            for seed in range(SEEDS)
        ]
        for name, kind in KINDS.items()
    }
    return {
        "plans": len(allowed),
        "near the best": sum(plans.search[plan] >= enough for plan in allowed),
        "best": {
            "plan": str(best),
            "mAP on search": plans.search[best],
            "mAP on val": plans.val[best],
        },
        "best on val": max(plans.val[plan] for plan in allowed),
        "algorithms": {name: summary(counts) for name, counts in found.items()},
    }


def needed(asked: list[SparsityPlan], plans: Plans, enough: float) -> int | None:
    """Count the evaluations until a plan scored ``enough``, or return None if none did."""
    return next(
        (number for number, plan in enumerate(asked, 1) if plans.search[plan] >= enough), None
    )


def summary(counts: list[int | None]) -> dict[str, Any]:
    """Summarise the evaluations that each seed needed.

    A seed that never got there counts as infinitely many. If the median or an end of an interval is
    infinite, the value is null.
    """
    values = np.array([np.inf if count is None else count for count in counts])
    low, high = interval(values, lambda sample: np.quantile(sample, 0.5, method="higher"))
    median = float(np.quantile(values, 0.5, method="higher"))
    finite = [value if np.isfinite(value) else None for value in (median, low, high)]
    return {
        "median": finite[0],
        "interval": finite[1:],
        "reached": float(np.isfinite(values).mean()),
        "counts": counts,
    }


def interval(
    values: np.ndarray, statistic: Callable[[np.ndarray], float], draws: int = 2000
) -> tuple[float, float]:
    """Return the 95% interval by bootstrap."""
    draw = np.random.default_rng(0)
    found = np.sort([statistic(draw.choice(values, len(values))) for _ in range(draws)])
    return float(found[int(0.025 * draws)]), float(found[int(0.975 * draws)])


def rank_correlation(plans: Plans) -> float:
    ranks = [
        np.argsort(np.argsort([scores[plan] for plan in plans.share]))
        for scores in (plans.search, plans.val)
    ]
    return float(np.corrcoef(*ranks)[0, 1])


def fronts(plans: Plans) -> dict[str, Any]:
    """Compare the hypervolume of a front search with that of single searches.

    The hypervolume is the area of (share, mAP) that the found plans beat, from share 1 and mAP 0.
    The hypervolume is divided by the area that the best of all plans beat.
    """
    measure = HV(ref_point=np.array([1.0, 0.0]))

    def volume(found: list[SparsityPlan]) -> float:
        return float(
            measure(np.array([[plans.share[plan], -plans.search[plan]] for plan in found]))
        )

    def singles(seed: int) -> list[SparsityPlan]:
        """Run one search for each budget, where the searches share what they know.

        Each search may evaluate an equal share of the front's evaluations, on new plans only.
        """
        found: list[SparsityPlan] = []
        for number, most in enumerate(FRONT_BUDGETS):
            asked = plans.asked(
                Evolution, most, SINGLE_SETTINGS, len(FRONT_BUDGETS) * seed + number
            )
            found += [plan for plan in asked if plan not in found][
                : total * (number + 1) // len(FRONT_BUDGETS) - len(found)
            ]
        return found

    whole = volume(list(plans.share))
    total = FRONT_SETTINGS.evaluations
    kinds: dict[str, Callable[[int], list[SparsityPlan]]] = {
        "front": lambda seed: plans.asked(Front, 1.0, FRONT_SETTINGS, seed),
        "searches": singles,
        "random": lambda seed: plans.asked(RandomSearch, 1.0, FRONT_SETTINGS, seed),
    }
    found = {
        name: np.array([volume(asked(seed)[:total]) / whole for seed in range(SEEDS)])
        for name, asked in kinds.items()
    }
    rows = {
        name: {"mean": float(row.mean()), "interval": interval(row, np.mean), "seeds": row.tolist()}
        for name, row in found.items()
    }
    return {"evaluations": total, "budgets": FRONT_BUDGETS, "share of the whole hypervolume": rows}


def show(document: dict[str, Any]) -> None:
    table = Table("budget", "plans", "near best", "algorithm", "evaluations", "95%", "seeds there")
    for most, row in document["budgets"].items():
        for name, found in row["algorithms"].items():
            median, low, high = (
                "never" if count is None else f"{count:.0f}"
                for count in (found["median"], *found["interval"])
            )
            reached = f"{found['reached']:.0%}"
            table.add_row(
                most,
                str(row["plans"]),
                str(row["near the best"]),
                name,
                median,
                f"{low} .. {high}",
                reached,
            )
    console.print(table)
    for name, row in document["front"]["share of the whole hypervolume"].items():
        low, high = row["interval"]
        console.print(f"{name}: {row['mean']:.4f} of the hypervolume ({low:.4f} .. {high:.4f})")


def draw(document: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    *panels, last = figure.subplots(1, len(BUDGETS) + 1)
    for axes, (most, row) in zip(panels, document["budgets"].items(), strict=True):
        draw_budget(axes, float(most), row)
    rows = document["front"]["share of the whole hypervolume"]
    for place, (name, row) in enumerate(rows.items()):
        last.boxplot(
            [row["seeds"]],
            positions=[place],
            widths=0.6,
            patch_artist=True,
            boxprops={"facecolor": COLOURS[name], "alpha": 0.6},
        )
    last.set_xticks(
        range(len(rows)),
        ["one search\nfor the front", f"{len(FRONT_BUDGETS)} searches,\na budget each", "random"],
    )
    last.set(
        title=f"the front, {document['front']['evaluations']} evaluations",
        ylabel="share of the whole hypervolume",
    )
    last.grid(alpha=0.3, axis="y")
    figure.savefig(path, dpi=110)


def draw_budget(axes: Axes, most: float, row: dict[str, Any]) -> None:
    for name, found in row["algorithms"].items():
        counts = np.sort([count for count in found["counts"] if count is not None])
        reached = np.arange(1, len(counts) + 1) / len(found["counts"])
        label = name if len(counts) else f"{name}: never"
        axes.step([0, *counts], [0, *reached], where="post", color=COLOURS[name], label=label)
    axes.set(
        xlabel="evaluations",
        ylabel=f"seeds within {NEAR:.0%} of the best",
        ylim=(0, 1.02),
        xscale="symlog",
        xlim=(1, None),
    )
    axes.set_title(f"at most {most:.0%} of the MACs: {row['plans']} plans")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")


if __name__ == "__main__":
    main()
