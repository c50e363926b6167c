import pytest
import torch
from mmdet.models.backbones import SwinTransformer

from sparsevit3d import SparseSwin, load_swin_weights
from sparsevit3d.weights import WeightsError

SHAPE = {"embed_dims": 16, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4, "out_indices": (0, 1)}


@pytest.fixture
def theirs():
    return SwinTransformer(**SHAPE)


def test_a_detectors_checkpoint_loads_its_backbone(theirs, tmp_path):
    state = {f"backbone.{name}": value for name, value in theirs.state_dict().items()} | {"neck.conv.weight": torch.zeros(1)}
    torch.save({"state_dict": state}, tmp_path / "detector.pth")
    net = SparseSwin(**SHAPE)
    loaded = load_swin_weights(net, tmp_path / "detector.pth")
    assert set(loaded) == {name for name in net.state_dict() if not name.endswith("_extra_state")}
    assert torch.equal(net.stages[1].blocks[0].fc1.weight, theirs.stages[1].blocks[0].ffn.layers[0][0].weight)


def test_faults_are_listed_by_name_and_nothing_is_loaded(theirs):
    state = theirs.state_dict()
    del state["stages.0.blocks.1.norm2.bias"]
    state["stages.0.blocks.0.attn.w_msa.qkv.weight"] = torch.zeros(3, 3)
    state["stages.0.blocks.0.mystery"] = torch.zeros(1)
    net = SparseSwin(**SHAPE)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        load_swin_weights(net, state)
    for words in (
        "missing: stages.0.blocks.1.norm2.bias",
        "shape (3, 3), the network's is (48, 16)",
        "left over: stages.0.blocks.0.mystery",
    ):
        assert words in str(error.value)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_another_window_or_layout_is_refused(theirs, tmp_path):
    with pytest.raises(WeightsError, match=r"relative_position_bias_table: shape \(49, 1\), the network's is \(81, 1\)"):
        load_swin_weights(SparseSwin(**SHAPE | {"window_size": 5}), theirs.state_dict())
    with pytest.raises(WeightsError, match="not in mmdet's Swin layout"):
        load_swin_weights(SparseSwin(**SHAPE), {"layers.0.blocks.0.norm1.weight": torch.zeros(16)})
    with pytest.raises(WeightsError, match="no such file"):
        load_swin_weights(SparseSwin(**SHAPE), tmp_path / "none.pth")


def test_output_norms_may_be_missing(theirs):
    classifier = {name: value for name, value in theirs.state_dict().items() if not name.startswith("norm")}
    assert not any(name.startswith("norms.") for name in load_swin_weights(SparseSwin(**SHAPE), classifier))
