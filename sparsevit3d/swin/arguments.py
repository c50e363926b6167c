"""What the arguments of SparseSwin have to fulfil."""

from __future__ import annotations

from collections.abc import Sequence


def check_shape(
    embed_dims: int,
    depths: Sequence[int],
    num_heads: Sequence[int],
    out_indices: Sequence[int],
    frozen_stages: int,
) -> None:
    """Raise ValueError unless the arguments describe a network."""
    if len(depths) != len(num_heads):
        raise ValueError(
            f"depths {tuple(depths)} and num_heads {tuple(num_heads)} must be equally long."
        )
    if not all(0 <= index < len(depths) for index in out_indices):
        last = len(depths) - 1
        raise ValueError(f"out_indices {tuple(out_indices)}: the network has stages 0 to {last}")
    if not -1 <= frozen_stages <= len(depths):
        raise ValueError(
            f"frozen_stages {frozen_stages}: -1 freezes nothing, {len(depths)} all stages."
        )
    for stage, heads in enumerate(num_heads):
        if (channels := embed_dims << stage) % heads:
            raise ValueError(
                f"num_heads {tuple(num_heads)}: stage {stage} has {channels} channels, "
                f"which {heads} does not divide."
            )


def check_choice(name: str, value: object, known: Sequence[str]) -> None:
    """Raise ValueError unless ``value``, of the argument ``name``, is one of ``known``."""
    if value not in known:
        raise ValueError(f"{name} {value!r}: there are {', '.join(known)}")
