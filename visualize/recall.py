"""Measure how much of the true objects the kept windows contain. Did the pedestrian stay in?

Two shares lie in kept windows: the share of the pixels inside the boxes of true objects, and the
share of the objects. Both are shown beside other choices of as many windows: by another importance,
at random, and for just these objects.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from skimage.draw import polygon

from sparsevit3d.stages.views import CameraView, Keyframe
from sparsevit3d.swin.trace import BlockTrace
from visualize.frames import COLOURS, plain, save
from visualize.geometry import box_outline, window_map
from visualize.masks import stage_blocks

DISTANCES = (0, 10, 20, 30, 50, np.inf)  # metres
ENOUGH = 0.5  # share of an object's pixels from which on the object counts as kept
MEASURES = ("share_of_pixels", "share_of_objects")
DRAWS = 400  # random choices of windows, to estimate how many objects they keep
# How as many windows may be chosen. The plan's own way comes first.
LABELS = {
    "kept": "by the plan",
    "l2": "by L2 norm",
    "place": "by where objects of train were",
    "random": "at random",
    "best": "at best",
}
CHOICES = {
    "kept": "#c2571a",
    "l2": "#d9a441",
    "place": "#5b8c5a",
    "random": "#8b949e",
    "best": "#1f5fa8",
}


@dataclass(frozen=True)
class Objects:
    """M objects as one camera shows them, over the W windows of one stage, under any plan."""

    names: NDArray[np.str_]  # (M,)
    metres: NDArray[np.float64]  # (M,) distance from the camera
    # (M, W) pixels of the frame that lie within the object's outline and in the window
    counts: NDArray[np.int64]


def find_objects(keyframe: Keyframe) -> list[Objects]:
    """Find the objects of each stage, and within a stage of each camera."""
    return [
        _count(view, trace) for trace in stage_blocks(keyframe.trace) for view in keyframe.views
    ]


@dataclass(frozen=True)
class Sight:
    """Objects under a plan."""

    stage: int
    # (W,) windows that each choice keeps: "kept" is the plan's, others are rivals
    chosen: Mapping[str, NDArray[np.bool_]]
    objects: Objects
    # (M,) probability that as many random windows keep the object
    by_chance: NDArray[np.float64]

    def only(self, rows: NDArray[np.bool_]) -> Sight:
        own = self.objects
        return Sight(
            self.stage,
            self.chosen,
            Objects(own.names[rows], own.metres[rows], own.counts[rows]),
            self.by_chance[rows],
        )


class Tally:
    """Counts over keyframes under one plan, added one after the other.

    A stage is counted by its block without shift that computes least (see stage_blocks). Objects
    are true boxes as each camera sees them, as far as the network saw them. An object that two
    cameras show counts in both. Overlapping boxes are counted as they are.

    Random: as many windows as the plan keeps, each equally likely. Best: as many windows, chosen
    for just the counted group, for example all pedestrians. For pixels the best choice is exact.
    For whole objects the best choice is greedy, so a better one may exist. Rivals choose windows in
    another way under the same plan.

    Args:
        rivals (sequence of str): Which rivals each keyframe comes with. Default: none.
        seed (int): Decides random windows. Default: 0.
    """

    def __init__(self, rivals: Sequence[str] = (), seed: int = 0) -> None:
        self._rivals = rivals
        self._random = np.random.default_rng(seed)
        self._sights: list[Sight] = []
        self._shares: dict[int, list[float]] = {}
        self._plan = ""
        self._keyframes = 0

    def add(
        self,
        keyframe: Keyframe,
        objects: Sequence[Objects] | None = None,
        rivals: Mapping[str, Keyframe] | None = None,
    ) -> None:
        """Count one keyframe.

        ``objects`` is the result of find_objects for this moment, if that is at hand. The result is
        the same for every plan. ``rivals`` are the same keyframe as each rival's windows show it.
        """
        self._plan = keyframe.plan
        self._keyframes = self._keyframes + 1
        found = iter(objects or find_objects(keyframe))
        looks = {"kept": keyframe, **{name: (rivals or {})[name] for name in self._rivals}}
        blocks = {name: stage_blocks(look.trace) for name, look in looks.items()}
        for number, trace in enumerate(blocks["kept"]):
            self._shares.setdefault(trace.stage, []).append(trace.share)
            for camera in range(len(trace.kept)):
                chosen = {name: own[number].kept[camera] for name, own in blocks.items()}
                self._sights.append(self._see(trace.stage, chosen, next(found)))

    def _see(self, stage: int, chosen: Mapping[str, NDArray[np.bool_]], objects: Objects) -> Sight:
        kept = chosen["kept"]
        draws = self._random.permuted(np.broadcast_to(kept, (DRAWS, len(kept))), axis=1)
        by_chance = (objects.counts @ draws.T >= needed_pixels(objects.counts)[:, None]).mean(1)
        return Sight(stage, chosen, objects, by_chance)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts for JSON: by stage, and within each stage by class and by distance."""
        stages = []
        for stage, shares in self._shares.items():
            own = [sight for sight in self._sights if sight.stage == stage]
            groups = {
                name: self._figures(sight.only(sight.objects.names == name) for sight in own)
                for name in COLOURS
            }
            bins = {
                _bin_name(*ends): self._figures(
                    sight.only(_between(sight.objects.metres, *ends)) for sight in own
                )
                for ends in _bins()
            }
            stages.append(
                {
                    "stage": stage,
                    "kept_windows": float(np.mean(shares)),
                    "all": self._figures(own),
                    "class": _with_objects(groups),
                    "distance": _with_objects(bins),
                }
            )
        return {
            "plan": self._plan,
            "keyframes": self._keyframes,
            "object_is_kept_from": ENOUGH,
            "stages": stages,
        }

    def _figures(self, sights: Iterable[Sight]) -> dict[str, Any]:
        """Return the number of objects and the shares that each choice of windows keeps.

        The shares are of the objects' pixels and of the objects. A share is None if there are no
        objects.
        """
        choices = ("kept", *self._rivals, "random", "best")
        pixels = dict.fromkeys(choices, 0.0)
        objects = dict.fromkeys(choices, 0.0)
        count = 0
        total = 0
        for sight in sights:
            counts = sight.objects.counts
            kept = sight.chosen["kept"]
            most = int(kept.sum())
            by_window = counts.sum(0)
            count = count + len(counts)
            total = total + int(by_window.sum())
            for name, windows in sight.chosen.items():
                pixels[name] += by_window[windows].sum()
                objects[name] += whole_in(counts, windows)
            pixels["random"] += by_window.sum() * kept.mean()
            pixels["best"] += np.sort(by_window)[len(by_window) - most :].sum()
            objects["random"] += sight.by_chance.sum()
            objects["best"] += max(whole_in(counts, kept), most_kept(counts, most))
        return {
            "objects": count,
            "share_of_pixels": {
                choice: float(value / total) if total else None for choice, value in pixels.items()
            },
            "share_of_objects": {
                choice: float(value / count) if count else None for choice, value in objects.items()
            },
        }


def _with_objects(groups: dict[str, Any]) -> dict[str, Any]:
    return {name: group for name, group in groups.items() if group["objects"]}


def whole_in(counts: NDArray[np.int64], kept: NDArray[np.bool_]) -> int:
    """Return how many objects, of ``counts`` (M, W) pixels, the windows ``kept`` (W,) keep."""
    return int((counts[:, kept].sum(1) >= needed_pixels(counts)).sum())


def needed_pixels(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (M,) pixels from which on an object counts as kept."""
    return np.asarray(ENOUGH * counts.sum(1))


def most_kept(counts: NDArray[np.int64], most: int) -> int:
    """Return how many objects ``most`` windows keep if they are chosen greedily.

    Each step takes the windows of the object that needs the fewest more.
    """
    left = counts.astype(np.int64)
    held = np.zeros(len(counts))
    needed = needed_pixels(counts)
    done = np.zeros(len(counts), bool)
    while not done.all():
        order = np.argsort(-left, axis=1, kind="stable")
        reached = held[:, None] + np.take_along_axis(left, order, 1).cumsum(1) >= needed[:, None]
        more = np.where(done, np.iinfo(np.int64).max, reached.argmax(1) + 1)
        cheapest = int(more.argmin())
        if more[cheapest] > most:
            break
        chosen = order[cheapest, : more[cheapest]]
        most -= len(chosen)
        held += left[:, chosen].sum(1)
        left[:, chosen] = 0
        done = held >= needed
    return int(done.sum())


def _count(view: CameraView, trace: BlockTrace) -> Objects:
    height, width = view.image.shape[:2]
    numbers = window_map(view, trace)
    windows = trace.kept.shape[1]
    counts = []
    chosen = []
    for number, corners in enumerate(view.truth.corners):
        # Shift by half a pixel, so that pixel centres have whole-number coordinates.
        outline = box_outline(corners, view.intrinsic, (width, height)) - 0.5
        if not len(outline):
            continue
        places = polygon(outline[:, 1], outline[:, 0], (height, width))
        seen = numbers[places]
        own = np.bincount(seen[seen >= 0], minlength=windows)
        if own.any():
            counts.append(own)
            chosen.append(number)
    boxes = view.truth[np.array(chosen, np.int64)]
    names = np.array(boxes.names, np.str_)
    metres = np.linalg.norm(boxes.centres, axis=1)
    return Objects(names, metres, np.array(counts, np.int64).reshape(-1, windows))


def _bins() -> Iterator[tuple[float, float]]:
    return itertools.pairwise(DISTANCES)


def _between(metres: NDArray[np.float64], low: float, high: float) -> NDArray[np.bool_]:
    return np.asarray((metres >= low) & (metres < high))


def _bin_name(low: float, high: float) -> str:
    return f"{low:.0f} - {high:.0f} m" if np.isfinite(high) else f"over {low:.0f} m"


def save_recall(found: dict[str, Any], path: Path, title: str) -> None:
    """Save a picture of ``found``, the result of Tally.as_dict.

    One row is for pixels and one for objects. The columns are by stage, by class and by distance.
    """
    figure = Figure(figsize=(15, 7.5), layout="constrained")
    axes = figure.subplots(2, 3, sharey=True, width_ratios=(1, 2.4, 1.2))
    # The stage that keeps fewest windows is where recall matters most.
    pruned = min(found["stages"], key=lambda stage: stage["kept_windows"])
    by_stage = {
        f"{stage['stage']}\n{stage['kept_windows']:.0%} kept": stage["all"]
        for stage in found["stages"]
    }
    for row, measure in zip(axes, MEASURES, strict=True):
        _bars(row[0], by_stage, measure, "stage")
        _bars(
            row[1],
            {name.replace("_", "\n"): group for name, group in pruned["class"].items()},
            measure,
            f"class in stage {pruned['stage']}",
        )
        _bars(row[2], pruned["distance"], measure, f"distance in stage {pruned['stage']}")
        row[0].set_ylabel(measure.replace("_", " ") + " kept")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(CHOICES),
        frameon=False,
        title="as many windows, chosen",
    )
    least = (
        "below the bars: how many objects, camera by camera; one counts as kept with "
        f"{found['object_is_kept_from']:.0%} of its pixels"
    )
    figure.suptitle(
        f"{title}: what windows keep of true objects, keyframes: {found['keyframes']}, plan "
        f"{found['plan']}\n{least}"
    )
    save(figure, path, 110)


def _bars(axes: Axes, groups: dict[str, dict[str, Any]], measure: str, title: str) -> None:
    places = np.arange(len(groups))
    choices = list(next(iter(groups.values()))[measure])
    width = 0.8 / len(choices)
    for number, choice in enumerate(choices):
        values = [group[measure][choice] for group in groups.values()]
        axes.bar(
            places + (number - (len(choices) - 1) / 2) * width,
            values,
            0.92 * width,
            color=CHOICES[choice],
            label=LABELS[choice],
        )
    axes.set_xticks(
        places, [f"{name}\n{group['objects']}" for name, group in groups.items()], fontsize=7.5
    )
    axes.set(title=f"by {title}", ylim=(0, 1))
    axes.grid(alpha=0.3, axis="y")


def recall_rows(found: dict[str, Any]) -> Sequence[tuple[str, ...]]:
    """Return the results as table rows.

    The columns are stage, share of windows kept, group, and number of objects. Two more columns
    give the kept share of pixels and of objects, choice by choice.
    """
    rows = []
    for stage in found["stages"]:
        for name, group in [
            ("all", stage["all"]),
            *stage["class"].items(),
            *stage["distance"].items(),
        ]:
            shares = (
                " ".join(f"{100 * share:3.0f}" for share in group[measure].values())
                for measure in MEASURES
            )
            rows.append(
                (
                    str(stage["stage"]),
                    f"{stage['kept_windows']:.0%}",
                    plain(name),
                    str(group["objects"]),
                    *shares,
                )
            )
    return rows
