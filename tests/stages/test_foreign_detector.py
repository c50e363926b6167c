"""A detector that mmdetection3d trained comes in, and no pickle is run for it."""

import shlex
import subprocess
import sys

import pytest
import torch

from sparsevit3d.errors import InputError
from sparsevit3d.stages.checkpoints import read_state
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.runner import build_runner, load_detector
from sparsevit3d.swin.seal import SEAL
from tests.support.console import SMALL

OPTIONS = ["train_cfg.max_epochs=1", "train_dataloader.batch_size=8"]


@pytest.fixture(scope="module")
def foreign(synthetic, tmp_path_factory):
    """What mmengine's own hook saves of mmdet3d's own detector, on our backbone."""
    config = load_config(SMALL, synthetic, options=OPTIONS)
    config.model.type = "mmdet3d.FCOSMono3D"
    config.model.backbone.plan = "0.5|0.5|0.4|0.3"
    config.default_hooks.checkpoint = {"type": "CheckpointHook", "interval": 1}
    folder = tmp_path_factory.mktemp("foreign") / "run"
    build_runner(config, folder).train()
    return folder / "epoch_1.pth"


def test_it_is_refused_with_the_line_that_keeps_its_weights(foreign, synthetic):
    config = load_config(SMALL, synthetic)
    with pytest.raises(
        InputError, match=r"epoch_1\.pth: .*more than tensors.*If you trust it, .*python -c"
    ) as caught:
        load_detector(config, foreign, None)
    line = str(caught.value).partition("python ")[2]
    subprocess.run([sys.executable, *shlex.split(line)], check=True, capture_output=True)
    weights = foreign.with_name("epoch_1.pth.weights.pth")
    detector = load_detector(config, weights, None)
    saved = torch.load(foreign, map_location="cpu", weights_only=False)["state_dict"]
    assert str(detector.backbone.plan) == "0.5|0.5|0.4|0.3"
    for name, value in detector.state_dict().items():
        assert torch.equal(value.cpu(), saved[name]), name


def test_a_file_of_more_than_weights_is_refused(tmp_path):
    weights = {"layer": torch.zeros(1)}
    for content in (
        {"state_dict": weights, "epoch": 3},
        {"state_dict": {"layer": 5}},
        {"state_dict": 5},
        weights,
        [weights],
    ):
        torch.save(content, tmp_path / "foreign.pth")
        with pytest.raises(InputError, match=r"foreign\.pth: holds more than a detector's weights"):
            read_state(tmp_path / "foreign.pth")
    torch.save({"state_dict": weights}, tmp_path / "foreign.pth")
    assert read_state(tmp_path / "foreign.pth") == weights
    torch.save({"state_dict": weights, SEAL: "broken"}, tmp_path / "foreign.pth")
    with pytest.raises(InputError, match=r"foreign\.pth: damaged, its content is not what was"):
        read_state(tmp_path / "foreign.pth")
