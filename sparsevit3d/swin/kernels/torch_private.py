"""All names of torch's own that the project calls although torch promises nothing about them.

A new release of torch may move them. ``tests/swin/test_torch_private.py`` names every one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

if TYPE_CHECKING:
    from typing import Self  # Python 3.10 has none

# oneDNN has no bfloat16 for processors that lack AVX-512. The plain path has it, slowly.
ONEDNN_HAS_BFLOAT16: bool = (
    torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
)


def pack_weight(weight: Tensor, rows: int) -> Tensor:
    """Lay out the (out, in) weight of a linear layer as oneDNN wants it for ``rows`` rows."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), rows)


def linear(x: Tensor, packed: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """oneDNN's product of ``x`` and a packed weight, then "none" or "gelu"."""
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, activation, [], "none")


def linear_plus(x: Tensor, residual: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """oneDNN's product of ``x`` and a packed weight, plus ``residual``."""
    return torch.ops.mkldnn._linear_pointwise.binary(x, residual, packed, bias, "add")


def is_traced(x: Tensor) -> bool:
    """Whether a compiler, an exporter or a tracer looks on instead of computing with ``x``."""
    if torch.compiler.is_compiling() or type(x) is not Tensor:
        return True
    return torch._C._get_tracing_state() is not None


def in_dispatch_mode() -> bool:
    """Whether every operator goes through somebody's ``TorchDispatchMode``."""
    return _get_current_dispatch_mode() is not None


def all_modules(module: nn.Module) -> list[nn.Module]:
    """``module.modules()`` in a fifth of the time: a replay must not wait for longer than it takes.

    Modules that stand in several places are found several times.
    """
    found = [module]
    for each in found:  # the list grows meanwhile
        found.extend(part for part in each._modules.values() if part is not None)
    return found


def has_hooks(module: nn.Module) -> bool:
    """Whether forward hooks of ``module`` want to see what passes."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def addresses_of(modules: list[nn.Module]) -> list[int]:
    """Where the parameters of ``modules`` lie."""
    weights = [weight for module in modules for weight in module._parameters.values()]
    return [weight.data_ptr() for weight in weights if weight is not None]


def state_of(module: nn.Module) -> tuple[tuple[int, int], ...]:
    """Address and version of each parameter: both are equal while torch knows of no change."""
    return tuple((weight.data_ptr(), weight._version) for weight in module.parameters())


class NoticesMoves(nn.Module):
    """A module that is told when ``to``, ``half``, ``bfloat16`` and the like change its weights."""

    def when_moved(self) -> None:
        """Forget what was made of the weights: they may come back changed at the same address."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.when_moved()
        return super()._apply(fn, recurse)
