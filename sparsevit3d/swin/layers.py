"""The layers of Swin in plain torch: patch embedding, window attention, block, patch merging.

A block computes all of its windows, or only the chosen ones (SparseViT, section 3 and figure 2).
These layers define the truth. :mod:`sparsevit3d.swin.kernels.dispatch` has faster ones.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparsevit3d.swin.windows import WindowTable, WindowTokens, window_tokens

Pruned = Literal["copy", "zero"]


class Choice(NamedTuple):
    """The windows that a block computes, each image's own, most important first."""

    windows: Tensor  # (B, kept)
    scores: Tensor  # (B, windows): the importance of every window, chosen or not


class PatchEmbed(nn.Module):
    """Make a token of each ``patch`` x ``patch`` pixels. Zeros fill up the last rows and columns.

    Args:
        in_channels (int): Channels of the images.
        channels (int): Channels of a token.
        patch (int): Side of a patch, in pixels.
    """

    def __init__(self, in_channels: int, channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.projection = nn.Conv2d(in_channels, channels, patch, patch)
        self.norm = nn.LayerNorm(channels)

    def forward(self, images: Tensor) -> tuple[Tensor, int, int]:
        """(B, in_channels, H, W) to tokens, (B, height * width, C), height and width."""
        height, width = images.shape[-2:]
        padding = (0, -width % self.patch, 0, -height % self.patch)
        if any(padding):
            images = F.pad(images, padding)
        # Channels-last, so that a token's channels lie together.
        x = self.projection(images.contiguous(memory_format=torch.channels_last))
        height, width = x.shape[-2:]
        return self.norm(x.flatten(2).transpose(1, 2)), height, width


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with Swin's relative position bias.

    Args:
        channels (int): Channels of a token.
        heads (int): Attention heads.
        window (int): Side of a window, in tokens.
        qkv_bias (bool): Whether query, key and value have a bias.
    """

    def __init__(self, channels: int, heads: int, window: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))

    def forward(self, x: Tensor, gathered: WindowTokens) -> Tensor:
        """(tokens, C), the real tokens of the chosen windows, to the same shape."""
        qkv = self.qkv(x)
        if gathered.places is not None:
            qkv = self.with_padding(qkv, gathered.places, gathered.windows)
        bias = self.position_bias(gathered.offsets)
        x = self.attend(qkv, gathered.windows, bias, gathered.mask)
        if gathered.places is not None:
            x = x.index_select(0, gathered.places)
        return self.proj(x)

    def with_padding(self, qkv: Tensor, places: Tensor, windows: int) -> Tensor:
        """Put (tokens, 3 C) at their places in all ``windows``, (windows * window ** 2, 3 C).

        Swin pads after LayerNorm, so a padded token is zero there. Its query, key and value are the
        bias.
        """
        if self.qkv.bias is None:
            padding = qkv.new_zeros(qkv.shape[1])
        else:
            padding = self.qkv.bias.to(qkv.dtype)
        return padding.expand(windows * self.window**2, -1).index_copy(0, places, qkv)

    def position_bias(self, offsets: Tensor) -> Tensor:
        """Return what relative position adds to the logits, (1, heads, window ** 2, window ** 2).

        ``offsets`` are those of WindowTokens.
        """
        return self.relative_position_bias_table[offsets].permute(2, 0, 1)[None]

    def attend(self, qkv: Tensor, windows: int, bias: Tensor, mask: Tensor | None) -> Tensor:
        """(windows * window ** 2, 3 C) to (windows * window ** 2, C).

        ``bias`` comes from position_bias. ``mask`` is that of WindowTokens.
        """
        size = self.window**2
        channels = qkv.shape[1] // 3
        query, key, value = qkv.view(windows, size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if mask is not None:
            bias = bias + mask[:, None]
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        return x.transpose(1, 2).reshape(windows * size, channels)


class SwinBlock(nn.Module):
    """LN, window attention, LN, FFN: on all windows, or only on the chosen ones (figure 2).

    Args:
        channels (int): Channels of a token.
        heads (int): Attention heads.
        window (int): Side of a window, in tokens.
        shift (int): Tokens by which the map is rolled up and left. 0 for plain windows.
        mlp_ratio (float): Width of the FFN over ``channels``.
        qkv_bias (bool): Whether query, key and value have a bias.
        drop_path (float): How often training leaves out a residual of an image, from 0 to 1.
        pruned (str): "copy" or "zero" the tokens outside the chosen windows.
        with_cp (bool): Whether the backward pass computes activations again, not keeps them.
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
        self.window = window
        self.shift = shift
        self.drop_path = drop_path
        self.pruned = pruned
        self.with_cp = with_cp
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window, qkv_bias)
        self.norm2 = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, int(mlp_ratio * channels))
        self.fc2 = nn.Linear(int(mlp_ratio * channels), channels)

    def forward(self, x: Tensor, table: WindowTable, choice: Choice | None) -> Tensor:
        """(B, tokens, C) to the same shape. ``choice`` None computes all windows.

        Tokens outside the chosen windows pass bit for bit. Without gradients the map is updated in
        place: copying all of it in every block would cost what pruning saves.
        """
        if self.with_cp and torch.is_grad_enabled():
            again = checkpoint(self.compute, x, table, choice, use_reentrant=False)
            return cast(Tensor, again)
        return self.compute(x, table, choice)

    def compute(self, x: Tensor, table: WindowTable, choice: Choice | None) -> Tensor:
        """Gather, compute and scatter. The arguments are those of ``forward``."""
        batch, tokens, channels = x.shape
        windows = None if choice is None else choice.windows
        gathered = window_tokens(table, windows, batch, tokens)
        flat = x.view(batch * tokens, channels)
        part = flat.index_select(0, gathered.rows)
        attended = self.attn(self.norm1(part), gathered)
        images = batch * table.images
        part = part + self._drop(attended, gathered.image, images)
        hidden = self.fc2(F.gelu(self.fc1(self.norm2(part))))
        part = part + self._drop(hidden, gathered.image, images)
        if choice is not None and self.pruned == "zero":
            flat = torch.zeros_like(flat)
        scatter = flat.index_copy if torch.is_grad_enabled() else flat.index_copy_
        return scatter(0, gathered.rows, part).view(batch, tokens, channels)

    def _drop(self, residual: Tensor, image: Tensor, images: int) -> Tensor:
        """Stochastic depth, drawn once for each image, whichever of its windows were chosen."""
        if not self.training or self.drop_path == 0:
            return residual
        keep = 1 - self.drop_path
        alive = (keep + torch.rand(images, device=residual.device)).floor() / keep
        return residual * alive[image, None].to(residual.dtype)


class PatchMerging(nn.Module):
    """Make one token of each 2 x 2, of twice the channels. Zeros fill up an odd edge.

    Args:
        channels (int): Channels of a token before merging.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor, height: int, width: int) -> tuple[Tensor, int, int]:
        """(B, height * width, C) to (B, ..., 2 * C), the smaller map's height and its width."""
        x = pad_to_even(x.view(len(x), height, width, -1))
        batch, height, width, channels = x.shape
        x = x.view(batch, height // 2, 2, width // 2, 2, channels)
        x = x.permute(0, 1, 3, 5, 2, 4)  # channel, row, column
        x = x.reshape(batch, height * width // 4, 4 * channels)
        return self.reduction(self.norm(x)), height // 2, width // 2


def pad_to_even(x: Tensor) -> Tensor:
    """(B, H, W, C) with a row or a column of zeros at the end of an odd side."""
    height, width = x.shape[1:3]
    if height % 2 or width % 2:
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
    return x
