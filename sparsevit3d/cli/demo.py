"""What pruning does, step by step: with the zoo's models in two minutes, or from nothing.

The demo is part of the front door, so it opens every room. Each step leaves its result in a folder
of its own. A step whose result is there is passed over, so a demo that was cut off goes on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from data_tools.convert import write_infos
from data_tools.splits import scenes_of_split
from data_tools.synthetic.dataset import SPLITS, VERSION, Settings, make_dataset
from sparsevit3d.backbone import backbone_of
from sparsevit3d.cli.search import show
from sparsevit3d.cli.tables import benchmark_tables
from sparsevit3d.files import (
    fingerprint,
    parse_sealed,
    read_or_drop,
    sole_owner,
    write_json,
    write_sealed,
)
from sparsevit3d.processes import usual_workers
from sparsevit3d.progress import Progress
from sparsevit3d.search.algorithms import Settings as SearchSettings
from sparsevit3d.search.objective import Question
from sparsevit3d.search.run import Request, search
from sparsevit3d.search.workers import hire
from sparsevit3d.stages.benchmark import benchmark, trained_subject
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.evaluate import evaluate
from sparsevit3d.stages.look import open_keyframes
from sparsevit3d.stages.runner import load_detector
from sparsevit3d.stages.train import adapt, finetune, train
from sparsevit3d.swin.plan import SparsityPlan
from sparsevit3d.terminal import console, progress_bar, working
from visualize.masks import save_masks

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/fcos3d_small_synthetic.py"
ZOO_CONFIG = ROOT / "zoo/config.py"
ZOO = {"dense": ROOT / "zoo/dense.safetensors", "sparse": ROOT / "zoo/pruned.safetensors"}
# Streets of the zoo's preset, which its models have never seen.
STREETS = Settings((0, 0, 4), 2, 640, 360, seed=1, preset="standard")
BUDGET = 0.6  # share of the dense backbone's MACs


@dataclass(frozen=True)
class Size:
    """How large each step of a demo is that trains its models.

    Args:
        data (Settings): Scenes, keyframes and image size of the synthetic data.
        search (SearchSettings): Sizes of the search.
        options (tuple of str): Config values, where the configs' own would take too long.
        runs (int): Timed runs of the benchmark.
    """

    data: Settings
    search: SearchSettings
    options: tuple[str, ...]
    runs: int


FULL = Size(Settings((60, 5, 20), 2, 640, 360), SearchSettings(population=8, generations=3), (), 30)
TINY = Size(
    Settings((1, 1, 1), 2, 320, 180),
    SearchSettings(population=3, parents=2, generations=2),
    ("train_cfg.max_epochs=2", "train_dataloader.batch_size=4", "model.test_cfg.score_thr=0.001"),
    3,
)


def run_demo(out: Path, size: Size | None, real: Path | None, real_split: str) -> None:
    """Run what is missing of the demo in ``out``, then print its table and where the pictures are.

    ``size`` is for a demo that trains its models. None: use the zoo's.
    """
    if real is not None:
        # Tell a mistake now, not at the end.
        scenes_of_split(real, "v1.0-mini", real_split)
    out.mkdir(parents=True, exist_ok=True)
    with sole_owner(
        out, lambda: console.print(f"Another demo is at work in {out}. Waiting for it to end.")
    ):
        clock = Clock(out / "seconds.json")
        if size is None:
            _show_zoo(out, clock, real, real_split)
        else:
            _train_and_show(out, clock, size, real, real_split)


def _show_zoo(out: Path, clock: Clock, real: Path | None, real_split: str) -> None:
    data = out / "streets"
    with clock.step("1 streets that no model has seen"), progress_bar("rendering scenes") as update:
        make_dataset(data, STREETS, usual_workers(), update)
    with clock.step("2 info files"):
        write_infos(data, VERSION, ["val"], workers=usual_workers())
    _measure_and_show(out, clock, load_config(ZOO_CONFIG, data), ZOO, 8, 3)
    models = json.loads(ZOO_CONFIG.with_name("scores.json").read_text())["models"]
    dense, sparse = (models[path.stem]["scores"]["val of the study"] for path in ZOO.values())
    parts = (
        f"{metric} {dense[metric]:.3f} dense, {sparse[metric]:.3f} sparse"
        for metric in ("mAP", "NDS")
    )
    console.print(
        "So few streets say little. On the 200 scenes of the accuracy study these models have "
        f"{' and '.join(parts)}: docs/accuracy.md."
    )
    if real is not None:
        with clock.step("6 pictures of real frames"), working("drawing"):
            _look_at_real(out, ZOO_CONFIG, real, real_split, ZOO["sparse"])
    _end(out, clock)


def _train_and_show(
    out: Path, clock: Clock, size: Size, real: Path | None, real_split: str
) -> None:
    data = out / "data"

    def config(stage: str | None = None) -> Config:
        return load_config(CONFIG, data, options=size.options, stage=stage)

    with clock.step("1 synthetic nuScenes"), progress_bar("rendering scenes") as update:
        make_dataset(data, size.data, usual_workers(), update)
    with clock.step("2 info files"):
        write_infos(data, VERSION, SPLITS, workers=usual_workers())
    with clock.step("3 train the dense detector"):
        trained = train(config(), out / "trained")
    with clock.step("4 adapt it to random plans"):
        adapted = adapt(config("adapt"), out / "adapted", trained)
    with (
        clock.step(f"5 search a plan of at most {BUDGET:.0%} of the MACs"),
        progress_bar("evaluating plans") as update,
    ):
        plan = SparsityPlan.load(_search(config(), adapted, out / "search", size, update))
    show(out / "search")
    with clock.step(f"6 finetune under {plan}"):
        sparse = finetune(config("finetune"), out / "sparse", adapted, plan)
    with clock.step(
        "7 the control: train the dense detector on, by the schedules of 4 and 6, pruning nothing"
    ):
        nothing = SparsityPlan.uniform(0, config().model.backbone.depths)
        half_way = finetune(config("adapt"), out / "dense_half_way", trained, nothing)
        dense = finetune(config("finetune"), out / "dense", half_way, nothing)

    _measure_and_show(out, clock, config(), {"dense": dense, "sparse": sparse}, size.runs, 8)
    if real is not None:
        with clock.step("11 pictures of real frames"), working("drawing"):
            _look_at_real(out, CONFIG, real, real_split, sparse)
    _end(out, clock)


def _measure_and_show(
    out: Path, clock: Clock, config: Config, checkpoints: dict[str, Path], runs: int, first: int
) -> None:
    """Score, time and draw. The steps are numbered from ``first``."""
    scores = {}
    sparse = checkpoints["sparse"]
    plan = backbone_of(load_detector(config, sparse, None)).plan
    assert plan is not None
    with clock.step(f"{first} official score on scenes never seen"), working("evaluating"):
        for name, checkpoint in checkpoints.items():
            scores[name] = _once(
                out / f"score_{name}.json",
                checkpoint,
                partial(_score, config, checkpoint, out / f"score_{name}"),
            )
    with clock.step(f"{first + 1} time both, taking turns"), progress_bar("timing") as update:
        timing = _once(
            out / "speed.json",
            sparse,
            lambda: benchmark(
                trained_subject(config, sparse, "val"), ["float32"], [plan], runs, update
            ),
        )
    with clock.step(f"{first + 2} pictures"), working("drawing"):
        keyframe = open_keyframes(config, sparse, "val").look(0)
        save_masks(keyframe, out / "pictures" / "synthetic", f"Synthetic street, plan {plan}")
    _report(console, timing, scores, plan)
    write_json(
        out / "summary.json",
        {"plan": str(plan), "scores": scores, "benchmark": timing, "seconds": clock.seconds},
    )


def _score(config: Config, checkpoint: Path, folder: Path) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)  # it may hold the score of an earlier checkpoint
    return evaluate(config, checkpoint, "val", folder, None)


def _end(out: Path, clock: Clock) -> None:
    console.print(
        f"\nPictures: {out / 'pictures'}   figures: {out / 'summary.json'}   took "
        f"{sum(clock.seconds.values()):.0f} s in all"
    )


def _search(
    config: Config,
    adapted: Path,
    work_dir: Path,
    size: Size,
    progress: Progress,
) -> Path:
    question = Question(config, adapted)
    with closing(hire(question, usual_workers())) as judge:
        return search(
            question, Request(settings=size.search, max_macs=BUDGET), work_dir, judge, progress
        )


def _look_at_real(out: Path, config_file: Path, real: Path, split: str, checkpoint: Path) -> None:
    infos = out / "real_infos"
    count = write_infos(real, "v1.0-mini", [split], infos)[split]
    keyframes = open_keyframes(load_config(config_file, real, infos), checkpoint, split)
    for number in range(min(count, 2)):
        keyframe = keyframes.look(number)
        title = (
            f"Real street, keyframe {number} of {split}, plan {keyframe.plan} "
            "(the detector has only ever seen made ones)"
        )
        save_masks(keyframe, out / "pictures" / f"real_{split}_{number}", title)


def _once(path: Path, checkpoint: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what an earlier call left in ``path`` for this very checkpoint, or make it now.

    A new result is left in ``path``.
    """
    known = read_or_drop(path, "This step is done again.", parse_sealed) or {}
    if known.get("checkpoint") != fingerprint(checkpoint):
        known = {"checkpoint": fingerprint(checkpoint), "result": make()}
        write_sealed(path, known)
    return dict(known["result"])


def _report(
    console: Console, timing: dict[str, Any], scores: dict[str, Any], plan: SparsityPlan
) -> None:
    table = Table(
        "", "dense", "sparse", "ratio", title=f"Dense against sparse, six cameras, plan {plan}"
    )

    def row(name: str, dense: float, sparse: float, form: str, ratio: str) -> None:
        table.add_row(name, form.format(dense), form.format(sparse), ratio)

    share = timing["share"][str(plan)]
    macs = timing["gmacs"]["backbone"]
    row("backbone MACs, G", macs, macs * share, "{:.3f}", f"{1 / share:.2f}x fewer")
    for name, part in (("backbone, ms", "backbone"), ("image to boxes, ms", "detector")):
        dense, sparse = (
            timing[part][f"SparseSwin {which}, float32"]["p50_ms"] for which in ("dense", plan)
        )
        row(name, dense, sparse, "{:.1f}", f"{dense / sparse:.2f}x faster")
    for name in ("mAP", "NDS"):
        dense = scores["dense"][name]
        sparse = scores["sparse"][name]
        row(name, dense, sparse, "{:.3f}", f"{sparse - dense:+.3f}")
    console.print(table)
    console.print(
        "Both trained as long, by the same schedules. MAP and NDS are of synthetic streets."
    )
    for each in benchmark_tables(timing):
        console.print(each)


class Clock:
    """Seconds of each step, summed in a file over all calls.

    A killed call counts only for the steps that had ended.

    Args:
        path (Path): The file, as JSON.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = (
            read_or_drop(path, "The times of earlier calls are not counted.", parse_sealed) or {}
        )

    def step(self, title: str) -> Step:
        return Step(self, title)


@dataclass
class Step:
    clock: Clock
    title: str

    def __enter__(self) -> None:
        console.rule(self.title, align="left")
        self.start = time.monotonic()

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        number = self.title.split()[0]
        spent = self.clock.seconds.get(number, 0.0) + time.monotonic() - self.start
        self.clock.seconds[number] = spent
        write_sealed(self.clock.path, self.clock.seconds)
