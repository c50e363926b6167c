"""How long work reports how far it is: one shape of callback for all of it."""

from typing import Protocol


class Progress(Protocol):
    """Called as work goes on."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report that ``done`` of ``total`` is done. ``note`` says what is under way."""


def no_progress(done: int, total: int, note: str = "") -> None:
    """Report nothing."""
