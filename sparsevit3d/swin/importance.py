"""Which windows matter: scores of windows, and their order (SparseViT, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sparsevit3d.swin.windows import WindowTable

# A function of your own gets (B, tokens, C) features, detached, and the windows to cut them into.
# It returns (B, windows) scores. Padding is token H * W, which the features lack:
# F.pad(x, (0, 0, 0, 1))[:, table.tokens] is (B, windows, places, C).
Importance = Callable[[Tensor, WindowTable], Tensor]

TOKENS_AT_ONCE = 2048
# Maps of sparsevit3d.swin.density, one learnt and one counted. Features have no part in them.
DENSITY = "density"
PLACE = "place"
MAPS = (DENSITY, PLACE)

# By name: from the magnitudes of a window's tokens, (B, windows, places), 0 where there is padding.
# The paper's is "l2".
POOLINGS: dict[str, Callable[[Tensor, WindowTable], Tensor]] = {
    "l2": lambda magnitudes, table: torch.linalg.vector_norm(magnitudes, dim=-1),
    "mean": lambda magnitudes, table: magnitudes.sum(-1) / table.sizes,
    "max": lambda magnitudes, table: magnitudes.amax(-1),
}


def check_importance(importance: str | Importance) -> None:
    """Raise ValueError unless ``importance`` is a function, or a name that SparseSwin knows."""
    if not callable(importance) and importance not in (*POOLINGS, "random", *MAPS):
        names = ", ".join((*POOLINGS, "random", *MAPS))
        raise ValueError(f"importance {importance!r}: there are {names}, and your functions.")


def score_windows(
    x: Tensor,
    tables: Sequence[WindowTable],
    importance: str | Importance = "l2",
    seed: int = 0,
) -> list[Tensor]:
    """(B, tokens, C) features to (B, windows) scores for each of a stage's tables.

    ``importance`` is one of POOLINGS, "random", or a function of your own. "random" follows from
    ``seed`` and is alike for every image, so that a result does not depend on the batch.
    Raises ValueError for another name, and for a function that returns another shape.
    """
    check_importance(importance)
    if callable(importance):
        return [
            _checked_scores(importance(x, table), (len(x), len(table.tokens))) for table in tables
        ]
    if importance == "random":
        return [
            _random_scores(len(table.tokens), seed, x.device).expand(len(x), -1) for table in tables
        ]
    magnitude = F.pad(token_magnitude(x), (0, 1))
    return [POOLINGS[importance](magnitude[:, table.tokens], table) for table in tables]


def token_magnitude(x: Tensor) -> Tensor:
    """Mean over channels of |x|: (B, tokens, C) to (B, tokens).

    In float32 or better, so that bfloat16 ranks alike.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        # |x| is never stored.
        return torch.linalg.vector_norm(x, 1, -1, dtype=dtype) / x.shape[-1]
    # On a processor that norm takes channels one by one. |x| of a few tokens stays in the cache,
    # which is five times as fast.
    parts = x.flatten(0, 1).split(TOKENS_AT_ONCE)
    return torch.cat([part.abs().mean(-1, dtype=dtype) for part in parts]).view(x.shape[:-1])


def _random_scores(windows: int, seed: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(windows, generator=generator, device="cpu").to(device)


def _checked_scores(scores: Tensor, shape: tuple[int, int]) -> Tensor:
    if scores.shape != shape:
        raise ValueError(
            f"the importance function returned scores of shape {tuple(scores.shape)}. "
            f"It must return (images, windows), {shape}."
        )
    return scores


def rank_windows(scores: Tensor) -> Tensor:
    """Order windows from most to least important, each image by itself.

    Equal scores keep their order in the map.
    """
    return scores.argsort(dim=-1, descending=True, stable=True)
