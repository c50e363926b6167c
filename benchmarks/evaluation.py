"""Measure the time of evaluating a plan, and how well latency is predicted.

    python benchmarks/evaluation.py [--out benchmarks/results/evaluation_cpu.json]

The detectors are the demo's detector and Swin-T at 704 x 256, on made streets. The figures for each
detector:

- seconds of one evaluation after the first, by mAP, in one thread - the share of these seconds
outside the forward passes (from images to each image's boxes):
  merging of cameras, boxes to the global frame and the devkit's scoring, which should be little
- seconds to load the objective, once

Weights are fresh and every score counts. A keyframe therefore has 500 boxes, the most that a
keyframe may have. A trained detector finds fewer boxes, so scoring takes the longest time possible.

The latency table of both backbones is measured too, with six images at once. Its error on 20 random
plans, timed in the same run, is shown beside the noise of these times. The run takes some 15
minutes on two cores. The last line is one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmdet3d.registry import MODELS

from data_tools.convert import write_infos
from data_tools.synthetic.dataset import VERSION, Settings, make_dataset
from sparsevit3d.backbone import backbone_of
from sparsevit3d.cost.latency_table import Machine, measure_table
from sparsevit3d.cost.macs import SHARE, plan_of_share
from sparsevit3d.files import write_json
from sparsevit3d.processes import usual_workers
from sparsevit3d.search.objective import Question
from sparsevit3d.stages.checkpoints import seal
from sparsevit3d.stages.config import load_config
from sparsevit3d.terminal import progress_bar

CONFIGS = ("fcos3d_small_synthetic", "fcos3d_swin-t_704x256")
KEYFRAMES = 4
EVERYTHING = ("model.test_cfg.score_thr=0.0",)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results/evaluation_cpu.json"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = make_dataset(
            Path(folder) / "root", Settings((1, 2, 1), 2, 640, 360), usual_workers()
        )
        write_infos(root, VERSION, ["search"])
        rows = {name: measure(name, root, Path(folder)) for name in CONFIGS}
    document = {
        "command": "benchmarks/evaluation.py",
        "torch": torch.__version__,
        "detectors": rows,
    }
    write_json(arguments.out, document)
    print(json.dumps(document))


def measure(name: str, root: Path, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(usual_workers())  # the objective leaves one worker unused
    config = load_config(
        Path(__file__).parent.parent / f"configs/{name}.py", root, options=EVERYTHING
    )
    config.model.backbone.pop("init_cfg", None)  # the initial weights may not be available
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    checkpoint = {"state_dict": model.state_dict()}
    seal(checkpoint)
    torch.save(checkpoint, folder / f"{name}.pth")
    net = backbone_of(model)
    (width, height) = config.image_size
    machine = Machine.here("cpu", "float32", (6, 3, height, width))
    with machine.takes(net) as (placed, images), progress_bar(name) as update:
        _, accuracy = measure_table(placed, images, runs=8, progress=update)
    plan = plan_of_share(net, (height, width), SHARE)
    begin = time.perf_counter()
    objective = Question(config, folder / f"{name}.pth", keyframes=KEYFRAMES).load()
    loaded = time.perf_counter()
    objective(plan)
    spent = 0.0
    forward = objective.model.test_step

    def timed(batch: Any) -> Any:
        nonlocal spent
        start = time.perf_counter()
        found = forward(batch)
        spent += time.perf_counter() - start
        return found

    objective.model.test_step = timed
    start = time.perf_counter()
    objective(plan)
    whole = time.perf_counter() - start
    return {
        "keyframes": KEYFRAMES,
        "seconds_to_load": loaded - begin,
        "seconds_of_an_evaluation": whole,
        "seconds_of_forward_passes": spent,
        "share_of_all_the_rest": 1 - spent / whole,
        "latency_table": {**asdict(machine), **asdict(accuracy)},
    }


if __name__ == "__main__":
    main()
