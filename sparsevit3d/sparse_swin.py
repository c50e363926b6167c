"""SparseSwin: a Swin Transformer that computes only the windows that matter (SparseViT, section 3, figure 2).

Each stage scores its windows once, where its first pruned block begins. Every pruned block then *chooses* the most important ones,
*gathers* their tokens, *computes* LayerNorm, attention and FFN on those alone, and *scatters* the result back; all other tokens stay
as they are. With nothing pruned this is the ordinary Swin Transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple, Self, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparsevit3d import fast_cpu, fast_gpu
from sparsevit3d.plan import PlanError, SparsityPlan, kept_count
from sparsevit3d.swin_layers import LayerNorm, PatchEmbed, PatchMerging, WindowAttention
from sparsevit3d.windows import Importance, WindowTable, check_importance, rank_windows, score_windows, window_table, window_tokens

ScoreEvery = Literal["stage", "block"]
Pruned = Literal["copy", "zero"]
_kept_count = torch.compiler.assume_constant_result(kept_count)  # torch.compile cannot look into fractions
Rank = Callable[[Tensor, dict[int, WindowTable]], dict[int, tuple[Tensor, Tensor]]]  # _rank, its importance settled


class Choice(NamedTuple):
    """The windows that a block computes, each image's own, most important first."""

    windows: Tensor  # (B, kept)
    scores: Tensor  # (B, windows): the importance of every window, chosen or not


class SwinBlock(nn.Module):
    """LN, window attention, LN, FFN: on all windows, or only on the chosen ones (figure 2).

    ``drop_path``: how often training leaves out a residual of an image (stochastic depth); ``pruned``: "copy" or "zero" the tokens
    outside the chosen windows; ``with_cp``: activations are not kept for the backward pass but computed again; ``fast``: by
    :mod:`sparsevit3d.fast_cpu` or :mod:`sparsevit3d.fast_gpu` where one of them is for the input.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        shift: int,
        mlp_ratio: float = 4,
        qkv_bias: bool = True,
        drop_path: float = 0,
        pruned: Pruned = "copy",
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.window, self.shift, self.drop_path, self.pruned = window, shift, drop_path, pruned
        self.with_cp, self.fast = with_cp, True
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window, qkv_bias)
        self.norm2 = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, int(mlp_ratio * channels))
        self.fc2 = nn.Linear(int(mlp_ratio * channels), channels)

    def forward(self, x: Tensor, table: WindowTable, choice: Choice | None) -> Tensor:
        """(B, tokens, C) to the same shape; tokens outside the chosen windows pass bit for bit. None: all windows.

        Without gradients the map is updated in place: copying all of it in every block would cost what pruning saves.
        """
        if self.with_cp and torch.is_grad_enabled():
            return cast(Tensor, checkpoint(self._compute, x, table, choice, use_reentrant=False))
        if self.fast and self.pruned == "copy" and not self.training:
            windows = None if choice is None else choice.windows
            if fast_cpu.runs_on(x, self.fc1.weight):
                return fast_cpu.compute_block(self, x, table, windows)
            if fast_gpu.runs_on(self, x):
                return fast_gpu.compute_block(self, x, table, windows)
        return self._compute(x, table, choice)

    def _compute(self, x: Tensor, table: WindowTable, choice: Choice | None) -> Tensor:
        batch, tokens, channels = x.shape
        gathered = window_tokens(table, None if choice is None else choice.windows, batch, tokens)
        flat = x.view(batch * tokens, channels)
        part = flat.index_select(0, gathered.rows)
        part = part + self._drop(self.attn(self.norm1(part), gathered), gathered.image, batch)
        part = part + self._drop(self.fc2(F.gelu(self.fc1(self.norm2(part)))), gathered.image, batch)
        if choice is not None and self.pruned == "zero":
            flat = torch.zeros_like(flat)
        scatter = flat.index_copy if torch.is_grad_enabled() else flat.index_copy_
        return scatter(0, gathered.rows, part).view(batch, tokens, channels)

    def _drop(self, residual: Tensor, image: Tensor, batch: int) -> Tensor:
        """Stochastic depth, drawn once for each image, whichever of its windows were chosen."""
        if not self.training or self.drop_path == 0:
            return residual
        keep = 1 - self.drop_path
        alive = (keep + torch.rand(batch, device=residual.device)).floor() / keep
        return residual * alive[image, None].to(residual.dtype)


class SwinStage(nn.Module):
    """Blocks at one resolution, plain and shifted windows in turn; ``downsample`` leads to the next stage."""

    def __init__(self, blocks: Sequence[SwinBlock], downsample: PatchMerging | None, score_every: ScoreEvery) -> None:
        super().__init__()
        self.blocks, self.downsample = cast(list[SwinBlock], nn.ModuleList(blocks)), downsample
        self.score_every = score_every

    def forward(self, x: Tensor, height: int, width: int, ratios: Sequence[float], rank: Rank) -> Tensor:
        """The blocks: (B, height * width, C) to the same shape, under one ratio for each block pair."""
        tables = {block.shift: window_table(height, width, block.window, block.shift, x.device) for block in self.blocks}
        ranked: dict[int, tuple[Tensor, Tensor]] = {}  # shift -> scores and order of its windows
        for number, block in enumerate(self.blocks):
            table, ratio, choice = tables[block.shift], ratios[number // 2], None
            if ratio:
                if self.score_every == "block":
                    ranked = rank(x, {block.shift: table})
                elif not ranked:  # here the stage's first pruned block begins
                    ranked = rank(x, tables)
                scores, order = ranked[block.shift]
                choice = Choice(order[:, : _kept_count(len(table.tokens), ratio)], scores)
            x = block(x, table, choice)
        return x


def _rank(
    x: Tensor, tables: dict[int, WindowTable], importance: str | Importance, seed: int, fast: bool
) -> dict[int, tuple[Tensor, Tensor]]:
    """For each shift's table the scores of its windows, and their order."""
    score, rank = (fast_gpu.score_windows, fast_gpu.rank_windows) if fast else (score_windows, rank_windows)
    scores = score(x.detach(), list(tables.values()), importance, seed)
    return {shift: (one, rank(one)) for shift, one in zip(tables, scores, strict=True)}


class FeatureInfo(NamedTuple):
    """What the feature maps are like, asked as timm's ``features_only`` models are."""

    maps: tuple[tuple[int, int], ...]  # channels and stride of each

    def channels(self) -> list[int]:
        return [channels for channels, _ in self.maps]

    def reduction(self) -> list[int]:
        """Image pixels per token, both ways."""
        return [stride for _, stride in self.maps]


class SparseSwin(nn.Module):
    """Swin Transformer backbone with window pruning. Argument names are those of mmdet's ``SwinTransformer``; these are its own:

    - ``plan``: which share of the windows each block pair leaves out. Set it at any time, None for dense. It travels in the state
      dict, so that a checkpoint never silently runs dense.
    - ``importance``: "l2" (the paper's), "mean", "max", "random" (by ``importance_seed``), or a function of your own, see
      :data:`sparsevit3d.windows.Importance`.
    - ``score_every``: "stage", once where its first pruned block begins (the paper's), or "block".
    - ``pruned``: "copy" the tokens that no chosen window holds (the paper's), or "zero" them.
    - ``fast``: without gradients, compute by the fast path of the device and dtype; equal to the plain path but for rounding.

    Without gradients a stage's blocks update one map in place: a hook that keeps a block's output has to clone it. What lies within a
    block, the patch embedding or a patch merging is called as a module, and hooked, where ``fast`` is False.
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
        with_cp: bool = False,
        frozen_stages: int = -1,
        plan: SparsityPlan | str | None = None,
        importance: str | Importance = "l2",
        importance_seed: int = 0,
        score_every: ScoreEvery = "stage",
        pruned: Pruned = "copy",
        fast: bool = True,
    ) -> None:
        super().__init__()
        if len(depths) != len(num_heads):
            raise ValueError(f"depths {tuple(depths)} and num_heads {tuple(num_heads)} must be as long as each other")
        if not all(0 <= index < len(depths) for index in out_indices):
            raise ValueError(f"out_indices {tuple(out_indices)}: the network has stages 0 to {len(depths) - 1}")
        if not -1 <= frozen_stages <= len(depths):
            raise ValueError(f"frozen_stages {frozen_stages}: -1 freezes nothing, {len(depths)} all stages")
        check_importance(importance)
        _check_choice("score_every", score_every, get_args(ScoreEvery))
        _check_choice("pruned", pruned, get_args(Pruned))
        self.embed_dims, self.patch_size, self.window_size = embed_dims, patch_size, window_size
        self.depths, self.out_indices, self.frozen_stages = tuple(depths), tuple(sorted(set(out_indices))), frozen_stages
        self.patch_embed = PatchEmbed(in_channels, embed_dims, patch_size)
        self.stages, self.norms = cast(list[SwinStage], nn.ModuleList()), nn.ModuleDict()
        block: Callable[..., SwinBlock] = partial(
            SwinBlock, window=window_size, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias, pruned=pruned, with_cp=with_cp
        )
        last = max(1, sum(depths) - 1)
        drop_path = iter([drop_path_rate * number / last for number in range(sum(depths))])  # rises from block to block
        for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            channels = embed_dims << stage
            if channels % heads:
                raise ValueError(
                    f"num_heads {tuple(num_heads)}: stage {stage} has {channels} channels, which {heads} does not divide"
                )
            shifts = (0 if number % 2 == 0 else window_size // 2 for number in range(depth))
            blocks = [block(channels, heads, shift=shift, drop_path=next(drop_path)) for shift in shifts]
            downsample = PatchMerging(channels) if stage + 1 < len(depths) else None
            self.stages.append(SwinStage(blocks, downsample, score_every))
            if stage in out_indices:
                self.norms[str(stage)] = LayerNorm(channels)
        self.apply(_init_weights)
        self.plan, self.importance, self.importance_seed = plan, importance, importance_seed
        self.fast = fast
        self.train()

    @property
    def plan(self) -> SparsityPlan | None:
        """The plan in force; None: dense. To set it to one that has not one ratio for each block pair raises PlanError."""
        return self._plan

    @plan.setter
    def plan(self, plan: SparsityPlan | str | None) -> None:
        if isinstance(plan, str):
            plan = SparsityPlan.parse(plan)
        if plan is not None:
            plan.check(self.depths)
        self._plan = plan

    @property
    def fast(self) -> bool:
        """Without gradients, compute by the fast path of the device and dtype? May be set at any time."""
        return self._fast

    @fast.setter
    def fast(self, fast: bool) -> None:
        self._fast = fast
        for module in self.modules():
            if isinstance(module, (SwinBlock, PatchEmbed, PatchMerging, LayerNorm)):
                module.fast = fast

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, in_channels, H, W), any H and W, to one (B, embed_dims * 2 ** i, H / 4 / 2 ** i, W / 4 / 2 ** i) per out index i.

        Their memory format is channels-last, which is how the tokens lie, and what convolutions like best.
        """
        return fast_gpu.forward(self, images)

    def compute(self, images: Tensor) -> tuple[Tensor, ...]:
        """The same layer by layer, never replayed."""
        x, height, width = self.patch_embed(images)
        ratios = (self._plan or SparsityPlan.uniform(0, self.depths)).ratios
        fast = self._fast and fast_gpu.is_for(x, self.patch_embed.projection.weight)
        rank = partial(_rank, importance=self.importance, seed=self.importance_seed, fast=fast)
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x, height, width, ratios[index], rank)
            if str(index) in self.norms:
                out = self.norms[str(index)](x)
                features.append(out.view(len(x), height, width, -1).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x, height, width = stage.downsample(x, height, width)
        return tuple(features)

    @property
    def feature_info(self) -> FeatureInfo:
        return FeatureInfo(tuple((self.embed_dims << index, self.patch_size << index) for index in self.out_indices))

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay would only harm, as timm asks for them: of norms, and bias tables."""
        norms = [name for name, module in self.named_modules() if isinstance(module, nn.LayerNorm)]
        tables = [name for name, _ in self.named_parameters() if name.endswith("relative_position_bias_table")]
        return {f"{name}.{part}" for name in norms for part in ("weight", "bias")} | set(tables)

    def train(self, mode: bool = True) -> Self:
        """Training mode, but for what is frozen: -1 nothing, 0 the patch embedding, i also the first i stages with all they own."""
        super().train(mode)
        fast_cpu.forget(self)  # averaged weights are swapped in through .data, which leaves no trace, but before eval()
        frozen: list[nn.Module] = [self.patch_embed] if self.frozen_stages >= 0 else []
        frozen += self.stages[: self.frozen_stages] if self.frozen_stages > 0 else []
        frozen += [norm for stage, norm in self.norms.items() if int(stage) < self.frozen_stages]
        for module in frozen:
            module.eval().requires_grad_(False)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What ``to``, ``half``, ``bfloat16`` and the like call: weights may come back changed at the same address."""
        fast_cpu.forget(self)
        fast_gpu.forget(self)
        return super()._apply(fn, recurse)

    def get_extra_state(self) -> Tensor:
        """The plan's text, a character a number: a tensor, so that any checkpoint can hold it, and cast to half without loss."""
        plan = self._plan or SparsityPlan.uniform(0, self.depths)
        return torch.tensor(list(str(plan).encode()), dtype=torch.uint8, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self.plan = plan_of_state(state)


def plan_of_state(state: Tensor) -> SparsityPlan | None:
    """The plan that a state dict carries as ``_extra_state``; None: dense. Raises PlanError where it is damaged."""
    try:
        text = bytes(int(character) for character in state.tolist()).decode("ascii")
    except (TypeError, ValueError, OverflowError):
        raise PlanError("the state dict's _extra_state holds no plan") from None
    plan = SparsityPlan.parse(text)
    return None if plan.is_dense else plan


def _check_choice(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} {value!r}: there are {', '.join(known)}")


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
