"""Who judges plans: this process, several of this machine, or those of a Ray cluster.

Each is called with the plans of a generation and yields what they score, in the order in which they are done. Whoever judges loads
the objective once and uses a fixed number of threads, so a plan's score is the same whoever gives it. A plan whose worker is lost goes
to another one.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from typing import Any, Protocol

from sparsevit3d.plan import SparsityPlan
from sparsevit3d.search.budget import SearchError

Metrics = dict[str, float]
Objective = Callable[[SparsityPlan], Metrics]
LOSSES = 5  # times that workers may be lost before a plan is done

LOST = f"workers died {LOSSES} times before one had judged a plan, as they do where memory runs out; try fewer --workers"


class Question(Hashable, Protocol):
    """What to load an objective from; it travels to other processes, and equal ones mean equal scores.

    ``threads``: how many the objective uses.
    """

    @property
    def threads(self) -> int: ...

    def load(self) -> Objective: ...


class Judge(Protocol):
    def __call__(self, plans: Sequence[SparsityPlan]) -> Iterator[tuple[SparsityPlan, Metrics]]: ...

    def close(self) -> None: ...


def hire(question: Question, workers: int, ray: str | None = None) -> Judge:
    """This process for one worker, others for more; ``ray``: the address of a cluster instead."""
    if ray is not None:
        return Cluster(question, ray)
    return Here(question) if workers == 1 else Processes(question, workers)


@lru_cache(maxsize=1)
def _load(question: Question) -> Objective:
    return question.load()


def _judge(question: Question, plan: SparsityPlan) -> Metrics:
    return _load(question)(plan)


class Here:
    """This process, one plan after the other."""

    def __init__(self, question: Question) -> None:
        self.question = question

    def __call__(self, plans: Sequence[SparsityPlan]) -> Iterator[tuple[SparsityPlan, Metrics]]:
        for plan in plans:
            yield plan, _judge(self.question, plan)

    def close(self) -> None:
        _load.cache_clear()


class Processes:
    """So many processes of this machine; where there are GPUs, each has one to itself, in turn."""

    def __init__(self, question: Question, workers: int) -> None:
        self.question, self.workers = question, workers
        self._pool = self._begin()

    def _begin(self) -> ProcessPoolExecutor:
        spawn = multiprocessing.get_context("spawn")  # a fork would inherit threads that hold locks
        turns = spawn.Value("i", 0)
        return ProcessPoolExecutor(self.workers, spawn, initializer=_begin, initargs=(turns,))

    def __call__(self, plans: Sequence[SparsityPlan]) -> Iterator[tuple[SparsityPlan, Metrics]]:
        left, losses = list(plans), 0
        while left:
            futures = {self._pool.submit(_judge, self.question, plan): plan for plan in left}
            try:
                for future in as_completed(futures):
                    metrics = future.result()
                    left.remove(futures[future])
                    losses = 0
                    yield futures[future], metrics
            except BrokenProcessPool:
                losses += 1
                if losses == LOSSES:
                    raise SearchError(LOST) from None
                self._pool = self._begin()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _begin(turns: Any) -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _take_gpu(turns)


def _leave_with_parent() -> None:
    """A worker whose search was killed would wait for plans for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _take_gpu(turns: Any) -> None:
    """The next of this machine's GPUs, said before CUDA is first asked for."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus is None:
        from torch.cuda import device_count  # counts without beginning to use them

        gpus = ",".join(map(str, range(device_count())))
    if names := [name for name in gpus.split(",") if name]:
        with turns.get_lock():
            os.environ["CUDA_VISIBLE_DEVICES"] = names[turns.value % len(names)]
            turns.value += 1


class Cluster:
    """The nodes of a Ray cluster, by Ray's own scheduling and fault tolerance; they need the same files at the same places.

    ``address``: of a cluster that runs, "auto" for this machine's, or "local" to begin one here.
    """

    def __init__(self, question: Question, address: str) -> None:
        try:
            import ray
        except ImportError:
            raise SearchError("--ray needs Ray: pip install 'sparsevit3d[ray]'") from None
        self.ray = ray
        try:
            ray.init(address, log_to_driver=False, configure_logging=False, include_dashboard=False if address == "local" else None)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise SearchError(f"--ray {address}: no cluster is to be reached there ({error})") from None
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        self._judge = ray.remote(num_cpus=question.threads, num_gpus=gpus, max_retries=LOSSES - 1)(_judge)
        self._question = ray.put(question)

    def __call__(self, plans: Sequence[SparsityPlan]) -> Iterator[tuple[SparsityPlan, Metrics]]:
        waiting = {self._judge.remote(self._question, plan): plan for plan in plans}
        while waiting:
            (done,), _ = self.ray.wait(list(waiting))
            plan = waiting.pop(done)
            try:
                metrics = self.ray.get(done)
            except (
                self.ray.exceptions.WorkerCrashedError,
                self.ray.exceptions.NodeDiedError,
                self.ray.exceptions.OutOfMemoryError,
            ):
                raise SearchError(LOST) from None
            yield plan, metrics

    def close(self) -> None:
        self.ray.shutdown()
