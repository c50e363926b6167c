"""A search as a SLURM job, by submitit: submitted, requeued when its time is over, and going on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsevit3d.errors import InputError

REQUEUED = 100  # times at most
# What submitit names alike for every cluster. All else is sbatch's own.
SHARED = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node")
CONSOLE = "from sparsevit3d.cli import main; main()"


@dataclass(frozen=True)
class Command:
    """A command line of ours that goes on where it was cut off.

    submitit calls it on a node. It calls ``checkpoint`` shortly before the job's time is over.

    Args:
        arguments (tuple of str): What follows ``sparsevit3d``.
    """

    arguments: tuple[str, ...]

    def __call__(self) -> None:
        subprocess.run([sys.executable, "-c", CONSOLE, *self.arguments], check=True)

    def checkpoint(self) -> Any:
        """Ask for the same command once more. The journal knows what was judged."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(arguments: Sequence[str], wanted: str, folder: Path) -> Any:
    """Submit a command line of ours as a job, and return submitit's job.

    Args:
        arguments (sequence of str): What follows ``sparsevit3d``.
        wanted (str): What the job wants, such as "partition=gpu,timeout_min=120". "cluster=local"
            runs the job here.
        folder (Path): Where logs go.

    Raises:
        InputError: SLURM is not here, or ``wanted`` cannot be read.
    """
    import submitit

    settings = parse_settings(wanted)
    cluster = str(settings.pop("cluster", "slurm"))
    try:
        executor = submitit.AutoExecutor(
            folder=folder, cluster=cluster, **{f"{cluster}_max_num_timeout": REQUEUED}
        )
        executor.update_parameters(
            **{
                name if name in SHARED else f"{cluster}_{name}": value
                for name, value in settings.items()
            }
        )
        return executor.submit(Command(tuple(arguments)))
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError, OSError) as error:
        raise InputError(f"--slurm {wanted}: {error}") from None


def parse_settings(text: str) -> dict[str, str | int]:
    """Read "name=value,name=value". Whole numbers become such."""
    found: dict[str, str | int] = {}
    for part in text.split(","):
        name, sign, value = part.strip().partition("=")
        if not (name and sign and value):
            raise InputError(
                f"--slurm {text}: {part!r} is not NAME=VALUE. Write partition=gpu,timeout_min=120."
            )
        found[name] = int(value) if value.isdecimal() else value
    return found
