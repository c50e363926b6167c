"""Train detectors with other norms in their heads: what a norm over one place does to mAP.

    sparsevit3d data synth ROOT --scenes 60 5 20 --size 640 360
    sparsevit3d data infos ROOT
    python -m benchmarks.heads ROOT --work-dir work_dirs/heads

    python -m benchmarks.heads data/standard --from zoo/first/dense.safetensors \\
        --work-dir work_dirs/on --arms group_norm group_norm_of_towers layer_norm no_norm

The first command trains configs/fcos3d_small_synthetic.py for six epochs from nothing. The second
one takes a trained detector with group norm, changes the norm, and trains neck and head on for one
pass, on a backbone that stays as it is. All arms have the same seeds and the same order of images.
Scores are of val. Intervals are over scenes and seeds, as in the accuracy study. Killed, the same
command goes on. One core takes some ten minutes for a run.

"group_norm_of_towers" keeps group norm in the towers and in the layer before the class scores. What
is computed for candidates alone has no norm. "no_norm" has no norm at all. From a trained detector,
the mean statistics of the group norms that go become part of the convolutions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from benchmarks.accuracy.scenes import examine, interval
from data_tools.info_file import read_infos
from sparsevit3d.devices import device_name
from sparsevit3d.files import write_json
from sparsevit3d.stages.benchmark import trained_subject
from sparsevit3d.stages.checkpoints import read_state
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.evaluate import evaluate
from sparsevit3d.stages.scoring import Truth, open_root
from sparsevit3d.stages.train import finetune, train
from sparsevit3d.swin.plan import SparsityPlan

ROOT = Path(__file__).parent.parent
FROM_NOTHING = ROOT / "configs/fcos3d_small_synthetic.py"
FROM_TRAINED = ROOT / "configs/fcos3d_small_512x192.py"
KEYFRAMES = 20  # of train, for the mean statistics of group norms
LAYER_NORM = {"norm_cfg": {"type": "LN2d"}}
BRANCHES = ("conv_reg_prevs", "conv_dir", "conv_attr", "conv_centerness")
TOWERS = "group_norm_of_towers"
BY_CLASS = "layer_norm_centerness_by_class"
ARMS: dict[str, dict[str, Any]] = {
    "group_norm": {},
    "layer_norm": LAYER_NORM,
    BY_CLASS: LAYER_NORM | {"centerness_on_reg": False},
    TOWERS: {"type": "TowerNormHead"},
    "no_norm": {"norm_cfg": None},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--from", dest="base", type=Path, help="a trained detector's weights")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/heads.json")
    options = parser.parse_args()
    if options.base and BY_CLASS in options.arms:
        parser.error(
            f"a trained centerness cannot change its branch. Leave {BY_CLASS} out of --arms."
        )
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in options.arms}
    document = json.loads(options.out.read_text()) if options.out.exists() else {}
    chosen = ["--arms", *options.arms] + (["--from", str(options.base)] if options.base else [])
    for seed in options.seeds:
        for name in options.arms:
            folder = options.work_dir / f"{name}_{seed}"
            found[name].append(run(name, seed, options.root, folder, options.base))
            document["from_trained" if options.base else "from_nothing"] = {
                "command": " ".join(["python -m benchmarks.heads ROOT --work-dir DIR", *chosen]),
                "machine": device_name("cpu"),
                "torch": torch.__version__,
                "seeds": options.seeds,
                "mAP": {arm: [one["mAP"] for one in rows] for arm, rows in found.items()},
                "points_over_group_norm": {
                    arm: over(rows, found["group_norm"])
                    for arm, rows in found.items()
                    if rows and arm != "group_norm" and "group_norm" in found
                },
            }
            write_json(options.out, document)


def run(name: str, seed: int, root: Path, folder: Path, base: Path | None) -> dict[str, Any]:
    """Train one arm with one seed, as far as an earlier call left it, and score it on val."""
    seeded = (f"randomness.seed={seed}",)
    if base is None:
        config = load_config(FROM_NOTHING, root, None, seeded)
        config.model.bbox_head.update(ARMS[name])
        checkpoint = train(config, folder, None)
    else:
        config = load_config(FROM_TRAINED, root, None, seeded, "finetune")
        config.train_cfg.max_epochs = 1
        config.model.backbone.frozen_stages = len(config.model.backbone.depths)
        weights = converted(config, base, name, folder)
        config.model.bbox_head.update(ARMS[name])
        plan = SparsityPlan.uniform(0, config.model.backbone.depths)
        checkpoint = finetune(config, folder, weights, plan)
    score = evaluate(config, checkpoint, "val", folder / "eval_val", None)
    infos = read_infos(root / "nuscenes_infos_val.json")
    tokens = [keyframe["token"] for keyframe in infos.keyframes]
    truth = Truth(open_root(str(root), infos.version), tokens, config.classes)
    examined = examine(truth, folder / "eval_val/results_nusc.json")
    return {"mAP": score["mAP"], "draws": examined["draws"]["mAP"]}


def converted(config: Config, base: Path, name: str, folder: Path) -> Path:
    """Write the weights of ``base``, whose head has group norms, as the arm's head wants them."""
    state = dict(read_state(base))
    if name in ("no_norm", TOWERS):
        state = folded(config, base, state, BRANCHES if name == TOWERS else ("",))
    elif name != "group_norm":
        state = {key.replace(".gn.", ".ln."): value for key, value in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "converted.pth"
    torch.save({"state_dict": state}, path)
    return path


@torch.no_grad()
def folded(
    config: Config, base: Path, state: dict[str, Tensor], parts: Sequence[str]
) -> dict[str, Tensor]:
    """Make the mean statistics of group norms part of the convolutions before them.

    These are the norms whose name holds one of ``parts``.
    """
    count = len(read_infos(Path(config.train_dataloader.dataset.ann_file)).keyframes)
    spread = [number * count // KEYFRAMES for number in range(KEYFRAMES)]
    subject = trained_subject(config, base, "train", spread)
    model = subject.model
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def look(name: str, norm: nn.GroupNorm, x: Tensor) -> None:
        groups = x.unflatten(1, (norm.num_groups, -1)).flatten(2)
        deviation = (groups.var(2, unbiased=False) + norm.eps).sqrt()
        seen.setdefault(name, []).append((groups.mean((0, 2)), deviation.mean(0)))

    for name, module in model.named_modules():
        if isinstance(module, nn.GroupNorm) and any(part in name for part in parts):
            module.register_forward_pre_hook(
                lambda norm, given, name=name: look(name, norm, given[0])
            )
    model.bbox_head(model.neck(model.backbone(subject.images)))
    for name, found in seen.items():  # of all levels
        conv = name.removesuffix("gn") + "conv"
        scale, shift = (state.pop(f"{name}.{part}") for part in ("weight", "bias"))
        size = len(scale) // len(found[0][0])
        mean, deviation = (
            torch.stack(part).mean(0).repeat_interleave(size) for part in zip(*found, strict=True)
        )
        state[f"{conv}.weight"] = state[f"{conv}.weight"] * (scale / deviation)[:, None, None, None]
        state[f"{conv}.bias"] = (state[f"{conv}.bias"] - mean) * scale / deviation + shift
    return state


def over(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Mean and 95% interval of the difference, in points of mAP, seed by seed."""
    pairs = list(zip(rows, others, strict=False))
    values = [one["mAP"] - other["mAP"] for one, other in pairs]
    draws = [np.array(one["draws"]) - np.array(other["draws"]) for one, other in pairs]
    return interval(values, draws)


if __name__ == "__main__":
    main()
