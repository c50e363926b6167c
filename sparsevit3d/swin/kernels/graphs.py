"""Functions of static shapes as CUDA graphs: recorded once, then replayed without their launches.

How many windows a plan keeps does not depend on the image, so a forward pass has static shapes.
This file knows no network: whoever calls says what a recording depends on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

RECORDINGS = 8  # of one owner. Each keeps all memory that its call takes
CALLS_BEFORE = 2  # by then kernels are compiled and the fastest tiles found
IDLE = 100  # calls after which a recording may make room for another
REMEMBERED = 1000  # keys whose calls are counted

Outputs = tuple[Tensor, ...]
Compute = Callable[[Tensor], Outputs]


class Recording(NamedTuple):
    """A call as a CUDA graph. Input and outputs lie where they lay when it was recorded."""

    graph: torch.cuda.CUDAGraph
    input: Tensor
    outputs: Outputs
    held: object  # what the graph reads besides


class Recordings:
    """The recordings of one owner. The one that was idle for longest makes room.

    Args:
        addresses (list of int): Where the weights lie that the recordings read.
    """

    def __init__(self, addresses: list[int]) -> None:
        self.addresses = addresses
        self.number = 0  # of calls
        self.calls: OrderedDict[Hashable, int] = OrderedDict()
        # With the last call that used it, idle ones first.
        self.known: OrderedDict[Hashable, tuple[Recording, int]] = OrderedDict()

    def run(
        self, compute: Compute, x: Tensor, key: Hashable, hold: Callable[[], object]
    ) -> Outputs:
        """``compute(x)``, as a replay from the third call with this key and kind of ``x`` on.

        ``hold()`` returns what a recording reads besides ``x`` and the weights. It is kept alive.
        """
        self.number += 1
        stream = torch.cuda.current_stream(x.device).cuda_stream
        inference = torch.is_inference_mode_enabled()
        key = (key, x.shape, x.dtype, x.device, stream, inference)
        if key not in self.known:
            self.calls[key] = self.calls.pop(key, 0) + 1
            if len(self.calls) > REMEMBERED:
                self.calls.popitem(last=False)
            if self.calls[key] <= CALLS_BEFORE or not self._make_room():
                return compute(x)
            self.known[key] = (record(compute, x, hold), self.number)
        recording, _ = self.known.pop(key)
        self.known[key] = (recording, self.number)
        recording.input.copy_(x)
        recording.graph.replay()
        return tuple(output.clone() for output in recording.outputs)

    def _make_room(self) -> bool:
        """Plans that take turns must not push out each other: recording costs more than a call."""
        if len(self.known) < RECORDINGS:
            return True
        idle, (_, last) = next(iter(self.known.items()))
        if self.number - last < IDLE:
            return False
        del self.known[idle]
        return True


# Beside the owners and not within, because a graph can be neither copied nor saved.
_RECORDINGS: WeakKeyDictionary[object, Recordings] = WeakKeyDictionary()


def forget(owner: object) -> None:
    """Drop what was recorded of ``owner``."""
    _RECORDINGS.pop(owner, None)


def recordings_of(owner: object, addresses: list[int]) -> Recordings:
    """What was recorded with weights at these ``addresses``. A change of their values is seen."""
    known = _RECORDINGS.get(owner)
    if known is None or known.addresses != addresses:
        known = Recordings(addresses)
        _RECORDINGS[owner] = known
    return known


def record(compute: Compute, x: Tensor, hold: Callable[[], object]) -> Recording:
    """Record ``compute`` on a copy of ``x``."""
    x = x.clone()
    side = torch.cuda.Stream(x.device)
    here = torch.cuda.current_stream(x.device)
    side.wait_stream(here)
    with torch.cuda.stream(side):
        # What libraries allocate at their first call on a stream must not be part of the graph.
        compute(x)
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
        outputs = compute(x)
    return Recording(graph, x, outputs, hold())
