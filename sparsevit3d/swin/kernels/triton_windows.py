"""Triton kernels that settle on the GPU which rows a block computes.

They score windows, rank them, and list the rows of the chosen ones.

Kernels take the *rows* to compute. Row m between two kernels is token ``tokens[m]`` of the maps
laid end to end. The number of rows follows from the plan alone, because a CUDA graph needs a fixed
number. Each image has ``bound`` rows, as many as its windows can hold at most. The rows before the
end of its last window are used. Without pruning nothing is gathered: rows are the map's tokens in
order.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs
from triton.testing import do_bench

from sparsevit3d.swin.windows import WindowTable

INTERPRETED = knobs.runtime.interpret  # Triton's interpreter has nothing to time
# Milliseconds. Some hundred tiles are timed when a net is first called.
TIME = partial(do_bench, warmup=5, rep=20)
# These arguments vary with the plan and the image. Triton compiles nothing anew for them.
VARYING = ["total", "bound", "kept", "padding", "scale", "stride", "count"]


class Rows(NamedTuple):
    """Which tokens to compute, of B maps laid end to end.

    Args:
        tokens (Tensor or None): (B * bound,) int32 row of the maps. None: all rows, in order.
        ends (Tensor or None): (B, kept) int32, the row of the image that comes after each window.
        windows (Tensor or None): (B, kept) int32, the chosen windows. None: all windows.
        bound (int): Rows of an image.
        total (int): Rows of all images.
        kept (int): Windows of an image.
    """

    tokens: Tensor | None
    ends: Tensor | None
    windows: Tensor | None
    bound: int
    total: int
    kept: int


def all_rows(count: int) -> Rows:
    """Use the rows of a (count, C) tensor as they are."""
    return Rows(None, None, None, count, count, 0)


def score_windows(x: Tensor, table: WindowTable, pooling: str) -> Tensor:
    """Score windows: (B, tokens, C) features to (B, windows) in float32.

    ``pooling`` is one of :data:`sparsevit3d.swin.importance.POOLINGS`.
    """
    scores = torch.empty(len(x), len(table.tokens), dtype=torch.float32, device=x.device)
    _score_windows[scores.shape[::-1]](
        x=x,
        tokens=table.tokens,
        sizes=table.sizes,
        scores=scores,
        padding=table.padding,
        channels=x.shape[2],
        places=table.window**2,
        POOLING=pooling,
        PLACES=triton.next_power_of_2(table.window**2),
        BLOCK_K=32,
    )
    return scores


@triton.jit(do_not_specialize=VARYING)
def _score_windows(
    x,
    tokens,
    sizes,
    scores,
    padding,
    channels,
    places,
    POOLING: tl.constexpr,
    PLACES: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    window = tl.program_id(0)
    image = tl.program_id(1)
    place = tl.arange(0, PLACES)
    token = tl.load(tokens + window * places + place, mask=place < places, other=padding)
    source = x + (image.to(tl.int64) * padding + token)[:, None] * channels
    magnitude = tl.zeros((PLACES,), tl.float32)
    for start in range(0, channels, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        value = tl.load(source + k, mask=(token < padding)[:, None] & (k < channels), other=0).to(
            tl.float32
        )
        magnitude += tl.sum(tl.abs(value), 1)
    magnitude = magnitude / channels
    total = tl.sum(magnitude)
    if POOLING == "l2":
        score = tl.sqrt(tl.sum(magnitude * magnitude))
    elif POOLING == "mean":
        score = total / tl.load(sizes + window)
    else:
        # A maximum would pass over NaN.
        score = tl.where(total == total, tl.max(magnitude), total)
    tl.store(scores + image * tl.num_programs(0) + window, score)


def rank_windows(scores: Tensor) -> Tensor:
    """Order windows by counting, see :func:`sparsevit3d.swin.importance.rank_windows`."""
    scores = scores.contiguous()
    order = torch.empty(scores.shape, dtype=torch.int64, device=scores.device)
    images, count = scores.shape
    _rank_windows[(triton.cdiv(count, 32), images)](
        scores=scores,
        order=order,
        count=count,
        BLOCK=32,
        MANY=128,
    )
    return order


@triton.jit(do_not_specialize=VARYING)
def _rank_windows(scores, order, count, BLOCK: tl.constexpr, MANY: tl.constexpr):
    first = tl.program_id(1) * count
    mine = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    score = tl.load(scores + first + mine, mask=mine < count, other=0)[:, None]
    rank = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, count, MANY):
        other = start + tl.arange(0, MANY)
        rival = tl.load(scores + first + other, mask=other < count, other=0)
        # NaN goes first, as torch sorts it. Comparisons alone would give two windows one rank.
        above = (rival > score) | ((rival != rival) & (score == score))
        level = (rival == score) | ((rival != rival) & (score != score))
        before = (above | (level & (other < mine[:, None]))) & (other < count)
        rank += tl.sum(before.to(tl.int32), 1)
    tl.store(order + first + rank, mine.to(tl.int64), mask=mine < count)


def choose_rows(table: WindowTable, windows: Tensor | None, batch: int) -> Rows:
    """List the rows of the real tokens of ``windows``, (B, kept). None: all windows."""
    if windows is None:
        return Rows(None, None, None, table.padding, batch * table.padding, len(table.tokens))
    windows = windows if windows.stride(1) == 1 else windows.contiguous()
    kept = windows.shape[1]
    places = table.window**2
    bound = table.most_tokens(kept)
    tokens, ends, chosen = (
        torch.empty(count, dtype=torch.int32, device=windows.device)
        for count in (batch * bound, batch * kept, batch * kept)
    )
    _choose_rows[(batch * kept,)](
        ranked=windows,
        tokens=table.tokens,
        sizes=table.sizes,
        rows=tokens,
        ends=ends,
        chosen=chosen,
        stride=windows.stride(0),
        kept=kept,
        bound=bound,
        padding=table.padding,
        places=places,
        PLACES=triton.next_power_of_2(places),
        MANY=256,
    )
    return Rows(tokens, ends, chosen, bound, batch * bound, kept)


@triton.jit(do_not_specialize=VARYING)
def _choose_rows(
    ranked,
    tokens,
    sizes,
    rows,
    ends,
    chosen,
    stride,
    kept,
    bound,
    padding,
    places,
    PLACES: tl.constexpr,
    MANY: tl.constexpr,
):
    image = tl.program_id(0) // kept
    number = tl.program_id(0) % kept
    place = tl.arange(0, PLACES)
    before = tl.zeros((MANY,), tl.int32)
    for start in range(0, number, MANY):
        other = start + tl.arange(0, MANY)
        window = tl.load(ranked + image * stride + other, mask=other < number, other=0)
        before += tl.load(sizes + window, mask=other < number, other=0).to(tl.int32)
    window = tl.load(ranked + image * stride + number)
    token = tl.load(tokens + window * places + place, mask=place < places, other=padding)
    real = (token < padding).to(tl.int32)
    row = tl.sum(before) + tl.cumsum(real, 0) - 1
    tl.store(
        rows + image * bound + row, (image * padding + token).to(tl.int32), mask=token < padding
    )
    tl.store(ends + tl.program_id(0), tl.sum(before) + tl.sum(real))
    tl.store(chosen + tl.program_id(0), window.to(tl.int32))


@triton.jit
def row_of(rows, ends, m, total, bound, kept):
    """Translate rows ``m`` to the map's rows, and tell whether they are used."""
    used = m < total
    row = m
    if rows is not None:
        used = used & (m % bound < tl.load(ends + m // bound * kept + kept - 1, mask=used, other=0))
        row = tl.load(rows + m, mask=used, other=0)
    return row.to(tl.int64), used


def scale_of(rows: int) -> int:
    """Round ``rows`` up to a power of two, for autotune's key alone.

    Tiles are timed anew for sizes that differ much, not for every plan.
    """
    return triton.next_power_of_2(rows)


def precision_of(x: Tensor) -> str:
    # "tf32" matters for float32 alone. Other dtypes name it without effect.
    return "ieee" if x.dtype == torch.float32 else "tf32"
