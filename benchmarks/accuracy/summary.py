"""Make a table, verdicts and pictures of the results, from their JSON alone.

    python -m benchmarks.accuracy.summary benchmarks/results/accuracy --pictures docs

Differences are paired: arm against arm from the same base on the same scenes. They are averaged
over all seeds that both arms have. Their 95% intervals are for other scenes and other seeds. If an
interval is wider than a point to either side, the verdict is "inconclusive".
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.accuracy.headline import write_headline
from benchmarks.accuracy.scenes import interval
from benchmarks.accuracy.study import DENSE, Arm, Study
from sparsevit3d.errors import InputError
from sparsevit3d.files import read_json, write_json
from sparsevit3d.stages.draws import draw_scenes
from sparsevit3d.terminal import console
from visualize.accuracy import save_differences, save_failures, save_ratios, save_rivals

METRICS = ("mAP", "NDS")
TIMES = ("backbone, ms", "image to boxes, ms")
ERRORS = ("mATE", "mASE", "mAOE", "mAVE", "mAAE")
REMEDY = "Remove it, and make it anew with 'python -m benchmarks.accuracy'."
WIDEST = 1.0  # points to either side up to which a difference is said to show something
Results = dict[str, dict[int, dict[str, Any]]]  # by arm and seed


@dataclass(frozen=True)
class Difference:
    """How far ``arm`` is above ``against``, in points (hundredths) of ``metric``.

    The difference is the average over ``seeds``.
    """

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
        word = "better" if self.low > 0 else "worse" if self.high < 0 else "no difference shown"
        return word if self.seeds > 1 else f"{word}, by one seed"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.summary",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, help="the folder of results")
    parser.add_argument(
        "--study",
        type=Path,
        default=Path(__file__).parent / "study.toml",
        help="which arms are compared",
    )
    parser.add_argument("--pictures", type=Path, help="a folder for pictures")
    arguments = parser.parse_args()
    summarise(arguments.results, Study.load(arguments.study), arguments.pictures)


def summarise(folder: Path, study: Study, pictures: Path | None) -> dict[str, Any]:
    """Print tables, and write ``summary.json`` beside the results, and pictures.

    Raises InputError if there are no results.
    """
    results = load(folder)
    arms = [arm for arm in study.arms() if arm.name in results]
    times = {path.stem[-1]: read_json(path, REMEDY) for path in folder.glob("times_?.json")}
    table: list[dict[str, Any]] = []
    for group in study.groups:
        table += _rows([arm for arm in group.arms if arm in arms], results, times)
    found = list(differences(results, arms))
    failures = {
        arm.name: where(results, arm.name, DENSE)
        for arm in arms
        if arm.name != DENSE and DENSE in results
    }
    ratios = [read_json(path, REMEDY) for path in sorted(folder.glob("ratios_*.json"))]
    document = {
        "arms": table,
        "differences": [asdict(each) | {"verdict": each.verdict} for each in found],
        "found objects": failures,
    }
    write_json(folder / "summary.json", document)
    write_headline(folder, table, found)
    console.print(_arms_table(table), _errors_table(table), _differences_table(found))
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        save_rivals(table, pictures / "accuracy.png")
        if found:
            save_differences(
                [asdict(each) for each in found], WIDEST, pictures / "accuracy_differences.png"
            )
        if "SparseViT" in failures:
            save_failures(
                failures["SparseViT"], "SparseViT", "dense", pictures / "accuracy_failures.png"
            )
        if ratios:
            save_ratios(ratios, pictures / "accuracy_ratios.png")
    return document


def load(folder: Path) -> Results:
    results: Results = {}
    for path in sorted(folder.glob("?_*.json")):
        document = read_json(path, REMEDY)
        results.setdefault(document["arm"], {})[document["seed"]] = document
    if not results:
        raise InputError(
            f"{folder}: no results. Make them with 'python -m benchmarks.accuracy --out {folder}'"
        )
    return results


def differences(results: Results, arms: Sequence[Arm]) -> Iterator[Difference]:
    for arm in arms:
        for other in arm.against:
            seeds = sorted(results[arm.name].keys() & results.get(other, {}).keys())
            for metric in METRICS if seeds else ():
                mean, low, high = interval(
                    [
                        results[arm.name][seed]["score"][metric]
                        - results[other][seed]["score"][metric]
                        for seed in seeds
                    ],
                    [
                        _draws(results[arm.name][seed], metric)
                        - _draws(results[other][seed], metric)
                        for seed in seeds
                    ],
                )
                yield Difference(arm.name, other, metric, len(seeds), mean, low, high)


def _draws(document: dict[str, Any], metric: str) -> NDArray[np.float64]:
    return np.array(document["draws"][metric])


def where(results: Results, arm: str, other: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Compare what two arms find, by property and value of the objects.

    Each row has the number of objects, the share that each arm found, and the difference with its
    interval, in points. ``from the rest`` is how far the difference is from the difference for all
    objects of other values, with its interval.
    """
    seeds = sorted(results[arm].keys() & results[other].keys())
    pairs = [(results[arm][seed], results[other][seed]) for seed in seeds]
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for of, values in pairs[0][1]["objects"].items() if pairs else ():
        for value, row in values.items():
            own = [_apart(*pair, of, [value]) for pair in pairs]
            mean, low, high = interval(*zip(*own, strict=True))
            table.setdefault(of, {})[value] = {
                "objects": sum(row["objects"]),
                "found": _share([one for one, _ in pairs], of, value),
                "found by the other": _share([two for _, two in pairs], of, value),
                "difference": mean,
                "low": low,
                "high": high,
            }
            if others := [each for each in values if each != value]:
                rest = [_apart(*pair, of, others) for pair in pairs]
                more = [
                    (mine[0] - its[0], mine[1] - its[1])
                    for mine, its in zip(own, rest, strict=True)
                ]
                table[of][value]["from the rest"] = list(interval(*zip(*more, strict=True)))
    return table


def _apart(
    one: dict[str, Any], other: dict[str, Any], of: str, values: Sequence[str]
) -> tuple[float, NDArray[np.float64]]:
    """Return how much larger a share of the objects of these values ``one`` found than ``other``.

    The second result is the same for each draw of scenes.
    """
    objects, found, found_by_other = (
        sum((np.array(document["objects"][of][value][what]) for value in values), np.array(0))
        for document, what in ((one, "objects"), (one, "found"), (other, "found"))
    )
    weights = draw_scenes(len(objects))
    more = found - found_by_other
    with np.errstate(invalid="ignore"):
        return float(more.sum() / objects.sum()), np.nan_to_num(
            (weights @ more) / (weights @ objects)
        )


def _share(documents: Sequence[dict[str, Any]], of: str, value: str) -> float:
    rows = [document["objects"][of][value] for document in documents]
    return round(100 * float(np.mean([sum(row["found"]) / sum(row["objects"]) for row in rows])), 2)


def _rows(
    arms: Sequence[Arm], results: Results, times: dict[str, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a group's arms.

    Rows use only the seeds that all arms have, so that their means may be compared. If there are no
    such seeds, a row uses all seeds of its arm.
    """
    shared = set.intersection(*(set(results[arm.name]) for arm in arms)) if arms else set()
    for arm in arms:
        of = results[arm.name]
        yield _row(arm, {seed: of[seed] for seed in shared or of}, times)


def _row(
    arm: Arm, of: dict[int, dict[str, Any]], times: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return the row of an arm. ``times`` holds the times of each group.

    Only times from one run may be compared. With an arm's times therefore come those of the dense
    arm beside the arm.
    """
    documents = [of[seed] for seed in sorted(of)]
    group = documents[0]["group"]
    names = (*METRICS, *ERRORS, *(name for name in documents[0]["score"] if name.startswith("AP/")))
    return {
        "arm": arm.name,
        "group": group,
        "input": documents[0]["input"],
        "plans": [document["plan"] for document in documents],
        "backbone, GMACs": float(np.mean([document["gmacs"] for document in documents])),
        **{part: _time(times.get(group, {}), part, arm.name) for part in TIMES},
        **{f"{part}, dense": _time(times.get(group, {}), part, DENSE) for part in TIMES},
        "neck and head, GMACs": times.get(group, {}).get("neck and head, GMACs", {}).get(arm.name),
        "seeds": sorted(of),
        **{name: _mean([document["score"][name] for document in documents]) for name in names},
        "mAP by seed": [document["score"]["mAP"] for document in documents],
        "NDS by seed": [document["score"]["NDS"] for document in documents],
        "windows": _windows(
            [document["windows"] for document in documents if document.get("windows")]
        ),
    }


def _mean(scores: Sequence[float | None]) -> float | None:
    """Mean of the seeds' scores. None: the truth does not define the score."""
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if len(known) == len(scores) else None


def _time(times: dict[str, Any], part: str, arm: str) -> float | None:
    found = times.get(part, {}).get(arm)
    return float(np.mean([*found.values()])) if found else None


def _windows(seeds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each stage the shares of windows and of true objects that were kept, by seed.

    The shares of objects stand beside those by chance and the best possible.
    """
    return [
        {
            "kept windows": [stage["kept_windows"] for stage in stages],
            **{
                f"objects, {choice}": [stage["all"]["share_of_objects"][choice] for stage in stages]
                for choice in stages[0]["all"]["share_of_objects"]
            },
        }
        for stages in zip(*(of["stages"] for of in seeds), strict=True)
    ]


def _arms_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        "arm",
        "input",
        "GMACs",
        "ms",
        "to boxes",
        "mAP",
        "of each seed",
        "NDS",
        title="Accuracy on synthetic nuScenes",
    )
    for row in rows:
        times = ("" if row[part] is None else f"{row[part]:.1f}" for part in TIMES)
        seeds = " ".join(f"{100 * value:.2f}" for value in row["mAP by seed"])
        size = "x".join(map(str, row["input"]))
        scores = (f"{100 * row['mAP']:.2f}", seeds, f"{100 * row['NDS']:.2f}")
        table.add_row(row["arm"], size, f"{row['backbone, GMACs']:.3f}", *times, *scores)
    return table


def _errors_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        "arm",
        *ERRORS,
        title="The devkit's five errors; where a mean is above 1, NDS takes it for 1",
    )
    for row in rows:
        table.add_row(row["arm"], *(f"{row[name]:.3f}" for name in ERRORS))
    return table


def _differences_table(found: Sequence[Difference]) -> Table:
    table = Table(
        "arm", "against", "metric", "seeds", "points", "95%", "verdict", title="Paired differences"
    )
    for each in found:
        interval = f"{each.low:+.2f} .. {each.high:+.2f}"
        table.add_row(
            each.arm,
            each.against,
            each.metric,
            str(each.seeds),
            f"{each.mean:+.2f}",
            interval,
            each.verdict,
        )
    return table


if __name__ == "__main__":
    main()
