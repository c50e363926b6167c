"""An independent Swin to check ours against: pad, roll, cut up, attend, put back, with the names of
other libraries' checkpoints.

Written from the two papers and from how each library names its tensors; it shares no code with what
it checks. Pruning is done the expensive way: compute everything, then keep what was chosen.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import torch
import torch.nn.functional as F


class Shape(NamedTuple):
    embed_dims: int
    depths: tuple
    num_heads: tuple
    window_size: int

    def arguments(self):
        return {**self._asdict(), "out_indices": tuple(range(len(self.depths)))}


class Names(NamedTuple):
    """Where a layout keeps things; ``{s}`` is the stage, ``{n}`` the next one, ``{o}`` and ``{e}``
    torchvision's numbers of both.
    """

    embed: str = "patch_embed.proj"
    embed_norm: str = "patch_embed.norm"
    block: str = "layers.{s}.blocks.{b}"
    attention: str = "attn"
    fc1: str = "mlp.fc1"
    fc2: str = "mlp.fc2"
    merge: str = "layers.{s}.downsample"
    norm: str | None = "norm"  # a classifier has one norm, after the last stage
    merge_order: str = "column row channel"


LAYOUTS = {
    "Microsoft": Names(),
    "Microsoft's detectors": Names(norm="norm{s}"),
    "timm": Names(merge="layers.{n}.downsample"),
    "timm, features_only": Names(
        block="layers_{s}.blocks.{b}", merge="layers_{n}.downsample", norm=None
    ),
    "torchvision": Names(
        embed="features.0.0",
        embed_norm="features.0.2",
        block="features.{o}.{b}",
        fc1="mlp.0",
        fc2="mlp.3",
        merge="features.{e}",
    ),
    "mmdet": Names(
        embed="patch_embed.projection",
        block="stages.{s}.blocks.{b}",
        attention="attn.w_msa",
        fc1="ffn.layers.0.0",
        fc2="ffn.layers.1",
        merge="stages.{s}.downsample",
        norm="norm{s}",
        merge_order="channel row column",
    ),
}


class Reference:
    """A Swin with random weights, ``state``, as a checkpoint of this layout holds them."""

    def __init__(self, layout, shape, make=torch.randn):
        self.names = LAYOUTS[layout]
        self.shape = shape
        self.state = {}
        self._layer(self.names.embed, (shape.embed_dims, 3, 4, 4), make)
        self._layer(self.names.embed_norm, (shape.embed_dims,), make)
        for stage, (depth, heads) in enumerate(zip(shape.depths, shape.num_heads, strict=True)):
            channels = shape.embed_dims * 2**stage
            for block in range(depth):
                name = self._name(self.names.block, stage, block)
                attention = f"{name}.{self.names.attention}"
                for norm in ("norm1", "norm2"):
                    self._layer(f"{name}.{norm}", (channels,), make)
                self._layer(f"{attention}.qkv", (3 * channels, channels), make)
                self._layer(f"{attention}.proj", (channels, channels), make)
                self.state[f"{attention}.relative_position_bias_table"] = make(
                    (2 * shape.window_size - 1) ** 2, heads
                )
                self._layer(f"{name}.{self.names.fc1}", (4 * channels, channels), make)
                self._layer(f"{name}.{self.names.fc2}", (channels, 4 * channels), make)
            if stage + 1 < len(shape.depths):
                name = self._name(self.names.merge, stage)
                self._layer(f"{name}.norm", (4 * channels,), make)
                self.state[f"{name}.reduction.weight"] = make(
                    2 * channels, 4 * channels
                ) / math.sqrt(4 * channels)
            if norm := self._norm_name(stage):
                self._layer(norm, (channels,), make)

    def _norm_name(self, stage):
        of_every_stage = "{s}" in (self.names.norm or "")
        return (
            self._name(self.names.norm, stage)
            if of_every_stage or stage + 1 == len(self.shape.depths)
            else None
        )

    @staticmethod
    def _name(pattern, stage, block=None):
        return pattern and pattern.format(
            s=stage, n=stage + 1, o=2 * stage + 1, e=2 * stage + 2, b=block
        )

    def _layer(self, name, shape, make):
        self.state[f"{name}.weight"] = make(*shape) / math.sqrt(math.prod(shape[1:]))
        self.state[f"{name}.bias"] = make(shape[0])

    def _linear(self, x, name):
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def _norm(self, x, name):
        return F.layer_norm(
            x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        )

    def __call__(self, images, ratios=None, importance="l2", score_every="stage", pruned="copy"):
        """Features of every stage, (B, C, H, W), under ``ratios[stage][pair]``; normalised with
        unit weights where the layout has no norm.
        """
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % 4, 0, -height % 4))
        x = F.conv2d(
            images,
            self.state[f"{self.names.embed}.weight"],
            self.state[f"{self.names.embed}.bias"],
            stride=4,
        )
        x = self._norm(x.permute(0, 2, 3, 1), self.names.embed_norm)
        features = []
        for stage, depth in enumerate(self.shape.depths):
            scored = None
            for block in range(depth):
                shift = self.shape.window_size // 2 * (block % 2)
                y = self._block(x, stage, block, shift)
                if ratio := ratios[stage][block // 2] if ratios else 0:
                    scored = x if scored is None or score_every == "block" else scored
                    kept = self._kept(scored.abs().mean(-1, keepdim=True), shift, ratio, importance)
                    y = torch.where(kept, y, x if pruned == "copy" else torch.zeros_like(x))
                x = y
            norm = self._norm_name(stage)
            out = self._norm(x, norm) if norm else F.layer_norm(x, x.shape[-1:])
            features.append(out.permute(0, 3, 1, 2))
            if stage + 1 < len(self.shape.depths):
                x = self._merge(x, self._name(self.names.merge, stage))
        return features

    def _block(self, x, stage, block, shift):
        name = self._name(self.names.block, stage, block)
        x = x + self._attend(
            self._norm(x, f"{name}.norm1"),
            f"{name}.{self.names.attention}",
            self.shape.num_heads[stage],
            shift,
        )
        hidden = F.gelu(self._linear(self._norm(x, f"{name}.norm2"), f"{name}.{self.names.fc1}"))
        return x + self._linear(hidden, f"{name}.{self.names.fc2}")

    def _attend(self, x, name, heads, shift):
        height, width, channels = x.shape[1:]
        size = self.shape.window_size
        windows = self._cut(x, shift)
        images, count, places = windows.shape[:3]
        query, key, value = (
            self._linear(windows, f"{name}.qkv")
            .view(images, count, places, 3, heads, -1)
            .permute(3, 0, 1, 4, 2, 5)
        )
        logits = query @ key.transpose(-2, -1) / math.sqrt(channels // heads)
        table = self.state[f"{name}.relative_position_bias_table"].view(
            2 * size - 1, 2 * size - 1, heads
        )
        place = [(row, column) for row in range(size) for column in range(size)]
        bias = torch.stack(
            [
                torch.stack([table[a - c + size - 1, b - d + size - 1] for c, d in place])
                for a, b in place
            ]
        )
        logits = logits + bias.permute(2, 0, 1)
        if shift:  # places that came round the edge attend only among themselves
            rows = -(-height // size) * size
            columns = -(-width // size) * size
            side = (torch.arange(rows) < shift)[:, None] * 2 + (torch.arange(columns) < shift)
            side = self._cut(side[None, :, :, None].float(), shift)[0, :, :, 0]
            logits = logits - 100.0 * (side[:, :, None] != side[:, None, :])[:, None]
        out = (logits.softmax(-1) @ value).transpose(2, 3).reshape(images, count, places, channels)
        return self._paste(self._linear(out, f"{name}.proj"), height, width, shift)

    def _cut(self, x, shift):
        """(B, H, W, C) to (B, windows, places, C): padded with zeros, rolled up and left."""
        size = self.shape.window_size
        x = F.pad(x, (0, 0, 0, -x.shape[2] % size, 0, -x.shape[1] % size)).roll(
            (-shift, -shift), (1, 2)
        )
        tiles = [tile.flatten(1, 2) for band in x.split(size, 1) for tile in band.split(size, 2)]
        return torch.stack(tiles, 1)

    def _paste(self, windows, height, width, shift):
        size = self.shape.window_size
        across = -(-width // size)
        tiles = [tile.unflatten(1, (size, size)) for tile in windows.unbind(1)]
        bands = [
            torch.cat(tiles[start : start + across], 2) for start in range(0, len(tiles), across)
        ]
        return torch.cat(bands, 1).roll((shift, shift), (1, 2))[:, :height, :width]

    def _kept(self, magnitude, shift, ratio, importance):
        windows = self._cut(magnitude, shift)
        real = self._cut(torch.ones_like(magnitude), shift)
        pools = {
            "l2": lambda: (windows**2).sum(2).sqrt(),
            "mean": lambda: windows.sum(2) / real.sum(2),
            "max": lambda: windows.max(2).values,
        }
        scores = pools[importance]()[..., 0]
        count = max(1, math.floor(scores.shape[1] * (1 - Fraction(str(ratio)))))
        best = scores.argsort(descending=True, stable=True)[:, :count]
        chosen = torch.zeros_like(scores).scatter(1, best, 1.0)
        whole = chosen[:, :, None, None].expand(-1, -1, windows.shape[2], 1)
        return self._paste(whole, *magnitude.shape[1:3], shift) > 0

    def _merge(self, x, name):
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = {(row, column): x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)}
        if self.names.merge_order == "column row channel":
            x = torch.cat([corners[row, column] for column in (0, 1) for row in (0, 1)], -1)
        else:
            x = torch.stack(
                [corners[row, column] for row in (0, 1) for column in (0, 1)], -1
            ).flatten(-2)
        return self._linear(self._norm(x, f"{name}.norm"), f"{name}.reduction")
