"""What a plan costs, counted: multiply-accumulates of convolution, linear layers and attention, as is usual for Swin.

Linear layers are counted on real tokens alone, for window padding is never computed (SparseSwin fills it in as a constant); the
attention of a window is counted whole. So the dense count of Swin-T at 256 x 704 is 16.3 G an image, where Swin as the paper runs
it, computing its padding, spends 23.4 G.
"""

from __future__ import annotations

from sparsevit3d.plan import SparsityPlan, kept_count
from sparsevit3d.sparse_swin import SparseSwin, SwinBlock
from sparsevit3d.windows import window_table


def count_macs(net: SparseSwin, image_size: tuple[int, int], plan: SparsityPlan | None = None) -> int:
    """MACs of one image of ``image_size`` (height, width) through the backbone, under the plan as set, or under ``plan``.

    Where the map has padding, which windows are kept depends on the image: each is charged the map's mean of real tokens.
    """
    plan = plan or net.plan or SparsityPlan.uniform(0, net.depths)
    plan.check(net.depths)
    patch = net.patch_size
    height, width = (-(-side // patch) for side in image_size)
    total = height * width * net.patch_embed.weight.numel()
    for index, stage in enumerate(net.stages):
        if index:
            height, width = (height + 1) // 2, (width + 1) // 2
            total += height * width * net.merges[index - 1].reduction.weight.numel()
        for number, block in enumerate(stage.blocks):
            total += _block_macs(block, height, width, plan.ratios[index][number // 2])
    return total


def _block_macs(block: SwinBlock, height: int, width: int, ratio: float) -> int:
    windows, places = window_table(height, width, block.window, block.shift).tokens.shape
    kept = kept_count(windows, ratio) if ratio else windows
    layers = (block.attn.qkv, block.attn.proj, block.fc1, block.fc2)
    linear = height * width * kept // windows * sum(layer.weight.numel() for layer in layers)
    return linear + 2 * kept * places**2 * block.norm1.weight.numel()  # query x key, and weights x value
