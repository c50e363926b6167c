"""Ideas that may do better than the paper. An idea that wins moves into sparsevit3d."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmdet3d.registry import MODELS
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor, nn

from benchmarks.accuracy.oracle import covered
from sparsevit3d.backbone import backbone_of
from sparsevit3d.detector.detector import SparseFCOS3D
from sparsevit3d.stages.checkpoints import load_weights
from sparsevit3d.stages.hooks import RandomPlanHook
from sparsevit3d.swin.plan import RATIO_GRID, SparsityPlan
from sparsevit3d.swin.windows import WindowTable


@HOOKS.register_module()
class SandwichHook(Hook):
    """Train both ends of the search space in two of three iterations of adaptation.

    One iteration runs dense, one under the largest ratios, and one under a random plan. This is the
    sandwich rule of slimmable networks.
    """

    priority = "LOW"  # runs after RandomPlanHook, which also restores the old plan

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        adapting = any(isinstance(hook, RandomPlanHook) for hook in runner.hooks)
        if adapting and runner.iter % 3:
            net = backbone_of(runner.model)
            net.plan = SparsityPlan.uniform(
                (RATIO_GRID[0], RATIO_GRID[-1])[runner.iter % 3 - 1], net.depths
            )


@HOOKS.register_module()
class DistillationHook(Hook):
    """Train the pruned backbone to also give the features of a dense backbone.

    The dense backbone is that of the detector in the file ``weights``.
    """

    def __init__(self, weights: str) -> None:
        self.weights = Path(weights)

    def before_train(self, runner: Any) -> None:
        teacher = MODELS.build(runner.cfg.model).eval().requires_grad_(False)
        load_weights(teacher, self.weights)
        teacher.backbone.plan = None
        model = runner.model
        own = runner.model.loss
        apart = []

        def compare(net: nn.Module, images: tuple[Tensor], features: tuple[Tensor, ...]) -> None:
            if net.training:
                with torch.no_grad():
                    wanted = [one.float() for one in teacher.backbone(*images)]
                apart.append(
                    sum(
                        F.mse_loss(one.float(), other) / other.var()
                        for one, other in zip(features, wanted, strict=True)
                    )
                )

        def loss(*arguments: Any, **named: Any) -> Mapping[str, Any]:
            return {**own(*arguments, **named), "loss_distillation": apart.pop()}

        model.backbone.register_forward_hook(compare)
        model.loss = loss


def contrast(x: Tensor, table: WindowTable) -> Tensor:
    """Score windows by how far their tokens are from their mean: an importance without weights.

    Plain windows, such as a bright sky or an empty road, come last whatever their norm.
    """
    windows = F.pad(x, (0, 0, 0, 1))[:, table.tokens].float()
    sizes = table.sizes[:, None]
    mean = windows.sum(2) / sizes
    return (windows.square().sum(2) / sizes - mean.square()).clamp(min=0).mean(-1)


def drawn(x: Tensor, table: WindowTable) -> Tensor:
    """Score windows at random: an importance function without information.

    Each image gets other windows. The same image gets the same windows again.
    """
    seeds = x.detach().float().flatten(1).view(torch.int32).sum(1)  # the bits of the features
    draws = [
        torch.rand(len(table.tokens), generator=torch.Generator().manual_seed(seed))
        for seed in seeds.abs().tolist()
    ]
    return torch.stack(draws).to(x.device)


@MODELS.register_module()
class RandomImportanceFCOS3D(SparseFCOS3D):
    """FCOS3D whose windows are drawn at random."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.backbone.importance = drawn


@MODELS.register_module()
class ContrastFCOS3D(SparseFCOS3D):
    """FCOS3D whose windows are chosen by contrast."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.backbone.importance = contrast


class LearnedImportance(nn.Module):
    """An importance function of two small layers for each stage.

    The layers say of each token whether the token lies on an object, from its features and its
    place in the image. A window is as important as its surest token.

    The layers are trained beside the detector, on features that the layers do not change.
    """

    def __init__(
        self, embed_dims: int, stages: int, hidden: int = 16, places: tuple[int, int] = (8, 16)
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(embed_dims << stage, hidden), nn.ReLU(), nn.Linear(hidden, 1))
            for stage in range(stages)
        )
        self.places = nn.ParameterList(torch.zeros(1, 1, *places) for _ in range(stages))
        self.embed_dims = embed_dims
        # Outputs of a training step: (B, tokens) logits, and the height and width of the map.
        self.said: list[tuple[Tensor, tuple[int, int]]] = []

    def forward(self, x: Tensor, table: WindowTable) -> Tensor:
        stage = (x.shape[-1] // self.embed_dims).bit_length() - 1
        place = F.interpolate(self.places[stage], table.size, mode="bilinear").flatten()
        logits = self.layers[stage](x).squeeze(-1).float() + place
        if self.training and not table.shift:
            self.said.append((logits, table.size))
        return F.pad(logits.detach(), (0, 1), value=-torch.inf)[:, table.tokens].amax(-1)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Load weights. Weights without an importance leave the importance as it is."""
        for name, tensor in self.state_dict(prefix=prefix).items():
            state.setdefault(name, tensor)
        super()._load_from_state_dict(state, prefix, *arguments)


@MODELS.register_module()
class LearnedImportanceFCOS3D(SparseFCOS3D):
    """FCOS3D whose windows are chosen by a LearnedImportance."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.backbone.importance = LearnedImportance(
            self.backbone.embed_dims, len(self.backbone.depths)
        )

    def loss(self, batch_inputs: dict[str, Tensor], batch_data_samples: Any, **named: Any) -> Any:
        said = self.backbone.importance.said
        said.clear()
        losses = super().loss(batch_inputs, batch_data_samples, **named)
        width = batch_inputs["imgs"].shape[-1]
        boxes = [sample.gt_instances.bboxes for sample in batch_data_samples]
        parts = []
        for logits, (down, across) in said:
            objects = torch.stack(
                [covered(one, down, across, width / across) for one in boxes]
            ).flatten(1)
            # Weigh tokens as if as many tokens were on objects as off, and as if every object had
            # as many tokens as any other.
            weight = torch.where(
                objects > 0, objects / objects.sum().clamp(min=1e-6), 1 / (objects == 0).sum()
            )
            parts.append(
                (
                    F.binary_cross_entropy_with_logits(logits, objects.sign(), reduction="none")
                    * weight
                ).sum()
            )
        # The loss is so small that the gradient clip, which all gradients share, leaves the
        # detector its step. AdamW's own steps have the same length at any scale.
        return {**losses, "loss_importance": 1e-3 * sum(parts, torch.zeros(()))}
