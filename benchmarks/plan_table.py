"""Evaluate every plan of a reduced space on the splits ``search`` and ``val``.

Searches see ``search`` and do not see ``val``.

    python benchmarks/plan_table.py --from work_dirs/adapted/epoch_0005.pth \\
        --data data/synthetic --work-dir work_dirs/table

``benchmarks/search.py`` compares search algorithms on the table, over many seeds in seconds. At 384
x 192 the demo's detector has 288, 72, 18 and 6 windows. Each step of the ratio changes how many
windows a stage keeps, so the detector sees no two of the 625 plans as the same. The run takes an
hour on two cores. An interrupted run goes on.

The weights of ``benchmarks/results/plan_table.json`` were trained as in the demo. They were then
adapted for five epochs at this size:

    sparsevit3d adapt configs/fcos3d_small_synthetic.py \\
        --from work_dirs/trained/epoch_0006.pth --work-dir work_dirs/adapted \\
        --set image_size=[384,192] --set train_cfg.max_epochs=5
"""

from __future__ import annotations

import argparse
import json
import os
from contextlib import closing
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

from sparsevit3d.backbone import backbone_of
from sparsevit3d.cost.macs import count_macs
from sparsevit3d.files import write_json
from sparsevit3d.search.journal import Journal
from sparsevit3d.search.objective import Question
from sparsevit3d.search.workers import hire
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.runner import load_detector
from sparsevit3d.swin.plan import SparsityPlan, every_plan, kept_count
from sparsevit3d.swin.sparse_swin import SparseSwin
from sparsevit3d.swin.windows import window_table
from sparsevit3d.terminal import console, progress_bar

CONFIG = Path(__file__).parent.parent / "configs/fcos3d_small_synthetic.py"
SIZE = (384, 192)
GRID = (0.0, 0.2, 0.4, 0.6, 0.8)
KEYFRAMES = {"search": None, "val": 20}  # keyframes of each split


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="weights", type=Path, required=True, help="adapted weights")
    parser.add_argument(
        "--data", type=Path, required=True, help="the root that they were trained on"
    )
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results/plan_table.json"
    )
    arguments = parser.parse_args()
    config = load_config(CONFIG, arguments.data, options=[f"image_size=[{SIZE[0]},{SIZE[1]}]"])
    net = backbone_of(load_detector(config, arguments.weights, None))
    plans = list(every_plan(net.depths, GRID))
    windows = windows_per_stage(net)
    for stage, count in enumerate(windows):
        kept = [kept_count(count, ratio) for ratio in GRID]
        assert all(more > less for more, less in pairwise(kept)), (
            f"stage {stage + 1}: ratios {GRID} keep {kept} of {count} windows"
        )
        console.print(f"stage {stage + 1}: {count} windows, of which ratios {GRID} keep {kept}")
    arguments.work_dir.mkdir(parents=True, exist_ok=True)
    questions = {
        split: Question(config, arguments.weights, keyframes=count, split=split)
        for split, count in KEYFRAMES.items()
    }
    scores = {
        split: judge_all(question, plans, arguments.work_dir / f"{split}.jsonl")
        for split, question in questions.items()
    }
    dense = count_macs(net, SIZE[::-1], plans[0])
    document = {
        "command": "benchmarks/plan_table.py",
        "image_size": SIZE,
        "grid": GRID,
        "windows_per_stage": windows,
        "weights": questions["search"].identity["weights"],
        "data": {split: question.identity["data"] for split, question in questions.items()},
        "keyframes": {
            split: len(question.load().metric.infos) for split, question in questions.items()
        },
        "versions": {
            name: version(name) for name in ("torch", "mmdet3d", "nuscenes-devkit", "sparsevit3d")
        },
        "columns": [
            "share of dense MACs",
            *(f"{name} on {split}" for split in KEYFRAMES for name in ("mAP", "NDS")),
        ],
        "plans": {
            str(plan): row(plan, count_macs(net, SIZE[::-1], plan) / dense, scores)
            for plan in plans
        },
    }
    write_json(arguments.out, document)
    print(
        json.dumps(
            {key: value for key, value in document.items() if key != "plans"}
            | {"plans": len(plans)}
        )
    )


def windows_per_stage(net: SparseSwin) -> list[int]:
    width, height = (side // net.patch_size for side in SIZE)
    sizes = [(-(-height // 2**stage), -(-width // 2**stage)) for stage in range(len(net.depths))]
    return [
        len(window_table(*size, stage.blocks[0].window, 0).tokens)
        for size, stage in zip(sizes, net.stages, strict=True)
    ]


def judge_all(
    question: Question, plans: list[SparsityPlan], path: Path
) -> dict[SparsityPlan, dict[str, float]]:
    """Return the scores of every plan.

    Each result is on disk before the next plan is judged.
    """
    with (
        closing(Journal(path, question.identity)) as journal,
        closing(hire(question, len(os.sched_getaffinity(0)))) as judge,
        progress_bar(f"evaluating on {question.split}") as update,
    ):
        for plan, metrics in judge([plan for plan in plans if plan not in journal.scores]):
            journal.add_score(plan, metrics, 1, {})
            update(len(journal.scores), len(plans))
        return journal.scores


def row(
    plan: SparsityPlan, share: float, scores: dict[str, dict[SparsityPlan, dict[str, float]]]
) -> list[float]:
    return [
        round(share, 6),
        *(round(scores[split][plan][name], 6) for split in KEYFRAMES for name in ("mAP", "NDS")),
    ]


if __name__ == "__main__":
    main()
