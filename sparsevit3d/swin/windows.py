"""A map's tokens as windows: index tables for a size, a window and a shift.

Swin pads a map to whole windows, rolls it by the shift and cuts it up. Here all three are one table
of token indices, so that a window is gathered from where its tokens lie and written back there, and
padding is never stored.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

FOREIGN = -100.0  # Swin's attention logit between tokens that only the cyclic shift made neighbours


class WindowTable(NamedTuple):
    """The windows of an H x W map, row by row; a window has ``window ** 2`` places."""

    tokens: Tensor  # (windows, places) row-major index into the map; H * W marks padding
    sizes: Tensor  # (windows,) how many of its places are on the map
    offsets: Tensor  # (places, places) index of their relative position in Swin's bias table
    mask: Tensor | None  # (windows, places, places), 0 or FOREIGN; None for plain windows
    grid: tuple[int, int]  # windows down, windows across
    size: tuple[int, int]  # H, W
    window: int
    shift: int
    # (windows,) does it hold padding, or tokens that only the cyclic shift made neighbours?
    edge: Tensor

    @property
    def padded(self) -> bool:
        """Does any place lie outside the map?"""
        return bool(self.size[0] % self.window or self.size[1] % self.window)

    @property
    def padding(self) -> int:
        """The index of padding, H * W."""
        return self.size[0] * self.size[1]

    def most_tokens(self, kept: int) -> int:
        """How many tokens the ``kept`` fullest windows hold: no ``kept`` windows hold more."""
        return _most_tokens(*self.size, self.window, self.shift, kept)


def window_table(
    height: int, width: int, window: int, shift: int, device: torch.device | str = "cpu"
) -> WindowTable:
    """The table for one map size; cached.

    ``shift`` is 0 for plain windows, else how many tokens Swin rolls the map by.
    """
    # torch.export's stand-ins must not outlive its trace
    traced = type(torch.empty(0, device="cpu")) is not Tensor
    build = _build_table if traced else _cached_table
    return build(height, width, window, shift, torch.device(device))


def _build_table(
    height: int, width: int, window: int, shift: int, device: torch.device
) -> WindowTable:
    # The table outlives the call that built it: it must serve training too
    with torch.inference_mode(False):
        down = -(-height // window)
        across = -(-width // window)
        rows = (torch.arange(down * window, device="cpu") + shift) % (down * window)
        columns = (torch.arange(across * window, device="cpu") + shift) % (across * window)
        inside = (rows < height)[:, None] & (columns < width)
        tokens = _partition(
            torch.where(inside, rows[:, None] * width + columns, height * width), window
        )
        mask = None
        if shift:
            region = 3 * _regions(len(rows), window, shift)[:, None] + _regions(
                len(columns), window, shift
            )
            region = _partition(region, window)
            mask = torch.where(region[:, :, None] == region[:, None, :], 0.0, FOREIGN).to(device)
        sizes = (tokens < height * width).sum(1)
        edge = sizes < window**2
        if mask is not None:
            edge = edge | (mask != 0).flatten(1).any(1).cpu()
        offsets = _relative_positions(window).to(device)
        grid = (down, across)
        size = (height, width)
        return WindowTable(
            tokens.to(device),
            sizes.to(device),
            offsets,
            mask,
            grid,
            size,
            window,
            shift,
            edge.to(device),
        )


_cached_table = lru_cache(maxsize=64)(_build_table)


@torch.compiler.assume_constant_result
def _most_tokens(*sizes: int) -> int:
    return _cached_most_tokens(*sizes)


@lru_cache(maxsize=4096)
def _cached_most_tokens(height: int, width: int, window: int, shift: int, kept: int) -> int:
    down, across = (_real_places(length, window, shift) for length in (height, width))
    return sum(sorted((rows * columns for rows in down for columns in across), reverse=True)[:kept])


def _real_places(length: int, window: int, shift: int) -> list[int]:
    """Along one axis: how many places of each window are on the map."""
    padded = -(-length // window) * window
    real = [(place + shift) % padded < length for place in range(padded)]
    return [sum(real[start : start + window]) for start in range(0, padded, window)]


def _relative_positions(window: int) -> Tensor:
    """(places, places): row and column offset of one place from another, as one row of a (2 *
    window - 1) ** 2 table.
    """
    side = torch.arange(window, device="cpu")
    position = torch.stack(torch.meshgrid(side, side, indexing="ij")).flatten(1)
    offset = position[:, :, None] - position[:, None, :] + window - 1
    return offset[0] * (2 * window - 1) + offset[1]


def _regions(length: int, window: int, shift: int) -> Tensor:
    """Along one axis of the rolled map: 0 the untouched part, 1 and 2 the two that share the last
    window after the roll.
    """
    position = torch.arange(length, device="cpu")
    return (position >= length - window).long() + (position >= length - shift).long()


def _partition(grid: Tensor, window: int) -> Tensor:
    """(H, W) to (windows, window ** 2)."""
    down = grid.shape[0] // window
    across = grid.shape[1] // window
    return (
        grid.view(down, window, across, window)
        .transpose(1, 2)
        .reshape(down * across, window * window)
    )


class WindowTokens(NamedTuple):
    """The windows that a block computes, image by image, and their real tokens as rows of a batch
    of maps laid end to end.
    """

    windows: int  # how many, of all images together
    mask: Tensor | None  # (windows, places, places), as in WindowTable
    offsets: Tensor  # as in WindowTable
    rows: Tensor  # (tokens,) index into a (batch * H * W, C) map
    # (tokens,) which of the windows' places each one fills; None: they fill all, in order
    places: Tensor | None
    image: Tensor  # (tokens,) which image of the batch each one belongs to


def window_tokens(
    table: WindowTable, windows: Tensor | None, batch: int, tokens: int
) -> WindowTokens:
    """``windows``, (batch, kept), of each of ``batch`` maps of ``tokens`` tokens, in the order
    given; None: all of them.
    """
    index = table.tokens.expand(batch, -1, -1)
    mask = table.mask
    if windows is not None:
        index = table.tokens[windows]
        mask = mask if mask is None else mask[windows.flatten()]
    elif mask is not None:
        mask = mask.repeat(batch, 1, 1)
    image = torch.arange(batch, device=index.device)[:, None, None].expand(index.shape)
    rows = (index + image * tokens).flatten()
    image = image.flatten()
    count = batch * index.shape[1]
    if not table.padded:
        return WindowTokens(count, mask, table.offsets, rows, None, image)
    real = (index < tokens).flatten()
    if torch.compiler.is_compiling() and not torch.is_grad_enabled():
        # A shape that follows from the plan alone: the most that the windows can hold. What is left
        # over repeats a token.
        places = real.argsort(descending=True, stable=True)[
            : batch * table.most_tokens(index.shape[1])
        ]
        places = torch.where(real[places], places, places[0])
    else:
        places = real.nonzero().squeeze(1)
    return WindowTokens(count, mask, table.offsets, rows[places], places, image[places])
