"""Measure what the data tools cost as a dataset grows.

Time should grow in proportion to the dataset, and memory should not grow at all. The datasets have
1, 10 and 100 synthetic scenes of ten keyframes. Images are 64 x 36, because the measured tools do
not open images. Each tool runs in its own process with one worker, so that its peak memory is its
own. A further figure is the rate at which frames of 800 x 450 are rendered, with a worker for each
core, start-up included.

    python benchmarks/data.py --out benchmarks/results/data_cpu.json

The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

SCENES = (1, 10, 100)
KEYFRAMES = 10


def run(tool: str, root: Path, scenes: int, answer: Connection) -> None:
    """Run one tool in this process and send its figures.

    The figures are its seconds, and its peak and starting memory in MiB.
    """
    from data_tools.check.run import check
    from data_tools.convert import write_infos
    from data_tools.statistics import statistics
    from data_tools.synthetic.dataset import VERSION, Settings, make_dataset

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    if tool == "synth":
        make_dataset(root, Settings((scenes, 0, 0), KEYFRAMES, 64, 36, preset="standard"))
    elif tool == "infos":
        write_infos(root, VERSION, ["train"])
    elif tool == "check":
        check(root, VERSION, False, 1)
    else:
        statistics(root, VERSION, 1)
    seconds = time.perf_counter() - start
    answer.send(
        {
            "seconds": seconds,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "imports_mib": before,
        }
    )


def measure(tool: str, root: Path, scenes: int) -> dict[str, float]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=run, args=(tool, root, scenes, there)
    )
    process.start()
    there.close()  # without this the death of the process would go unnoticed
    answer: dict[str, float] = here.recv()
    process.join()
    return answer | {"keyframes_per_second": scenes * KEYFRAMES / answer["seconds"]}


def rendering(scratch: Path) -> dict[str, float]:
    from data_tools.synthetic.dataset import Settings, make_dataset
    from data_tools.synthetic.presets import PRESETS
    from sparsevit3d.processes import usual_workers

    rates = {}
    for preset in PRESETS:
        start = time.perf_counter()
        make_dataset(
            scratch / preset, Settings((8, 0, 0), 8, 800, 450, preset=preset), usual_workers()
        )
        rates[preset] = 8 * 8 * 6 / (time.perf_counter() - start)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result: dict[str, dict[str, dict[str, float]] | dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for tool in ("synth", "infos", "check", "stats"):
            rows = {
                str(scenes): measure(tool, Path(scratch) / str(scenes), scenes) for scenes in SCENES
            }
            result[tool] = rows
            for scenes, row in rows.items():
                print(
                    f"{tool:6s} {scenes:>4s} scenes: {row['seconds']:7.2f} s, "
                    f"{row['keyframes_per_second']:6.1f} keyframes/s, "
                    f"peak {row['peak_mib']:.0f} MiB, of which {row['imports_mib']:.0f} before "
                    "it began",
                    flush=True,
                )
        result["frames_per_second_800x450"] = rendering(Path(scratch))
        print(
            "frames of 800 x 450 per second:",
            {name: round(value, 1) for name, value in result["frames_per_second_800x450"].items()},
        )
    line = json.dumps(result)
    if arguments.out:
        from sparsevit3d.files import write_text

        write_text(arguments.out, line + "\n")
    print(line)


if __name__ == "__main__":
    main()
