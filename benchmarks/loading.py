"""Measure how many images a second the training pipeline delivers and the detector can take.

A frame of nuScenes is a JPEG of 1600 x 900. A network that sees 704 x 256 needs the frame at 704 x
396. The decoder can therefore stop at half the size, which leaves less to scale down. Both ways
take turns on the same files in one process. Then a DataLoader with a worker for each core runs the
whole training pipeline, up to batches in the training process. The detector's rate is read from the
results of ``sparsevit3d benchmark``.

    python benchmarks/loading.py --data ROOT --infos DIR --split SPLIT \\
        --out benchmarks/results/loading_cpu.json

Without --data a small synthetic root of the native size is rendered first. The last line is one
JSON document.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mmcv
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from torch.utils.data import ConcatDataset, DataLoader

from data_tools.convert import write_infos
from data_tools.synthetic.dataset import VERSION, Settings, make_dataset
from sparsevit3d.detector.transforms import FitCamera, LoadCalibratedImage
from sparsevit3d.files import write_text
from sparsevit3d.processes import usual_workers
from sparsevit3d.stages.config import load_config

HERE = Path(__file__).parent
CONFIGS = {"704 x 256": "fcos3d_swin-t_704x256", "1600 x 900": "fcos3d_swin-t_1600x900"}
ROUNDS = 7


def rate(work: Callable[[], int]) -> float:
    start = time.perf_counter()
    count = work()
    return count / (time.perf_counter() - start)


def measure(config_name: str, root: Path, infos: Path, split: str) -> dict[str, float]:
    """Measure images a second, as medians.

    The figures are for whole JPEGs, for JPEGs decoded as small as possible, and for the pipeline
    with all workers.
    """
    config = load_config(HERE.parent / f"configs/{config_name}.py", root, infos)
    config.train_dataloader.dataset.ann_file = str(
        (infos / f"nuscenes_infos_{split}.json").absolute()
    )
    dataset = DATASETS.build(config.train_dataloader.dataset)
    entries = [dataset.get_data_info(index) for index in range(len(dataset))]
    load = LoadCalibratedImage(*config.image_size)
    fit = FitCamera(*config.image_size)

    def ours() -> int:
        for entry in entries:
            fit(load({"images": entry["images"]}))
        return len(entries)

    def whole() -> int:
        for entry in entries:
            (camera,) = entry["images"].values()
            fit({"img": mmcv.imread(camera["img_path"]), "cam2img": camera["cam2img"]})
        return len(entries)

    rates: dict[str, list[float]] = {"whole": [], "ours": []}
    for _ in range(ROUNDS):
        rates["whole"].append(rate(whole))
        rates["ours"].append(rate(ours))
    workers = usual_workers()
    loader = DataLoader(
        ConcatDataset([dataset] * 8),
        batch_size=8,
        num_workers=workers,
        collate_fn=pseudo_collate,
        persistent_workers=True,
    )

    def pipeline() -> int:
        return sum(len(batch["inputs"]["img"]) for batch in loader)

    pipeline()  # starts the workers
    rates["pipeline"] = [rate(pipeline) for _ in range(ROUNDS)]
    return {name: statistics.median(values) for name, values in rates.items()} | {
        "workers": workers
    }


def appetite() -> float:
    """Return images a second of the fastest detector that was measured on six cameras."""
    result = json.loads((HERE / "results/cpu_6x3x256x704.json").read_text())
    return 6000 / min(row["p50_ms"] for row in result["detector"].values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--infos", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.data
        if root is None:
            root = make_dataset(
                Path(scratch) / "root",
                Settings((2, 0, 0), 2, 1600, 900, preset="standard"),
                usual_workers(),
            )
            write_infos(root, VERSION, ["train"])
        result = {
            "images_per_second": {
                size: measure(name, root, arguments.infos or root, arguments.split)
                for size, name in CONFIGS.items()
            },
            "detector_takes_at_704x256": appetite(),
            "data": "real nuScenes" if arguments.data else "synthetic, 1600 x 900",
        }
    for size, rates in result["images_per_second"].items():
        gain = rates["ours"] / rates["whole"]
        print(
            f"{size}: whole JPEGs {rates['whole']:.0f}, no larger than needed "
            f"{rates['ours']:.0f} images/s in one process ({gain:.2f}x); "
            f"the training pipeline {rates['pipeline']:.0f} images/s with {rates['workers']} "
            "workers"
        )
    print(
        f"the fastest detector on this machine takes {result['detector_takes_at_704x256']:.1f} "
        "images/s at 704 x 256"
    )
    line = json.dumps(result)
    if arguments.out:
        write_text(arguments.out, line + "\n")
    print(line)


if __name__ == "__main__":
    main()
