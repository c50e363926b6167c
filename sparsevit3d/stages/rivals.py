"""What SparseSwin and its detector are measured against, each at its best."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.backbones import SwinTransformer
from torch import Tensor, nn

from sparsevit3d.detector.deform import DeformConv
from sparsevit3d.stages.openvino_rival import KINDS, converted, kinds_here
from sparsevit3d.swin.importance import rank_windows, score_windows
from sparsevit3d.swin.layers import SwinBlock
from sparsevit3d.swin.plan import SparsityPlan, kept_count
from sparsevit3d.swin.sparse_swin import SparseSwin
from sparsevit3d.swin.weights import MMDET, translated
from sparsevit3d.swin.windows import window_table

Call = Callable[[], object]
# Plans are compared with the fastest of these and dense SparseSwin.
DENSE_RIVALS = ("mmdet", "mmdet compiled", "released form", *(f"OpenVINO {kind}" for kind in KINDS))


def rivals_of(net: SparseSwin, images: Tensor, plan: SparsityPlan) -> dict[str, Call]:
    """By name what the benchmark times beside SparseSwin. A new rival is added here.

    The released form runs dense and under ``plan``. The others run dense. OpenVINO takes part where
    it is installed.
    """
    eager = mmdet_swin(net)
    compiled = torch.compile(eager, options={"freezing": images.device.type == "cpu"})
    plain = plain_path(net)
    released = ReleasedSwin(plain)
    kinds = kinds_here(images.device)
    converted_swin = converted(eager, images, kinds) if kinds else {}
    return {
        "mmdet": lambda: eager(images),
        "mmdet compiled": lambda: compiled(images),
        **{f"OpenVINO {kind}": partial(run, images) for kind, run in converted_swin.items()},
        "released form": under(plain, dense_plan(net), released, images),
        f"released form {plan}": under(plain, plan, released, images),
    }


def under(
    net: SparseSwin, plan: SparsityPlan, run: Callable[[Tensor], Any], images: Tensor
) -> Call:
    """Run ``net`` by ``run`` under ``plan`` with each call."""

    def call() -> Any:
        net.plan = plan
        return run(images)

    return call


def plain_path(net: SparseSwin) -> SparseSwin:
    """A copy of ``net`` that takes the plain path alone."""
    plain = copy.deepcopy(net).eval()
    plain.fast = False
    return plain


def dense_plan(net: SparseSwin) -> SparsityPlan:
    """The plan under which ``net`` prunes nothing."""
    return SparsityPlan.uniform(0, net.depths)


def mmdet_swin(net: SparseSwin) -> nn.Module:
    """Build mmdet's SwinTransformer of the same shape and weights, in float32.

    Where ``net`` prunes nothing, both have the same features.
    """
    rival = SwinTransformer(
        in_channels=net.patch_embed.projection.in_channels,
        embed_dims=net.embed_dims,
        depths=net.depths,
        num_heads=[stage.blocks[0].attn.heads for stage in net.stages],
        window_size=net.window_size,
        out_indices=net.out_indices,
    )
    own = net.state_dict()
    state = {
        name: own.get(translated(name, MMDET, len(net.depths)), value)
        for name, value in rival.state_dict().items()
    }
    rival.load_state_dict(state)
    rival = rival.to(next(net.parameters()).device)
    rival.eval()  # apart, because mmdet's eval() returns nothing
    return rival


def mmdet3d_head(model: Any) -> Any:
    """Copy the detector's head as mmdet3d runs it: with mmcv's own deformable convolutions."""
    head = copy.deepcopy(model.bbox_head)
    for module in head.modules():
        for name, child in module.named_children():
            if type(child) is DeformConv:
                setattr(module, name, child.to_mmcv())
    return head


class ReleasedSwin(nn.Module):
    """Window pruning as the paper's authors released it, written plainly.

    Every block pads, rolls and partitions the whole map. It then gathers the chosen windows,
    computes them with their padding, scatters them, and puts the map together again.

    The result differs from SparseSwin's where a map has padding. Here padding takes part, as
    LayerNorm makes it beta, not zero.

    Args:
        net (SparseSwin): The network whose layers, weights and plan are used.
    """

    def __init__(self, net: SparseSwin) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        net = self.net
        features = []
        x, height, width = net.patch_embed(images)
        ratios = (net.plan or SparsityPlan.uniform(0, net.depths)).ratios
        for index, stage in enumerate(net.stages):
            order: dict[int, Tensor] = {}
            for number, block in enumerate(stage.blocks):
                ratio = ratios[index][number // 2]
                windows = None
                if ratio and not order:
                    tables = [
                        window_table(height, width, one.window, one.shift, x.device)
                        for one in stage.blocks[:2]
                    ]
                    order = {
                        one.shift: rank_windows(scores)
                        for one, scores in zip(stage.blocks, score_windows(x, tables), strict=False)
                    }
                if ratio:
                    windows = order[block.shift][
                        :, : kept_count(order[block.shift].shape[1], ratio)
                    ]
                x = _released_block(block, x, height, width, windows)
            if str(index) in net.norms:
                out = net.norms[str(index)](x)
                features.append(
                    out.view(len(x), height, width, -1).permute(0, 3, 1, 2).contiguous()
                )
            if stage.downsample is not None:
                x, height, width = stage.downsample(x, height, width)
        return tuple(features)


def _released_block(
    block: SwinBlock, x: Tensor, height: int, width: int, chosen: Tensor | None
) -> Tensor:
    batch, _, channels = x.shape
    side = block.window
    shift = block.shift
    x = F.pad(x.view(batch, height, width, channels), (0, 0, 0, -width % side, 0, -height % side))
    down = x.shape[1] // side
    across = x.shape[2] // side
    x = x.roll((-shift, -shift), (1, 2)).view(batch, down, side, across, side, channels)
    windows = x.transpose(2, 3).reshape(batch, down * across, side * side, channels)
    mask = window_table(height, width, side, shift, x.device).mask
    if chosen is None:
        part = windows.flatten(0, 1)
        mask = None if mask is None else mask.repeat(batch, 1, 1)
    else:
        image = torch.arange(batch, device=x.device)[:, None]
        part = windows[image, chosen].flatten(0, 1)
        mask = None if mask is None else mask[chosen.flatten()]
    part = part + _released_attention(block, block.norm1(part), mask)
    part = part + block.fc2(F.gelu(block.fc1(block.norm2(part))))
    if chosen is None:
        windows = part.view(windows.shape)
    else:
        windows = windows.clone()
        windows[image, chosen] = part.view(batch, -1, side * side, channels)
    x = (
        windows.view(batch, down, across, side, side, channels)
        .transpose(2, 3)
        .reshape(batch, down * side, across * side, channels)
    )
    return x.roll((shift, shift), (1, 2))[:, :height, :width].reshape(
        batch, height * width, channels
    )


def _released_attention(block: SwinBlock, x: Tensor, mask: Tensor | None) -> Tensor:
    windows, size, channels = x.shape
    attention = block.attn
    query, key, value = (
        attention.qkv(x).view(windows, size, 3, attention.heads, -1).permute(2, 0, 3, 1, 4)
    )
    offsets = window_table(block.window, block.window, block.window, 0, x.device).offsets
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    logits = logits + attention.relative_position_bias_table[offsets].permute(2, 0, 1)
    if mask is not None:
        logits = logits + mask[:, None].to(logits.dtype)
    return attention.proj(
        (logits.softmax(-1) @ value).transpose(1, 2).reshape(windows, size, channels)
    )


def floor(net: SparseSwin, shape: tuple[int, int, int, int]) -> Call:
    """Run dense ``net``'s convolution, linear layers and attentions alone, on real tokens.

    Nothing runs in between.
    """
    batch, _, height, width = shape
    like = net.patch_embed.projection.weight
    images = torch.randn(shape, device=like.device, dtype=like.dtype)
    calls: list[Call] = [lambda: net.patch_embed.projection(images)]
    height = -(-height // net.patch_size)
    width = -(-width // net.patch_size)
    for stage in net.stages:
        for block in stage.blocks:
            windows = batch * len(window_table(height, width, block.window, block.shift).tokens)
            calls.append(_block_floor(block, batch * height * width, windows))
        if stage.downsample is not None:
            height = (height + 1) // 2
            width = (width + 1) // 2
            calls.append(_product(stage.downsample.reduction, batch * height * width))
    return lambda: [call() for call in calls]


def _block_floor(block: SwinBlock, tokens: int, windows: int) -> Call:
    layers = [
        _product(layer, tokens) for layer in (block.attn.qkv, block.attn.proj, block.fc1, block.fc2)
    ]
    weight = block.fc1.weight
    heads = block.attn.heads
    query = torch.randn(
        windows,
        heads,
        block.window**2,
        weight.shape[1] // heads,
        device=weight.device,
        dtype=weight.dtype,
    )
    return lambda: [
        *(layer() for layer in layers),
        F.scaled_dot_product_attention(query, query, query),
    ]


def _product(layer: nn.Linear, tokens: int) -> Call:
    x = torch.randn(tokens, layer.in_features, device=layer.weight.device, dtype=layer.weight.dtype)
    return lambda: layer(x)
