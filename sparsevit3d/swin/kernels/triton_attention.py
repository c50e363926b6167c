"""Attention within windows on a GPU, as Triton kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparsevit3d.swin.kernels.triton_windows import (
    INTERPRETED,
    TIME,
    VARYING,
    Rows,
    precision_of,
    scale_of,
)
from sparsevit3d.swin.windows import WindowTable

if TYPE_CHECKING:
    from sparsevit3d.swin.layers import WindowAttention

_WINDOWS = [triton.Config({}, num_warps=warps) for warps in (2, 4, 8)]


def attend_windows(
    qkv: Tensor, table: WindowTable, rows: Rows, attention: WindowAttention
) -> Tensor:
    """Attend within windows, with position bias and shift mask: (rows, 3 C) to (rows, C).

    A padded place's query, key and value are the bias of ``attention.qkv``, as in Swin. Without a
    bias they are zero.
    """
    channels = qkv.shape[1] // 3
    heads = attention.heads
    windows_in_all = rows.total // rows.bound * rows.kept
    places = table.window**2
    across = max(16, triton.next_power_of_2(table.window**2))
    out = torch.empty(len(qkv), channels, dtype=qkv.dtype, device=qkv.device)
    positions = torch.empty(heads, across, across, dtype=qkv.dtype, device=qkv.device)
    _position_bias[(heads,)](
        bias_table=attention.relative_position_bias_table,
        positions=positions,
        heads=heads,
        places=places,
        side=table.window,
        PLACES=across,
    )
    _attend_windows[(windows_in_all * heads,)](
        qkv=qkv,
        out=out,
        windows=rows.windows,
        ends=rows.ends,
        tokens=table.tokens,
        mask=table.mask,
        edge=table.edge,
        positions=positions,
        qkv_bias=attention.qkv.bias,
        bound=rows.bound,
        kept=rows.kept,
        padding=table.padding,
        channels=channels,
        places=places,
        heads=heads,
        scale=scale_of(windows_in_all),
        PRECISION=precision_of(qkv),
        PLACES=across,
        HEAD=channels // heads,
    )
    return out


@triton.jit
def _position_bias(bias_table, positions, heads, places, side, PLACES: tl.constexpr):
    """Gather the position bias of one head, in order, once for all windows.

    Places are filled up to a power of two. No query sees the extra places as keys.
    """
    head = tl.program_id(0)
    place = tl.arange(0, PLACES)
    row = place // side
    column = place % side
    inside = place < places
    offset = (row[:, None] - row + side - 1) * (2 * side - 1) + column[:, None] - column + side - 1
    bias = tl.load(bias_table + offset * heads + head, mask=inside[:, None] & inside, other=0)
    bias = tl.where(inside, bias.to(tl.float32), float("-inf"))
    tl.store(positions + head * PLACES * PLACES + place[:, None] * PLACES + place, bias)


@triton.autotune(
    _WINDOWS[:1] if INTERPRETED else _WINDOWS, key=["channels", "places", "scale"], do_bench=TIME
)
@triton.jit(do_not_specialize=VARYING)
def _attend_windows(
    qkv,
    out,
    windows,
    ends,
    tokens,
    mask,
    edge,
    positions,
    qkv_bias,
    bound,
    kept,
    padding,
    channels,
    places,
    heads,
    scale,
    PRECISION: tl.constexpr,
    PLACES: tl.constexpr,
    HEAD: tl.constexpr,
):
    number = tl.program_id(0) // heads
    head = tl.program_id(0) % heads
    place = tl.arange(0, PLACES)
    image = number // kept
    window = number % kept
    channel = head * HEAD + tl.arange(0, HEAD)
    if windows is not None:
        window = tl.load(windows + number)
    token = tl.load(tokens + window * places + place, mask=place < places, other=padding)
    real = token < padding
    if windows is not None:
        slot = (
            image * bound
            + tl.load(ends + number)
            - tl.sum(real.to(tl.int32))
            + tl.cumsum(real.to(tl.int32), 0)
            - 1
        )
    else:
        slot = image * padding + token
    slot = slot.to(tl.int64)[:, None]
    source = qkv + slot * (3 * channels) + channel
    query = tl.load(source, mask=real[:, None], other=0)
    key = tl.load(source + channels, mask=real[:, None], other=0)
    value = tl.load(source + 2 * channels, mask=real[:, None], other=0)
    at_edge = tl.load(edge + window)
    if qkv_bias is not None:  # noqa: SIM102  Triton's `and` would load a missing bias
        if at_edge:
            key = tl.where(real[:, None], key, tl.load(qkv_bias + channels + channel).to(key.dtype))
            value = tl.where(
                real[:, None], value, tl.load(qkv_bias + 2 * channels + channel).to(value.dtype)
            )
    logits = tl.dot(query, tl.trans(key), input_precision=PRECISION) * (HEAD**-0.5)
    logits += tl.load(positions + head * PLACES * PLACES + place[:, None] * PLACES + place).to(
        tl.float32
    )
    if mask is not None:  # noqa: SIM102
        if at_edge:
            pair = (place < places)[:, None] & (place < places)
            logits += tl.load(
                mask + window * places * places + place[:, None] * places + place,
                mask=pair,
                other=0,
            )
    weights = tl.exp(logits - tl.max(logits, 1)[:, None])
    result = (
        tl.dot(weights.to(value.dtype), value, input_precision=PRECISION)
        / tl.sum(weights, 1)[:, None]
    )
    tl.store(out + slot * channels + channel, result, mask=real[:, None])
