"""Record which windows ran, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sparsevit3d.swin.sparse_swin import SparseSwin
from sparsevit3d.swin.windows import window_table


@dataclass(frozen=True)
class BlockTrace:
    """What one block computed of a batch of B images.

    Args:
        stage (int): Number of the stage, from 0.
        block (int): Number of the block within the stage, from 0.
        map_size (tuple of int): Tokens down, tokens across.
        stride (int): Image pixels per token, both ways.
        window (int): Tokens per window, both ways.
        shift (int): Tokens by which Swin rolls the map up and left. 0 for plain windows.
        grid (tuple of int): Windows down, windows across. Window r * across + c is row r, column c
            of the rolled map.
        scores (array or None): (B, windows) importance. None where nothing was pruned.
        kept (array): (B, windows) bool, whether the block computed the window.
    """

    stage: int
    block: int
    map_size: tuple[int, int]
    stride: int
    window: int
    shift: int
    grid: tuple[int, int]
    scores: NDArray[np.floating] | None
    kept: NDArray[np.bool_]

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
    """Record what the blocks of ``net`` compute.

    ``with record_windows(net) as trace: net(images)`` appends one BlockTrace per block and forward
    pass, in order.
    """
    trace: list[BlockTrace] = []
    size = [0, 0]

    def remember_size(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        size[:] = inputs[1], inputs[2]

    def recorder(stage: int, number: int) -> Any:
        def record(block: Any, inputs: tuple[Any, ...]) -> None:
            x, table, choice = inputs
            kept = np.ones((len(x), len(table.tokens)), dtype=bool)
            scores = None
            if choice is not None:
                kept[:] = False
                np.put_along_axis(kept, choice.windows.cpu().numpy(), True, axis=1)
                scores = choice.scores.detach().float().cpu().numpy()
                scores = scores.reshape(-1, table.per_image)
            stride = net.patch_size << stage
            map_size = (size[0], size[1])
            trace.append(
                BlockTrace(
                    stage,
                    number,
                    map_size,
                    stride,
                    block.window,
                    block.shift,
                    table.grid,
                    scores,
                    kept.reshape(-1, table.per_image),
                )
            )

        return record

    handles = []
    for index, stage in enumerate(net.stages):
        handles.append(stage.register_forward_pre_hook(remember_size))
        handles += [
            block.register_forward_pre_hook(recorder(index, n))
            for n, block in enumerate(stage.blocks)
        ]
    try:
        yield trace
    finally:
        for handle in handles:
            handle.remove()
