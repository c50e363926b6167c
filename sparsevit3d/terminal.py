"""The terminal: one console, one progress bar, one line for a warning."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)
from rich.status import Status
from rich.text import Text

from sparsevit3d.progress import Progress

Item = TypeVar("Item")

# Under torchrun, only the first process speaks. What is printed may hold a user's names, so square
# brackets and colons in text mean nothing.
console = Console(quiet=os.environ.get("RANK", "0") != "0", markup=False, emoji=False)


def show_error(error: object) -> None:
    """Print what is wrong, on a line of its own. Every process of torchrun shows it."""
    speaker = Console(markup=False, emoji=False) if console.quiet else console
    speaker.print(Text("error", "bold red"), Text(str(error)), soft_wrap=True)


def working(text: str) -> Status:
    """Show ``text`` beside a spinner until the block ends."""
    return console.status(Text(text))


def tidy_warnings() -> None:
    """Show each warning as one line, without the place in our code that it comes from."""
    warnings.formatwarning = _in_a_line
    warnings.filterwarnings("ignore", message="torch.meshgrid")  # mmdet3d's, at every start


def _in_a_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    return f"warning: {message}\n"


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show a bar until the block ends. Yields ``update(done, total, note)``."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, refresh_per_second=2) as bar:
        task = bar.add_task(title, total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield update


def tracked(items: Sequence[Item], title: str) -> Iterator[Item]:
    """Yield ``items`` one by one, with a bar that moves on when the next one is asked for."""
    with progress_bar(title) as update:
        for done, item in enumerate(items):
            update(done, len(items))
            yield item
        update(len(items), len(items))
