"""The layers of SparseSwin: a kernel where one supports the input, else the plain layer.

This is the one place that chooses. ``fast`` False always takes the plain layer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from sparsevit3d.swin import importance as plain
from sparsevit3d.swin import layers
from sparsevit3d.swin.density import window_density
from sparsevit3d.swin.importance import MAPS, POOLINGS, Importance
from sparsevit3d.swin.kernels import cpu, gpu, graphs, torch_private
from sparsevit3d.swin.windows import WindowTable

# By shift: the scores of its windows, (B, windows), and their order, most important first. Images
# that share a budget share a row.
Ranked = dict[int, tuple[Tensor, Tensor]]


def kernels_for(module: Any, x: Tensor) -> ModuleType | None:
    """The kernels that compute ``module``, one of the layers below, for ``x``.

    None: there are none.
    """
    if module.fast:
        for kernels in (cpu, gpu):
            if kernels.supports(module, x):
                return kernels
    return None


class PatchEmbed(layers.PatchEmbed):
    """:class:`sparsevit3d.swin.layers.PatchEmbed`, by a kernel where one supports the input."""

    fast = True

    def forward(self, images: Tensor) -> tuple[Tensor, int, int]:
        kernels = kernels_for(self, images)
        if kernels is None:
            return super().forward(images)
        height, width = (-(-side // self.patch) for side in images.shape[-2:])
        return kernels.embed_patches(self, images), height, width


class SwinBlock(layers.SwinBlock):
    """:class:`sparsevit3d.swin.layers.SwinBlock`, by a kernel where one supports the input."""

    fast = True

    def forward(self, x: Tensor, table: WindowTable, choice: layers.Choice | None) -> Tensor:
        kernels = kernels_for(self, x)
        if kernels is None:
            return super().forward(x, table, choice)
        windows = None if choice is None else choice.windows
        result: Tensor = kernels.compute_block(self, x, table, windows)
        return result


class PatchMerging(layers.PatchMerging):
    """:class:`sparsevit3d.swin.layers.PatchMerging`, by a kernel where one supports the input."""

    fast = True

    def forward(self, x: Tensor, height: int, width: int) -> tuple[Tensor, int, int]:
        kernels = kernels_for(self, x)
        if kernels is None:
            return super().forward(x, height, width)
        x = kernels.merge_patches(self, x.view(len(x), height, width, -1))
        return x, (height + 1) // 2, (width + 1) // 2


class LayerNorm(nn.LayerNorm):
    """LayerNorm of a map's tokens, (B, tokens, C), by a kernel where one supports the input."""

    fast = True

    def forward(self, x: Tensor) -> Tensor:
        kernels = kernels_for(self, x)
        return super().forward(x) if kernels is None else kernels.normalise(self, x)


LAYERS = (PatchEmbed, SwinBlock, PatchMerging, LayerNorm)


def rank(
    x: Tensor,
    tables: dict[int, WindowTable],
    importance: str | Importance | Tensor,
    seed: int,
    block: SwinBlock,
    images: int = 1,
) -> Ranked:
    """Score and order the windows of the maps ``x``, (B, tokens, C).

    ``tables`` holds window tables by shift. ``importance`` may be a map of density, (B, h, w).
    Windows of ``images`` images in a row are in one order. A GPU ranks by kernels where kernels
    compute ``block`` too.
    """
    kernels: Any = gpu if kernels_for(block, x) is gpu else plain
    if isinstance(importance, Tensor):
        scores = [window_density(importance, table) for table in tables.values()]
    else:
        scores = kernels.score_windows(x.detach(), list(tables.values()), importance, seed)
    scores = [one.reshape(len(x) // images, -1) for one in scores]
    return {
        shift: (one, kernels.rank_windows(one)) for shift, one in zip(tables, scores, strict=True)
    }


def replay(
    owner: nn.Module,
    compute: graphs.Compute,
    x: Tensor,
    blocks: Iterable[SwinBlock],
    importance: str | Importance,
    key: Hashable,
    hold: Callable[[], object],
) -> graphs.Outputs:
    """``compute(x)``, a pass of ``owner`` through ``blocks``, as a CUDA graph where one can be had.

    That is on a GPU, where kernels compute all blocks, all shapes are static, and nobody looks on.
    For ``key`` and ``hold`` see :class:`sparsevit3d.swin.kernels.graphs.Recordings`.
    """
    if importance not in (*POOLINGS, *MAPS):
        return compute(x)
    if not all(kernels_for(block, x) is gpu for block in blocks):
        return compute(x)
    modules = torch_private.all_modules(owner)
    if torch_private.in_dispatch_mode() or any(map(torch_private.has_hooks, modules)):
        return compute(x)
    if torch.cuda.is_current_stream_capturing():
        return compute(x)
    recordings = graphs.recordings_of(owner, torch_private.addresses_of(modules))
    with torch.cuda.device(x.device):
        return recordings.run(compute, x, key, hold)
