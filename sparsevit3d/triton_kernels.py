"""What a Swin block does on a GPU, as Triton kernels: gather + LayerNorm + product, window attention, product + residual + scatter.

All take the *rows* to compute: row m of what lies between two kernels is token ``rows[m]`` of the maps laid end to end. How many rows there
are follows from the plan alone (a CUDA graph needs that): each image has ``bound`` of them, as many as its windows can hold at most,
and those before the end of its last window are used. Without pruning there is nothing to gather: rows are the map's tokens in order.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from triton import knobs

from sparsevit3d.windows import WindowTable

# A tile of rows and of output channels, and how deep its products go at once; the fastest is found when a size first comes.
_TILES = [
    triton.Config({"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k}, num_warps=warps, num_stages=3)
    for m, n, k, warps in ((64, 64, 32, 4), (128, 64, 32, 4), (64, 128, 32, 4), (128, 128, 32, 8), (64, 64, 64, 4))
]
_WINDOWS = [triton.Config({"GROUP": group}, num_warps=4) for group in (1, 2, 4)]
_INTERPRETED = knobs.runtime.interpret  # nothing to time there


_VARYING = ["total", "bound", "kept", "padding", "scale"]  # with the plan and the image: not to be compiled anew for


class Rows(NamedTuple):
    """Which tokens to compute."""

    tokens: Tensor | None  # (B * bound,) int32 row of the maps laid end to end; None: all, in order
    ends: Tensor | None  # (B, kept) the row, within its image's, that comes after each window's
    bound: int  # rows of an image
    total: int  # rows of all
    kept: int  # windows of an image


def choose_rows(table: WindowTable, windows: Tensor | None, batch: int) -> Rows:
    """``windows``, (B, kept), contiguous, or None for all, as the rows of their real tokens."""
    if windows is None:
        return Rows(None, None, table.padding, batch * table.padding, len(table.tokens))
    kept, places = windows.shape[1], table.window**2
    bound = table.most_tokens(kept)
    tokens, ends = torch.empty(batch * bound, dtype=torch.int32, device=windows.device), table.sizes[windows].cumsum(1)
    _choose_rows[(batch * kept,)](
        windows, table.tokens, ends, tokens, kept, bound, table.padding, places, PLACES=triton.next_power_of_2(places)
    )
    return Rows(tokens, ends, bound, batch * bound, kept)


@triton.jit(do_not_specialize=_VARYING)
def _choose_rows(windows, tokens, ends, rows, kept, bound, padding, places, PLACES: tl.constexpr):
    number, place = tl.program_id(0), tl.arange(0, PLACES)
    window, image = tl.load(windows + number), number // kept
    token = tl.load(tokens + window * places + place, mask=place < places, other=padding)
    real = (token < padding).to(tl.int32)
    row = tl.load(ends + number) - tl.sum(real) + tl.cumsum(real, 0) - 1
    tl.store(rows + image * bound + row, image * padding + token, mask=token < padding)


@triton.jit
def _row_of(rows, ends, m, total, bound, kept):
    """The map's rows that rows ``m`` are, and whether they are used."""
    used = m < total
    row = m
    if rows is not None:
        used = used & (m % bound < tl.load(ends + m // bound * kept + kept - 1, mask=used, other=0))
        row = tl.load(rows + m, mask=used, other=0)
    return row.to(tl.int64), used


def norm_linear(x: Tensor, rows: Rows, norm: nn.LayerNorm, layer: nn.Linear, gelu: bool = False) -> Tensor:
    """LayerNorm and ``layer`` of the maps' rows, ``x`` (B * tokens, C), then GELU if asked for: (rows, layer's width)."""
    width, channels = layer.weight.shape
    out = torch.empty(rows.total, width, dtype=x.dtype, device=x.device)

    def grid(tile):
        return (triton.cdiv(rows.total, tile["BLOCK_M"]) * triton.cdiv(width, tile["BLOCK_N"]),)

    _norm_linear[grid](
        *(x, rows.tokens, rows.ends, norm.weight, norm.bias, layer.weight, layer.bias, out),
        *(rows.total, rows.bound, rows.kept, channels, width, norm.eps, _scale(rows.total)),
        GELU=gelu, PRECISION=_precision(x),
    )  # fmt: skip
    return out


@triton.autotune(_TILES[:1] if _INTERPRETED else _TILES, key=["channels", "width", "scale"])
@triton.jit(do_not_specialize=_VARYING)
def _norm_linear(
    x, rows, ends, norm_weight, norm_bias, weight, bias, out, total, bound, kept, channels, width, eps, scale,
    GELU: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    across = tl.cdiv(width, BLOCK_N)
    m = tl.program_id(0) // across * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(0) % across * BLOCK_N + tl.arange(0, BLOCK_N)
    row, used = _row_of(rows, ends, m, total, bound, kept)
    source = x + row[:, None] * channels
    mean = tl.zeros((BLOCK_M,), tl.float32)
    for start in range(0, channels, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        mean += tl.sum(tl.load(source + k, mask=used[:, None] & (k < channels), other=0).to(tl.float32), 1)
    mean = mean / channels
    variance = tl.zeros((BLOCK_M,), tl.float32)
    for start in range(0, channels, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        value = tl.load(source + k, mask=used[:, None] & (k < channels), other=0).to(tl.float32) - mean[:, None]
        variance += tl.sum(tl.where(k < channels, value * value, 0), 1)
    scaling = 1 / tl.sqrt(variance / channels + eps)
    product = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, channels, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        value = tl.load(source + k, mask=used[:, None] & (k < channels), other=0).to(tl.float32)
        value = (value - mean[:, None]) * scaling[:, None] * tl.load(norm_weight + k, mask=k < channels, other=0)
        value = value + tl.load(norm_bias + k, mask=k < channels, other=0)
        part = tl.load(weight + n * channels + k[:, None], mask=(n < width) & (k < channels)[:, None], other=0)
        product = tl.dot(value.to(part.dtype), part, product, input_precision=PRECISION)
    if bias is not None:
        product += tl.load(bias + n, mask=n < width, other=0).to(tl.float32)
    if GELU:
        product = product * 0.5 * (1 + tl.erf(product * 0.7071067811865476))
    tl.store(out + m.to(tl.int64)[:, None] * width + n, product, mask=used[:, None] & (n < width))


def add_linear(x: Tensor, rows: Rows, part: Tensor, layer: nn.Linear) -> None:
    """Add ``layer`` of ``part``, (rows, C'), to the maps' rows: the residual and the scatter, in ``x``, (B * tokens, C), itself."""
    width, channels = layer.weight.shape

    def grid(tile):
        return (triton.cdiv(rows.total, tile["BLOCK_M"]) * triton.cdiv(width, tile["BLOCK_N"]),)

    _add_linear[grid](
        *(x, rows.tokens, rows.ends, part, layer.weight, layer.bias),
        *(rows.total, rows.bound, rows.kept, channels, width, _scale(rows.total)),
        PRECISION=_precision(x),
    )  # fmt: skip


@triton.autotune(_TILES[:1] if _INTERPRETED else _TILES, key=["channels", "width", "scale"], restore_value=["x"])
@triton.jit(do_not_specialize=_VARYING)
def _add_linear(
    x, rows, ends, part, weight, bias, total, bound, kept, channels, width, scale,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    across = tl.cdiv(width, BLOCK_N)
    m = tl.program_id(0) // across * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(0) % across * BLOCK_N + tl.arange(0, BLOCK_N)
    row, used = _row_of(rows, ends, m, total, bound, kept)
    product = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, channels, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        left = tl.load(part + m.to(tl.int64)[:, None] * channels + k, mask=used[:, None] & (k < channels), other=0)
        right = tl.load(weight + n * channels + k[:, None], mask=(n < width) & (k < channels)[:, None], other=0)
        product = tl.dot(left, right, product, input_precision=PRECISION)
    product += tl.load(bias + n, mask=n < width, other=0).to(tl.float32)
    place, inside = x + row[:, None] * width + n, used[:, None] & (n < width)
    tl.store(place, tl.load(place, mask=inside, other=0).to(tl.float32) + product, mask=inside)


def attend_windows(
    qkv: Tensor, table: WindowTable, windows: Tensor | None, rows: Rows, heads: int, bias_table: Tensor, qkv_bias: Tensor | None
) -> Tensor:
    """Attention within windows, with relative position bias and shift mask: (rows, 3 C) to (rows, C).

    A padded place's query, key and value are ``qkv_bias``, as in Swin, or zero where there is none.
    """
    windows_in_all = rows.total // rows.bound * rows.kept
    channels, places = qkv.shape[1] // 3, table.window**2
    out = torch.empty(len(qkv), channels, dtype=qkv.dtype, device=qkv.device)

    def grid(tile):
        return (triton.cdiv(windows_in_all, tile["GROUP"]), heads)

    _attend_windows[grid](
        *(qkv, out, windows, rows.ends, table.tokens, table.mask, table.edge, bias_table, qkv_bias),
        *(windows_in_all, rows.bound, rows.kept, table.padding, channels, places, table.window, heads, _scale(windows_in_all)),
        PRECISION=_precision(qkv), PLACES=max(16, triton.next_power_of_2(places)), HEAD=channels // heads,
    )  # fmt: skip
    return out


@triton.autotune(_WINDOWS[:1] if _INTERPRETED else _WINDOWS, key=["channels", "places", "scale"])
@triton.jit(do_not_specialize=_VARYING)
def _attend_windows(
    qkv, out, windows, ends, tokens, mask, edge, bias_table, qkv_bias, total, bound, kept, padding, channels, places, side, heads, scale,
    PRECISION: tl.constexpr, PLACES: tl.constexpr, HEAD: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    place, channel = tl.arange(0, PLACES), head * HEAD + tl.arange(0, HEAD)
    row, column, pair = place // side, place % side, (place < places)[:, None] & (place < places)
    offset = (row[:, None] - row + side - 1) * (2 * side - 1) + column[:, None] - column + side - 1
    position = tl.load(bias_table + offset * heads + head, mask=pair, other=0).to(tl.float32)
    position = tl.where(place < places, position, float("-inf"))  # what fills a window up to a power of two is nobody's key
    for one in range(GROUP):
        number = tl.program_id(0) * GROUP + one
        if number < total:
            image, window = number // kept, number % kept
            if windows is not None:
                window = tl.load(windows + number).to(tl.int32)
            token = tl.load(tokens + window * places + place, mask=place < places, other=padding)
            real = token < padding
            if windows is not None:
                before = tl.load(ends + number) - tl.sum(real.to(tl.int32))
                slot = image * bound + before + tl.cumsum(real.to(tl.int32), 0) - 1
            else:
                slot = image * padding + token
            slot = slot.to(tl.int64)[:, None]
            source = qkv + slot * (3 * channels) + channel
            query = tl.load(source, mask=real[:, None], other=0)
            key = tl.load(source + channels, mask=real[:, None], other=0)
            value = tl.load(source + 2 * channels, mask=real[:, None], other=0)
            if qkv_bias is not None:
                key = tl.where(real[:, None], key, tl.load(qkv_bias + channels + channel).to(key.dtype))
                value = tl.where(real[:, None], value, tl.load(qkv_bias + 2 * channels + channel).to(value.dtype))
            logits = tl.dot(query, tl.trans(key), input_precision=PRECISION) * (HEAD**-0.5) + position
            if mask is not None:  # noqa: SIM102  Triton's `and` would load what is not there
                if tl.load(edge + window):
                    logits += tl.load(mask + window * places * places + place[:, None] * places + place, mask=pair, other=0)
            weights = tl.exp(logits - tl.max(logits, 1)[:, None])
            weights = weights / tl.sum(weights, 1)[:, None]
            result = tl.dot(weights.to(value.dtype), value, input_precision=PRECISION)
            tl.store(out + slot * channels + channel, result, mask=real[:, None])


def _scale(rows: int) -> int:
    """For autotune's key alone: tiles are timed anew for sizes that differ much, not for every plan."""
    return triton.next_power_of_2(rows)


def _precision(x: Tensor) -> str:
    return "ieee" if x.dtype == torch.float32 else "tf32"  # the latter is for float32 alone, and named where nothing is meant
