"""Take steps beside each other, one for each core, as soon as their needs are met.

A step whose product exists is left out.
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

from benchmarks.accuracy.workspace import THREADS, Step, Workspace
from sparsevit3d.processes import end_with_parent
from sparsevit3d.terminal import console, progress_bar

# For every step. Without these settings the C library would return the memory of each gradient pass
# to the system, which would have to clear the memory for the next pass.
KEPT = str(8 << 30)
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": KEPT,
    "MALLOC_TRIM_THRESHOLD_": KEPT,
}


def run_steps(workspace: Workspace, steps: Sequence[Step], out: Path) -> None:
    """Take all steps that are not done, in order, as soon as the needs of each step are met."""
    left = [step for step in steps if not step.done(workspace)]
    cores = len(os.sched_getaffinity(0))
    os.environ |= ENVIRONMENT | {"XDG_CACHE_HOME": str((workspace.folder / "cache").absolute())}
    running: dict[Future[float], Step] = {}
    keep(workspace, out)
    # Each step has its own process, because mmengine leaves much behind in a process.
    with (
        ProcessPoolExecutor(cores, get_context("spawn"), max_tasks_per_child=1) as pool,
        progress_bar("steps") as update,
    ):
        while left or running:
            for step in ready(workspace, left, list(running.values()), cores):
                left.remove(step)
                running[pool.submit(run_step, step, workspace)] = step
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
                keep(workspace, out)
        update(len(steps), len(steps), "")


def ready(workspace: Workspace, left: list[Step], running: list[Step], cores: int) -> list[Step]:
    """Return the steps to begin now."""
    able = [step for step in left if step.can_begin(workspace)]
    if any(step.alone for step in running) or len(running) >= cores:
        return []
    if able and able[0].alone:
        return [] if running else able[:1]
    return [step for step in able if not step.alone][: cores - len(running)]


def run_step(step: Step, workspace: Workspace) -> float:
    """Run a step in this process, which is the step's own, and return the seconds taken.

    Output goes to a log file beside the step's product.
    """
    log = (workspace.folder / step.product).with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    end_with_parent()
    import torch

    torch.set_num_threads(THREADS)
    start = time.monotonic()
    step.run(workspace)
    return time.monotonic() - start


def keep(workspace: Workspace, out: Path) -> None:
    """Copy the results to the folder in which they are committed."""
    out.mkdir(parents=True, exist_ok=True)
    for path in (workspace.folder / "results").glob("*.json"):
        shutil.copy(path, out / path.name)
