"""What a plan will cost, predicted by adding up the timed parts of a backbone.

The parts are timed once for each ratio. In a pass under a uniform plan every block pair runs at the
plan's ratio. Each pair runs in its own place in the network, with the caches as they are there. So
one pass for each ratio of the grid times all parts at all ratios. Passes take turns, so that drift
meets all ratios alike.

What remains of a stage is the ranking of its windows, which only pruning needs. What remains of a
pass is embedding, norms and merging.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sparsevit3d.devices import device_name
from sparsevit3d.files import cache_folder, parse_sealed, read_or_drop, sole_owner, write_sealed
from sparsevit3d.progress import Progress, no_progress
from sparsevit3d.swin.importance import Importance
from sparsevit3d.swin.plan import RATIO_GRID, SparsityPlan, sample_plan
from sparsevit3d.swin.sparse_swin import SparseSwin

CHECKED = 20  # random plans that are also timed whole


@dataclass(frozen=True)
class Machine:
    """Where and how a latency is meant.

    Args:
        device (str): The device, by torch's name.
        name (str): The device's own name.
        dtype (str): The dtype, by torch's name.
        shape (tuple of int): (B, C, H, W) of the images.
        threads (int): A CPU's threads.
    """

    device: str
    name: str
    dtype: str
    shape: tuple[int, int, int, int]
    threads: int

    @classmethod
    def here(
        cls, device: str, dtype: str, shape: tuple[int, int, int, int], threads: int | None = None
    ) -> Machine:
        """Describe this machine. ``threads`` None: as many as torch uses by itself."""
        name = device_name(device)
        if device == "cpu":
            name = f"{name}, {os.cpu_count()} cores"
        return cls(device, name, dtype, shape, threads or torch.get_num_threads())

    @contextmanager
    def takes(self, net: SparseSwin) -> Iterator[tuple[SparseSwin, Tensor]]:
        """Yield a copy of ``net`` to time, on the device and in the dtype, and random images.

        Meanwhile torch uses the machine's threads.
        """
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(self.threads)
            placed = (
                copy.deepcopy(net).to(device=self.device, dtype=getattr(torch, self.dtype)).eval()
            )
            generator = torch.Generator().manual_seed(0)
            yield placed, torch.randn(self.shape, generator=generator).to(next(placed.parameters()))
        finally:
            torch.set_num_threads(threads)


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of the parts of a backbone.

    Args:
        grid (tuple of float): The ratios that were timed, in rising order.
        pairs (tuple): Milliseconds of ``pairs[stage][pair]`` at each ratio of ``grid``.
        ranking (tuple of float): Milliseconds of ``ranking[stage]``, spent once in a stage that
            prunes.
        rest (float): Milliseconds of all other parts.
    """

    grid: tuple[float, ...]
    pairs: tuple[tuple[tuple[float, ...], ...], ...]
    ranking: tuple[float, ...]
    rest: float

    def predict(self, plan: SparsityPlan) -> float:
        """Predict the milliseconds of a pass under ``plan``.

        Between two ratios of the grid, the time is interpolated in proportion.
        """
        return self.rest + sum(
            self._stage(stage, ratios) for stage, ratios in enumerate(plan.ratios)
        )

    def fastest(self) -> SparsityPlan:
        """Find the fastest of all plans of the grid.

        In a small stage, computing all windows may be faster than ranking them.
        """
        stages = (
            itertools.combinations_with_replacement(self.grid, len(pairs)) for pairs in self.pairs
        )
        return SparsityPlan(
            tuple(
                min(ratios, key=partial(self._stage, stage)) for stage, ratios in enumerate(stages)
            )
        )

    def _stage(self, stage: int, ratios: Sequence[float]) -> float:
        pairs = zip(ratios, self.pairs[stage], strict=True)
        blocks = sum(float(np.interp(ratio, self.grid, times)) for ratio, times in pairs)
        return blocks + (self.ranking[stage] if any(ratios) else 0.0)


@dataclass(frozen=True)
class Accuracy:
    """How far predictions are from times measured in the same run.

    Noise compares two halves of the measured times.

    Args:
        median_error (float): Median of the relative errors.
        worst_error (float): Largest relative error.
        median_noise (float): Median of the relative differences between two halves.
        worst_noise (float): Largest relative difference between two halves.
    """

    median_error: float
    worst_error: float
    median_noise: float
    worst_noise: float


@dataclass(frozen=True)
class MeasuredTable:
    """A table, and how far it may be trusted.

    Args:
        table (LatencyTable): The times of the parts.
        accuracy (Accuracy): How well they predict plans timed whole.
    """

    table: LatencyTable
    accuracy: Accuracy

    def save(self, path: Path, **origin: Any) -> None:
        """Write the table as sealed JSON, whole or not at all. ``origin`` is kept beside it."""
        write_sealed(path, asdict(self) | origin)

    @classmethod
    def load(cls, path: Path) -> MeasuredTable | None:
        """Read a table. A damaged file is dropped with a warning. None: there is none of use."""
        return read_or_drop(path, "The table is measured again.", cls._parse)

    @classmethod
    def _parse(cls, text: bytes) -> MeasuredTable:
        found = parse_sealed(text)
        return cls(
            LatencyTable(**{name: _tuples(value) for name, value in found["table"].items()}),
            Accuracy(**found["accuracy"]),
        )


def table_for(net: SparseSwin, machine: Machine, progress: Progress = no_progress) -> MeasuredTable:
    """Take the table from the cache, or measure it now, which takes some minutes.

    A cached table is of this net, machine, dtype, shape and these versions.
    """
    origin = {
        "machine": asdict(machine),
        "net": {name: list(tensor.shape) for name, tensor in net.named_parameters()},
        "pruning": [
            _name(net.importance),
            net.stages[0].score_every,
            net.stages[0].blocks[0].pruned,
        ],  # each choice takes a time of its own
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "sparsevit3d": version("sparsevit3d"),
        },
    }
    key = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()
    path = cache_folder("latency") / f"{key}.json"
    if (known := MeasuredTable.load(path)) is not None:
        return known
    with machine.takes(net) as (placed, images):
        found = MeasuredTable(*measure_table(placed, images, progress=progress))
    with contextlib.suppress(OSError), sole_owner(path.parent, lambda: None):
        found.save(path, **origin)  # if this fails, the table is measured again another time
    return found


def _name(importance: Importance | str) -> str:
    return (
        importance
        if isinstance(importance, str)
        else getattr(importance, "__qualname__", type(importance).__qualname__)
    )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def measure_table(
    net: SparseSwin,
    images: Tensor,
    runs: int = 20,
    warm_up: int = 2,
    seed: int = 0,
    progress: Progress = no_progress,
) -> tuple[LatencyTable, Accuracy]:
    """Time the parts of ``net`` on ``images`` (B, C, H, W), and random plans as a whole.

    The plan of ``net`` stays as it is.

    This suits a CPU, where a pass goes through the layers one by one. A GPU replays a pass as a
    graph, which has no parts.
    """
    draw = random.Random(seed)
    own = net.plan
    uniform = [SparsityPlan.uniform(ratio, net.depths) for ratio in RATIO_GRID]
    checked = [sample_plan(draw, net.depths) for _ in range(CHECKED)]
    passes: dict[SparsityPlan, list[Pass]] = {plan: [] for plan in (*uniform, *checked)}
    try:
        with _timed(net) as time_pass, torch.no_grad():
            for turn in range(warm_up + runs):
                for plan, found in passes.items():
                    net.plan = plan
                    one = time_pass(images)
                    if turn >= warm_up:
                        found.append(one)
                progress(turn + 1, warm_up + runs, "timing the parts of the backbone")
    finally:
        net.plan = own
    table = _table([_typical(passes[plan]) for plan in uniform])
    return table, _accuracy(table, {plan: [one.total for one in passes[plan]] for plan in checked})


class Pass(NamedTuple):
    """Milliseconds of one pass.

    Args:
        total (float): Milliseconds of the whole pass.
        stages (tuple of float): Milliseconds of each stage.
        pairs (tuple of tuple of float): Milliseconds of each stage's block pairs.
    """

    total: float
    stages: tuple[float, ...]
    pairs: tuple[tuple[float, ...], ...]


def _typical(passes: Sequence[Pass]) -> Pass:
    """Take the median of every part."""
    stages = zip(*(one.stages for one in passes), strict=True)
    pairs = zip(*(one.pairs for one in passes), strict=True)
    return Pass(
        statistics.median(one.total for one in passes),
        tuple(map(statistics.median, stages)),
        tuple(tuple(map(statistics.median, zip(*stage, strict=True))) for stage in pairs),
    )


def _table(uniform: Sequence[Pass]) -> LatencyTable:
    """Build the table from a typical pass at each ratio of the grid, the first of which is 0."""
    pairs = zip(*(one.pairs for one in uniform), strict=True)
    left = [
        [stage - sum(pairs) for stage, pairs in zip(one.stages, one.pairs, strict=True)]
        for one in uniform
    ]
    ranking = (statistics.median(times) - dense for dense, *times in zip(*left, strict=True))
    rest = (one.total - sum(one.stages) + sum(left[0]) for one in uniform)
    return LatencyTable(
        RATIO_GRID,
        tuple(tuple(zip(*stage, strict=True)) for stage in pairs),
        tuple(max(0.0, ms) for ms in ranking),
        statistics.median(rest),
    )


def _accuracy(table: LatencyTable, measured: Mapping[SparsityPlan, Sequence[float]]) -> Accuracy:
    errors = [
        abs(table.predict(plan) / statistics.median(times) - 1) for plan, times in measured.items()
    ]
    halves = [
        (statistics.median(times[::2]), statistics.median(times[1::2]))
        for times in measured.values()
    ]
    noise = [abs(one / other - 1) for one, other in halves]
    return Accuracy(statistics.median(errors), max(errors), statistics.median(noise), max(noise))


@contextmanager
def _timed(net: SparseSwin) -> Iterator[Callable[[Tensor], Pass]]:
    """Yield a function that makes a pass and times it."""
    spent: dict[nn.Module, float] = {}

    def begin(module: nn.Module, arguments: object) -> None:
        spent[module] = -time.perf_counter()

    def end(module: nn.Module, arguments: object, result: object) -> None:
        spent[module] += time.perf_counter()

    def time_pass(images: Tensor) -> Pass:
        start = time.perf_counter()
        net(images)
        total = time.perf_counter() - start
        blocks = [[spent[block] * 1e3 for block in stage.blocks] for stage in net.stages]
        pairs = tuple(
            tuple(sum(times[at : at + 2]) for at in range(0, len(times), 2)) for times in blocks
        )
        return Pass(total * 1e3, tuple(spent[stage] * 1e3 for stage in net.stages), pairs)

    watched: list[nn.Module] = [
        *net.stages,
        *(block for stage in net.stages for block in stage.blocks),
    ]
    hooks = [module.register_forward_pre_hook(begin) for module in watched]
    hooks += [module.register_forward_hook(end) for module in watched]
    try:
        yield time_pass
    finally:
        for hook in hooks:
            hook.remove()
