"""SparseSwin on a GPU: what torch spreads over many launches in one Triton kernel each, and forward passes replayed as CUDA graphs.

How many windows a plan keeps does not depend on the image, so every shape is static and a forward pass can be recorded once and replayed
without its hundreds of launches. The plain path in :mod:`sparsevit3d.sparse_swin` defines the truth; this one equals it but for
rounding. It is for half precision, where tensor cores are; in float32 the plain path runs, by cuBLAS.
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from sparsevit3d import windows as plain
from sparsevit3d.windows import POOLINGS, Importance, WindowTable, window_table

if TYPE_CHECKING:
    from sparsevit3d.sparse_swin import SparseSwin, SwinBlock
    from sparsevit3d.swin_layers import PatchEmbed, PatchMerging

DTYPES = (torch.bfloat16, torch.float16)
HEADS = (16, 32, 64, 128)  # channels of a head that a tile can hold
LARGEST_WINDOW = 8  # tokens across: the attention of a larger one does not fit a tile's registers
PATCH_PIXELS, PATCH_WEIGHTS = 256, 16384  # of a patch embedding at the most: they lie in one tile
RECORDINGS = 8  # of one net: a plan and a size each, with all memory that its forward pass takes
CALLS_BEFORE = 2  # by then kernels are compiled and the fastest tiles found
IDLE = 100  # calls after which a recording may make room for another


@lru_cache(maxsize=1)
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def is_for(x: Tensor, weight: Tensor) -> bool:
    """Are the kernels for this input: half precision on a GPU, no gradients asked for, nothing traced?"""
    if torch.compiler.is_compiling() or type(x) is not Tensor or torch._C._get_tracing_state() is not None:
        return False
    if x.device.type != "cuda" or x.device != weight.device or x.dtype not in DTYPES or x.dtype != weight.dtype:
        return False
    return not torch.is_grad_enabled() and not torch.is_autocast_enabled("cuda") and _has_triton()


def _fits(block: SwinBlock) -> bool:
    head = block.fc1.in_features // block.attn.heads
    return block.fast and not block.training and block.pruned == "copy" and head in HEADS and block.window <= LARGEST_WINDOW


def runs_on(block: SwinBlock, x: Tensor) -> bool:
    """Are they for this block too?"""
    return is_for(x, block.fc1.weight) and _fits(block)


def compute_block(block: SwinBlock, x: Tensor, table: WindowTable, windows: Tensor | None) -> Tensor:
    """Compute ``windows``, (B, kept) or None for all, of the maps ``x``, (B, tokens, C), and write them back into ``x``."""
    from sparsevit3d import triton_layers as layers
    from sparsevit3d import triton_windows

    flat, attention = x.view(-1, x.shape[-1]), block.attn
    rows = triton_windows.choose_rows(table, windows, len(x))
    qkv = attention.qkv(layers.normalise(flat, rows, block.norm1))
    attended = layers.attend_windows(qkv, table, rows, attention)
    layers.add_linear(flat, rows, attended, attention.proj)
    hidden = layers.linear_gelu(layers.normalise(flat, rows, block.norm2), block.fc1)
    layers.add_linear(flat, rows, hidden, block.fc2)
    return x


def embeds(layer: PatchEmbed, images: Tensor) -> bool:
    """Are they for this patch embedding too?"""
    weight = layer.projection.weight
    fits = images.shape[1] == weight.shape[1] and weight[0].numel() <= PATCH_PIXELS and weight.numel() <= PATCH_WEIGHTS
    return fits and is_for(images, weight)


def embed_patches(layer: PatchEmbed, images: Tensor) -> Tensor:
    """The tokens of the images' patches, as :class:`sparsevit3d.swin_layers.PatchEmbed`, by one kernel."""
    from sparsevit3d import triton_layers as layers

    return layers.embed_patches(images, layer.projection, layer.norm)


def merge_patches(layer: PatchMerging, x: Tensor) -> Tensor:
    """Each 2 x 2 tokens of the maps, (B, H, W, C), as one, as :class:`sparsevit3d.swin_layers.PatchMerging`."""
    from sparsevit3d import triton_layers as layers

    return layer.reduction(layers.merge_patches(x.contiguous(), layer.norm)).view(len(x), -1, layer.reduction.out_features)


def normalise(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """``norm`` of the maps, (B, tokens, C)."""
    from sparsevit3d import triton_layers as layers
    from sparsevit3d.triton_windows import all_rows

    flat = x.contiguous().view(-1, x.shape[-1])
    return layers.normalise(flat, all_rows(len(flat)), norm).view(x.shape)


def score_windows(x: Tensor, tables: Sequence[WindowTable], importance: str | Importance, seed: int) -> list[Tensor]:
    """As :func:`sparsevit3d.windows.score_windows`, by one kernel where importance pools magnitudes."""
    from sparsevit3d import triton_windows

    if importance not in POOLINGS:
        return plain.score_windows(x, tables, importance, seed)
    return [triton_windows.score_windows(x.contiguous(), table, importance) for table in tables]


def rank_windows(scores: Tensor) -> Tensor:
    """As :func:`sparsevit3d.windows.rank_windows`, by counting who is more important."""
    from sparsevit3d import triton_windows

    return triton_windows.rank_windows(scores)


class Recording(NamedTuple):
    """A forward pass as a CUDA graph: what it reads and writes lies where it lay when it was recorded."""

    graph: torch.cuda.CUDAGraph
    images: Tensor
    features: tuple[Tensor, ...]
    tables: list[WindowTable]  # held, for the graph reads them


class Recordings:
    """The forward passes of a net whose weights lie at ``addresses``; the one that was idle for longest makes room."""

    def __init__(self, addresses: list[int]) -> None:
        self.addresses = addresses
        self.number = 0  # of calls
        self.calls: OrderedDict[Hashable, int] = OrderedDict()
        self.known: OrderedDict[Hashable, tuple[Recording, int]] = OrderedDict()  # with the last call that used it, idle ones first

    def replay(self, net: SparseSwin, images: Tensor) -> tuple[Tensor, ...]:
        self.number += 1
        stream = torch.cuda.current_stream(images.device).cuda_stream
        key = (net.plan, net.importance, images.shape, images.dtype, images.device, stream, torch.is_inference_mode_enabled())
        if key not in self.known:
            self.calls[key] = self.calls.pop(key, 0) + 1
            if len(self.calls) > 1000:
                self.calls.popitem(last=False)
            if self.calls[key] <= CALLS_BEFORE or not self._make_room():
                return net.compute(images)
            self.known[key] = _record(net, images), self.number
        recording, _ = self.known.pop(key)
        self.known[key] = recording, self.number
        recording.images.copy_(images)
        recording.graph.replay()
        return tuple(feature.clone() for feature in recording.features)

    def _make_room(self) -> bool:
        """Plans that take turns must not push out each other: to record costs more than to compute."""
        if len(self.known) < RECORDINGS:
            return True
        idle, (_, last) = next(iter(self.known.items()))
        if self.number - last < IDLE:
            return False
        del self.known[idle]
        return True


# Beside the nets, not within, because a graph can be neither copied nor saved.
_RECORDINGS: WeakKeyDictionary[nn.Module, Recordings] = WeakKeyDictionary()


def forget(net: nn.Module) -> None:
    """Drop what was recorded of ``net``."""
    _RECORDINGS.pop(net, None)


def forward(net: SparseSwin, images: Tensor) -> tuple[Tensor, ...]:
    """``net.compute(images)``, from its third call under a plan and a size on as the replay of a CUDA graph, where one can be recorded."""
    if not is_for(images, net.patch_embed.projection.weight):
        return net.compute(images)
    with torch.cuda.device(images.device):
        modules = _modules_of(net)
        return _recordings_of(net, modules).replay(net, images) if _is_recordable(net, modules) else net.compute(images)


def _modules_of(net: nn.Module) -> list[nn.Module]:
    """``net.modules()``, in a fifth of the time: what is asked before a replay must not take as long as the replay."""
    found = [net]
    for module in found:  # which grows meanwhile
        found.extend(part for part in module._modules.values() if part is not None)
    return found


def _is_recordable(net: SparseSwin, modules: list[nn.Module]) -> bool:
    """Does nobody look on, and is everything that runs known to be of static shapes?"""
    if _get_current_dispatch_mode() is not None or torch.cuda.is_current_stream_capturing() or net.importance not in POOLINGS:
        return False
    watched = any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    return not watched and all(_fits(block) for stage in net.stages for block in stage.blocks)


def _recordings_of(net: SparseSwin, modules: list[nn.Module]) -> Recordings:
    """What is recorded with the weights where they are now. That they change there does no harm."""
    addresses = [weight.data_ptr() for module in modules for weight in module._parameters.values() if weight is not None]
    known = _RECORDINGS.get(net)
    if known is None or known.addresses != addresses:
        known = _RECORDINGS[net] = Recordings(addresses)
    return known


def _record(net: SparseSwin, images: Tensor) -> Recording:
    images = images.clone()
    side, here = torch.cuda.Stream(images.device), torch.cuda.current_stream(images.device)
    side.wait_stream(here)
    with torch.cuda.stream(side):
        net.compute(images)  # what libraries allocate at their first call on a stream must not be part of the graph
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
        features = net.compute(images)
    return Recording(graph, images, features, _tables(net, images))


def _tables(net: SparseSwin, images: Tensor) -> list[WindowTable]:
    """The tables that a forward pass reads; their cache may drop them."""
    height, width = (-(-side // net.patch_size) for side in images.shape[-2:])
    tables = []
    for stage in net.stages:
        tables += [window_table(height, width, block.window, block.shift, images.device) for block in stage.blocks[:2]]
        height, width = (height + 1) // 2, (width + 1) // 2
    return tables
