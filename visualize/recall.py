"""Did the pedestrian stay in? Of the pixels inside the boxes of true objects, and of the objects, the share that lies in kept windows,
beside windows kept at random and the best that any choice of as many windows could have kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from skimage.draw import polygon

from sparsevit3d.trace import BlockTrace
from sparsevit3d.views import CameraView, Keyframe
from visualize.frames import COLOURS
from visualize.geometry import box_outline, window_map
from visualize.masks import PictureError, stage_blocks

DISTANCES = (0, 10, 20, 30, 50, np.inf)  # metres
ENOUGH = 0.5  # share of an object's pixels from which on it counts as kept
MEASURES = ("share_of_pixels", "share_of_objects")
DRAWS = 400  # of random windows, to tell how many objects they keep
LABELS = {"kept": "the plan", "random": "as many windows at random", "oracle": "as many, those with most of the objects' pixels"}
CHOICES = {"kept": "#c2571a", "random": "#8b949e", "oracle": "#1f5fa8"}


@dataclass(frozen=True)
class Recall:
    """M rows, one for each object in each camera and stage."""

    stages: NDArray[np.int64]
    names: NDArray[np.str_]
    metres: NDArray[np.float64]  # from the camera
    pixels: NDArray[np.int64]  # of the frame, inside the object's outline, that the network saw
    inside: dict[str, NDArray[np.float64]]  # by choice of windows: how many of them lie in kept windows; at random: on average
    objects: dict[str, NDArray[np.float64]]  # by choice: is the object kept? At random: how probably
    shares: dict[int, float]  # of windows kept, by stage
    plan: str
    keyframes: int

    def group(self, rows: NDArray[np.bool_]) -> dict[str, Any]:
        """Figures of some rows: how many objects, and for each choice the share of their pixels and of them."""
        count, total = int(rows.sum()), int(self.pixels[rows].sum())
        pixels = {choice: float(inside[rows].sum() / total) if total else None for choice, inside in self.inside.items()}
        objects = {choice: float(kept[rows].mean()) if count else None for choice, kept in self.objects.items()}
        return {"objects": count, "share_of_pixels": pixels, "share_of_objects": objects}

    def as_dict(self) -> dict[str, Any]:
        """For JSON: by stage, and within each by class and by distance."""
        stages = []
        for stage, share in self.shares.items():
            own = self.stages == stage
            classes = {name: self.group(own & (self.names == name)) for name in COLOURS if (own & (self.names == name)).any()}
            bins = {_bin_name(low, high): self.group(own & _between(self.metres, low, high)) for low, high in _bins()}
            stages.append({"stage": stage, "kept_windows": share, "all": self.group(own), "class": classes, "distance": bins})
        return {"plan": self.plan, "keyframes": self.keyframes, "object_is_kept_from": ENOUGH, "stages": stages}


class Tally:
    """Counts keyframes under one plan, one after the other.

    Stages count by the last block with plain windows; what it computes, the plain ones before it did too. Objects are the true boxes as
    each camera sees them, as far as the network saw them. At random: as many windows as the plan keeps, each equally likely. Oracle: as
    many, those with most of the objects' pixels.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._rows: list[tuple[Any, ...]] = []
        self._shares: dict[int, list[float]] = {}
        self._plan, self._keyframes = "", 0

    def add(self, keyframe: Keyframe) -> None:
        self._plan, self._keyframes = keyframe.plan, self._keyframes + 1
        for trace in stage_blocks(keyframe.trace):
            self._shares.setdefault(trace.stage, []).append(trace.share)
            for number, view in enumerate(keyframe.views):
                self._rows += _rows(view, trace, number, self._random)

    def recall(self) -> Recall:
        """Raises PictureError where no object was to be seen."""
        if not self._rows:
            raise PictureError(f"none of the {self._keyframes} keyframes shows an object; choose others, or another --split")
        stages, names, metres, pixels, *kept = (np.array(column) for column in zip(*self._rows, strict=True))
        inside, objects = (dict(zip(CHOICES, part, strict=True)) for part in (kept[:3], kept[3:]))
        shares = {stage: float(np.mean(values)) for stage, values in self._shares.items()}
        return Recall(stages, names, metres, pixels, inside, objects, shares, self._plan, self._keyframes)


def _rows(view: CameraView, trace: BlockTrace, image: int, random: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    """One camera's objects."""
    kept, windows = trace.kept[image], len(trace.kept[image])
    counts, names, metres = _count(view, trace, windows)
    totals = counts.sum(1)
    best = np.zeros(windows, bool)
    best[np.argsort(-counts.sum(0), kind="stable")[: kept.sum()]] = True
    draws = random.permuted(np.broadcast_to(kept, (DRAWS, windows)), axis=1)
    by_chance = (counts @ draws.T >= ENOUGH * totals[:, None]).mean(1)
    for name, distance, own, total, lucky in zip(names, metres, counts, totals, by_chance, strict=True):
        inside = (own @ kept, total * kept.mean(), own @ best)
        yield trace.stage, name, distance, total, *inside, inside[0] >= ENOUGH * total, lucky, inside[2] >= ENOUGH * total


def _count(view: CameraView, trace: BlockTrace, windows: int) -> tuple[NDArray[np.int64], list[str], list[float]]:
    """(objects, windows) pixels of each object in each window; and the objects' classes and distances in metres."""
    height, width = view.image.shape[:2]
    numbers = window_map(view, trace)
    counts, chosen = [], []
    for number, corners in enumerate(view.truth.corners):
        outline = box_outline(corners, view.intrinsic, (width, height)) - 0.5  # to where a pixel's centre is a whole number
        if not len(outline):
            continue
        places = polygon(outline[:, 1], outline[:, 0], (height, width))
        seen = numbers[places]
        own = np.bincount(seen[seen >= 0], minlength=windows)
        if own.any():
            counts.append(own)
            chosen.append(number)
    boxes = view.truth[np.array(chosen, np.int64)]
    return np.array(counts, np.int64).reshape(-1, windows), boxes.names, np.linalg.norm(boxes.centres, axis=1).tolist()


def _bins() -> Iterator[tuple[float, float]]:
    return itertools.pairwise(DISTANCES)


def _between(metres: NDArray[np.float64], low: float, high: float) -> NDArray[np.bool_]:
    return np.asarray((metres >= low) & (metres < high))


def _bin_name(low: float, high: float) -> str:
    return f"{low:.0f} - {high:.0f} m" if np.isfinite(high) else f"over {low:.0f} m"


def save_recall(found: dict[str, Any], path: Path, title: str) -> None:
    """``found``: what Recall.as_dict gave. A row for pixels and one for objects; by stage, by class and by distance."""
    figure = Figure(figsize=(15, 7.5), layout="constrained")
    axes = figure.subplots(2, 3, sharey=True, width_ratios=(1, 2.4, 1.2))
    pruned = min(found["stages"], key=lambda stage: stage["kept_windows"])  # where it matters most
    by_stage = {f"{stage['stage']}\n{stage['kept_windows']:.0%} kept": stage["all"] for stage in found["stages"]}
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
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    least = f"below the bars: how many objects; one counts as kept with {found['object_is_kept_from']:.0%} of its pixels"
    figure.suptitle(f"{title}: what windows keep of true objects, keyframes: {found['keyframes']}, plan {found['plan']}\n{least}")
    figure.savefig(path, dpi=110)


def _bars(axes: Axes, groups: dict[str, dict[str, Any]], measure: str, title: str) -> None:
    groups = {name: group for name, group in groups.items() if group["objects"]}
    places = np.arange(len(groups))
    for shift, (choice, colour) in zip((-0.27, 0, 0.27), CHOICES.items(), strict=True):
        values = [group[measure][choice] for group in groups.values()]
        axes.bar(
            places + shift,
            values,
            0.25,
            color=colour,
            label=LABELS[choice],
        )
    axes.set_xticks(places, [f"{name}\n{group['objects']}" for name, group in groups.items()], fontsize=7.5)
    axes.set(title=f"by {title}", ylim=(0, 1))
    axes.grid(alpha=0.3, axis="y")


def recall_rows(found: dict[str, Any]) -> Sequence[tuple[str, ...]]:
    """As a table: stage, windows kept, of what, how many; then of pixels and of objects the share kept: by the plan, at random, at best."""
    rows = []
    for stage in found["stages"]:
        for name, group in [("all", stage["all"]), *stage["class"].items(), *stage["distance"].items()]:
            if group["objects"]:
                shares = (" / ".join(f"{100 * group[measure][choice]:.0f}" for choice in CHOICES) for measure in MEASURES)
                rows.append(
                    (str(stage["stage"]), f"{stage['kept_windows']:.0%}", name.replace("_", " "), str(group["objects"]), *shares)
                )
    return rows
