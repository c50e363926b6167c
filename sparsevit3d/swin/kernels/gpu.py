"""SparseSwin on a GPU: one Triton kernel for what torch spreads over many launches.

For half precision, where tensor cores are. In float32 the plain path runs, by cuBLAS. The plain
path in :mod:`sparsevit3d.swin.layers` defines the truth. This one equals it but for rounding.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from sparsevit3d.swin import importance as plain
from sparsevit3d.swin.importance import POOLINGS, Importance
from sparsevit3d.swin.kernels import torch_private
from sparsevit3d.swin.layers import PatchEmbed, PatchMerging, SwinBlock
from sparsevit3d.swin.windows import WindowTable

DTYPES = (torch.bfloat16, torch.float16)
HEADS = (16, 32, 64, 128)  # channels of a head that a tile can hold
LARGEST_WINDOW = 8  # tokens across. The attention of a larger one does not fit a tile's registers
PATCH_PIXELS = 256  # of a patch embedding at the most: they lie in one tile
PATCH_WEIGHTS = 16384


@lru_cache(maxsize=1)
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def supports(module: nn.Module, x: Tensor) -> bool:
    """Whether there is a kernel that computes ``module`` for ``x``.

    For blocks, patch embeddings, mergings and LayerNorms: half precision on a GPU, no gradients
    asked for, and nothing traced.
    """
    if isinstance(module, SwinBlock):
        return _fits_block(module) and _supports_input(x, module.fc1.weight)
    if isinstance(module, PatchEmbed):
        weight = module.projection.weight
        return _fits_embedding(weight, x) and _supports_input(x, weight)
    if isinstance(module, PatchMerging):
        return _supports_input(x, module.reduction.weight)
    if isinstance(module, nn.LayerNorm):
        return _supports_input(x, module.weight)
    return False


def _fits_block(block: SwinBlock) -> bool:
    head = block.fc1.in_features // block.attn.heads
    if block.training or block.pruned != "copy":
        return False
    return head in HEADS and block.window <= LARGEST_WINDOW


def _fits_embedding(weight: Tensor, images: Tensor) -> bool:
    if images.shape[1] != weight.shape[1]:
        return False
    return weight[0].numel() <= PATCH_PIXELS and weight.numel() <= PATCH_WEIGHTS


def _supports_input(x: Tensor, weight: Tensor) -> bool:
    if torch_private.is_traced(x) or x.device.type != "cuda" or x.device != weight.device:
        return False
    if x.dtype not in DTYPES or x.dtype != weight.dtype:
        return False
    return not torch.is_grad_enabled() and not torch.is_autocast_enabled("cuda") and _has_triton()


def compute_block(
    block: SwinBlock, x: Tensor, table: WindowTable, windows: Tensor | None
) -> Tensor:
    """Compute windows of the maps ``x``, (B, tokens, C), in place.

    ``windows``: (B, kept), or None for all.
    """
    from sparsevit3d.swin.kernels import triton_attention, triton_layers, triton_windows

    flat = x.view(-1, x.shape[-1])
    attention = block.attn
    rows = triton_windows.choose_rows(table, windows, len(x))
    qkv = attention.qkv(triton_layers.normalise(flat, rows, block.norm1))
    attended = triton_attention.attend_windows(qkv, table, rows, attention)
    triton_layers.add_linear(flat, rows, attended, attention.proj)
    normalised = triton_layers.normalise(flat, rows, block.norm2)
    hidden = triton_layers.linear_gelu(normalised, block.fc1)
    triton_layers.add_linear(flat, rows, hidden, block.fc2)
    return x


def embed_patches(layer: PatchEmbed, images: Tensor) -> Tensor:
    """The tokens of the images' patches, (B, tokens, C), by one kernel."""
    from sparsevit3d.swin.kernels import triton_layers

    return triton_layers.embed_patches(images, layer.projection, layer.norm)


def merge_patches(layer: PatchMerging, x: Tensor) -> Tensor:
    """(B, height, width, C) to (B, tokens of the smaller map, 2 C)."""
    from sparsevit3d.swin.kernels import triton_layers

    merged = triton_layers.merge_patches(x.contiguous(), layer.norm)
    return layer.reduction(merged).view(len(x), -1, layer.reduction.out_features)


def normalise(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """``norm`` of the maps, (B, tokens, C)."""
    from sparsevit3d.swin.kernels import triton_layers
    from sparsevit3d.swin.kernels.triton_windows import all_rows

    flat = x.contiguous().view(-1, x.shape[-1])
    return triton_layers.normalise(flat, all_rows(len(flat)), norm).view(x.shape)


def score_windows(
    x: Tensor, tables: Sequence[WindowTable], importance: str | Importance, seed: int
) -> list[Tensor]:
    """Score windows as the plain path does, by one kernel where magnitudes are pooled."""
    from sparsevit3d.swin.kernels import triton_windows

    if importance not in POOLINGS:
        return plain.score_windows(x, tables, importance, seed)
    x = x.contiguous()
    return [triton_windows.score_windows(x, table, importance) for table in tables]


def rank_windows(scores: Tensor) -> Tensor:
    """Order windows as the plain path does, by counting who is more important."""
    from sparsevit3d.swin.kernels import triton_windows

    return triton_windows.rank_windows(scores)
