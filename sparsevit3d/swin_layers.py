"""The layers of Swin that pruning leaves as they are: patch embedding, attention within windows, patch merging."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsevit3d import fast_cpu, fast_gpu
from sparsevit3d.windows import WindowTokens


class LayerNorm(nn.LayerNorm):
    """Of a map's tokens, (B, tokens, C)."""

    fast = True

    def forward(self, x: Tensor) -> Tensor:
        if self.fast and fast_gpu.is_for(x, self.weight):
            return fast_gpu.normalise(self, x)
        return super().forward(x)


class PatchEmbed(nn.Module):
    """Each ``patch`` x ``patch`` pixels become a token; the image's last rows and columns are filled up with zeros."""

    def __init__(self, in_channels: int, channels: int, patch: int) -> None:
        super().__init__()
        self.patch, self.fast = patch, True
        self.projection = nn.Conv2d(in_channels, channels, patch, patch)
        self.norm = nn.LayerNorm(channels)

    def forward(self, images: Tensor) -> tuple[Tensor, int, int]:
        """(B, in_channels, H, W) to the map's tokens, (B, height * width, C), its height and its width."""
        height, width = images.shape[-2:]
        if self.fast and fast_gpu.embeds(self, images):
            return fast_gpu.embed_patches(self, images), -(-height // self.patch), -(-width // self.patch)
        padding = (0, -width % self.patch, 0, -height % self.patch)
        images = F.pad(images, padding) if any(padding) else images
        x = self.projection(images.contiguous(memory_format=torch.channels_last))  # so that a token's channels lie together
        height, width = x.shape[-2:]
        return self.norm(x.flatten(2).transpose(1, 2)), height, width


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with Swin's relative position bias."""

    def __init__(self, channels: int, heads: int, window: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))

    def forward(self, x: Tensor, gathered: WindowTokens) -> Tensor:
        """(tokens, C), the real tokens of the chosen windows, to the same shape."""
        qkv = self.qkv(x)
        if gathered.places is not None:
            qkv = self.with_padding(qkv, gathered.places, gathered.windows)
        x = self.attend(qkv, gathered.windows, self.position_bias(gathered.offsets), gathered.mask)
        return self.proj(x if gathered.places is None else x.index_select(0, gathered.places))

    def with_padding(self, qkv: Tensor, places: Tensor, windows: int) -> Tensor:
        """(tokens, 3 C) at their places among all of the ``windows``, (windows * window ** 2, 3 C).

        Swin pads after LayerNorm, so a padded token is zero there: its query, key and value are the bias.
        """
        padding = qkv.new_zeros(qkv.shape[1]) if self.qkv.bias is None else self.qkv.bias.to(qkv.dtype)
        return padding.expand(windows * self.window**2, -1).index_copy(0, places, qkv)

    def position_bias(self, offsets: Tensor) -> Tensor:
        """What relative position adds to the logits, (1, heads, window ** 2, window ** 2); ``offsets`` as in WindowTokens."""
        return self.relative_position_bias_table[offsets].permute(2, 0, 1)[None]

    def attend(self, qkv: Tensor, windows: int, bias: Tensor, mask: Tensor | None) -> Tensor:
        """(windows * window ** 2, 3 C) to (windows * window ** 2, C); ``bias`` is position_bias's, ``mask`` as in WindowTokens."""
        size, channels = self.window**2, qkv.shape[1] // 3
        query, key, value = qkv.view(windows, size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if mask is not None:
            bias = bias + mask[:, None]
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        return x.transpose(1, 2).reshape(windows * size, channels)


class PatchMerging(nn.Module):
    """Each 2 x 2 tokens become one of twice the channels; an odd edge is padded with zeros."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fast = True
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor, height: int, width: int) -> tuple[Tensor, int, int]:
        """(B, height * width, C) to the smaller map's tokens, (B, ..., 2 * C), its height and its width."""
        x = x.view(len(x), height, width, -1)
        if self.fast and fast_gpu.is_for(x, self.reduction.weight):
            return fast_gpu.merge_patches(self, x), (height + 1) // 2, (width + 1) // 2
        if height % 2 or width % 2:
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        batch, height, width, channels = x.shape
        if self.fast and fast_cpu.runs_on(x, self.reduction.weight):
            return fast_cpu.merge_patches(self, x), height // 2, width // 2
        x = x.view(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 5, 2, 4)  # channel, row, column
        x = x.reshape(batch, height * width // 4, 4 * channels)
        return self.reduction(self.norm(x)), height // 2, width // 2
