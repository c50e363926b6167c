"""A Swin block at a processor's limit: windows in tiles that stay in its cache, through oneDNN's fused products.

A block computes each window by itself, so a tile of windows can go through all of it, from gather to scatter, before the next one
begins: what lies between two layers never leaves the cache, and no more than a tile's share of it is ever stored. Windows that have
padding or were joined by the cyclic shift need more work than the others and are tiled apart. The plain path in
:mod:`sparsevit3d.sparse_swin` defines the truth; this one equals it but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsevit3d.windows import WindowTable

if TYPE_CHECKING:
    from sparsevit3d.sparse_swin import SwinBlock
    from sparsevit3d.swin_layers import PatchMerging

TILE = 64  # windows; of 7 x 7 tokens, those of Swin's first stage fill a few MB between two layers
# oneDNN has no bfloat16 for processors that lack AVX-512; the plain path does, slowly.
HALF = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
DTYPES = (torch.float32, torch.bfloat16) if HALF else (torch.float32,)


class Product(NamedTuple):
    """A linear layer with its weights as oneDNN wants them."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor, activation: str = "none") -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, activation, [], "none")

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")


class Prepared(NamedTuple):
    """What is made of a module's weights once."""

    products: tuple[Product, ...]
    others: tuple[Tensor, ...]  # of a block its position bias, of a merging its norm's weight and bias


# By module: the weights that it was made of, as address and version, and what was made. Beside the modules, not within, because
# packed weights can be neither copied nor saved.
_PREPARED: WeakKeyDictionary[nn.Module, tuple[Any, Prepared]] = WeakKeyDictionary()


def forget(net: nn.Module) -> None:
    """Drop what was made of the weights of ``net``; for whoever may have changed them behind torch's back, as through ``.data``."""
    for module in net.modules():
        _PREPARED.pop(module, None)


def runs_on(x: Tensor, weight: Tensor) -> bool:
    """Is the fast path for this input: real numbers on a CPU, no gradients asked for, nothing traced, nothing cast on the way?"""
    if x.device.type != "cpu" or x.dtype not in DTYPES or x.dtype != weight.dtype or torch.is_grad_enabled():
        return False
    traced = type(x) is not Tensor or torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    if traced or torch.is_autocast_enabled("cpu") or weight.is_inference():
        return False
    return torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def compute_block(block: SwinBlock, x: Tensor, table: WindowTable, windows: Tensor | None) -> Tensor:
    """Compute ``windows``, (B, kept) or None for all, of the maps ``x``, (B, tokens, C), and write them back into ``x``."""
    batch, tokens, channels = x.shape
    flat = x.view(batch * tokens, channels)
    if windows is None:
        windows = torch.arange(len(table.tokens)).expand(batch, -1)
    start = (torch.arange(batch) * tokens)[:, None].expand_as(windows).flatten()
    windows = windows.flatten()
    edge = table.edge[windows]
    for special in (False, True):
        for tile in (edge == special).nonzero().squeeze(1).split(TILE):
            if len(tile):
                _compute_tile(block, flat, table, windows[tile], start[tile], special)
    return x


def _compute_tile(block: SwinBlock, flat: Tensor, table: WindowTable, windows: Tensor, start: Tensor, edge: bool) -> None:
    """``windows``, (n,), of the maps that begin at row ``start``, (n,), of ``flat``; ``edge``: they have padding or a mask."""
    (qkv_layer, projection, fc1, fc2), (bias,) = _prepared(block, partial(_prepare_block, table.offsets))
    index, places, mask = table.tokens[windows], None, None
    rows = (index + start[:, None]).flatten()
    if edge:
        places = (index < table.padding).flatten().nonzero().squeeze(1)
        rows, mask = rows[places], None if table.mask is None else table.mask[windows]
    part = flat.index_select(0, rows)
    qkv = qkv_layer(block.norm1(part))
    if places is not None:
        qkv = block.attn.with_padding(qkv, places, len(windows))
    attended = block.attn.attend(qkv.float(), len(windows), bias, mask)  # torch's CPU attention is no faster in bfloat16
    attended = attended.to(part.dtype)
    part = projection.plus(attended if places is None else attended.index_select(0, places), part)
    part = fc2.plus(fc1(block.norm2(part), "gelu"), part)
    flat.index_copy_(0, rows, part)


def merge_patches(merging: PatchMerging, x: Tensor) -> Tensor:
    """(B, height, width, C), even sides, to (B, height / 2 * width / 2, 2 C).

    A channel of all four tokens, then the next, is how the weights want them; here these are reordered, once, so that what is copied
    are whole tokens.
    """
    batch, height, width, channels = x.shape
    (reduction,), (weight, bias) = _prepared(merging, _prepare_merging)
    x = x.view(batch, height // 2, 2, width // 2, 2, channels).transpose(2, 3).reshape(-1, 4 * channels)
    x = F.layer_norm(x, (4 * channels,), weight, bias, merging.norm.eps)
    return reduction(x).view(batch, height * width // 4, -1)


def _prepared(module: nn.Module, prepare: Callable[[Any], Prepared]) -> Prepared:
    state = tuple((parameter.data_ptr(), parameter._version) for parameter in module.parameters())
    known = _PREPARED.get(module)
    if known is None or known[0] != state:
        known = _PREPARED[module] = (state, prepare(module))
    return known[1]


def _prepare_block(offsets: Tensor, block: SwinBlock) -> Prepared:
    layers = (block.attn.qkv, block.attn.proj, block.fc1, block.fc2)
    rows = TILE * block.window**2
    products = tuple(Product(_packed(layer.weight, rows), layer.bias) for layer in layers)
    return Prepared(products, (block.attn.position_bias(offsets).float().contiguous(),))


def _prepare_merging(merging: PatchMerging) -> Prepared:
    def by_token(weight: Tensor) -> Tensor:
        return weight.detach().unflatten(-1, (-1, 4)).transpose(-1, -2).flatten(-2)

    norm = (by_token(merging.norm.weight), by_token(merging.norm.bias))
    return Prepared((Product(_packed(by_token(merging.reduction.weight), TILE), None),), norm)


def _packed(weight: Tensor, rows: int) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), rows)
