"""Layers of SparseSwin as Triton kernels: patches, LayerNorm of gathered rows, products."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from sparsevit3d.swin.kernels.triton_windows import (
    INTERPRETED,
    TIME,
    VARYING,
    Rows,
    all_rows,
    precision_of,
    row_of,
    scale_of,
)

# Tiles: rows, output channels, and the depth of one product. The fastest tile is found when a size
# first comes.
_TILES = [
    triton.Config({"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k}, num_warps=warps, num_stages=stages)
    for m, n, k, warps, stages in (
        (64, 64, 32, 4, 3),
        (128, 64, 32, 4, 3),
        (128, 128, 32, 8, 3),
        (64, 64, 64, 4, 4),
        (128, 64, 64, 4, 3),
        (64, 128, 64, 4, 4),
        (128, 128, 64, 8, 3),
        (64, 64, 128, 4, 3),
    )
]


@triton.jit
def _layer_norm(value, k, channels, eps, weight, bias):
    """Normalise (rows, channels filled up to a power of two with zeros), in float32."""
    value = tl.where(k < channels, value - (tl.sum(value, 1) / channels)[:, None], 0)
    scaling = 1 / tl.sqrt(tl.sum(value * value, 1) / channels + eps)
    value = value * scaling[:, None] * tl.load(weight + k, mask=k < channels, other=0)
    return value + tl.load(bias + k, mask=k < channels, other=0)


def normalise(x: Tensor, rows: Rows, norm: nn.LayerNorm) -> Tensor:
    """LayerNorm of the maps' rows, ``x`` (B * tokens, C), packed: (rows, C).

    Rows that are not used stay undefined.
    """
    channels = x.shape[1]
    out = torch.empty(rows.total, channels, dtype=x.dtype, device=x.device)
    across = triton.next_power_of_2(channels)
    block = max(1, 4096 // across)
    _normalise[(triton.cdiv(rows.total, block),)](
        x=x,
        rows=rows.tokens,
        ends=rows.ends,
        norm_weight=norm.weight,
        norm_bias=norm.bias,
        out=out,
        total=rows.total,
        bound=rows.bound,
        kept=rows.kept,
        channels=channels,
        eps=norm.eps,
        BLOCK_M=block,
        CHANNELS=across,
    )
    return out


@triton.jit(do_not_specialize=VARYING)
def _normalise(
    x,
    rows,
    ends,
    norm_weight,
    norm_bias,
    out,
    total,
    bound,
    kept,
    channels,
    eps,
    BLOCK_M: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.arange(0, CHANNELS)
    row, used = row_of(rows, ends, m, total, bound, kept)
    inside = used[:, None] & (k < channels)
    value = tl.load(x + row[:, None] * channels + k, mask=inside, other=0).to(tl.float32)
    value = _layer_norm(value, k, channels, eps, norm_weight, norm_bias)
    tl.store(out + m.to(tl.int64)[:, None] * channels + k, value, mask=inside)


def merge_patches(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Join and normalise each 2 x 2 tokens of the maps, (B, H, W, C): (B * ..., 4 C).

    An odd edge is padded with zeros.
    """
    batch, height, width, channels = x.shape
    total = batch * triton.cdiv(height, 2) * triton.cdiv(width, 2)
    across = triton.next_power_of_2(4 * channels)
    out = torch.empty(total, 4 * channels, dtype=x.dtype, device=x.device)
    block = max(1, 4096 // across)
    _merge_patches[(triton.cdiv(total, block),)](
        x=x,
        norm_weight=norm.weight,
        norm_bias=norm.bias,
        out=out,
        total=total,
        height=height,
        width=width,
        channels=channels,
        eps=norm.eps,
        BLOCK_M=block,
        CHANNELS=across,
    )
    return out


@triton.jit(do_not_specialize=VARYING)
def _merge_patches(
    x,
    norm_weight,
    norm_bias,
    out,
    total,
    height,
    width,
    channels,
    eps,
    BLOCK_M: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.arange(0, CHANNELS)
    down = (height + 1) // 2
    across = (width + 1) // 2
    image = m // (down * across)
    row = m // across % down * 2
    column = m % across * 2
    row = row[:, None] + k % 4 // 2
    column = column[:, None] + k % 2  # channel by channel, as Swin's weights have it
    real = (m < total)[:, None] & (k < 4 * channels)
    source = (
        x
        + image.to(tl.int64)[:, None] * height * width * channels
        + ((row * width + column) * channels + k // 4)
    )
    value = tl.load(source, mask=real & (row < height) & (column < width), other=0).to(tl.float32)
    value = _layer_norm(value, k, 4 * channels, eps, norm_weight, norm_bias)
    tl.store(out + m.to(tl.int64)[:, None] * (4 * channels) + k, value, mask=real)


def embed_patches(images: Tensor, projection: nn.Conv2d, norm: nn.LayerNorm) -> Tensor:
    """Project and normalise patches of the images, (B, in_channels, H, W): (B, tokens, C).

    Edges are filled up with zeros.
    """
    batch, _, height, width = images.shape
    patch = projection.kernel_size[0]
    weight = projection.weight.flatten(1)
    tokens = triton.cdiv(height, patch) * triton.cdiv(width, patch)
    channels, depth = weight.shape
    out = torch.empty(batch, tokens, channels, dtype=images.dtype, device=images.device)
    _embed_patches[(triton.cdiv(batch * tokens, 64),)](
        images=images,
        weight=weight,
        bias=projection.bias,
        norm_weight=norm.weight,
        norm_bias=norm.bias,
        out=out,
        total=batch * tokens,
        height=height,
        width=width,
        to_image=images.stride(0),
        to_channel=images.stride(1),
        to_row=images.stride(2),
        to_column=images.stride(3),
        channels=channels,
        eps=norm.eps,
        PRECISION=precision_of(images),
        BLOCK_M=64,
        PATCH=patch,
        DEPTH=depth,
        CHANNELS=triton.next_power_of_2(channels),
        BLOCK_K=max(16, triton.next_power_of_2(depth)),
    )
    return out


@triton.jit(do_not_specialize=VARYING)
def _embed_patches(
    images,
    weight,
    bias,
    norm_weight,
    norm_bias,
    out,
    total,
    height,
    width,
    to_image,
    to_channel,
    to_row,
    to_column,
    channels,
    eps,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    PATCH: tl.constexpr,
    DEPTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.arange(0, BLOCK_K)
    n = tl.arange(0, CHANNELS)
    down = tl.cdiv(height, PATCH)
    across = tl.cdiv(width, PATCH)
    image = (m // (down * across)).to(tl.int64)
    row = m // across % down
    column = m % across
    row = row[:, None] * PATCH + k // PATCH % PATCH
    column = column[:, None] * PATCH + k % PATCH
    source = (
        images
        + image[:, None] * to_image
        + k // (PATCH * PATCH) * to_channel
        + row * to_row
        + column * to_column
    )
    inside = (m < total)[:, None] & (k < DEPTH) & (row < height) & (column < width)
    pixels = tl.load(source, mask=inside, other=0)
    part = tl.load(
        weight + n * DEPTH + k[:, None], mask=(n < channels) & (k < DEPTH)[:, None], other=0
    )
    product = tl.dot(pixels, part, input_precision=PRECISION)
    if bias is not None:
        product += tl.load(bias + n, mask=n < channels, other=0).to(tl.float32)
    value = _layer_norm(product, n, channels, eps, norm_weight, norm_bias)
    tl.store(
        out + m.to(tl.int64)[:, None] * channels + n,
        value,
        mask=(m < total)[:, None] & (n < channels),
    )


@triton.jit
def _gelu(x):
    """GELU by a logistic function, whose polynomial was fitted to the normal distribution.

    The error is 1.3e-6 at most. Beside rounding to half precision the error shows only where the
    result is next to zero. The function takes fewer instructions than erf. At few channels a block
    waits for these instructions.
    """
    square = tl.minimum(x * x, 30.0)  # beyond 30, GELU is 0 or x
    logit = 5.608794477621058e-06 - 1.1361043112066319e-07 * square
    logit = -1.152474669165e-04 + square * (-9.46503653056957e-05 + square * logit)
    logit = x * (1.5957455553969464 + square * (0.07273059645566404 + square * logit))
    return x / (1 + tl.exp(-logit))


def linear_gelu(part: Tensor, layer: nn.Linear) -> Tensor:
    """Apply ``layer`` and GELU to ``part``, (rows, C): (rows, layer's width)."""
    out = torch.empty(len(part), layer.out_features, dtype=part.dtype, device=part.device)
    _launch_linear(part, layer, out, all_rows(len(part)), add=False)
    return out


def add_linear(x: Tensor, rows: Rows, part: Tensor, layer: nn.Linear) -> None:
    """Add ``layer`` of ``part``, (rows, C'), to the rows of the maps ``x``, (B * tokens, C).

    This is the residual and the scatter, in place.
    """
    _launch_linear(part, layer, x, rows, add=True)


def _launch_linear(part: Tensor, layer: nn.Linear, out: Tensor, rows: Rows, add: bool) -> None:
    width, channels = layer.weight.shape

    def grid(tile):
        return (triton.cdiv(rows.total, tile["BLOCK_M"]) * triton.cdiv(width, tile["BLOCK_N"]),)

    _linear[grid](
        part=part,
        rows=rows.tokens,
        ends=rows.ends,
        weight=layer.weight,
        bias=layer.bias,
        out=out,
        total=rows.total,
        bound=rows.bound,
        kept=rows.kept,
        channels=channels,
        width=width,
        scale=scale_of(rows.total),
        ADD=add,
        PRECISION=precision_of(part),
    )


@triton.autotune(
    _TILES[:1] if INTERPRETED else _TILES,
    key=["channels", "width", "scale", "ADD"],
    restore_value=["out"],
    do_bench=TIME,
)
@triton.jit(do_not_specialize=VARYING)
def _linear(
    part,
    rows,
    ends,
    weight,
    bias,
    out,
    total,
    bound,
    kept,
    channels,
    width,
    scale,
    ADD: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    across = tl.cdiv(width, BLOCK_N)
    m = tl.program_id(0) // across * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(0) % across * BLOCK_N + tl.arange(0, BLOCK_N)
    row, used = row_of(rows, ends, m, total, bound, kept)
    product = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, channels, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        left = tl.load(
            part + m.to(tl.int64)[:, None] * channels + k,
            mask=used[:, None] & (k < channels),
            other=0,
        )
        right = tl.load(
            weight + n * channels + k[:, None], mask=(n < width) & (k < channels)[:, None], other=0
        )
        product = tl.dot(left, right, product, input_precision=PRECISION)
    product += tl.load(bias + n, mask=n < width, other=0).to(tl.float32)
    place = out + row[:, None] * width + n
    inside = used[:, None] & (n < width)
    if ADD:
        product += tl.load(place, mask=inside, other=0).to(tl.float32)
    else:
        product = _gelu(product)
    tl.store(place, product, mask=inside)
