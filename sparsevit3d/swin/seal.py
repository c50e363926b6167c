"""The seal of a checkpoint: a hash of its content, by which damage is noticed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import torch

SEAL = "sha256"  # the key that holds the hash


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of every key, number, text and tensor in order, without the seal."""
    sha = hashlib.sha256()

    def feed(value: Any) -> None:
        if isinstance(value, dict):
            feed([part for item in value.items() for part in item])
        elif isinstance(value, list | tuple):
            sha.update(f"{len(value)}[".encode())
            for item in value:
                feed(item)
        elif isinstance(value, torch.Tensor):
            sha.update(f"{value.dtype}{list(value.shape)}".encode())
            sha.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            sha.update(f"{value!r},".encode())

    feed({key: value for key, value in content.items() if key != SEAL})
    return sha.hexdigest()


def is_broken(content: Mapping[str, Any]) -> bool:
    """Whether ``content`` is sealed and is no longer what was sealed."""
    return SEAL in content and content[SEAL] != digest(content)


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the tensors, in the order of their names, as ``state_dict`` beside the metadata."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in sorted(file.keys())}
        return {**(file.metadata() or {}), "state_dict": state}


def way_to_weights(path: str) -> str:
    """Say how to keep the weights alone of a file that holds more, such as mmengine's."""
    return (
        "If you trust it, keep its weights alone: "
        f'python -c "import torch; c = torch.load({path!r}, weights_only=False); '
        f"torch.save({{'state_dict': c['state_dict']}}, {path + '.weights.pth'!r})\""
    )
