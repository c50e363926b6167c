"""Every private name of torch that the project calls is there, and no other file calls one."""

from pathlib import Path

import torch
from torch import nn

from sparsevit3d.swin.kernels import torch_private
from tests.support.private_names import private_names

HOMES = {
    "_C": torch,
    "_get_tracing_state": torch._C,
    "_get_current_dispatch_mode": torch.utils._python_dispatch,
    "_python_dispatch": torch.utils,
    "_is_mkldnn_bf16_supported": torch.ops.mkldnn,
    "_linear_pointwise": torch.ops.mkldnn,
    "_reorder_linear_weight": torch.ops.mkldnn,
    "_version": torch.empty(0),
    "_modules": nn.Module(),
    "_parameters": nn.Module(),
    "_forward_hooks": nn.Module(),
    "_forward_pre_hooks": nn.Module(),
    "_apply": nn.Module,
}


def test_every_private_name_is_named_here_and_is_there():
    called = private_names(Path(torch_private.__file__)) | {"_apply"}  # which is overridden
    assert called == HOMES.keys()
    for name, home in HOMES.items():
        assert hasattr(home, name), f"this torch has no {name}"


def test_all_modules_are_found():
    net = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.ReLU(), nn.LayerNorm(1)))
    assert set(torch_private.all_modules(net)) == set(net.modules())


def test_a_changed_weight_is_another_state():
    layer = nn.Linear(2, 2)
    before = torch_private.state_of(layer)
    assert torch_private.state_of(layer) == before
    with torch.no_grad():
        layer.weight.add_(1)
    assert torch_private.state_of(layer) != before


def test_hooks_are_seen_while_they_are_there():
    layer = nn.Linear(2, 2)
    handle = layer.register_forward_hook(lambda *_: None)
    assert torch_private.has_hooks(layer)
    handle.remove()
    assert not torch_private.has_hooks(layer)
