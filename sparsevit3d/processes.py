"""Work for several processes: in order, and never more of it under way than they need."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def usual_workers() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def end_with_parent() -> None:
    """End this process when its parent ends: a parent that was killed tells its workers nothing."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _begin() -> None:
    # One thread, said before a process imports what reads it. Threads of several processes on the
    # same cores would only wait for each other.
    os.environ["OMP_NUM_THREADS"] = "1"
    end_with_parent()


def in_order(
    function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]], workers: int
) -> Iterator[Result]:
    """``function(*job)`` of each job, in the jobs' order.

    With one worker it is this very process, and nothing is begun ahead.
    """
    if workers == 1:
        yield from (function(*job) for job in jobs)
        return
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_begin
    ) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(function, *job))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
