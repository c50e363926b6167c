"""A map's tokens as windows: index tables for a size, a window and a shift; and how important each window is.

Swin pads a map to whole windows, rolls it by the shift and cuts it up. Here all three are one table of token indices, so that a
window is gathered from where its tokens lie and written back there, and padding is never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
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
    edge: Tensor  # (windows,) does it hold padding, or tokens that only the cyclic shift made neighbours?

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


def window_table(height: int, width: int, window: int, shift: int, device: torch.device | str = "cpu") -> WindowTable:
    """The table for one map size; cached. ``shift`` is 0 for plain windows, else how many tokens Swin rolls the map by."""
    traced = type(torch.empty(0, device="cpu")) is not Tensor  # torch.export's stand-ins must not outlive its trace
    build = _build_table if traced else _cached_table
    return build(height, width, window, shift, torch.device(device))


def _build_table(height: int, width: int, window: int, shift: int, device: torch.device) -> WindowTable:
    with torch.inference_mode(False):  # the table outlives the call that built it: it must serve training too
        down, across = -(-height // window), -(-width // window)
        rows = (torch.arange(down * window, device="cpu") + shift) % (down * window)
        columns = (torch.arange(across * window, device="cpu") + shift) % (across * window)
        inside = (rows < height)[:, None] & (columns < width)
        tokens = _partition(torch.where(inside, rows[:, None] * width + columns, height * width), window)
        mask = None
        if shift:
            region = 3 * _regions(len(rows), window, shift)[:, None] + _regions(len(columns), window, shift)
            region = _partition(region, window)
            mask = torch.where(region[:, :, None] == region[:, None, :], 0.0, FOREIGN).to(device)
        sizes = (tokens < height * width).sum(1)
        edge = sizes < window**2
        if mask is not None:
            edge = edge | (mask != 0).flatten(1).any(1).cpu()
        offsets = _relative_positions(window).to(device)
        grid, size = (down, across), (height, width)
        return WindowTable(tokens.to(device), sizes.to(device), offsets, mask, grid, size, window, shift, edge.to(device))


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
    """(places, places): row and column offset of one place from another, as one row of a (2 * window - 1) ** 2 table."""
    side = torch.arange(window, device="cpu")
    position = torch.stack(torch.meshgrid(side, side, indexing="ij")).flatten(1)
    offset = position[:, :, None] - position[:, None, :] + window - 1
    return offset[0] * (2 * window - 1) + offset[1]


def _regions(length: int, window: int, shift: int) -> Tensor:
    """Along one axis of the rolled map: 0 the untouched part, 1 and 2 the two that share the last window after the roll."""
    position = torch.arange(length, device="cpu")
    return (position >= length - window).long() + (position >= length - shift).long()


def _partition(grid: Tensor, window: int) -> Tensor:
    """(H, W) to (windows, window ** 2)."""
    down, across = grid.shape[0] // window, grid.shape[1] // window
    return grid.view(down, window, across, window).transpose(1, 2).reshape(down * across, window * window)


class WindowTokens(NamedTuple):
    """The windows that a block computes, image by image, and their real tokens as rows of a batch of maps laid end to end."""

    windows: int  # how many, of all images together
    mask: Tensor | None  # (windows, places, places), as in WindowTable
    offsets: Tensor  # as in WindowTable
    rows: Tensor  # (tokens,) index into a (batch * H * W, C) map
    places: Tensor | None  # (tokens,) which of the windows' places each one fills; None: they fill all, in order
    image: Tensor  # (tokens,) which image of the batch each one belongs to


def window_tokens(table: WindowTable, windows: Tensor | None, batch: int, tokens: int) -> WindowTokens:
    """``windows``, (batch, kept), of each of ``batch`` maps of ``tokens`` tokens, in the order given; None: all of them."""
    index, mask = table.tokens.expand(batch, -1, -1), table.mask
    if windows is not None:
        index, mask = table.tokens[windows], mask if mask is None else mask[windows.flatten()]
    elif mask is not None:
        mask = mask.repeat(batch, 1, 1)
    image = torch.arange(batch, device=index.device)[:, None, None].expand(index.shape)
    rows, image, count = (index + image * tokens).flatten(), image.flatten(), batch * index.shape[1]
    if not table.padded:
        return WindowTokens(count, mask, table.offsets, rows, None, image)
    real = (index < tokens).flatten()
    if torch.compiler.is_compiling() and not torch.is_grad_enabled():
        # A shape that follows from the plan alone: the most that the windows can hold. What is left over repeats a token.
        places = real.argsort(descending=True, stable=True)[: batch * table.most_tokens(index.shape[1])]
        places = torch.where(real[places], places, places[0])
    else:
        places = real.nonzero().squeeze(1)
    return WindowTokens(count, mask, table.offsets, rows[places], places, image[places])


# Importance: which windows to compute (section 3.2).

# A function of your own gets (B, tokens, C) features, detached, and the windows to cut them into, and returns (B, windows) scores. Padding
# is token H * W, which the features lack: F.pad(x, (0, 0, 0, 1))[:, table.tokens] is (B, windows, places, C).
Importance = Callable[[Tensor, WindowTable], Tensor]

TOKENS_AT_ONCE = 2048

# By name: from the magnitudes of a window's tokens, (B, windows, places), 0 where there is padding. The paper's is "l2".
POOLINGS: dict[str, Callable[[Tensor, WindowTable], Tensor]] = {
    "l2": lambda magnitudes, table: torch.linalg.vector_norm(magnitudes, dim=-1),
    "mean": lambda magnitudes, table: magnitudes.sum(-1) / table.sizes,
    "max": lambda magnitudes, table: magnitudes.amax(-1),
}


def check_importance(importance: str | Importance) -> None:
    """Raise ValueError unless it is a function, or a name that score_windows knows."""
    if not callable(importance) and importance not in (*POOLINGS, "random"):
        raise ValueError(f"importance {importance!r}: there are {', '.join(POOLINGS)}, random, and functions of your own")


def score_windows(x: Tensor, tables: Sequence[WindowTable], importance: str | Importance = "l2", seed: int = 0) -> list[Tensor]:
    """(B, tokens, C) features to (B, windows) scores for each of a stage's tables.

    ``importance`` is one of POOLINGS, "random" (by ``seed``; every image alike, so that its result does not depend on its batch
    mates) or a function of your own. Raises ValueError for another name, and where a function returns another shape.
    """
    check_importance(importance)
    if callable(importance):
        return [_checked_scores(importance(x, table), (len(x), len(table.tokens))) for table in tables]
    if importance == "random":
        return [_random_scores(len(table.tokens), seed, x.device).expand(len(x), -1) for table in tables]
    magnitude = F.pad(token_magnitude(x), (0, 1))
    return [POOLINGS[importance](magnitude[:, table.tokens], table) for table in tables]


def token_magnitude(x: Tensor) -> Tensor:
    """Mean over channels of |x|: (B, tokens, C) to (B, tokens), in float32 or better so that bfloat16 ranks alike."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return torch.linalg.vector_norm(x, 1, -1, dtype=dtype) / x.shape[-1]  # |x| is never stored
    # On a processor that norm takes channels one by one. Of a few tokens at a time |x| stays in the cache: five times as fast.
    parts = x.flatten(0, 1).split(TOKENS_AT_ONCE)
    return torch.cat([part.abs().mean(-1, dtype=dtype) for part in parts]).view(x.shape[:-1])


def _random_scores(windows: int, seed: int, device: torch.device) -> Tensor:
    return torch.rand(windows, generator=torch.Generator().manual_seed(seed), device="cpu").to(device)


def _checked_scores(scores: Tensor, shape: tuple[int, int]) -> Tensor:
    if scores.shape != shape:
        raise ValueError(f"the importance function returned scores of shape {tuple(scores.shape)}; (images, windows) is {shape}")
    return scores


def rank_windows(scores: Tensor) -> Tensor:
    """Windows from most to least important, each image by itself; equal scores keep their order in the map."""
    return scores.argsort(dim=-1, descending=True, stable=True)
