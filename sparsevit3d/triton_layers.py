"""What SparseSwin computes on a GPU, as Triton kernels: patches, LayerNorm of gathered rows, products, window attention, scatter."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from triton import knobs
from triton.testing import do_bench

from sparsevit3d.triton_windows import VARYING, Rows, all_rows, row_of
from sparsevit3d.windows import WindowTable

if TYPE_CHECKING:
    from sparsevit3d.swin_layers import WindowAttention

# A tile of rows and of output channels, and how deep its products go at once; the fastest is found when a size first comes.
_TILES = [
    triton.Config({"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k}, num_warps=warps, num_stages=stages)
    for m, n, k, warps, stages in (
        *((64, 64, 32, 4, 3), (128, 64, 32, 4, 3), (128, 128, 32, 8, 3), (64, 64, 64, 4, 4)),
        *((128, 64, 64, 4, 3), (64, 128, 64, 4, 4), (128, 128, 64, 8, 3), (64, 64, 128, 4, 3)),
    )
]
_WINDOWS = [triton.Config({}, num_warps=warps) for warps in (2, 4, 8)]
_INTERPRETED = knobs.runtime.interpret  # nothing to time there
_TIME = partial(do_bench, warmup=5, rep=20)  # milliseconds; for some hundred tiles when a net is first called


@triton.jit
def _layer_norm(value, k, channels, eps, weight, bias):
    """Of (rows, channels filled up to a power of two with zeros), in float32."""
    value = tl.where(k < channels, value - (tl.sum(value, 1) / channels)[:, None], 0)
    scaling = 1 / tl.sqrt(tl.sum(value * value, 1) / channels + eps)
    value = value * scaling[:, None] * tl.load(weight + k, mask=k < channels, other=0)
    return value + tl.load(bias + k, mask=k < channels, other=0)


def normalise(x: Tensor, rows: Rows, norm: nn.LayerNorm) -> Tensor:
    """LayerNorm of the maps' rows, ``x`` (B * tokens, C), packed: (rows, C). What rows that are not used become is left open."""
    channels = x.shape[1]
    out = torch.empty(rows.total, channels, dtype=x.dtype, device=x.device)
    across = triton.next_power_of_2(channels)
    block = max(1, 4096 // across)
    _normalise[(triton.cdiv(rows.total, block),)](
        *(x, rows.tokens, rows.ends, norm.weight, norm.bias, out, rows.total, rows.bound, rows.kept, channels, norm.eps),
        BLOCK_M=block, CHANNELS=across,
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=VARYING)
def _normalise(
    x, rows, ends, norm_weight, norm_bias, out, total, bound, kept, channels, eps, BLOCK_M: tl.constexpr, CHANNELS: tl.constexpr
):  # fmt: skip
    m, k = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, CHANNELS)
    row, used = row_of(rows, ends, m, total, bound, kept)
    inside = used[:, None] & (k < channels)
    value = tl.load(x + row[:, None] * channels + k, mask=inside, other=0).to(tl.float32)
    value = _layer_norm(value, k, channels, eps, norm_weight, norm_bias)
    tl.store(out + m.to(tl.int64)[:, None] * channels + k, value, mask=inside)


def merge_patches(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Each 2 x 2 tokens of the maps, (B, H, W, C), side by side and normalised: (B * ..., 4 C). An odd edge is padded with zeros."""
    batch, height, width, channels = x.shape
    total, across = batch * triton.cdiv(height, 2) * triton.cdiv(width, 2), triton.next_power_of_2(4 * channels)
    out = torch.empty(total, 4 * channels, dtype=x.dtype, device=x.device)
    block = max(1, 4096 // across)
    _merge_patches[(triton.cdiv(total, block),)](
        x, norm.weight, norm.bias, out, total, height, width, channels, norm.eps, BLOCK_M=block, CHANNELS=across
    )
    return out


@triton.jit(do_not_specialize=VARYING)
def _merge_patches(
    x, norm_weight, norm_bias, out, total, height, width, channels, eps, BLOCK_M: tl.constexpr, CHANNELS: tl.constexpr
):  # fmt: skip
    m, k = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, CHANNELS)
    down, across = (height + 1) // 2, (width + 1) // 2
    image, row, column = m // (down * across), m // across % down * 2, m % across * 2
    row, column = row[:, None] + k % 4 // 2, column[:, None] + k % 2  # channel by channel, as Swin's weights have it
    real = (m < total)[:, None] & (k < 4 * channels)
    source = x + image.to(tl.int64)[:, None] * height * width * channels + ((row * width + column) * channels + k // 4)
    value = tl.load(source, mask=real & (row < height) & (column < width), other=0).to(tl.float32)
    value = _layer_norm(value, k, 4 * channels, eps, norm_weight, norm_bias)
    tl.store(out + m.to(tl.int64)[:, None] * (4 * channels) + k, value, mask=real)


def embed_patches(images: Tensor, projection: nn.Conv2d, norm: nn.LayerNorm) -> Tensor:
    """Patches of the images, (B, in_channels, H, W), projected and normalised: (B, tokens, C). Edges are filled up with zeros."""
    (batch, _, height, width), patch, weight = images.shape, projection.kernel_size[0], projection.weight.flatten(1)
    tokens, (channels, depth) = triton.cdiv(height, patch) * triton.cdiv(width, patch), weight.shape
    out = torch.empty(batch, tokens, channels, dtype=images.dtype, device=images.device)
    _embed_patches[(triton.cdiv(batch * tokens, 64),)](
        *(images, weight, projection.bias, norm.weight, norm.bias, out, batch * tokens, height, width, *images.stride()),
        *(channels, norm.eps),
        PRECISION=_precision(images), BLOCK_M=64, PATCH=patch, DEPTH=depth, CHANNELS=triton.next_power_of_2(channels),
        BLOCK_K=max(16, triton.next_power_of_2(depth)),
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=VARYING)
def _embed_patches(
    images, weight, bias, norm_weight, norm_bias, out, total, height, width, to_image, to_channel, to_row, to_column, channels, eps,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, PATCH: tl.constexpr, DEPTH: tl.constexpr, CHANNELS: tl.constexpr,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    m, k, n = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_K), tl.arange(0, CHANNELS)
    down, across = tl.cdiv(height, PATCH), tl.cdiv(width, PATCH)
    image, row, column = (m // (down * across)).to(tl.int64), m // across % down, m % across
    row, column = row[:, None] * PATCH + k // PATCH % PATCH, column[:, None] * PATCH + k % PATCH
    source = images + image[:, None] * to_image + k // (PATCH * PATCH) * to_channel + row * to_row + column * to_column
    inside = (m < total)[:, None] & (k < DEPTH) & (row < height) & (column < width)
    pixels = tl.load(source, mask=inside, other=0)
    part = tl.load(weight + n * DEPTH + k[:, None], mask=(n < channels) & (k < DEPTH)[:, None], other=0)
    product = tl.dot(pixels, part, input_precision=PRECISION)
    if bias is not None:
        product += tl.load(bias + n, mask=n < channels, other=0).to(tl.float32)
    value = _layer_norm(product, n, channels, eps, norm_weight, norm_bias)
    tl.store(out + m.to(tl.int64)[:, None] * channels + n, value, mask=(m < total)[:, None] & (n < channels))


@triton.jit
def _gelu(x):
    """x times the normal distribution's probability of less than x, as the logistic function of a polynomial that was fitted to that.

    Off by 1.3e-6 at most, which shows beside rounding to half precision only where all but nothing is left; and by fewer instructions
    than erf: at few channels they are what it waits for.
    """
    square = tl.minimum(x * x, 30.0)  # beyond, all is 0 or x
    logit = 5.608794477621058e-06 - 1.1361043112066319e-07 * square
    logit = -1.152474669165e-04 + square * (-9.46503653056957e-05 + square * logit)
    logit = x * (1.5957455553969464 + square * (0.07273059645566404 + square * logit))
    return x / (1 + tl.exp(-logit))


def linear_gelu(part: Tensor, layer: nn.Linear) -> Tensor:
    """``layer`` and GELU of ``part``, (rows, C): (rows, layer's width)."""
    out = torch.empty(len(part), layer.out_features, dtype=part.dtype, device=part.device)
    _launch_linear(part, layer, out, all_rows(len(part)), add=False)
    return out


def add_linear(x: Tensor, rows: Rows, part: Tensor, layer: nn.Linear) -> None:
    """Add ``layer`` of ``part``, (rows, C'), to the maps' rows: the residual and the scatter, in ``x``, (B * tokens, C), itself."""
    _launch_linear(part, layer, x, rows, add=True)


def _launch_linear(part: Tensor, layer: nn.Linear, out: Tensor, rows: Rows, add: bool) -> None:
    width, channels = layer.weight.shape

    def grid(tile):
        return (triton.cdiv(rows.total, tile["BLOCK_M"]) * triton.cdiv(width, tile["BLOCK_N"]),)

    _linear[grid](
        *(part, rows.tokens, rows.ends, layer.weight, layer.bias, out),
        *(rows.total, rows.bound, rows.kept, channels, width, _scale(rows.total)),
        ADD=add, PRECISION=_precision(part),
    )  # fmt: skip


@triton.autotune(
    _TILES[:1] if _INTERPRETED else _TILES, key=["channels", "width", "scale", "ADD"], restore_value=["out"], do_bench=_TIME
)
@triton.jit(do_not_specialize=VARYING)
def _linear(
    part, rows, ends, weight, bias, out, total, bound, kept, channels, width, scale,
    ADD: tl.constexpr, PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    across = tl.cdiv(width, BLOCK_N)
    m = tl.program_id(0) // across * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(0) % across * BLOCK_N + tl.arange(0, BLOCK_N)
    row, used = row_of(rows, ends, m, total, bound, kept)
    product = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, channels, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        left = tl.load(part + m.to(tl.int64)[:, None] * channels + k, mask=used[:, None] & (k < channels), other=0)
        right = tl.load(weight + n * channels + k[:, None], mask=(n < width) & (k < channels)[:, None], other=0)
        product = tl.dot(left, right, product, input_precision=PRECISION)
    product += tl.load(bias + n, mask=n < width, other=0).to(tl.float32)
    place, inside = out + row[:, None] * width + n, used[:, None] & (n < width)
    if ADD:
        product += tl.load(place, mask=inside, other=0).to(tl.float32)
    else:
        product = _gelu(product)
    tl.store(place, product, mask=inside)


def attend_windows(qkv: Tensor, table: WindowTable, rows: Rows, attention: WindowAttention) -> Tensor:
    """Attention within windows, with relative position bias and shift mask: (rows, 3 C) to (rows, C).

    A padded place's query, key and value are the bias of ``attention.qkv``, as in Swin, or zero where there is none.
    """
    channels, heads, windows_in_all = qkv.shape[1] // 3, attention.heads, rows.total // rows.bound * rows.kept
    places, across = table.window**2, max(16, triton.next_power_of_2(table.window**2))
    out = torch.empty(len(qkv), channels, dtype=qkv.dtype, device=qkv.device)
    positions = torch.empty(heads, across, across, dtype=qkv.dtype, device=qkv.device)
    _position_bias[(heads,)](attention.relative_position_bias_table, positions, heads, places, table.window, PLACES=across)
    _attend_windows[(windows_in_all * heads,)](
        *(qkv, out, rows.windows, rows.ends, table.tokens, table.mask, table.edge, positions, attention.qkv.bias),
        *(rows.bound, rows.kept, table.padding, channels, places, heads, _scale(windows_in_all)),
        PRECISION=_precision(qkv), PLACES=across, HEAD=channels // heads,
    )  # fmt: skip
    return out


@triton.jit
def _position_bias(bias_table, positions, heads, places, side, PLACES: tl.constexpr):
    """Of one head, in order: gathered once for all windows. What fills them up to a power of two is nobody's key."""
    head, place = tl.program_id(0), tl.arange(0, PLACES)
    row, column, inside = place // side, place % side, place < places
    offset = (row[:, None] - row + side - 1) * (2 * side - 1) + column[:, None] - column + side - 1
    bias = tl.load(bias_table + offset * heads + head, mask=inside[:, None] & inside, other=0)
    bias = tl.where(inside, bias.to(tl.float32), float("-inf"))
    tl.store(positions + head * PLACES * PLACES + place[:, None] * PLACES + place, bias)


@triton.autotune(_WINDOWS[:1] if _INTERPRETED else _WINDOWS, key=["channels", "places", "scale"], do_bench=_TIME)
@triton.jit(do_not_specialize=VARYING)
def _attend_windows(
    qkv, out, windows, ends, tokens, mask, edge, positions, qkv_bias, bound, kept, padding, channels, places, heads, scale,
    PRECISION: tl.constexpr, PLACES: tl.constexpr, HEAD: tl.constexpr,
):  # fmt: skip
    number, head, place = tl.program_id(0) // heads, tl.program_id(0) % heads, tl.arange(0, PLACES)
    image, window, channel = number // kept, number % kept, head * HEAD + tl.arange(0, HEAD)
    if windows is not None:
        window = tl.load(windows + number)
    token = tl.load(tokens + window * places + place, mask=place < places, other=padding)
    real = token < padding
    if windows is not None:
        slot = image * bound + tl.load(ends + number) - tl.sum(real.to(tl.int32)) + tl.cumsum(real.to(tl.int32), 0) - 1
    else:
        slot = image * padding + token
    slot = slot.to(tl.int64)[:, None]
    source = qkv + slot * (3 * channels) + channel
    query = tl.load(source, mask=real[:, None], other=0)
    key = tl.load(source + channels, mask=real[:, None], other=0)
    value = tl.load(source + 2 * channels, mask=real[:, None], other=0)
    at_edge = tl.load(edge + window)
    if qkv_bias is not None:  # noqa: SIM102  Triton's `and` would load what is not there
        if at_edge:
            key = tl.where(real[:, None], key, tl.load(qkv_bias + channels + channel).to(key.dtype))
            value = tl.where(real[:, None], value, tl.load(qkv_bias + 2 * channels + channel).to(value.dtype))
    logits = tl.dot(query, tl.trans(key), input_precision=PRECISION) * (HEAD**-0.5)
    logits += tl.load(positions + head * PLACES * PLACES + place[:, None] * PLACES + place).to(tl.float32)
    if mask is not None:  # noqa: SIM102
        if at_edge:
            pair = (place < places)[:, None] & (place < places)
            logits += tl.load(mask + window * places * places + place[:, None] * places + place, mask=pair, other=0)
    weights = tl.exp(logits - tl.max(logits, 1)[:, None])
    result = tl.dot(weights.to(value.dtype), value, input_precision=PRECISION) / tl.sum(weights, 1)[:, None]
    tl.store(out + slot * channels + channel, result, mask=real[:, None])


def _scale(rows: int) -> int:
    """For autotune's key alone: tiles are timed anew for sizes that differ much, not for every plan."""
    return triton.next_power_of_2(rows)


def _precision(x: Tensor) -> str:
    return "ieee" if x.dtype == torch.float32 else "tf32"  # the latter is for float32 alone, and named where nothing is meant
