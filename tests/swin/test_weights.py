import pytest
import torch
from safetensors.torch import save_file

from sparsevit3d import SparseSwin, SparsityPlan, WeightsError, load_swin_weights
from sparsevit3d.swin.seal import SEAL, digest
from tests.support.networks import assert_same_features
from tests.support.reference_swin import LAYOUTS, Reference, Shape

SHAPE = Shape(16, (2, 2, 1), (1, 2, 4), 4)
PUBLISHED = {
    "T": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "S": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "B": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "L": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(128, 192), (75, 130)])
def test_a_layout_is_recognised_and_its_features_are_equal(layout, size):
    rival = Reference(layout, SHAPE)
    net = SparseSwin(**SHAPE.arguments())
    images = torch.randn(2, 3, *size)
    report = load_swin_weights(net, rival.state)
    assert layout.startswith(report.layout)
    assert not report.resized
    assert len(report.loaded) == len(rival.state)
    without_norm = {"mmdet": (), "Microsoft's detectors": (), "timm, features_only": (0, 1, 2)}.get(
        layout, (0, 1)
    )
    assert set(report.untouched) == {
        f"norms.{stage}.{part}" for stage in without_norm for part in ("weight", "bias")
    }
    assert_same_features(net, images, rival(images))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", PUBLISHED)
@pytest.mark.parametrize("window", [7, 12])
def test_published_sizes_fit_tensor_by_tensor(layout, size, window):
    shape = Shape(*PUBLISHED[size], window)
    with torch.device("meta"):  # shapes without storage
        net = SparseSwin(**shape.arguments())
        state = Reference(layout, shape).state
        report = load_swin_weights(net, state)
    assert len(report.loaded) == len(state)
    assert all(name.startswith("norms.") for name in report.untouched)


@pytest.mark.parametrize("prefix", ["backbone.", "module.img_backbone.", "encoder."])
def test_a_detectors_checkpoint_gives_its_backbone_alone(prefix, tmp_path):
    state = Reference("Microsoft", SHAPE).state
    whole = {prefix + name: value for name, value in state.items()}
    whole |= {
        "neck.conv.weight": torch.zeros(1),
        "neck.layers.0.blocks.0.norm1.weight": torch.zeros(1),
    }
    torch.save({"model": whole, "epoch": 3}, tmp_path / "detector.pth")
    net = SparseSwin(**SHAPE.arguments())
    report = load_swin_weights(net, tmp_path / "detector.pth")
    assert set(report.ignored) == {"neck.conv.weight", "neck.layers.0.blocks.0.norm1.weight"}
    assert torch.equal(
        net.stages[1].blocks[0].fc1.weight, state["layers.1.blocks.0.mlp.fc1.weight"]
    )


class Scale(torch.nn.Module):
    """An importance with a parameter of no dimension."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x, table):
        return self.scale * table.sizes.expand(len(x), -1)


@pytest.mark.parametrize(
    ("carried", "had", "has"),
    [
        (None, None, None),
        ("0.5|0|0", None, "0.5|0|0"),
        (None, "0.1|0|0", "0.1|0|0"),
        ("0.5|0|0", "0.5|0|0", "0.5|0|0"),
    ],
)
def test_our_own_checkpoints_give_their_weights_and_their_plan(carried, had, has, tmp_path):
    ours = SparseSwin(**SHAPE.arguments(), plan=carried, importance=Scale())
    torch.save(
        {"state_dict": {f"backbone.{name}": value for name, value in ours.state_dict().items()}},
        tmp_path / "epoch.pth",
    )
    net = SparseSwin(**SHAPE.arguments(), plan=had)
    report = load_swin_weights(net, tmp_path / "epoch.pth")
    assert report.layout == "sparsevit3d"
    assert report.ignored == ("backbone.importance.scale",)
    assert net.plan == (None if has is None else SparsityPlan.parse(has))
    ours = dict(ours.named_parameters())
    assert all(torch.equal(value, ours[name]) for name, value in net.named_parameters())


def test_a_checkpoint_of_another_plan_is_refused():
    state = SparseSwin(**SHAPE.arguments(), plan="0.5|0|0").state_dict()
    net = SparseSwin(**SHAPE.arguments(), plan="0.1|0|0")
    before = net.stages[0].blocks[0].fc1.weight.clone()
    with pytest.raises(WeightsError, match=r"made under plan 0\.5\|0\|0, but 0\.1\|0\|0 is wanted"):
        load_swin_weights(net, state)
    assert torch.equal(before, net.stages[0].blocks[0].fc1.weight)
    assert str(net.plan) == "0.1|0|0"


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("0.5|0", "has 2 stages. The network has 3"),
        ("abc", "'abc' is not a number"),
        ("", "not a number"),
    ],
)
def test_a_damaged_plan_is_refused_with_the_files_name(plan, words, tmp_path):
    net = SparseSwin(**SHAPE.arguments())
    state = SparseSwin(**SHAPE.arguments()).state_dict()
    state["_extra_state"] = torch.tensor(list(plan.encode()), dtype=torch.uint8)
    torch.save(state, tmp_path / "weights.pth")
    before = net.stages[0].blocks[0].fc1.weight.clone()
    with pytest.raises(WeightsError, match=rf"weights\.pth: .*{words}"):
        load_swin_weights(net, tmp_path / "weights.pth")
    assert torch.equal(before, net.stages[0].blocks[0].fc1.weight)


def test_a_module_as_importance_keeps_its_parameters_where_the_checkpoint_has_none():
    net = SparseSwin(**SHAPE.arguments(), importance=Scale())
    report = load_swin_weights(net, Reference("mmdet", SHAPE).state)
    assert report.untouched == ("importance.scale",)


def test_safetensors_are_read(tmp_path):
    rival = Reference("timm", SHAPE)
    save_file(rival.state, tmp_path / "model.safetensors")
    assert (
        load_swin_weights(SparseSwin(**SHAPE.arguments()), tmp_path / "model.safetensors").layout
        == "timm"
    )
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(WeightsError, match=r"model\.safetensors: damaged"):
        load_swin_weights(SparseSwin(**SHAPE.arguments()), tmp_path / "model.safetensors")


def test_what_is_no_weight_of_the_backbone_is_ignored_by_name():
    state = Reference("Microsoft", SHAPE).state
    buffers = {
        "layers.0.blocks.1.attn_mask",
        "layers.0.blocks.0.attn.relative_position_index",
        "head.weight",
        "head.bias",
    }
    net = SparseSwin(**SHAPE.arguments() | {"out_indices": (1,)})
    report = load_swin_weights(net, state | {name: torch.zeros(1) for name in buffers})
    # the last stage is no output here
    assert set(report.ignored) == buffers | {"norm.weight", "norm.bias"}


def test_faults_are_listed_by_name_and_nothing_is_loaded():
    state = Reference("mmdet", SHAPE).state
    del state["stages.0.blocks.1.norm2.bias"]
    state["stages.0.blocks.0.attn.w_msa.qkv.weight"] = torch.zeros(3, 3)
    state["stages.0.blocks.0.mystery"] = torch.zeros(1)
    state["absolute_pos_embed"] = torch.zeros(1)
    state["stages.0.downsample.norm.weight"] = torch.zeros(3)
    state["stages.0.blocks.1.attn.w_msa.relative_position_bias_table"] = torch.zeros(0, 1)
    state["stages.1.blocks.0.attn.w_msa.relative_position_bias_table"] = torch.tensor(0.0)
    net = SparseSwin(**SHAPE.arguments())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        load_swin_weights(net, state)
    for words in (
        "missing: stages.0.blocks.1.norm2.bias",
        "stages.0.blocks.0.attn.w_msa.qkv.weight: shape (3, 3), the network's is (48, 16)",
        "left over: stages.0.blocks.0.mystery",
        "left over: absolute_pos_embed",
        "stages.0.downsample.norm.weight: shape (3,), the network's is (64,)",
        "stages.0.blocks.1.attn.w_msa.relative_position_bias_table: shape (0, 1)",
        "stages.1.blocks.0.attn.w_msa.relative_position_bias_table: shape ()",
    ):
        assert words in str(error.value)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_swin_of_another_size_is_refused(layout):
    state = Reference(layout, SHAPE).state
    with pytest.raises(WeightsError, match="left over: "):
        load_swin_weights(SparseSwin(**SHAPE._replace(depths=(2, 1, 1)).arguments()), state)
    with pytest.raises(WeightsError, match="missing: "):
        load_swin_weights(SparseSwin(**SHAPE._replace(depths=(2, 2, 2)).arguments()), state)
    with pytest.raises(WeightsError, match="shape "):
        load_swin_weights(SparseSwin(**SHAPE._replace(embed_dims=32).arguments()), state)


def test_two_tensors_for_one_of_ours_are_refused():
    state = Reference("Microsoft", SHAPE).state
    state["norm2.weight"] = torch.zeros(64)
    with pytest.raises(
        WeightsError, match=r"left over: norm2\.weight, for norms\.2\.weight was there before"
    ):
        load_swin_weights(SparseSwin(**SHAPE.arguments()), state)


@pytest.mark.parametrize("other", ["timm", "mmdet"])
def test_two_swins_in_one_file_are_told_apart_by_the_user(other):
    both = {f"student.{name}": value for name, value in Reference("timm", SHAPE).state.items()}
    both |= {f"teacher.{name}": value for name, value in Reference(other, SHAPE).state.items()}
    with pytest.raises(WeightsError, match=r"2 Swins \(student\., teacher\.\)"):
        load_swin_weights(SparseSwin(**SHAPE.arguments()), both)


def test_other_files_are_refused_with_what_to_do(tmp_path):
    net = SparseSwin(**SHAPE.arguments())
    with pytest.raises(WeightsError, match=r"none\.pth: no such file"):
        load_swin_weights(net, tmp_path / "none.pth")
    torch.save(
        {"model": Reference("timm", SHAPE).state, "config": WeightsError("an object")},
        tmp_path / "pickled.pth",
    )
    with pytest.raises(WeightsError, match=r"pickled\.pth: .*keep its weights alone: python -c"):
        load_swin_weights(net, tmp_path / "pickled.pth")
    with pytest.raises(WeightsError, match="the state dict given: holds no tensors by name"):
        load_swin_weights(net, {0: torch.zeros(1), "stages": None})
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"list\.pth: holds list, not a state dict"):
        load_swin_weights(net, tmp_path / "list.pth")
    with pytest.raises(
        WeightsError,
        match=r"mmdet, torchvision, Microsoft, timm, sparsevit3d.*layer1\.0\.conv1\.weight",
    ):
        load_swin_weights(net, {"layer1.0.conv1.weight": torch.zeros(1)})
    # Swin V2
    with pytest.raises(WeightsError, match=r"left over: layers\.0\.blocks\.0\.attn\.logit_scale"):
        load_swin_weights(
            net,
            Reference("timm", SHAPE).state | {"layers.0.blocks.0.attn.logit_scale": torch.zeros(1)},
        )


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_checkpoint_of_ours_that_was_damaged_is_not_loaded(suffix, tmp_path):
    """One number of one tensor changed, as on a bad disk."""
    net = SparseSwin(**SHAPE.arguments())
    state = {name: value.clone() for name, value in sorted(net.state_dict().items())}
    mark = digest({"state_dict": state})
    path = tmp_path / f"epoch.{suffix}"

    def save():
        if suffix == "pth":
            torch.save({"state_dict": state, SEAL: mark}, path)
        else:
            save_file(state, path, {SEAL: mark})

    save()
    load_swin_weights(SparseSwin(**SHAPE.arguments()), path)
    state["stages.0.blocks.0.fc1.weight"][0, 0] = -1464
    save()
    before = {name: value.clone() for name, value in net.named_parameters()}
    with pytest.raises(
        WeightsError, match=rf"epoch\.{suffix}: damaged, its content is not what was written"
    ):
        load_swin_weights(net, path)
    assert all(torch.equal(value, before[name]) for name, value in net.named_parameters())
