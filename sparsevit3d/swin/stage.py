"""A stage of SparseSwin: blocks at one resolution, which share one ranking of their windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from sparsevit3d.swin.kernels.dispatch import PatchMerging, Ranked, SwinBlock
from sparsevit3d.swin.layers import Choice
from sparsevit3d.swin.plan import kept_count
from sparsevit3d.swin.windows import WindowTable, token_mask, window_table

ScoreEvery = Literal["stage", "block"]
Budget = Literal["image", "batch"]
# torch.compile cannot look into fractions.
_kept_count = torch.compiler.assume_constant_result(kept_count)
# Blocks that ran: their windows, and which of these they computed. None: all.
Ran = list[tuple[WindowTable, Choice | None]]
# dispatch.rank, its importance settled. The tables are those of one image.
Rank = Callable[[Tensor, dict[int, WindowTable], SwinBlock], Ranked]


class SwinStage(nn.Module):
    """Blocks at one resolution, plain and shifted windows in turn.

    Args:
        blocks (sequence of SwinBlock): In the order in which they run.
        downsample (PatchMerging or None): What leads to the next stage. None: there is none.
        score_every (str): "stage" or "block", as in SparseSwin.
        budget (str): "image" or "batch", as in SparseSwin.
    """

    def __init__(
        self,
        blocks: Sequence[SwinBlock],
        downsample: PatchMerging | None,
        score_every: ScoreEvery,
        budget: Budget,
    ) -> None:
        super().__init__()
        self.blocks = cast(list[SwinBlock], nn.ModuleList(blocks))
        self.downsample = downsample
        self.score_every = score_every
        self.budget = budget

    def forward(
        self,
        x: Tensor,
        height: int,
        width: int,
        ratios: Sequence[float],
        rank: Rank,
        ran: Ran | None = None,
    ) -> Tensor:
        """The blocks: (B, height * width, C) to the same shape, one ratio for each block pair.

        What each block computed is added to ``ran``.
        """
        batch = x.shape
        images = len(x) if self.budget == "batch" and any(ratios) else 1
        tables = {
            block.shift: window_table(height, width, block.window, block.shift, x.device)
            for block in self.blocks
        }
        ranked: Ranked = {}
        for number, block in enumerate(self.blocks):
            table = window_table(height, width, block.window, block.shift, x.device, images)
            ratio = ratios[number // 2]
            choice = None
            if ratio:
                if self.score_every == "block":
                    ranked = rank(x.view(batch), {block.shift: tables[block.shift]}, block)
                elif not ranked:  # here the stage's first pruned block begins
                    ranked = rank(x.view(batch), tables, block)
                scores, order = ranked[block.shift]
                kept = images * _kept_count(table.per_image, ratio)
                choice = Choice(order[:, :kept], scores)
            x = block(x.view(-1, images * height * width, batch[2]), table, choice)
            if ran is not None:
                ran.append((table, choice))
        return x.view(batch)


def computed_tokens(stage: SwinStage, ran: Ran, batch: int) -> Tensor:
    """(batch, H, W) bool: whether a block of the last pair of ``stage`` computed a token."""
    last = 2 - len(stage.blocks) % 2
    masks = [
        token_mask(table, None if choice is None else choice.windows, batch)
        for table, choice in ran[-last:]
    ]
    return torch.stack(masks).any(0)
