"""Compare ways to choose windows: which true objects they keep, and the mAP after a few steps.

    python -m benchmarks.importance recall CHECKPOINT --data ROOT
    python -m benchmarks.importance steps CHECKPOINT --data ROOT --work-dir DIR

CHECKPOINT is a dense detector of the config whose map of objects has learnt. ``recall`` looks at
keyframes of val. An object is kept if at least half of its pixels lie in kept windows. ``steps``
trains the detector on for a few hundred steps under one plan, once for each way to choose windows,
with the same images in the same order. Then it scores each on val. "carried" leaves the windows out
in neck and head as well. "Representative token" and "linear path" change the tokens that are left
out, "distilled" also learns the dense backbone's features, and "rows" is a fixed crop with nothing
left out. All intervals are of 95%, over scenes, and differences are paired.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import HOOKS
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.accuracy import ideas  # noqa: F401  registers DistillationHook
from benchmarks.accuracy.oracle import Oracle, OracleHook, attach
from benchmarks.accuracy.scenes import examine, interval
from benchmarks.contenders import cut_rows  # and registers classes of the arms
from data_tools.info_file import read_infos
from sparsevit3d.backbone import backbone_of
from sparsevit3d.devices import device_name
from sparsevit3d.files import write_json
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.draws import draw_scenes
from sparsevit3d.stages.evaluate import Evaluator
from sparsevit3d.stages.look import Keyframes, open_keyframes
from sparsevit3d.stages.prior import Prior
from sparsevit3d.stages.train import finetune
from sparsevit3d.stages.views import Keyframe
from sparsevit3d.swin.density import CELL, PlaceMap, true_density, window_density
from sparsevit3d.swin.importance import score_windows
from sparsevit3d.swin.plan import SparsityPlan, kept_count
from sparsevit3d.swin.windows import WindowTable, window_table
from visualize.recall import find_objects, most_kept, whole_in

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs/fcos3d_small_512x192_carry.py"
SHARES = (0.2, 0.3, 0.4, 0.5)
BUDGETS = ("image", "keyframe")
PLAN = "0.7|0.8|0.5|0"
ONE_BUDGET = {"importance": "density", "budget": "batch"}
CARRIED = "density, one budget, carried"
REPRESENTATIVE = "density, one budget, representative token"
LINEAR = "density, one budget, linear path"
DISTILLED = "density, one budget, distilled"
DENSE = "dense"
# All rows of a small image in which objects lie: half of its pixels.
CROPPED = "dense, rows 48 to 144 of 192"
REFERENCES = ("l2", "density, one budget", DENSE)
ROWS = (48, 96)  # the first one, and how many
# By arm: how the backbone chooses windows.
ARMS: dict[str, dict[str, Any]] = {
    "l2": {"importance": "l2", "budget": "image"},
    "density": {"importance": "density", "budget": "image"},
    "density, one budget": ONE_BUDGET,
    CARRIED: ONE_BUDGET,
    "place": {"importance": "place", "cameras": 6, "budget": "image"},
    REPRESENTATIVE: ONE_BUDGET | {"type": "RepresentativeSwin"},
    LINEAR: ONE_BUDGET | {"type": "LinearSwin"},
    DISTILLED: ONE_BUDGET,
    CROPPED: {"importance": "l2", "budget": "image"},
    "true density": {"importance": "l2", "budget": "image"},
    DENSE: {"importance": "l2", "budget": "image"},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("recall", "steps"))
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the nuScenes root")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--keyframes", type=int, default=100, help="of val, for recall")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/importance"))
    parser.add_argument("--arms", default=";".join(ARMS), help="for steps")
    parser.add_argument("--plan", default=PLAN)
    parser.add_argument("--images", type=int, default=1200, help="of train, for steps")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/importance.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    document = json.loads(options.out.read_text()) if options.out.exists() else {}
    document |= {"machine": device_name("cpu"), "torch": torch.__version__}
    if options.what == "recall":
        document.setdefault("recall", {})[options.data.name] = recall(options)
        write_json(options.out, document)
        return
    done: dict[str, Any] = {}
    for arm in options.arms.split(";"):
        done[arm] = steps(arm, options)
        others = [name for name in REFERENCES if name in done]
        found = {
            "command": "python -m benchmarks.importance steps CHECKPOINT --data ROOT",
            "plan": options.plan,
            "images": options.images,
            "mAP": {name: one["mAP"] for name, one in done.items()},
            "points_over": {
                other: {name: over(one, done[other]) for name, one in done.items()}
                for other in others
            },
        }
        document.setdefault("steps", {})[options.checkpoint.name] = found
        write_json(options.out, document)
        print(arm, found["mAP"][arm])


def recall(options: Any) -> dict[str, Any]:
    """Count which objects every way to choose windows keeps, stage by stage."""
    config = load_config(options.config, options.data)
    config.model.carry = False
    config.model.backbone.update(ARMS["density"])
    keyframes = open_keyframes(config, options.checkpoint, "val")
    chosen = keyframes.spread(options.keyframes)
    scenes = np.unique([keyframes.drive(number)[0] for number in chosen], return_inverse=True)[1]
    before = read_infos(options.data / "nuscenes_infos_train.json")
    prior = Prior(before, keyframes.look(0).views, backbone_of(keyframes.model).patch_size).places
    rows = [count_kept(keyframes, number, prior) for number in chosen]
    totals = np.array([total for total, _ in rows])  # keyframes, stages
    kept = {name: np.array([one[name] for _, one in rows]) for name in rows[0][1]}
    stages = range(totals.shape[1])
    weights = draw_scenes(int(scenes.max()) + 1)[:, scenes]  # draws, keyframes
    return {
        "command": "python -m benchmarks.importance recall CHECKPOINT --data ROOT",
        "checkpoint": options.checkpoint.name,
        "keyframes": len(chosen),
        "objects": totals[:, 0].sum().item(),
        "shares": SHARES,
        "percent_by_stage": {
            name: [percent(hits[:, stage], totals[:, stage], weights) for stage in stages]
            for name, hits in kept.items()
        },
        "density_over": {
            name: [
                percent(
                    kept["density, image"][:, stage] - hits[:, stage], totals[:, stage], weights
                )
                for stage in stages
            ]
            for name, hits in kept.items()
        },
    }


def percent(hits: NDArray, totals: NDArray, weights: NDArray) -> list[list[float]]:
    """[low, mean, high] for each share, of (keyframes, shares) hits."""
    mean = hits.sum(0) / totals.sum()
    spread = 1.96 * np.std((weights @ hits) / (weights @ totals)[:, None], axis=0)
    return [
        [round(100 * float(value), 1) for value in (middle - half, middle, middle + half)]
        for middle, half in zip(mean, spread, strict=True)
    ]


def count_kept(
    keyframes: Keyframes, number: int, prior: PlaceMap
) -> tuple[list[int], dict[str, NDArray]]:
    """Objects of each stage, and how many each way keeps: (stages, shares)."""
    net = backbone_of(keyframes.model)
    maps: list[tuple[Tensor, int, int]] = []
    hooks = [net.patch_embed.register_forward_hook(lambda *call: maps.append(call[2]))]
    hooks += [
        stage.register_forward_pre_hook(lambda _, given: maps.append(given[:3]))
        for stage in net.stages
    ]
    try:
        keyframe = keyframes.look(number, SparsityPlan.uniform(0, net.depths))
    finally:
        for hook in hooks:
            hook.remove()
    (embedded, height, width), *stages = maps
    with torch.no_grad():
        densities = {
            "density": net.density(embedded, height, width).exp(),
            "place by camera": prior(embedded, height, width).exp(),
            "place": prior(embedded, height, width).exp().mean(0, keepdim=True),
            "true density": true_map(keyframe, height, width, net.patch_size * CELL),
        }
    objects = iter(find_objects(keyframe))
    totals: list[int] = []
    kept: dict[str, list[list[int]]] = {}
    for x, down, across in stages:
        table = window_table(down, across, net.window_size, 0)
        scores = {"l2": score_windows(x.detach(), [table])[0].float()}
        scores |= {
            name: window_density(density, table).expand(len(x), -1)
            for name, density in densities.items()
        }
        counts = [next(objects).counts for _ in range(len(x))]
        totals.append(sum(map(len, counts)))
        for name, hits in of_stage(scores, counts, table).items():
            kept.setdefault(name, []).append(hits)
    return totals, {name: np.array(rows) for name, rows in kept.items()}


def of_stage(
    scores: dict[str, Tensor], counts: list[NDArray], table: WindowTable
) -> dict[str, list[int]]:
    """How many objects are kept at each share, by way and budget."""
    windows = len(table.tokens)
    found: dict[str, list[int]] = {}
    for name, values in scores.items():
        for budget in BUDGETS:
            flat = values.reshape(1, -1) if budget == "keyframe" else values
            order = flat.argsort(dim=1, descending=True, stable=True)
            found[f"{name}, {budget}"] = []
            for share in SHARES:
                most = len(values) // len(flat) * kept_count(windows, round(1 - share, 2))
                mask = torch.zeros_like(flat, dtype=torch.bool).scatter(1, order[:, :most], True)
                found[f"{name}, {budget}"].append(
                    sum(map(whole_in, counts, mask.view(values.shape).numpy()))
                )
    found["best possible, image"] = [
        sum(most_kept(one, kept_count(windows, round(1 - share, 2))) for one in counts)
        for share in SHARES
    ]
    return found


def true_map(keyframe: Keyframe, height: int, width: int, cell: int) -> Tensor:
    """(cameras, h, w) of the true objects' outlines."""
    size = (-(-height // CELL), -(-width // CELL))
    maps = []
    for view in keyframe.views:
        boxes = view.truth.corners @ view.intrinsic.T
        ends = boxes[..., :2] / np.maximum(boxes[..., 2:], 0.1)
        flat = np.concatenate([ends.min(1), ends.max(1)], 1).reshape(-1, 2, 2)
        flat = (flat * view.scale - view.offset).reshape(-1, 4)
        maps.append(true_density(torch.from_numpy(flat).float(), size, (cell, cell)))
    return torch.stack(maps)


class TrueDensity(Oracle):
    """Windows by the true objects within them: the ceiling of a map of objects."""

    def __call__(self, x: Tensor, table: WindowTable) -> Tensor:
        cells = [
            true_density(boxes, (-(-height // 16), -(-width // 16)), (16, 16))
            for boxes, height, width in self.images
        ]
        return window_density(torch.stack(cells), table)


@HOOKS.register_module()
class TrueDensityHook(OracleHook):
    """Train under true density."""

    kind = TrueDensity


def steps(arm: str, options: Any) -> dict[str, Any]:
    """Train on for a few hundred steps as ``arm`` chooses windows, and score on val."""
    folder = options.work_dir / arm.replace(", ", "_").replace(" ", "_")
    config = load_config(options.config, options.data, None, (), "finetune")
    config.model.backbone.update(ARMS[arm])
    config.model.carry = arm == CARRIED
    config.train_dataloader.dataset.indices = options.images
    config.train_cfg.max_epochs = 1
    if arm == "true density":
        config.custom_hooks.append({"type": "TrueDensityHook"})
    if arm == DISTILLED:
        teacher = {"type": "DistillationHook", "weights": str(options.checkpoint)}
        config.custom_hooks.append(teacher)
    if arm == CROPPED:
        cut_rows(config, *ROWS)
    plan = SparsityPlan.parse(options.plan)
    if arm in (DENSE, CROPPED):
        plan = SparsityPlan.uniform(0, config.model.backbone.depths)
    checkpoint = finetune(config, folder, options.checkpoint, plan)
    submission = folder / "results.json"
    evaluator = Evaluator(config, checkpoint, "val", folder / "eval", submission)
    if arm == "true density":
        attach(evaluator.runner.model, TrueDensity(options.data / "nuscenes_infos_val.json"))
    return drawn_score(evaluator, plan, submission)


def drawn_score(
    evaluator: Evaluator, plan: SparsityPlan | None, submission: Path
) -> dict[str, Any]:
    """The mAP on val under ``plan``, and that of draws of scenes, for paired intervals."""
    score = evaluator(plan)
    (metric,) = evaluator.runner.test_evaluator.metrics
    return {"mAP": score["mAP"], "draws": examine(metric.truth, submission)["draws"]["mAP"]}


def over(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float, float]:
    """Mean and interval of the difference, in points of mAP."""
    draws = np.array(one["draws"]) - np.array(other["draws"])
    return interval([one["mAP"] - other["mAP"]], [draws])


if __name__ == "__main__":
    main()
