"""A Swin block at a processor's limit: windows in tiles that stay in the cache, through oneDNN.

A block computes each window by itself. So a tile of windows can go through all of the block, from
gather to scatter, before the next tile begins. What lies between two layers never leaves the cache,
and only a tile's share of it is ever stored. Windows with padding, or joined by the cyclic shift,
need more work than the others and are tiled apart. The plain path in
:mod:`sparsevit3d.swin.layers` defines the truth. This one equals it but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsevit3d.swin.kernels import torch_private
from sparsevit3d.swin.layers import PatchMerging, SwinBlock, WindowAttention, pad_to_even
from sparsevit3d.swin.windows import WindowTable

# Windows of a tile, at least. With 7 x 7 tokens, those of Swin's first stage fill a few MB between
# two layers.
TILE = 64
# Values of a tile's tokens, at least. In smaller tiles, launching operators takes the most time.
VALUES = 1 << 19
HALF = torch_private.ONEDNN_HAS_BFLOAT16
DTYPES = (torch.float32, torch.bfloat16) if HALF else (torch.float32,)


class Product(NamedTuple):
    """A linear layer with its weights as oneDNN wants them."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor, activation: str = "none") -> Tensor:
        return torch_private.linear(x, self.weight, self.bias, activation)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        return torch_private.linear_plus(x, residual, self.weight, self.bias)


class Prepared(NamedTuple):
    """What is made of a module's weights once."""

    products: tuple[Product, ...]
    others: tuple[Tensor, ...]  # a block's position bias, or a merging's norm weight and norm bias


# By module: the state of the weights, and what was made of them. They lie beside the modules and
# not within, because packed weights can be neither copied nor saved.
_PREPARED: WeakKeyDictionary[nn.Module, tuple[Any, Prepared]] = WeakKeyDictionary()


def forget(net: nn.Module) -> None:
    """Drop what was made of the weights of ``net``.

    For whoever may have changed weights without torch's notice, as through ``.data``.
    """
    for module in net.modules():
        _PREPARED.pop(module, None)


def supports(module: nn.Module, x: Tensor) -> bool:
    """Whether there is a kernel that computes ``module`` for ``x``.

    For blocks and mergings: real numbers on a CPU, no gradients asked for, nothing traced, and
    nothing cast on the way.
    """
    if isinstance(module, SwinBlock):
        weight = module.fc1.weight
        if module.training or module.pruned != "copy":
            return False
    elif isinstance(module, PatchMerging):
        weight = module.reduction.weight
    else:
        return False
    if x.device.type != "cpu" or x.dtype not in DTYPES or x.dtype != weight.dtype:
        return False
    if torch.is_grad_enabled() or torch_private.is_traced(x):
        return False
    if torch.is_autocast_enabled("cpu") or weight.is_inference():
        return False
    return torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def compute_block(
    block: SwinBlock, x: Tensor, table: WindowTable, windows: Tensor | None
) -> Tensor:
    """Compute windows of the maps ``x``, (B, tokens, C), in place.

    ``windows``: (B, kept), or None for all.
    """
    batch, tokens, channels = x.shape
    flat = x.view(batch * tokens, channels)
    if windows is None:
        windows = torch.arange(len(table.tokens)).expand(batch, -1)
    start = (torch.arange(batch) * tokens)[:, None].expand_as(windows).flatten()
    windows = windows.flatten()
    edge = table.edge[windows]
    at_once = _tile_of(block)
    for special in (False, True):
        for tile in (edge == special).nonzero().squeeze(1).split(at_once):
            if len(tile):
                _compute_tile(block, flat, table, windows[tile], start[tile], special)
    return x


def _tile_of(block: SwinBlock) -> int:
    """How many windows a tile of ``block`` has."""
    return max(TILE, VALUES // (block.window**2 * block.fc1.in_features))


def _compute_tile(
    block: SwinBlock,
    flat: Tensor,
    table: WindowTable,
    windows: Tensor,
    start: Tensor,
    edge: bool,
) -> None:
    """Compute ``windows``, (n,), of the maps that begin at row ``start``, (n,), of ``flat``.

    ``edge``: whether they have padding or a mask.
    """
    products, (bias,) = _prepared(block, partial(_prepare_block, table.offsets))
    qkv_layer, projection, fc1, fc2 = products
    index = table.tokens[windows]
    rows = (index + start[:, None]).flatten()
    places = None
    mask = None
    if edge:
        places = (index < table.padding).flatten().nonzero().squeeze(1)
        rows = rows[places]
        mask = None if table.mask is None else table.mask[windows]
    part = flat.index_select(0, rows)
    qkv = qkv_layer(block.norm1(part))
    if places is not None:
        qkv = block.attn.with_padding(qkv, places, len(windows))
    attended = attend(block.attn, qkv, len(windows), bias, mask)
    if places is not None:
        attended = attended.index_select(0, places)
    part = projection.plus(attended, part)
    part = fc2.plus(fc1(block.norm2(part), "gelu"), part)
    flat.index_copy_(0, rows, part)


def attend(
    attention: WindowAttention, qkv: Tensor, windows: int, bias: Tensor, mask: Tensor | None
) -> Tensor:
    """``attention.attend``, in bfloat16 through oneDNN's products.

    Torch's attention on a CPU is no faster in bfloat16, and neither is its softmax. So logits are
    rounded to bfloat16 once, and their softmax is float32's.
    """
    if qkv.dtype != torch.bfloat16:
        return attention.attend(qkv, windows, bias, mask)
    size = attention.window**2
    heads = attention.heads
    split = qkv.view(windows, size, 3, heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = (part.reshape(windows * heads, size, -1) for part in split)
    logits = torch.bmm(query, key.transpose(1, 2)).view(windows, heads, size, size)
    if mask is not None:
        bias = bias + mask[:, None]
    logits = torch.add(bias, logits, alpha=query.shape[2] ** -0.5)
    found = torch.bmm(logits.softmax(3).to(qkv.dtype).flatten(0, 1), value)
    return found.view(windows, heads, size, -1).transpose(1, 2).reshape(windows * size, -1)


def merge_patches(merging: PatchMerging, x: Tensor) -> Tensor:
    """(B, height, width, C) to (B, tokens of the smaller map, 2 C).

    The weights want a channel of all four tokens, then the next channel. Here the weights are
    reordered, once, so that whole tokens are copied.
    """
    x = pad_to_even(x)
    batch, height, width, channels = x.shape
    (reduction,), (weight, bias) = _prepared(merging, _prepare_merging)
    x = x.view(batch, height // 2, 2, width // 2, 2, channels)
    x = x.transpose(2, 3).reshape(-1, 4 * channels)
    x = F.layer_norm(x, (4 * channels,), weight, bias, merging.norm.eps)
    return reduction(x).view(batch, height * width // 4, -1)


def _prepared(module: nn.Module, prepare: Callable[[Any], Prepared]) -> Prepared:
    state = torch_private.state_of(module)
    known = _PREPARED.get(module)
    if known is None or known[0] != state:
        known = (state, prepare(module))
        _PREPARED[module] = known
    return known[1]


def _prepare_block(offsets: Tensor, block: SwinBlock) -> Prepared:
    rows = _tile_of(block) * block.window**2
    layers = (block.attn.qkv, block.attn.proj, block.fc1, block.fc2)
    products = tuple(
        Product(torch_private.pack_weight(layer.weight, rows), layer.bias) for layer in layers
    )
    bias = block.attn.position_bias(offsets).float().contiguous()
    return Prepared(products, (bias,))


def _prepare_merging(merging: PatchMerging) -> Prepared:
    def by_token(weight: Tensor) -> Tensor:
        return weight.detach().unflatten(-1, (-1, 4)).transpose(-1, -2).flatten(-2)

    norm = (by_token(merging.norm.weight), by_token(merging.norm.bias))
    packed = torch_private.pack_weight(by_token(merging.reduction.weight), TILE)
    return Prepared((Product(packed, None),), norm)
