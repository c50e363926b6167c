"""Takes steps beside each other, one for each core, as soon as what they need is there; whatever
has its product is passed over.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

from benchmarks.accuracy.room import THREADS, Room, Step
from sparsevit3d.processes import end_with_parent
from sparsevit3d.terminal import console, progress_bar

# Of every step. What a pass of gradients took and gave back, the C library would give back to the
# system, and have it cleared at the next.
KEPT = str(8 << 30)
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": KEPT,
    "MALLOC_TRIM_THRESHOLD_": KEPT,
}


def take(room: Room, steps: Sequence[Step], out: Path) -> None:
    """All steps that are not done, as soon as what they need is there, the first ones first."""
    left = [step for step in steps if not step.done(room)]
    cores = len(os.sched_getaffinity(0))
    os.environ |= ENVIRONMENT | {"XDG_CACHE_HOME": str((room.folder / "cache").absolute())}
    running: dict[Future[float], Step] = {}
    keep(room, out)
    # A process for each step: mmengine leaves much behind in one.
    with (
        ProcessPoolExecutor(cores, get_context("spawn"), max_tasks_per_child=1) as pool,
        progress_bar("steps") as update,
    ):
        while left or running:
            for step in ready(room, left, list(running.values()), cores):
                left.remove(step)
                running[pool.submit(run_step, step, room)] = step
            if not running:
                raise RuntimeError(
                    f"no step can begin: {left[0].product} needs what none of the steps makes"
                )
            update(
                len(steps) - len(left) - len(running),
                len(steps),
                ", ".join(str(step.product.parent) for step in running.values()),
            )
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                console.print(f"{time.strftime('%H:%M')}  {step.product}: {future.result():.0f} s")
                keep(room, out)
        update(len(steps), len(steps), "")


def ready(room: Room, left: list[Step], running: list[Step], cores: int) -> list[Step]:
    """Those to begin now."""
    able = [step for step in left if step.can_begin(room)]
    if any(step.alone for step in running) or len(running) >= cores:
        return []
    if able and able[0].alone:
        return [] if running else able[:1]
    return [step for step in able if not step.alone][: cores - len(running)]


def run_step(step: Step, room: Room) -> float:
    """In a process of its own; what it says goes to a file beside its product. Returns seconds."""
    log = (room.folder / step.product).with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    end_with_parent()
    import torch

    torch.set_num_threads(THREADS)
    start = time.monotonic()
    step.run(room)
    return time.monotonic() - start


def keep(room: Room, out: Path) -> None:
    """Copy results to where they are committed."""
    out.mkdir(parents=True, exist_ok=True)
    for path in (room.folder / "results").glob("*.json"):
        shutil.copy(path, out / path.name)
