"""Who judges plans: this process, several of this machine, or those of a Ray cluster.

Each judge is called with the plans of a generation and yields their scores, in the order in which
they are done. A judge loads the objective once and uses a fixed number of threads. So a plan's
score is the same whoever gives it. A plan whose worker is lost goes to another worker.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from typing import Protocol

from sparsevit3d.errors import InputError
from sparsevit3d.processes import end_with_parent
from sparsevit3d.swin.plan import SparsityPlan

Metrics = dict[str, float]
Objective = Callable[[SparsityPlan], Metrics]
LOSSES = 5  # after so many lost workers a plan is given up
LOST = (
    f"{LOSSES} workers died while they judged plan {{plan}}, as happens where memory runs out. "
    "Use fewer --workers."
)


class Question(Hashable, Protocol):
    """What to load an objective from.

    A question travels to other processes. Each of these is asked one question alone. ``threads``
    says how many threads the objective uses.
    """

    @property
    def threads(self) -> int: ...

    def load(self) -> Objective: ...


class Judge(Protocol):
    # Takes the plans of a generation. Yields each plan with its metrics, as soon as it is done.
    def __call__(self, plans: Sequence[SparsityPlan]) -> Iterator[tuple[SparsityPlan, Metrics]]: ...

    def close(self) -> None: ...


def hire(question: Question, workers: int, ray: str | None = None) -> Judge:
    """Hire this process for one worker, or others for more.

    ``ray`` is the address of a cluster to use instead.
    """
    if ray is not None:
        return Cluster(question, ray)
    return Here(question) if workers == 1 else Processes(question, workers)


@lru_cache(maxsize=1)
def _load(question: Question) -> Objective:
    return question.load()


def _judge(question: Question, plan: SparsityPlan) -> Metrics:
    return _load(question)(plan)


class Here:
    """Judge in this process, one plan after the other.

    Args:
        question (Question): What to load the objective from.
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        self._objective: Objective | None = None

    def __call__(self, plans: Sequence[SparsityPlan]) -> Iterator[tuple[SparsityPlan, Metrics]]:
        for plan in plans:
            self._objective = self._objective or self.question.load()
            yield plan, self._objective(plan)

    def close(self) -> None:
        self._objective = None


class Processes:
    """Judge in several processes of this machine.

    Where there are GPUs, each process has one to itself, in turn.

    Args:
        question (Question): What to load the objective from.
        workers (int): How many processes.
    """

    def __init__(self, question: Question, workers: int) -> None:
        self.question = question
        self._workers = [self._begin(place) for place in range(workers)]

    def __call__(self, plans: Sequence[SparsityPlan]) -> Iterator[tuple[SparsityPlan, Metrics]]:
        waiting = deque(plans)
        losses = Counter[SparsityPlan]()
        idle = list(range(len(self._workers)))
        running = dict[Future[Metrics], tuple[SparsityPlan, int]]()
        while waiting or running:
            while waiting and idle:
                plan = waiting.popleft()
                place = idle.pop()
                running[self._submit(plan, place)] = plan, place
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                plan, place = running.pop(future)
                idle.append(place)
                try:
                    metrics = future.result()
                except BrokenProcessPool:  # only this worker is lost
                    losses[plan] += 1
                    if losses[plan] == LOSSES:
                        raise InputError(LOST.format(plan=plan)) from None
                    waiting.appendleft(plan)
                    continue
                yield plan, metrics

    def close(self) -> None:
        for worker in self._workers:
            worker.shutdown(cancel_futures=True)

    def _begin(self, place: int) -> ProcessPoolExecutor:
        spawn = multiprocessing.get_context("spawn")  # a fork would inherit threads that hold locks
        return ProcessPoolExecutor(1, spawn, initializer=_begin, initargs=(place,))

    def _submit(self, plan: SparsityPlan, place: int) -> Future[Metrics]:
        try:
            return self._workers[place].submit(_judge, self.question, plan)
        except BrokenProcessPool:  # the worker was lost, with a plan or while it waited for one
            self._workers[place] = self._begin(place)
            return self._workers[place].submit(_judge, self.question, plan)


def _begin(place: int) -> None:
    end_with_parent()
    _take_gpu(place)


def _take_gpu(place: int) -> None:
    """Choose one of this machine's GPUs, before CUDA is first asked for."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus is None:
        from torch.cuda import device_count  # counts without beginning to use them

        gpus = ",".join(map(str, range(device_count())))
    if names := [name for name in gpus.split(",") if name]:
        os.environ["CUDA_VISIBLE_DEVICES"] = names[place % len(names)]


class Cluster:
    """Judge on the nodes of a Ray cluster, by Ray's own scheduling and fault tolerance.

    The nodes need the same files at the same places.

    Args:
        question (Question): What to load the objective from.
        address (str): Address of a cluster that runs, "auto" for this machine's, or "local" to
            begin one here.

    Raises:
        InputError: Ray is not installed, no cluster answers, or no node has enough cores.
    """

    def __init__(self, question: Question, address: str) -> None:
        try:
            import ray
        except ImportError:
            raise InputError("--ray needs Ray: pip install 'sparsevit3d[ray]'") from None
        self.ray = ray
        try:
            ray.init(
                address,
                log_to_driver=False,
                configure_logging=False,
                include_dashboard=False if address == "local" else None,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(
                f"--ray {address}: no cluster is to be reached there ({error})."
            ) from None
        most = max(node["Resources"].get("CPU", 0) for node in ray.nodes())
        if most < question.threads:
            raise InputError(
                f"--threads {question.threads}: the largest node of the Ray cluster has {most:g} "
                "cores."
            )
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        self._judge = ray.remote(num_cpus=question.threads, num_gpus=gpus, max_retries=LOSSES - 1)(
            _judge
        )
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
                raise InputError(LOST.format(plan=plan)) from None
            yield plan, metrics

    def close(self) -> None:
        self.ray.shutdown()
