"""SparseSwin: a Swin Transformer that computes only the windows that matter (SparseViT, section 3).

Each stage scores its windows once, where its first pruned block begins. Every pruned block then
*chooses* the most important windows, *gathers* their tokens, *computes* LayerNorm, attention and
FFN on those alone, and *scatters* the result back. All other tokens stay as they are (figure 2).
With nothing pruned this is the ordinary Swin Transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn

from sparsevit3d.swin.arguments import check_choice, check_shape
from sparsevit3d.swin.density import DensityMap, PlaceMap, fit_state
from sparsevit3d.swin.importance import DENSITY, MAPS, PLACE, Importance, check_importance
from sparsevit3d.swin.kernels import cpu, dispatch, graphs
from sparsevit3d.swin.kernels.dispatch import LayerNorm, PatchEmbed, PatchMerging, Ranked, SwinBlock
from sparsevit3d.swin.kernels.torch_private import NoticesMoves
from sparsevit3d.swin.layers import Pruned, WindowAttention
from sparsevit3d.swin.plan import SparsityPlan, plan_of_state
from sparsevit3d.swin.stage import Budget, Ran, ScoreEvery, SwinStage, computed_tokens
from sparsevit3d.swin.windows import WindowTable, window_table

if TYPE_CHECKING:
    from typing import Self  # Python 3.10 has none


class FeatureInfo(NamedTuple):
    """What the feature maps are like, asked as timm's ``features_only`` models are."""

    maps: tuple[tuple[int, int], ...]  # channels and stride of each

    def channels(self) -> list[int]:
        return [channels for channels, _ in self.maps]

    def reduction(self) -> list[int]:
        """Image pixels per token, both ways."""
        return [stride for _, stride in self.maps]


class SparseSwin(NoticesMoves):
    """Swin Transformer backbone with window pruning. Arguments are named as mmdet names them.

    Without gradients a stage's blocks update one map in place: a hook that keeps a block's output
    has to clone it. With ``fast``, what lies within a block, the patch embedding or a patch merging
    need not be called as a module, so its hooks need ``fast`` False.

    Args:
        in_channels (int): Channels of the images. Default: 3.
        embed_dims (int): Channels of the first stage. Each later one has twice those. Default: 96.
        patch_size (int): Side of a token of the first stage, in pixels. Default: 4.
        window_size (int): Side of a window, in tokens. Default: 7.
        mlp_ratio (float): Width of the FFN over a stage's channels. Default: 4.
        depths (sequence of int): Blocks of each stage. Default: (2, 2, 6, 2).
        num_heads (sequence of int): Attention heads of each stage. Default: (3, 6, 12, 24).
        out_indices (sequence of int): Stages whose maps are returned, from 0. Default: all four.
        qkv_bias (bool): Whether query, key and value have a bias. Default: True.
        drop_path_rate (float): How often training leaves out a residual of the last block. It rises
            from 0 at the first block. Default: 0.1.
        with_cp (bool): Whether the backward pass computes activations again, which takes less
            memory and more time. Default: False.
        frozen_stages (int): What is not trained. -1: nothing. 0: the patch embedding. i: also the
            first i stages with all they own. Default: -1.
        plan (SparsityPlan, str or None): Which share of its windows each block pair leaves out.
            None: nothing. Can be set at any time. It travels in the state dict, so a checkpoint
            never runs dense unnoticed. Default: None.
        importance (str or callable): What scores windows: "l2" (the paper's), "mean", "max",
            "random", "density", "place", or a function, see
            :data:`sparsevit3d.swin.importance.Importance`. "density" is a learned map of objects,
            and "place" a map of where objects were so far. Both are a part of the network, see
            :mod:`sparsevit3d.swin.density`. Default: "l2".
        cameras (int): Of "place": how many cameras have a map of their own. Default: 1.
        importance_seed (int): Seed of "random". Default: 0.
        score_every (str): "stage" scores windows once, where its first pruned block begins (the
            paper's). "block" scores before every pruned block. Default: "stage".
        budget (str): "image" keeps as many windows of each image (the paper's). "batch" lets the
            windows of all images of a batch compete, such as the cameras of a keyframe. As many
            are kept in all. Default: "image".
        pruned (str): What becomes of tokens that no chosen window holds: "copy" (the paper's) or
            "zero". Default: "copy".
        fast (bool): Whether passes without gradients take the fast path of device and dtype, which
            equals the plain path but for rounding. Can be set at any time. Default: True.

    Raises:
        ValueError: An argument does not fit the others. The message names it.
        PlanError: ``plan`` is not valid, or has another number of stages or pairs than the network.
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
        cameras: int = 1,
        importance_seed: int = 0,
        score_every: ScoreEvery = "stage",
        budget: Budget = "image",
        pruned: Pruned = "copy",
        fast: bool = True,
    ) -> None:
        super().__init__()
        check_shape(embed_dims, depths, num_heads, out_indices, frozen_stages)
        check_importance(importance)
        check_choice("score_every", score_every, get_args(ScoreEvery))
        check_choice("budget", budget, get_args(Budget))
        check_choice("pruned", pruned, get_args(Pruned))
        self.embed_dims = embed_dims
        self.patch_size = patch_size
        self.window_size = window_size
        self.depths = tuple(depths)
        self.out_indices = tuple(sorted(set(out_indices)))
        self.frozen_stages = frozen_stages
        self.patch_embed = PatchEmbed(in_channels, embed_dims, patch_size)
        self.stages = cast(list[SwinStage], nn.ModuleList())
        self.norms = nn.ModuleDict()
        block: Callable[..., SwinBlock] = partial(
            SwinBlock,
            window=window_size,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            pruned=pruned,
            with_cp=with_cp,
        )
        last = max(1, sum(depths) - 1)
        drop_path = iter([drop_path_rate * number / last for number in range(sum(depths))])
        for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            channels = embed_dims << stage
            shifts = (0 if number % 2 == 0 else window_size // 2 for number in range(depth))
            blocks = [
                block(channels, heads, shift=shift, drop_path=next(drop_path)) for shift in shifts
            ]
            downsample = PatchMerging(channels) if stage + 1 < len(depths) else None
            self.stages.append(SwinStage(blocks, downsample, score_every, budget))
            if stage in out_indices:
                self.norms[str(stage)] = LayerNorm(channels)
        self.apply(_init_weights)
        self.density: DensityMap | PlaceMap | None = None
        if importance == DENSITY:
            self.density = DensityMap(embed_dims)
        elif importance == PLACE:
            self.density = PlaceMap(cameras)
        self.plan = plan
        self.importance = importance
        self.importance_seed = importance_seed
        self.fast = fast
        self.train()

    @property
    def plan(self) -> SparsityPlan | None:
        """The plan in force. None: dense. Setting one that does not fit raises PlanError."""
        return self._plan

    @plan.setter
    def plan(self, plan: SparsityPlan | str | None) -> None:
        if isinstance(plan, str):
            plan = SparsityPlan.parse(plan)
        if plan is not None:
            plan.check(self.depths)
        self._plan = plan

    @property
    def budget(self) -> Budget:
        """Whose windows compete: those of an "image" or of a "batch". Can be set at any time."""
        return self.stages[0].budget

    @budget.setter
    def budget(self, budget: Budget) -> None:
        check_choice("budget", budget, get_args(Budget))
        for stage in self.stages:
            stage.budget = budget

    @property
    def fast(self) -> bool:
        """Whether passes without gradients take the fast path of device and dtype."""
        return self._fast

    @fast.setter
    def fast(self, fast: bool) -> None:
        self._fast = fast
        for module in self.modules():
            if isinstance(module, dispatch.LAYERS):
                module.fast = fast

    def forward(self, images: Tensor, camera: Tensor | None = None) -> tuple[Tensor, ...]:
        """(B, in_channels, H, W), any H and W, to one map per out index.

        Index i has (B, embed_dims * 2 ** i, H / 4 / 2 ** i, W / 4 / 2 ** i). The memory format is
        channels-last, which is how tokens lie and what convolutions like best. For ``camera`` see
        :meth:`log_density`.
        """
        return self._run(images, camera, False)

    def forward_computed(
        self, images: Tensor, camera: Tensor | None = None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The maps of ``forward``, and where each map was computed by its stage's last block pair.

        The second results are (B, H, W) bool. A token counts as computed if a window that one of
        the two blocks chose holds it.
        """
        outputs = self._run(images, camera, True)
        maps = len(self.out_indices)
        return outputs[:maps], outputs[maps:]

    def _run(self, images: Tensor, camera: Tensor | None, where: bool) -> graphs.Outputs:
        if camera is not None:
            return self.compute(images, camera, where)
        return dispatch.replay(
            self,
            partial(self.compute, where=where),
            images,
            blocks=(block for stage in self.stages for block in stage.blocks),
            importance=self.importance,
            key=(self.plan, self.importance, self.budget, where),
            hold=partial(self._tables, images),
        )

    def compute(
        self, images: Tensor, camera: Tensor | None = None, where: bool = False
    ) -> tuple[Tensor, ...]:
        """``forward`` layer by layer, never replayed.

        With ``where``, the second results of ``forward_computed`` follow.
        """
        x, height, width = self.patch_embed(images)
        ratios = (self._plan or SparsityPlan.uniform(0, self.depths)).ratios
        importance: str | Importance | Tensor = self.importance
        if importance in MAPS and any(map(any, ratios)):
            with torch.no_grad():
                importance = self._map()(x, height, width, camera).exp()
        rank = partial(self._rank, importance)
        features = []
        computed = []
        for index, stage in enumerate(self.stages):
            ran: Ran = []
            x = stage(x, height, width, ratios[index], rank, ran if where else None)
            if str(index) in self.norms:
                out = self.norms[str(index)](x)
                features.append(out.view(len(x), height, width, -1).permute(0, 3, 1, 2))
                if where:
                    computed.append(computed_tokens(stage, ran, len(x)))
            if stage.downsample is not None:
                x, height, width = stage.downsample(x, height, width)
        return (*features, *computed)

    def log_density(self, images: Tensor, camera: Tensor | None = None) -> Tensor:
        """What the map of "density" or "place" says: the logarithm of the objects of each cell.

        (B, in_channels, H, W) to (B, H / 16, W / 16) with a patch of 4 pixels. Its gradients reach
        the map alone, not the network. ``camera`` is (B,) the number of each image's camera, for
        "place". None: images come keyframe by keyframe, the cameras in order.
        """
        with torch.no_grad():
            tokens = self.patch_embed(images)
        return self._map()(*tokens, camera)

    def _map(self) -> Callable[..., Tensor]:
        if self.density is None:
            raise ValueError(
                f"importance {self.importance!r} is part of the network: build SparseSwin with it."
            )
        return self.density

    def _rank(
        self,
        importance: str | Importance | Tensor,
        x: Tensor,
        tables: dict[int, WindowTable],
        block: SwinBlock,
    ) -> Ranked:
        images = len(x) if self.budget == "batch" else 1
        return dispatch.rank(x, tables, importance, self.importance_seed, block, images)

    def _tables(self, images: Tensor) -> list[WindowTable]:
        """The tables that a forward pass reads. Their cache may drop them."""
        height, width = (-(-side // self.patch_size) for side in images.shape[-2:])
        tables = []
        for stage in self.stages:
            for block in stage.blocks[:2]:
                known = (height, width, block.window, block.shift, images.device)
                tables += [window_table(*known, count) for count in {1, len(images)}]
            height = (height + 1) // 2
            width = (width + 1) // 2
        return tables

    @property
    def feature_info(self) -> FeatureInfo:
        """Channels and strides of the maps that ``forward`` returns."""
        maps = ((self.embed_dims << index, self.patch_size << index) for index in self.out_indices)
        return FeatureInfo(tuple(maps))

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay would harm: of norms, and bias tables.

        timm asks for them by this name.
        """
        names: set[str] = set()
        for name, module in self.named_modules():
            if isinstance(module, nn.LayerNorm):
                names |= {f"{name}.weight", f"{name}.bias"}
        for name, _ in self.named_parameters():
            if name.endswith("relative_position_bias_table"):
                names.add(name)
        return names

    def train(self, mode: bool = True) -> Self:
        """Set training mode, but for what is frozen."""
        super().train(mode)
        # Averaged weights are swapped in through .data, which leaves no trace, but before eval().
        cpu.forget(self)
        frozen: list[nn.Module] = [self.patch_embed] if self.frozen_stages >= 0 else []
        frozen += self.stages[: max(0, self.frozen_stages)]
        frozen += [norm for stage, norm in self.norms.items() if int(stage) < self.frozen_stages]
        for module in frozen:
            module.eval().requires_grad_(False)
        return self

    def when_moved(self) -> None:
        cpu.forget(self)
        graphs.forget(self)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Load weights, whether they have the network's map of objects or not."""
        fit_state(self.density, state, f"{prefix}density.")
        super()._load_from_state_dict(state, prefix, *arguments)

    def get_extra_state(self) -> Tensor:
        """The plan's text, a character a number.

        A tensor, so that any checkpoint can hold it and cast it to half precision without loss.
        """
        plan = self._plan or SparsityPlan.uniform(0, self.depths)
        return torch.tensor(list(str(plan).encode()), dtype=torch.uint8, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self.plan = plan_of_state(state)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
