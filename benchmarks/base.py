"""Train the dense detector from which the arms of the accuracy study go on.

    sparsevit3d data synth data/standard --preset standard --seed 20 \\
        --scenes 300 40 200 --size 640 360
    sparsevit3d data synth data/more --preset standard --seed 21 --scenes 600 1 1 --size 640 360
    sparsevit3d data synth data/most --preset standard --seed 22 --scenes 600 1 1 --size 640 360
    for root in standard more most; do sparsevit3d data infos data/$root; done
    python -m benchmarks.base boxes data/standard data/more --from zoo/first/dense.safetensors \\
        --work-dir work_dirs/base
    torchrun --nproc-per-node=2 -m benchmarks.base pixels data/standard data/more data/most \\
        --work-dir work_dirs/base
    torchrun --nproc-per-node=2 -m benchmarks.base windows data/standard data/more \\
        --from work_dirs/base/base.safetensors --work-dir work_dirs/base

The detector is that of configs/fcos3d_small_512x192_carry.py. "boxes" begins with the weights of
the first study, without the group norms that the head no longer has. It takes four passes over the
first root, then four over the second one. "pixels" goes on with two passes over all roots, and
learns what the renderer knows of every pixel as well (pixels.py). "windows" takes four more passes,
every second step of them under a random plan. So these weights are at home in dense and in pruned
networks. Images are mirrored at random. In all but the first four passes, images of seldom classes
come twice. Scores are of the first root's val. Killed, the same command goes on.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from torch.utils.data import ConcatDataset

from benchmarks import pixels
from benchmarks.heads import TOWERS, converted
from sparsevit3d.backbone import backbone_of
from sparsevit3d.detector.rays import CHANNELS
from sparsevit3d.files import write_json
from sparsevit3d.stages.checkpoints import read_state, save_weights, seal
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.evaluate import evaluate
from sparsevit3d.stages.runner import join_processes
from sparsevit3d.stages.train import train
from sparsevit3d.terminal import progress_bar

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs/fcos3d_small_512x192_carry.py"
FLIP = {"type": "mmdet3d.RandomFlip3D", "flip_ratio_bev_horizontal": 0.5}
WARM_UP = {"type": "LinearLR", "start_factor": 0.02, "by_epoch": False, "end": 200}
COSINE = {
    "type": "CosineAnnealingLR",
    "by_epoch": True,
    "convert_to_iter_based": True,
    "eta_min_ratio": 0.01,
}
PASSES = (4, 4)  # of "boxes", over the first root, over the second one
# Of "pixels": the rates of two passes, and what their schedules begin and end with.
RATES = (6e-4, 4.5e-4)
SCHEDULES = ([WARM_UP | {"end": 150}, COSINE | {"end": 3}], [WARM_UP | {"end": 20}, COSINE])
WINDOWS = (4, 6e-4, [WARM_UP | {"end": 100}, COSINE])  # passes, rate and schedule of "windows"
TENTHS = ((6, 8), (7, 8), (3, 6), (1, 5))  # left out by stage, from and to
SELDOM = 0.2  # of the images show a class
COLOURS = "backbone.patch_embed.projection.weight"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = {"boxes": learn_boxes, "pixels": learn_pixels, "windows": learn_windows}
    parser.add_argument("what", choices=steps)
    parser.add_argument("roots", type=Path, nargs="+")
    parser.add_argument("--from", dest="weights", type=Path, help="where boxes or windows begins")
    parser.add_argument("--work-dir", type=Path, required=True)
    options = parser.parse_args()
    if (options.what == "pixels") == (options.weights is not None):
        parser.error("--from is needed by boxes and windows. pixels goes on in --work-dir.")
    torch.set_num_threads(1)
    weights = steps[options.what](options)
    config = load_config(CONFIG, options.roots[0])
    if options.what == "boxes":
        of_colours(config)
    score = evaluate(config, weights, "val", options.work_dir / f"eval_{options.what}", None)
    if is_main_process():
        write_json(options.work_dir / f"{options.what}.json", score)
        print(f"{weights}: mAP {score['mAP']:.4f}, NDS {score['NDS']:.4f}")


def learn_boxes(options: Any) -> Path:
    streets, more = options.roots
    old = load_config(ROOT / "configs/fcos3d_small_512x192.py", streets)
    weights = converted(old, options.weights, TOWERS, options.work_dir)
    first, second = PASSES
    configs = longer(streets, first, [WARM_UP]), balanced(more, second, [COSINE])
    for config, name in zip(configs, ("first", "second"), strict=True):
        of_colours(config)
        config.model.bbox_head.depth_unit = None
        weights = train(config, options.work_dir / name, weights)
    return weights


def learn_pixels(options: Any) -> Path:
    weights = options.work_dir / "second" / f"epoch_{PASSES[1]:04d}.pth"
    for number, (rate, schedule) in enumerate(zip(RATES, SCHEDULES, strict=True)):
        config = of_pixels(options.roots, 1, rate, schedule)
        of_colours(config)
        weights = train(config, options.work_dir / f"pixels_{number}", weights)
    return with_rays(weights, options.work_dir / "base.safetensors")


def learn_windows(options: Any) -> Path:
    passes, rate, schedule = WINDOWS
    config = of_pixels(options.roots, passes, rate, schedule)
    config.custom_hooks.append({"type": "EverySecondHook", "seed": config.randomness.seed})
    weights = train(config, options.work_dir / "windows", options.weights)
    if is_main_process():
        save_weights(weights, options.work_dir / "adapted.safetensors")  # what the zoo has
    return weights


def of_pixels(
    roots: Sequence[Path], passes: int, rate: float, schedule: list[dict[str, Any]]
) -> Any:
    """Learn every pixel of all ``roots`` as well, at the learning rate ``rate``."""
    join_processes()
    parts = [balanced(root, passes, schedule) for root in roots]
    config = parts[0]
    if is_main_process():
        with progress_bar("pixels") as update:
            for root in roots:
                pixels.render_truth(root, (512, 192), config.classes, update)
    barrier()
    datasets = [part.train_dataloader.dataset for part in parts]
    config.train_dataloader.dataset = dict(datasets[0], type="Joined", parts=datasets)
    config.optim_wrapper.optimizer.lr = rate
    config.custom_hooks.append({"type": "PixelHook"})
    return config


@HOOKS.register_module()
class EverySecondHook(Hook):
    """Train every second iteration under a random plan, and the others dense.

    ``seed`` decides all plans, together with the iteration.
    """

    priority = "HIGH"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        plan = None
        if runner.iter % 2:
            draw = random.Random(f"{self.seed}/{runner.iter}")
            ratios = (draw.randint(low, high) / 10 for low, high in TENTHS)
            plan = "|".join(f"{ratio:g}" for ratio in ratios)
        backbone_of(runner.model).plan = plan

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        backbone_of(runner.model).plan = None  # checkpoints are dense


def of_colours(config: Any) -> None:
    """Let a detector look at colours alone. Only what goes on from the base learns rays."""
    config.model.data_preprocessor.type = "mmdet3d.Det3DDataPreprocessor"
    config.model.backbone.in_channels = 3


def with_rays(weights: Path, path: Path) -> Path:
    """Let a network of colours take rays as well, and save its weights in half precision.

    Rays change nothing until they are learnt. ``path`` is where "windows" begins.
    """
    state = read_state(weights)
    old = state[COLOURS]
    state[COLOURS] = torch.cat([old, old.new_zeros(len(old), CHANNELS, *old.shape[2:])], 1)
    if is_main_process():
        content = {"state_dict": state}
        seal(content)
        whole = path.with_suffix(".pth")
        torch.save(content, whole)
        save_weights(whole, path)
    barrier()
    return path


def longer(root: Path, passes: int, schedule: list[dict[str, Any]]) -> Any:
    config = load_config(CONFIG, root)
    config.train_cfg.max_epochs = passes
    config.param_scheduler = schedule
    config.train_dataloader.dataset.pipeline.insert(-1, FLIP)
    return config


def balanced(root: Path, passes: int, schedule: list[dict[str, Any]]) -> Any:
    config = longer(root, passes, schedule)
    config.train_dataloader.dataset.update(type="BalancedKeyframes", oversample_thr=SELDOM)
    return config


@DATASETS.register_module()
class Joined(ConcatDataset):
    """Datasets one after the other. Options beside ``parts`` are those of the first one."""

    def __init__(self, parts: Sequence[dict[str, Any]], **_: Any) -> None:
        super().__init__([DATASETS.build(part) for part in parts])
        self.metainfo = self.datasets[0].metainfo  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
