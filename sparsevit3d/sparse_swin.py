"""SparseSwin: a Swin Transformer that computes only the windows that matter (SparseViT, section 3, figure 2).

Each stage scores its windows once, where its first pruned block begins. Every pruned block then *chooses* the most important ones,
*gathers* their tokens, *computes* LayerNorm, attention and FFN on those alone, and *scatters* the result back; all other tokens stay
as they are. With nothing pruned this is the ordinary Swin Transformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsevit3d.plan import PlanError, SparsityPlan, kept_count, pairs_per_stage
from sparsevit3d.windows import WindowTable, rank_windows, token_magnitude, token_rows, window_scores, window_table


class Choice(NamedTuple):
    """The windows that a block computes, each image's own, most important first."""

    windows: Tensor  # (B, kept)
    scores: Tensor  # (B, windows): the importance of every window, chosen or not


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with Swin's relative position bias."""

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, window: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        position = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        offset = position[:, :, None] - position[:, None, :] + window - 1
        self.register_buffer("relative_position_index", offset[0] * (2 * window - 1) + offset[1], persistent=False)

    def forward(self, x: Tensor, places: Tensor | None, windows: int, mask: Tensor | None) -> Tensor:
        """``x``: (tokens, C), the windows' real tokens, which fill ``places`` (None: all, in order); ``mask``: (windows, N, N)."""
        size, channels = self.window**2, x.shape[1]
        qkv = self.qkv(x)
        if places is not None:
            # Swin pads after LayerNorm, so a padded token is zero there: its query, key and value are the bias.
            padding = qkv.new_zeros(3 * channels) if self.qkv.bias is None else self.qkv.bias.to(qkv.dtype)
            qkv = padding.expand(windows * size, -1).index_copy(0, places, qkv)
        query, key, value = qkv.view(windows, size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = bias + mask[:, None]
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        x = x.transpose(1, 2).reshape(windows * size, channels)
        return self.proj(x if places is None else x.index_select(0, places))


class SwinBlock(nn.Module):
    """LN, window attention, LN, FFN: on all windows, or only on the chosen ones."""

    def __init__(
        self, channels: int, heads: int, window: int, shift: int, mlp_ratio: float, qkv_bias: bool, drop_path: float
    ) -> None:
        super().__init__()
        self.window, self.shift, self.drop_path = window, shift, drop_path
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window, qkv_bias)
        self.norm2 = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, int(mlp_ratio * channels))
        self.fc2 = nn.Linear(int(mlp_ratio * channels), channels)

    def forward(self, x: Tensor, table: WindowTable, choice: Choice | None) -> Tensor:
        """(B, tokens, C) to the same shape; tokens outside the chosen windows pass bit for bit. None: all windows.

        Without gradients the map is updated in place: copying all of it in every block would cost what pruning saves.
        """
        batch, tokens, channels = x.shape
        windows = None if choice is None else choice.windows
        rows, places, image = token_rows(table, windows, batch, tokens)
        count = batch * len(table.tokens) if windows is None else windows.numel()
        mask = table.mask
        if mask is not None:
            mask = mask.repeat(batch, 1, 1) if windows is None else mask[windows.flatten()]

        flat = x.view(batch * tokens, channels)
        part = flat.index_select(0, rows)
        part = part + self._drop(self.attn(self.norm1(part), places, count, mask), image, batch)
        part = part + self._drop(self.fc2(F.gelu(self.fc1(self.norm2(part)))), image, batch)
        scatter = flat.index_copy if torch.is_grad_enabled() else flat.index_copy_
        return scatter(0, rows, part.to(x.dtype)).view(batch, tokens, channels)

    def _drop(self, residual: Tensor, image: Tensor, batch: int) -> Tensor:
        """Stochastic depth, drawn once for each image, whichever of its windows were chosen."""
        if not self.training or self.drop_path == 0:
            return residual
        keep = 1 - self.drop_path
        alive = (keep + torch.rand(batch, device=residual.device)).floor() / keep
        return residual * alive[image, None].to(residual.dtype)


class PatchMerging(nn.Module):
    """Each 2 x 2 tokens become one of twice the channels; an odd edge is padded with zeros."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        x = F.pad(x.view(len(x), height, width, -1), (0, 0, 0, width % 2, 0, height % 2))
        batch, height, width, channels = x.shape
        x = x.view(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 5, 2, 4)  # channel, row, column
        return self.reduction(self.norm(x.reshape(batch, height * width // 4, 4 * channels)))


class SwinStage(nn.Module):
    """Blocks at one resolution, plain and shifted windows in turn."""

    def __init__(self, blocks: Sequence[SwinBlock]) -> None:
        super().__init__()
        self.blocks = cast(list[SwinBlock], nn.ModuleList(blocks))

    def forward(self, x: Tensor, height: int, width: int, ratios: Sequence[float]) -> Tensor:
        """``ratios``: one for each block pair."""
        magnitude: Tensor | None = None
        ranked: dict[int, tuple[Tensor, Tensor]] = {}  # shift -> scores and order of its windows
        for number, block in enumerate(self.blocks):
            table = window_table(height, width, block.window, block.shift, x.device)
            ratio, choice = ratios[number // 2], None
            if ratio:
                if magnitude is None:
                    magnitude = token_magnitude(x)  # once per stage, here: its first pruned block begins
                if block.shift not in ranked:
                    scores = window_scores(magnitude, table)
                    ranked[block.shift] = scores, rank_windows(scores)
                scores, order = ranked[block.shift]
                choice = Choice(order[:, : kept_count(len(table.tokens), ratio)], scores)
            x = block(x, table, choice)
        return x


class SparseSwin(nn.Module):
    """Swin Transformer backbone with window pruning. Argument names are those of mmdet's ``SwinTransformer``.

    ``plan`` says which share of the windows each block pair leaves out: set it at any time, None for dense. It travels in the
    state dict, so that a checkpoint never silently runs dense.
    """

    def __init__(
        self,
        in_channels: int = 3,
        embed_dims: int = 96,
        patch_size: int = 4,
        window_size: int = 7,
        mlp_ratio: float = 4,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        qkv_bias: bool = True,
        drop_path_rate: float = 0.1,
        plan: SparsityPlan | str | None = None,
    ) -> None:
        super().__init__()
        if len(depths) != len(num_heads):
            raise ValueError(f"depths {tuple(depths)} and num_heads {tuple(num_heads)} must be as long as each other")
        if not all(0 <= index < len(depths) for index in out_indices):
            raise ValueError(f"out_indices {tuple(out_indices)}: the network has stages 0 to {len(depths) - 1}")
        self.embed_dims, self.patch_size, self.window_size = embed_dims, patch_size, window_size
        self.depths, self.out_indices = tuple(depths), tuple(out_indices)
        self.patch_embed = nn.Conv2d(in_channels, embed_dims, patch_size, patch_size)
        self.patch_norm = nn.LayerNorm(embed_dims)
        drop_path = iter(torch.linspace(0, drop_path_rate, sum(depths)).tolist())
        self.stages, self.merges = cast(list[SwinStage], nn.ModuleList()), cast(list[PatchMerging], nn.ModuleList())
        self.norms = nn.ModuleDict()
        for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            channels = embed_dims << stage
            shifts = (0 if block % 2 == 0 else window_size // 2 for block in range(depth))
            self.stages.append(
                SwinStage(
                    [SwinBlock(channels, heads, window_size, shift, mlp_ratio, qkv_bias, next(drop_path)) for shift in shifts]
                )
            )
            if stage + 1 < len(depths):
                self.merges.append(PatchMerging(channels))
            if stage in out_indices:
                self.norms[str(stage)] = nn.LayerNorm(channels)
        self.apply(_init_weights)
        self.plan = plan

    @property
    def plan(self) -> SparsityPlan | None:
        return self._plan

    @plan.setter
    def plan(self, plan: SparsityPlan | str | None) -> None:
        """Raises PlanError unless the plan has one ratio for each block pair of this network."""
        if isinstance(plan, str):
            plan = SparsityPlan.parse(plan)
        if plan is not None:
            plan.check(self.depths)
        self._plan = plan

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, in_channels, H, W), any H and W, to one (B, embed_dims * 2 ** i, H / 4 / 2 ** i, W / 4 / 2 ** i) per out index i."""
        height, width = images.shape[-2:]
        x = self.patch_embed(F.pad(images, (0, -width % self.patch_size, 0, -height % self.patch_size)))
        height, width = x.shape[-2:]
        x = self.patch_norm(x.flatten(2).transpose(1, 2))
        ratios = (self._plan or SparsityPlan.uniform(0, self.depths)).ratios
        features = []
        for index, stage in enumerate(self.stages):
            if index:
                x = self.merges[index - 1](x, height, width)
                height, width = (height + 1) // 2, (width + 1) // 2
            x = stage(x, height, width, ratios[index])
            if str(index) in self.norms:
                out = self.norms[str(index)](x)
                features.append(out.view(len(x), height, width, -1).permute(0, 3, 1, 2).contiguous())
        return tuple(features)

    def get_extra_state(self) -> Tensor:
        """The plan as one number per block pair: a tensor, so that any checkpoint format can hold it."""
        plan = self._plan or SparsityPlan.uniform(0, self.depths)
        return torch.tensor([ratio for stage in plan.ratios for ratio in stage], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        pairs = pairs_per_stage(self.depths)
        if state.numel() != sum(pairs):
            raise PlanError(f"the checkpoint's plan has {state.numel()} block pairs; this network has {sum(pairs)}")
        plan = SparsityPlan(tuple(tuple(stage.tolist()) for stage in state.cpu().split(pairs)))
        self.plan = None if plan.is_dense else plan


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
