"""Which windows ran, as plain data for whoever wants to look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sparsevit3d.macs import block_macs
from sparsevit3d.sparse_swin import SparseSwin
from sparsevit3d.windows import window_table


@dataclass(frozen=True)
class BlockTrace:
    """What one block computed of a batch of B images."""

    stage: int
    block: int
    map_size: tuple[int, int]  # tokens down, tokens across
    stride: int  # image pixels per token, both ways
    window: int  # tokens per window, both ways
    shift: int  # tokens by which Swin rolls the map up and left; 0 for plain windows
    grid: tuple[int, int]  # windows down, windows across; window r * across + c is row r, column c of the rolled map
    scores: NDArray[np.floating] | None  # (B, windows) importance; None where nothing was pruned
    kept: NDArray[np.bool_]  # (B, windows)

    @property
    def share(self) -> float:
        """Share of windows that were computed."""
        return float(self.kept.mean())

    @property
    def tokens(self) -> NDArray[np.integer]:
        """(B,) how many tokens the kept windows hold, padding not counted."""
        return self.kept @ window_table(*self.map_size, self.window, self.shift).sizes.numpy()


@contextmanager
def record_windows(net: SparseSwin) -> Iterator[list[BlockTrace]]:
    """``with record_windows(net) as trace: net(images)`` appends one BlockTrace per block and forward pass, in order."""
    trace: list[BlockTrace] = []
    size = [0, 0]

    def remember_size(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        size[:] = inputs[1], inputs[2]

    def recorder(stage: int, number: int) -> Any:
        def record(block: Any, inputs: tuple[Any, ...]) -> None:
            x, table, choice = inputs
            kept = np.ones((len(x), len(table.tokens)), dtype=bool)
            if choice is not None:
                kept[:] = False
                np.put_along_axis(kept, choice.windows.cpu().numpy(), True, axis=1)
            scores = None if choice is None else choice.scores.detach().float().cpu().numpy()
            stride, map_size = net.patch_size << stage, (size[0], size[1])
            trace.append(BlockTrace(stage, number, map_size, stride, block.window, block.shift, table.grid, scores, kept))

        return record

    handles = []
    for index, stage in enumerate(net.stages):
        handles.append(stage.register_forward_pre_hook(remember_size))
        handles += [block.register_forward_pre_hook(recorder(index, n)) for n, block in enumerate(stage.blocks)]
    try:
        yield trace
    finally:
        for handle in handles:
            handle.remove()


def count_traced_macs(net: SparseSwin, trace: Sequence[BlockTrace]) -> NDArray[np.integer]:
    """(B,) MACs that each image of one recorded forward pass took, by the rules of :func:`sparsevit3d.macs.count_macs`.

    They differ between images where a map has padding: windows at its edge hold fewer tokens, and each image chose its own.
    Raises ValueError unless the trace is of one forward pass.
    """
    if len(trace) != sum(net.depths):
        raise ValueError(f"a trace of {len(trace)} blocks: one forward pass of this network has {sum(net.depths)}")
    total = np.zeros(len(trace[0].kept), dtype=np.int64)
    for one in trace:
        if one.block == 0:
            before = net.stages[one.stage - 1].downsample if one.stage else None
            entry = net.patch_embed.projection if before is None else before.reduction
            total += one.map_size[0] * one.map_size[1] * entry.weight.numel()
        block = net.stages[one.stage].blocks[one.block]
        total += [block_macs(block, int(tokens), int(windows)) for tokens, windows in zip(one.tokens, one.kept.sum(1), strict=True)]
    return total
