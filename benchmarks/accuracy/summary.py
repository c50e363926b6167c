"""What results say: table, verdicts and pictures, from their JSON alone.

    python -m benchmarks.accuracy.summary benchmarks/results/accuracy --pictures docs

Differences are paired, arm against arm from the same base on the same scenes, and averaged over seeds. Their 95% intervals come of drawing
scenes and seeds again, with replacement. Where an interval is wider than a point to either side, the word is "inconclusive".
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.accuracy.scenes import draw_scenes, interval
from benchmarks.accuracy.study import Arm, Study
from sparsevit3d.stages.files import ExperimentError, write_json
from sparsevit3d.terminal import console
from visualize.accuracy import save_differences, save_failures, save_ratios, save_rivals

METRICS = ("mAP", "NDS")
ERRORS = ("mATE", "mASE", "mAOE", "mAVE", "mAAE")
WIDEST = 1.0  # points to either side of a difference that is still said to show something
Results = dict[str, dict[int, dict[str, Any]]]  # by arm and seed


@dataclass(frozen=True)
class Difference:
    """In points (hundredths) of ``metric``: how much ``arm`` is above ``against``, on average over ``seeds``."""

    arm: str
    against: str
    metric: str
    seeds: int
    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        if (self.high - self.low) / 2 > WIDEST:
            return "inconclusive"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "no difference shown"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.summary", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="the folder of results")
    parser.add_argument("--study", type=Path, default=Path(__file__).parent / "study.toml", help="which arms are compared")
    parser.add_argument("--pictures", type=Path, help="a folder for pictures")
    arguments = parser.parse_args()
    summarise(arguments.results, Study.load(arguments.study), arguments.pictures)


def summarise(folder: Path, study: Study, pictures: Path | None) -> dict[str, Any]:
    """Prints tables, writes ``summary.json`` beside the results, and pictures. Raises ExperimentError where there are no results."""
    results = load(folder)
    arms = [arm for arm in study.arms() if arm.name in results]
    times = {arm: of for path in sorted(folder.glob("times_*.json")) for arm, of in json.loads(path.read_text())["ms"].items()}
    table = [_row(arm, results[arm.name], times.get(arm.name, {})) for arm in arms]
    found = list(differences(results, arms))
    failures = {arm.name: where(results, arm.name, "dense") for arm in arms if arm.name != "dense" and "dense" in results}
    ratios = [json.loads(path.read_text()) for path in sorted(folder.glob("ratios_*.json"))]
    document = {
        "arms": table,
        "differences": [asdict(each) | {"verdict": each.verdict} for each in found],
        "found objects": failures,
    }
    write_json(folder / "summary.json", document)
    console.print(_arms_table(table), _differences_table(found))
    if pictures is not None:
        save_rivals(table, pictures / "accuracy.png")
        if found:
            save_differences([asdict(each) for each in found], WIDEST, pictures / "accuracy_differences.png")
        if "SparseViT" in failures:
            save_failures(failures["SparseViT"], "SparseViT", "dense", pictures / "accuracy_failures.png")
        if ratios:
            save_ratios(ratios, pictures / "accuracy_ratios.png")
    return document


def load(folder: Path) -> Results:
    results: Results = {}
    for path in sorted(folder.glob("?_*.json")):
        document = json.loads(path.read_text())
        results.setdefault(document["arm"], {})[document["seed"]] = document
    if not results:
        raise ExperimentError(f"{folder}: no results; make them with 'python -m benchmarks.accuracy --out {folder}'")
    return results


def differences(results: Results, arms: Sequence[Arm]) -> Iterator[Difference]:
    for arm in arms:
        for other in arm.against:
            seeds = sorted(results[arm.name].keys() & results.get(other, {}).keys())
            for metric in METRICS if seeds else ():
                mean, low, high = interval(
                    [results[arm.name][seed]["score"][metric] - results[other][seed]["score"][metric] for seed in seeds],
                    [_draws(results[arm.name][seed], metric) - _draws(results[other][seed], metric) for seed in seeds],
                )
                yield Difference(arm.name, other, metric, len(seeds), mean, low, high)


def _draws(document: dict[str, Any], metric: str) -> NDArray[np.float64]:
    return np.array(document["draws"][metric])


def where(results: Results, arm: str, other: str) -> dict[str, dict[str, dict[str, float]]]:
    """By property and value: how many objects, the share that each of both arms found, and the difference with its interval, in points."""
    seeds = sorted(results[arm].keys() & results[other].keys())
    table: dict[str, dict[str, dict[str, float]]] = {}
    for of, values in results[other][seeds[0]]["objects"].items() if seeds else ():
        for value, row in values.items():
            objects = np.array(row["objects"])
            weights = draw_scenes(len(objects))
            both = [[np.array(results[name][seed]["objects"][of][value]["found"]) for seed in seeds] for name in (arm, other)]
            shares = [np.mean([found.sum() / objects.sum() for found in one]) for one in both]
            with np.errstate(invalid="ignore"):
                draws = [np.nan_to_num((weights @ (one - two)) / (weights @ objects)) for one, two in zip(*both, strict=True)]
            mean, low, high = interval([shares[0] - shares[1]], draws)
            table.setdefault(of, {})[value] = {
                "objects": int(objects.sum()),
                "found": round(100 * float(shares[0]), 2),
                "found by the other": round(100 * float(shares[1]), 2),
                "difference": mean,
                "low": low,
                "high": high,
            }
    return table


def _row(arm: Arm, of: dict[int, dict[str, Any]], times: dict[str, float]) -> dict[str, Any]:
    documents = [of[seed] for seed in sorted(of)]
    names = (*METRICS, *ERRORS)
    return {
        "arm": arm.name,
        "group": documents[0]["group"],
        "input": documents[0]["input"],
        "plans": [document["plan"] for document in documents],
        "gmacs": float(np.mean([document["gmacs"] for document in documents])),
        "ms": float(np.mean([*times.values()])) if times else None,
        "seeds": sorted(of),
        **{name: float(np.mean([document["score"][name] for document in documents])) for name in names},
        "mAP by seed": [document["score"]["mAP"] for document in documents],
        "NDS by seed": [document["score"]["NDS"] for document in documents],
    }


def _arms_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("arm", "input", "GMACs", "ms", "seeds", *METRICS, "mAP by seed", *ERRORS, title="Accuracy on synthetic nuScenes")
    for row in rows:
        table.add_row(
            row["arm"],
            "x".join(map(str, row["input"])),
            f"{row['gmacs']:.3f}",
            "" if row["ms"] is None else f"{row['ms']:.1f}",
            str(len(row["seeds"])),
            *(f"{100 * row[name]:.2f}" for name in METRICS),
            " ".join(f"{100 * value:.2f}" for value in row["mAP by seed"]),
            *(f"{row[name]:.3f}" for name in ERRORS),
        )
    return table


def _differences_table(found: Sequence[Difference]) -> Table:
    table = Table("arm", "against", "metric", "seeds", "points", "95%", "verdict", title="Paired differences")
    for each in found:
        interval = f"{each.low:+.2f} .. {each.high:+.2f}"
        table.add_row(each.arm, each.against, each.metric, str(each.seeds), f"{each.mean:+.2f}", interval, each.verdict)
    return table


if __name__ == "__main__":
    main()
