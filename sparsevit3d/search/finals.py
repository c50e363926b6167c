"""The best plans of a search, judged side by side once more before one of them is named.

A search judges many plans on few scenes, and names the highest score. Much of a high score is luck.
So the best few plans meet again, together with the uniform plan of the same budget. They are judged
on the same scenes, those first that the search has not seen. After each round a plan leaves that is
surely behind the best one. "Surely" is by the bootstrap over scenes of the paired difference.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import METRICS
from numpy.typing import NDArray
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.detection.data_classes import DetectionBox
from scipy.stats import t as student

from data_tools.info_file import read_infos
from sparsevit3d.files import read_json, sole_owner, write_json
from sparsevit3d.progress import Progress, no_progress
from sparsevit3d.search.journal import read_journal
from sparsevit3d.search.objective import Question, boxes_of, keyframes_of
from sparsevit3d.search.workers import Judge
from sparsevit3d.stages.config import use_split
from sparsevit3d.stages.draws import draw_scenes, match_all, scenes_of, score
from sparsevit3d.stages.scoring import Truth
from sparsevit3d.swin.plan import SparsityPlan

FINALS = "finals"  # the folder of boxes in the work dir
ROUNDS = (0.25, 0.5, 1.0)  # share of the split's scenes that were seen by the end of each round
ERROR = 0.05  # chance, for each plan in all rounds together, to leave without being worse
DRAWS = 100  # of scenes. The width of an interval is then known to a tenth.
POINTS = 0.005  # a difference of half a point
USUAL = 1.96  # standard errors of an interval of 95%
FEWEST = 2  # scenes


@dataclass(frozen=True)
class Standing:
    """How a plan stands after its last round.

    Args:
        plan (str): The plan.
        score (float): Its score on the scenes it was judged on.
        scenes (int): How many these are.
        behind (tuple of float): How far it is behind the best plan: mean, low and high of the
            interval. The best plan has zeros.
        told_apart (bool): Whether it is surely behind.
    """

    plan: str
    score: float
    scenes: int
    behind: tuple[float, float, float]
    told_apart: bool


def hold_finals(
    question: Question,
    work_dir: Path,
    count: int,
    hire: Callable[[Question], Judge],
    progress: Progress = no_progress,
) -> dict[str, Any] | None:
    """Judge the best ``count`` plans of a search that is done, and name the best in its plan.json.

    Interrupted and called again, the finals go on. The result, which plan.json holds as well, lists
    a Standing for each plan, the best first. ``scenes_for_half_a_point`` says how many scenes it
    takes to tell a difference of half a point between plans that are as alike as these. None: the
    split has a single scene, by which plans cannot be told apart.

    Raises InputError if another process holds finals in ``work_dir``.
    """
    answer = read_json(work_dir / "plan.json", "Search first.")
    plans = finalists(answer, read_journal(work_dir / "journal.jsonl").judged, question.by, count)
    folder = work_dir / FINALS
    folder.mkdir(exist_ok=True)
    with sole_owner(folder):
        field = Field(question, folder)
        if len(field.scenes) < FEWEST:
            return None
        order, standings, needed = race(field, list(plans), hire, progress)
    result = {
        "score": question.by,
        "standings": [vars(standings[plan]) for plan in order],
        "uniform": answer["uniform"] and answer["uniform"]["plan"],
        "seen_by_search": field.seen_by_search,
        "scenes_for_half_a_point": needed,
    }
    best = order[0]
    facts = {"plan": str(best), "costs": plans[best], question.by: standings[best].score}
    write_json(work_dir / "plan.json", answer | facts | {"finals": result})
    return result


def race(
    field: Field,
    plans: Sequence[SparsityPlan],
    hire: Callable[[Question], Judge],
    progress: Progress = no_progress,
) -> tuple[list[SparsityPlan], dict[SparsityPlan, Standing], int | None]:
    """Judge ``plans`` round by round. After each, those leave that are surely behind.

    Returns the plans, the best first, how each stands, and how many scenes a difference of half a
    point takes. None: they are all alike.
    """
    by = field.question.by
    racing = list(plans)
    standings: dict[SparsityPlan, Standing] = {}
    spread = 0.0
    before = 0
    for number, share in enumerate(ROUNDS):
        seen = max(FEWEST, math.ceil(share * len(field.scenes)))
        if seen == before or (standings and len(racing) == 1):
            continue
        note = f"finals, round {number + 1}: {len(racing)} plans on {seen} scenes"
        progress(number, len(ROUNDS), note)
        field.judge(racing, before, seen, hire)
        now, spread = compare(field.truth(seen), field.boxes(racing), by)
        standings |= now
        racing = [plan for plan in racing if not standings[plan].told_apart]
        before = seen
    progress(len(ROUNDS), len(ROUNDS), "finals")
    order = sorted(plans, key=lambda plan: (plan in racing, standings[plan].score), reverse=True)
    return order, standings, math.ceil(before * (USUAL * spread / POINTS) ** 2) or None


def finalists(
    answer: Mapping[str, Any], judged: Sequence[Mapping[str, Any]], by: str, count: int
) -> dict[SparsityPlan, dict[str, float]]:
    """The plans of the finals and their costs: the best ``count``, and the uniform plan."""
    ranked = sorted(judged, key=lambda entry: -entry["metrics"][by])
    found = {SparsityPlan.parse(row["plan"]): row["costs"] for row in ranked[:count]}
    if uniform := answer["uniform"]:
        found.setdefault(SparsityPlan.parse(uniform["plan"]), uniform["costs"])
    return found


class Field:
    """The scenes of the finals in their order, and the boxes that plans found there.

    Args:
        question (Question): The question of the search.
        folder (Path): Where boxes are kept: a folder for each round.
    """

    def __init__(self, question: Question, folder: Path) -> None:
        self.question = question
        self.folder = folder
        self.config = copy.deepcopy(question.config)
        use_split(self.config, question.split)
        infos = read_infos(Path(self.config.test_evaluator.ann_file))
        places = {info["token"]: number for number, info in enumerate(infos.keyframes)}
        found = scenes_of(self._truth_of(tuple(places.values())))
        by_scene = [[places[token] for token in tokens] for tokens in found.values()]
        random.Random(question.config.randomness.seed).shuffle(by_scene)
        searched = set(keyframes_of(question.keyframes, infos))
        by_scene.sort(key=lambda scene: not searched.isdisjoint(scene))
        self.scenes = by_scene
        self.seen_by_search = sum(not searched.isdisjoint(scene) for scene in by_scene)
        self.parts: list[Path] = []

    def judge(
        self,
        plans: Sequence[SparsityPlan],
        first: int,
        end: int,
        hire: Callable[[Question], Judge],
    ) -> None:
        """Find the boxes of ``plans`` on the scenes from ``first`` to ``end``, if not yet found."""
        part = self.folder / f"scenes_{first}_to_{end}"
        part.mkdir(parents=True, exist_ok=True)
        self.parts.append(part)
        missing = [plan for plan in plans if not boxes_of(part, plan).exists()]
        keyframes = keyframes_in(self.scenes[first:end])
        question = replace(self.question, keyframes=keyframes, keep=part)
        if missing:
            with closing(hire(question)) as judge:
                list(judge(missing))  # each leaves its boxes in the folder

    def truth(self, count: int) -> Truth:
        """The truth of the first ``count`` scenes."""
        return self._truth_of(keyframes_in(self.scenes[:count]))

    def boxes(self, plans: Sequence[SparsityPlan]) -> dict[SparsityPlan, EvalBoxes]:
        """What ``plans`` found on all scenes that were judged so far."""
        found = {}
        for plan in plans:
            rows: dict[str, Any] = {}
            for part in self.parts:
                rows |= json.loads(boxes_of(part, plan).read_text())["results"]
            found[plan] = EvalBoxes.deserialize(rows, DetectionBox)
        return found

    def _truth_of(self, keyframes: tuple[int, ...]) -> Truth:
        metric = METRICS.build({**self.config.test_evaluator, "keyframes": keyframes})
        metric.dataset_meta = {"classes": list(self.config.classes)}
        return metric.truth


def keyframes_in(scenes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Places of all keyframes of ``scenes``, in rising order."""
    return tuple(sorted(itertools.chain.from_iterable(scenes)))


def compare(
    truth: Truth, found: Mapping[SparsityPlan, EvalBoxes], by: str
) -> tuple[dict[SparsityPlan, Standing], float]:
    """Compare plans on the same scenes, each with the best one.

    The second result is the standard error of a difference: the median over the plans.
    """
    scenes = scenes_of(truth)
    weights = [np.ones(len(scenes), np.int64), *draw_scenes(len(scenes))[:DRAWS]]
    rows = {}
    for plan, boxes in found.items():
        matches = match_all(truth, truth.filtered(boxes), scenes)
        drawn = (score(truth, matches, each) for each in weights)
        rows[plan] = np.array([pair[by == "NDS"] for pair in drawn])
    best = max(rows, key=lambda plan: rows[plan][0])
    stand = partial(_stand, rows[best], len(scenes))
    errors = [float(np.std(rows[best] - row)) for plan, row in rows.items() if plan != best]
    return {plan: stand(plan, row) for plan, row in rows.items()}, float(np.median(errors or [0]))


def _stand(
    best: NDArray[np.float64], scenes: int, plan: SparsityPlan, row: NDArray[np.float64]
) -> Standing:
    behind = best - row
    # Draws of few scenes vary too little, and a normal interval would be too narrow for them.
    sure = float(student.ppf(1 - ERROR / len(ROUNDS) / 2, scenes - 1))
    half = sure * math.sqrt(scenes / (scenes - 1)) * float(np.std(behind[1:]))
    mean = float(behind[0])
    interval = (mean, mean - half, mean + half)
    return Standing(str(plan), float(row[0]), scenes, interval, mean - half > 0)


def forget(work_dir: Path) -> None:
    """Remove the finals of an earlier search in ``work_dir``."""
    shutil.rmtree(work_dir / FINALS, ignore_errors=True)
