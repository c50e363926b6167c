"""What a plan costs, counted in multiply-accumulates.

Counted are convolution, linear layers and attention, as is usual for Swin. Linear layers are
counted on real tokens alone. Window padding is never computed, because SparseSwin fills the padding
in as a constant. The attention of a window is counted whole. So the dense count of Swin-T at 256 x
704 is 16.3 G an image. Swin as the paper runs it computes its padding and spends 23.4 G.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sparsevit3d.swin.density import DensityMap
from sparsevit3d.swin.importance import DENSITY
from sparsevit3d.swin.layers import SwinBlock
from sparsevit3d.swin.plan import SparsityPlan, kept_count, sample_plan
from sparsevit3d.swin.sparse_swin import SparseSwin
from sparsevit3d.swin.trace import BlockTrace
from sparsevit3d.swin.windows import window_table

SHARE = 0.56  # share of the dense MACs at which the paper's 3D detector runs


def count_macs(
    net: SparseSwin, image_size: tuple[int, int], plan: SparsityPlan | None = None
) -> int:
    """Count the MACs of one image of ``image_size`` (height, width) through the backbone.

    Without ``plan``, the plan as set in ``net`` counts.

    Where a map has padding, the tokens in the kept windows depend on the image. Then the plan is
    charged for the fullest windows that it can keep, so no image takes more.
    :func:`count_traced_macs` counts what one image took.
    """
    plan = plan or net.plan or SparsityPlan.uniform(0, net.depths)
    sizes = _map_sizes(net, image_size)
    total = math.prod(sizes[0]) * net.patch_embed.projection.weight.numel()
    total += 0 if plan.is_dense else _density_macs(net, sizes[0])
    for size, stage, windows in zip(
        sizes, net.stages, kept_windows(net, image_size, plan), strict=True
    ):
        for block, kept in zip(stage.blocks, windows, strict=True):
            total += block_macs(
                block, window_table(*size, block.window, block.shift).most_tokens(kept), kept
            )
    merging = [stage.downsample.reduction for stage in net.stages if stage.downsample is not None]
    total += sum(
        math.prod(size) * linear.weight.numel()
        for size, linear in zip(sizes[1:], merging, strict=True)
    )
    return total


def kept_windows(
    net: SparseSwin, image_size: tuple[int, int], plan: SparsityPlan
) -> tuple[tuple[int, ...], ...]:
    """Count the windows that each block of each stage computes of an image (height, width).

    Plans with the same counts are one plan to the network.
    """
    plan.check(net.depths)

    def kept(size: tuple[int, int], block: SwinBlock, ratio: float) -> int:
        return kept_count(len(window_table(*size, block.window, block.shift).tokens), ratio)

    return tuple(
        tuple(kept(size, block, ratios[number // 2]) for number, block in enumerate(stage.blocks))
        for size, stage, ratios in zip(
            _map_sizes(net, image_size), net.stages, plan.ratios, strict=True
        )
    )


def _map_sizes(net: SparseSwin, image_size: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of each stage's map, in tokens."""
    height, width = (-(-side // net.patch_size) for side in image_size)
    sizes = []
    for _ in net.stages:
        sizes.append((height, width))
        height = (height + 1) // 2
        width = (width + 1) // 2
    return sizes


def _density_macs(net: SparseSwin, size: tuple[int, int]) -> int:
    """MACs of the learned map that scores windows. 0: other importance takes no such map."""
    if net.importance != DENSITY or not isinstance(net.density, DensityMap):
        return 0
    return net.density.macs(*size)


def default_plans(net: SparseSwin, size: tuple[int, int]) -> list[SparsityPlan]:
    """The plan that ``net`` has, or else the usual ones.

    The usual ones are uniform 0.5 and 0.6, and a plan drawn from the search's space. The drawn plan
    has the share of MACs at which the paper's 3D detector runs. Swin-T adds the two plans that its
    authors published.
    """
    if net.plan is not None and not net.plan.is_dense:
        return [net.plan]
    published = ["0.3|0|0.1,0.2,0.2|0", "0.6|0|0.2,0.4,0.5|0"] if net.depths == (2, 2, 6, 2) else []
    uniform = [SparsityPlan.uniform(ratio, net.depths) for ratio in (0.5, 0.6)]
    return [*map(SparsityPlan.parse, published), plan_of_share(net, size, SHARE), *uniform]


def plan_of_share(
    net: SparseSwin, image_size: tuple[int, int], share: float, draws: int = 500, seed: int = 0
) -> SparsityPlan:
    """Draw plans from the search's space and return the one nearest to ``share`` of the dense MACs.

    ``draws`` says how many plans are drawn.
    """
    draw = random.Random(seed)
    dense = count_macs(net, image_size, SparsityPlan.uniform(0, net.depths))
    plans = [sample_plan(draw, net.depths) for _ in range(draws)]
    return min(plans, key=lambda plan: abs(count_macs(net, image_size, plan) / dense - share))


def size_of_equal_macs(
    net: SparseSwin, image_size: tuple[int, int], plan: SparsityPlan
) -> tuple[int, int]:
    """Find the largest image (height, width) that dense costs no more than ``plan``.

    The plan is counted at ``image_size``. Candidates are sizes of the same shape, in whole patches.
    """
    dense = SparsityPlan.uniform(0, net.depths)
    most = count_macs(net, image_size, plan)
    height, width = image_size
    for across in range(-(-width // net.patch_size), 1, -1):
        down = max(1, round(across * height / width))
        size = (down * net.patch_size, across * net.patch_size)
        if count_macs(net, size, dense) <= most:
            return size
    return (net.patch_size, net.patch_size)


def block_macs(block: SwinBlock, tokens: int, windows: int) -> int:
    """MACs of a block that computes ``windows`` windows, with ``tokens`` real tokens in them."""
    layers = (block.attn.qkv, block.attn.proj, block.fc1, block.fc2)
    # query x key, and weights x value
    attention = 2 * windows * block.window**4 * block.norm1.weight.numel()
    return tokens * sum(layer.weight.numel() for layer in layers) + attention


def count_traced_macs(net: SparseSwin, trace: Sequence[BlockTrace]) -> NDArray[np.integer]:
    """(B,) MACs that each image of one recorded forward pass took.

    The rules are those of :func:`count_macs`. The counts differ between images where a map has
    padding. Windows at the edge hold fewer tokens, and each image chose its own windows. Raises
    ValueError unless the trace is of one forward pass.
    """
    if len(trace) != sum(net.depths):
        raise ValueError(
            f"a trace of {len(trace)} blocks: one forward pass of this network has "
            f"{sum(net.depths)}"
        )
    total = np.zeros(len(trace[0].kept), dtype=np.int64)
    if any(one.scores is not None for one in trace):
        total += _density_macs(net, trace[0].map_size)
    for one in trace:
        if one.block == 0:
            before = net.stages[one.stage - 1].downsample if one.stage else None
            entry = net.patch_embed.projection if before is None else before.reduction
            total += one.map_size[0] * one.map_size[1] * entry.weight.numel()
        block = net.stages[one.stage].blocks[one.block]
        total += [
            block_macs(block, int(tokens), int(windows))
            for tokens, windows in zip(one.tokens, one.kept.sum(1), strict=True)
        ]
    return total
