"""SparseSwin trains like the backbone it replaces: mmdet's Swin beside it, step by step."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmdet.models.backbones import SwinTransformer
from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import find_latest_checkpoint
from torch import nn

from sparsevit3d import PlanError, SparseSwin, WeightsError, load_swin_weights
from sparsevit3d.backbone import ConfiguredSparseSwin
from sparsevit3d.devices import multiplies_bfloat16
from sparsevit3d.errors import InputError
from sparsevit3d.stages.checkpoints import seal
from sparsevit3d.stages.hooks import AutocastOptimWrapper, RandomPlanHook, StartHook
from sparsevit3d.swin.kernels.dispatch import SwinBlock
from sparsevit3d.swin.layers import Choice
from sparsevit3d.swin.windows import window_table
from tests.support.toy_adaptation import Model, Witness, make_runner

ROOT = Path(__file__).parents[2]
SHAPE = {
    "embed_dims": 16,
    "depths": (2, 1, 3),
    "num_heads": (1, 2, 4),
    "window_size": 4,
    "out_indices": (0, 2),
}
PLAN = "0.3|0.4|0.2,0.6"
DECAY = {
    "optimizer": {"type": "AdamW", "lr": 1e-2, "weight_decay": 0.5},
    "paramwise_cfg": {
        "norm_decay_mult": 0.0,
        "custom_keys": {"relative_position_bias_table": {"decay_mult": 0.0}},
    },
}


def pair(**changes):
    """mmdet's Swin and ours with equal weights, all random: LayerNorm biases and tables as well."""
    theirs = SwinTransformer(**SHAPE | changes)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = SparseSwin(**SHAPE | changes)
    load_swin_weights(ours, theirs.state_dict())
    for net in (ours, theirs):
        net.train()
    return ours, theirs


def in_our_names(theirs, values):
    """What mmdet's parameters have (a gradient, a flag), by our names."""
    carrier = SparseSwin(**SHAPE)
    load_swin_weights(
        carrier, {name: values(parameter) for name, parameter in theirs.named_parameters()}
    )
    return dict(carrier.named_parameters())


def loss_of(features):
    return sum((feature**2).mean() for feature in features)


@pytest.mark.parametrize("drop_path_rate", [0.0, 0.4])
@pytest.mark.parametrize("size", [(64, 96), (60, 100)])
def test_a_training_step_equals_mmdets(drop_path_rate, size):
    """Equal weights, equal seeds: equal gradients, stochastic depth included, and equal weights
    after the optimizer's step.
    """
    ours, theirs = pair(drop_path_rate=drop_path_rate)
    images = torch.randn(6, 3, *size)
    for net in (ours, theirs):
        optimizer = build_optim_wrapper(net, ConfigDict(DECAY))
        torch.manual_seed(7)
        loss_of(net(images)).backward()
        optimizer.step()
    gradients = in_our_names(theirs, lambda p: p.grad)
    weights = in_our_names(theirs, lambda p: p)
    for name, parameter in ours.named_parameters():
        scale = float(gradients[name].abs().max())
        assert torch.allclose(parameter.grad, gradients[name], rtol=1e-3, atol=1e-5 * scale), name
        # Adam's first step is the gradient's sign, which means nothing near 0
        moved = gradients[name].abs() > 1e-4 * scale
        assert torch.allclose(parameter[moved], weights[name][moved], rtol=1e-3, atol=1e-4), name


def test_stochastic_depth_falls_on_whole_images_whatever_was_pruned():
    block = SwinBlock(8, 2, 4, 0, drop_path=0.5).train()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    table = window_table(8, 8, 4, 0)
    x = torch.randn(40, 64, 8)
    two_of_four = Choice(torch.tensor([[0, 3]]).expand(40, -1), torch.zeros(40, 4))
    dropped = []
    for choice in (None, two_of_four):
        torch.manual_seed(5)
        same = (block(x, table, choice) == x).all(-1)
        same = same if choice is None else same[:, table.tokens[[0, 3]].flatten()]
        dropped.append(same.all(1))
        assert torch.equal(same.any(1), dropped[-1])  # never a part of an image
    assert torch.equal(*dropped)
    assert 0 < dropped[0].sum() < 40


def saved_bytes(net, images):
    """Gradients by name, and how much autograd kept for them."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.nbytes) or tensor, lambda tensor: tensor
    ):
        loss = loss_of(net(images))
    loss.backward()
    return {name: parameter.grad for name, parameter in net.named_parameters()}, sum(kept)


@pytest.mark.parametrize("plan", [None, PLAN])
def test_checkpointing_keeps_less_and_changes_nothing(plan):
    images = torch.randn(4, 3, 64, 96)
    results = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        net = SparseSwin(**SHAPE, with_cp=with_cp, drop_path_rate=0.5, plan=plan).train()
        torch.manual_seed(3)
        results.append(saved_bytes(net, images))
    (plain, much), (again, little) = results
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert little < much / 2


@pytest.mark.parametrize("frozen_stages", [-1, 0, 1, 2, 3])
def test_frozen_stages_are_mmdets(frozen_stages):
    ours, theirs = pair(frozen_stages=frozen_stages, drop_path_rate=0.5)
    trained = in_our_names(theirs, lambda p: torch.full_like(p, float(p.requires_grad)))
    for name, parameter in ours.named_parameters():
        assert parameter.requires_grad == bool(trained[name].flatten()[0]), name
    blocks = [block.training for stage in ours.stages for block in stage.blocks]
    assert blocks == [block.training for stage in theirs.stages for block in stage.blocks]
    features = ours(torch.randn(2, 3, 64, 64))
    if frozen_stages < 3:
        loss_of(features).backward()
    for parameter in ours.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad
    assert not any(module.training for module in ours.eval().modules())


def test_init_cfg_loads_a_local_file_in_any_layout(tmp_path):
    theirs = SwinTransformer(**SHAPE)
    torch.save(theirs.state_dict(), tmp_path / "swin.pth")
    backbone = {
        "type": "SparseSwin",
        **SHAPE,
        "init_cfg": {"type": "Pretrained", "checkpoint": str(tmp_path / "swin.pth")},
    }
    net = MODELS.build(backbone)
    assert isinstance(net, SparseSwin)
    net.init_weights()
    assert torch.equal(
        net.stages[2].blocks[1].fc1.weight, theirs.stages[2].blocks[1].ffn.layers[0][0].weight
    )
    backbone["init_cfg"]["checkpoint"] = "https://example.org/swin.pth"
    with pytest.raises(
        WeightsError, match=r"https://example\.org/swin\.pth: no such file\. .*download them first"
    ):
        MODELS.build(backbone).init_weights()
    with pytest.raises(ValueError, match="init_cfg"):
        ConfiguredSparseSwin(init_cfg={"type": "Kaiming", "layer": "Linear"})


def test_mmdets_other_arguments_may_say_only_what_changes_nothing():
    ConfiguredSparseSwin(
        **SHAPE,
        qk_scale=None,
        drop_rate=0.0,
        patch_norm=True,
        strides=[4, 2, 2, 2],
        convert_weights=True,
    )
    # mmsegmentation's
    ConfiguredSparseSwin(
        **SHAPE, norm_cfg=ConfigDict(type="LN", requires_grad=True), pretrain_img_size=224
    )
    for name, value in (
        ("drop_rate", 0.1),
        ("use_abs_pos_embed", True),
        ("norm_cfg", {"type": "BN"}),
        ("strides", (2, 2, 2, 2)),
    ):
        with pytest.raises(ValueError, match=f"SparseSwin does not support {name}="):
            ConfiguredSparseSwin(**SHAPE, **{name: value})
    ConfiguredSparseSwin(**SHAPE, patch_size=8, strides=(8, 2, 2))
    with pytest.raises(
        ValueError,
        match=r"strides=\(4, 2, 2\). Leave it out, or set it to \(8, 2, 2, 2\)",
    ):
        ConfiguredSparseSwin(**SHAPE, patch_size=8, strides=(4, 2, 2))
    with pytest.raises(TypeError, match="depth"):
        ConfiguredSparseSwin(depth=3)


def test_a_plan_in_the_config_outlives_dense_weights_and_refuses_another_plan():
    dense, sparse, other = (
        SparseSwin(**SHAPE, plan=plan).state_dict() for plan in (None, PLAN, "0.1|0.1|0.1,0.1")
    )
    net = ConfiguredSparseSwin(**SHAPE, plan=PLAN)
    for state in (dense, sparse):
        net.load_state_dict(state)
        assert str(net.plan) == PLAN
    with pytest.raises(
        PlanError,
        match=r"made under plan 0\.1\|0\.1\|0\.1,0\.1, but 0\.3\|0\.4\|0\.2,0\.6 is wanted",
    ):
        net.load_state_dict(other)
    net = ConfiguredSparseSwin(**SHAPE)
    net.load_state_dict(sparse)
    assert str(net.plan) == PLAN


def spared(net):
    return {
        name
        for name, parameter in net.named_parameters()
        if "norm" in name or name.endswith("bias_table")
    }


def test_weight_decay_spares_norms_and_bias_tables_of_the_backbone():
    net = SparseSwin(**SHAPE)
    assert net.no_weight_decay() == spared(net)
    assert {"patch_embed.norm.weight", "stages.0.downsample.norm.bias", "norms.2.weight"} < spared(
        net
    )


@pytest.mark.parametrize(
    "config",
    [
        "fcos3d_small_synthetic",
        "fcos3d_swin-t_704x256",
        "coco/mask_rcnn",
        "coco/mask_rcnn_adapt",
    ],
)
def test_weight_decay_spares_norms_and_bias_tables_in_our_configs(config):
    settings = Config.fromfile(ROOT / f"configs/{config}.py").optim_wrapper
    settings.type = "OptimWrapper"  # mixed precision is for GPUs
    settings.pop("dtype", None)
    net = nn.ModuleDict({"backbone": SparseSwin(**SHAPE), "head": nn.Conv2d(3, 3, 1)})
    optimizer = build_optim_wrapper(net, settings).optimizer
    decayed = {
        id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]
    }
    free = {f"backbone.{name}" for name in spared(net["backbone"])}
    assert {
        name for name, parameter in net.named_parameters() if id(parameter) not in decayed
    } == free


@pytest.mark.parametrize("plan", [None, PLAN])
def test_mixed_precision_trains_alike(plan):
    """Under autocast to bfloat16 features and gradients point where float32's do; weights and
    gradients stay float32.
    """
    net = SparseSwin(**SHAPE, plan=plan, drop_path_rate=0.0).train()
    images = torch.randn(4, 3, 60, 100)
    features = []
    gradients = []
    for amp in (False, True):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            out = net(images)
            loss_of([feature - 0.5 for feature in out]).backward()
        features.append(torch.cat([feature.detach().float().flatten() for feature in out]))
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in net.parameters()]))
    assert torch.cosine_similarity(*features, 0) > 0.999
    assert torch.cosine_similarity(*gradients, 0) > 0.99
    assert gradients[1].dtype == torch.float32
    assert not torch.equal(*gradients)


@pytest.mark.parametrize("pruned", ["copy", "zero"])
@pytest.mark.parametrize("with_cp", [False, True])
def test_sparse_gradients_equal_finite_differences(pruned, with_cp):
    """Of all parameters and of the image, in float64, at a size that needs padding."""
    arguments = {
        "embed_dims": 4,
        "depths": (2, 2),
        "num_heads": (1, 2),
        "window_size": 3,
        "out_indices": (0, 1),
    }
    net = (
        SparseSwin(**arguments, plan="0.5|0.6", pruned=pruned, with_cp=with_cp, drop_path_rate=0.0)
        .double()
        .train()
    )
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.4)
    images = torch.randn(1, 3, 29, 33, dtype=torch.float64, requires_grad=True)
    tensors = [images, *net.parameters()]
    directions = [torch.randn_like(tensor) for tensor in tensors]
    gradients = torch.autograd.grad(loss_of(net(images)), tensors)
    slope = sum(
        float((gradient * direction).sum())
        for gradient, direction in zip(gradients, directions, strict=True)
    )
    step = 1e-6
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            for tensor, direction in zip(tensors, directions, strict=True):
                tensor += sign * step * direction
            losses.append(float(loss_of(net(images))))
            for tensor, direction in zip(tensors, directions, strict=True):
                tensor -= sign * step * direction
    assert math.isclose((losses[0] - losses[1]) / (2 * step), slope, rel_tol=1e-6)
    for gradient in gradients:
        assert gradient.abs().max() > 0


@pytest.mark.slow
def test_two_processes_draw_equal_plans_and_keep_equal_weights(tmp_path):
    """mmengine's Runner under torchrun (gloo), with the adaptation hook, on data that differs by
    process.
    """
    script = ROOT / "tests/support/toy_adaptation.py"
    launch = (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        script,
        tmp_path,
    )
    done = subprocess.run(launch, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / f"rank{rank}.pth", weights_only=True) for rank in (0, 1))
    assert first["plans"] == second["plans"]
    assert len(first["plans"]) == len(set(first["plans"])) == 5
    assert first["images"] != second["images"]
    saved = torch.load(find_latest_checkpoint(tmp_path / "work_dir"), weights_only=True)[
        "state_dict"
    ]
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name
        assert torch.equal(value, saved[name]), name
        assert not torch.equal(value, first["start"][name]) or name.endswith("_extra_state"), name


def test_random_plans_give_way_to_the_plan_that_was_there(tmp_path):
    model = Model(plan="0.5|0.1,0.6")
    witness = Witness()
    make_runner(model, tmp_path / "run", RandomPlanHook(), witness).train()
    assert len(set(witness.plans)) > 5
    assert str(model.backbone.plan) == "0.5|0.1,0.6"


def test_an_averaged_models_checkpoint_carries_the_plan(tmp_path):
    """mmengine's EMAHook copies the model early, and puts the copy into the checkpoint in the
    model's place.
    """
    start = {"state_dict": Model().state_dict()}
    seal(start)
    torch.save(start, tmp_path / "start.pth")
    hooks = (StartHook(str(tmp_path / "start.pth"), "0.5|0.1,0.6"), EMAHook())
    make_runner(Model(), tmp_path / "run", *hooks).train()
    state = torch.load(find_latest_checkpoint(tmp_path / "run"), weights_only=True)["state_dict"]
    trained = Model()
    trained.load_state_dict(state)
    assert str(trained.backbone.plan) == "0.5|0.1,0.6"


def test_a_new_run_does_not_mix_with_the_checkpoints_of_another(tmp_path):
    make_runner(Model(), tmp_path / "run").train()
    checkpoint = Path(find_latest_checkpoint(tmp_path / "run"))
    before = checkpoint.read_bytes()
    with pytest.raises(InputError, match=r"holds checkpoints of another run\. Resume"):
        make_runner(Model(), tmp_path / "run").train()
    assert checkpoint.read_bytes() == before
    resumed = make_runner(Model(), tmp_path / "run", resume=True)
    resumed.train()  # finds that there is nothing left to do
    assert (resumed.epoch, resumed.iter) == (1, 10)


@pytest.mark.skipif(
    not Path("/proc/cpuinfo").exists(), reason="asks Linux what the processor can do"
)
def test_training_is_in_bfloat16_where_the_processor_multiplies_in_it():
    able = bool(re.search(r"\b(amx_bf16|avx512_bf16|bf16)\b", Path("/proc/cpuinfo").read_text()))
    assert multiplies_bfloat16(torch.device("cpu")) == able
    assert multiplies_bfloat16(torch.device("cuda"))
    if not torch.cuda.is_available():
        net = torch.nn.Linear(2, 2)
        with AutocastOptimWrapper(torch.optim.SGD(net.parameters(), lr=0.1)).optim_context(net):
            assert net(torch.ones(1, 2)).dtype == (torch.bfloat16 if able else torch.float32)
