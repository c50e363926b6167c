"""Stages that are cut off: killed, out of disk, out of images, out of numbers.

The same command goes on, or says why it cannot.
"""

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint

from sparsevit3d.errors import InputError
from sparsevit3d.stages.checkpoints import list_checkpoints, read_checkpoint, seal
from sparsevit3d.stages.config import load_config
from sparsevit3d.stages.provenance import write_provenance
from sparsevit3d.stages.train import adapt, finetune, train
from sparsevit3d.swin.plan import SparsityPlan

CONFIG = Path(__file__).parents[2] / "configs/fcos3d_small_synthetic.py"
CONSOLE = Path(sys.executable).parent / "sparsevit3d"
PLAN = SparsityPlan.parse("0.5|0.3|0|0.5")


def config_of(root, *options, stage=None, epochs=2):
    """Three iterations an epoch, with all that is drawn at random: order, flips, dropped blocks."""
    options = (
        f"train_cfg.max_epochs={epochs}",
        "train_dataloader.batch_size=8",
        "model.backbone.drop_path_rate=0.3",
        *options,
    )
    config = load_config(CONFIG, root, options=options, stage=stage)
    config.train_dataloader.dataset.pipeline.insert(
        3, {"type": "mmdet3d.RandomFlip3D", "flip_ratio_bev_horizontal": 0.5}
    )
    return config


@pytest.fixture(scope="module")
def trained(synthetic, tmp_path_factory):
    return train(config_of(synthetic), tmp_path_factory.mktemp("runs") / "trained")


def run_stage(stage, root, work_dir, weights):
    if stage == "train":
        return train(config_of(root), work_dir)
    if stage == "adapt":
        return adapt(config_of(root, stage="adapt"), work_dir, weights)
    return finetune(config_of(root, stage="finetune"), work_dir, weights, PLAN)


def assert_same_bits(one, other):
    """Weights and optimizer of two checkpoints."""
    one = read_checkpoint(one)
    other = read_checkpoint(other)
    assert one["meta"]["iter"] == other["meta"]["iter"]
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name
    for number, state in one["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, other["optimizer"]["state"][number][name]), (number, name)


@pytest.mark.parametrize(
    "stage",
    ["train", *(pytest.param(each, marks=pytest.mark.slow) for each in ("adapt", "finetune"))],
)
def test_a_resumed_stage_ends_with_the_weights_of_an_uninterrupted_one(
    stage, synthetic, trained, tmp_path
):
    """As after a kill in epoch 2: epoch 1 is there, the next is a torn write."""
    whole = trained if stage == "train" else run_stage(stage, synthetic, tmp_path / "run", trained)
    shutil.copytree(whole.parent, tmp_path / "cut")
    (tmp_path / "cut/epoch_0002.pth").unlink()
    (tmp_path / "cut/.partial.epoch_0002.pth").write_bytes(b"torn")
    stamp = (tmp_path / "cut/epoch_0001.pth").stat().st_mtime_ns
    resumed = run_stage(stage, synthetic, tmp_path / "cut", trained)
    assert (tmp_path / "cut/epoch_0001.pth").stat().st_mtime_ns == stamp
    assert_same_bits(whole, resumed)
    assert read_checkpoint(resumed)["meta"]["iter"] == 6
    assert not list((tmp_path / "cut").glob(".partial.*"))
    assert get_unsafe_globals_in_checkpoint(str(resumed)) == []


def test_a_checkpoint_of_another_experiment_is_not_gone_on_from(synthetic, trained, tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(trained.parent, folder)
    (folder / "epoch_0002.pth").rename(folder / "epoch_best.pth")
    first = read_checkpoint(folder / "epoch_0001.pth")
    foreign = dict(first, request="of another folder")
    seal(foreign)
    torch.save(foreign, folder / "epoch_0001.pth")
    with pytest.raises(InputError, match="is of another experiment than its folder"):
        run_stage("train", synthetic, folder, trained)
    seal(first)
    torch.save(first, folder / "epoch_0001.pth")
    assert_same_bits(trained, run_stage("train", synthetic, folder, trained))
    assert (folder / "epoch_best.pth").is_file()


def command(stage, root, work_dir, weights):
    """The stage as a user would call it, three epochs long."""
    options = (
        "train_cfg.max_epochs=3",
        "train_dataloader.batch_size=8",
        "model.backbone.drop_path_rate=0.3",
    )
    words = [CONSOLE, stage, CONFIG, "--data", root, "--work-dir", work_dir]
    words += [] if stage == "train" else ["--from", weights]
    words += ["--plan", "0.5|0.3|0|0.5"] if stage == "finetune" else []
    return [
        str(word) for word in (*words, *(word for option in options for word in ("--set", option)))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train", "adapt", "finetune"])
def test_killed_again_and_again_a_stage_ends_with_the_same_weights(
    stage, synthetic, trained, tmp_path
):
    """Through the command line; killed before the first checkpoint, while one is written, and
    between two.
    """
    subprocess.run(
        command(stage, synthetic, tmp_path / "whole", trained),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    again = command(stage, synthetic, tmp_path / "run", trained)
    for sign, patience in (
        ("provenance.json", 1.0),
        (".partial.epoch_0001.pth", 0.0),
        ("epoch_0002.pth", 0.2),
    ):
        process = subprocess.Popen(again, stdout=subprocess.DEVNULL)
        while process.poll() is None and not (tmp_path / "run" / sign).exists():
            time.sleep(0.001)
        time.sleep(patience)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    subprocess.run(again, check=True, stdout=subprocess.DEVNULL)
    assert_same_bits(tmp_path / "whole/epoch_0003.pth", tmp_path / "run/epoch_0003.pth")
    assert not list((tmp_path / "run").glob(".partial.*"))
    assert len(json.loads((tmp_path / "run/provenance.json").read_text())["runs"]) == 4


@pytest.mark.slow
def test_two_processes_go_on_together_and_a_finished_stage_ends_at_once(synthetic, tmp_path):
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "--no-python",
    ]
    for name in ("whole", "run"):
        subprocess.run(
            launch + command("train", synthetic, tmp_path / name, None),
            check=True,
            stdout=subprocess.DEVNULL,
        )
    (tmp_path / "run/epoch_0003.pth").unlink()
    for _ in range(2):  # one epoch is missing, then nothing is
        again = launch + command("train", synthetic, tmp_path / "run", None)
        subprocess.run(again, check=True, stdout=subprocess.DEVNULL, timeout=200)
    assert_same_bits(tmp_path / "whole/epoch_0003.pth", tmp_path / "run/epoch_0003.pth")
    alone = subprocess.run(
        command("train", synthetic, tmp_path / "run", None),
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.returncode == 1
    assert "its processes is 2, not 1" in " ".join(alone.stdout.split())


def test_a_work_dir_is_for_one_experiment_once_something_came_of_it(synthetic, trained, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/request.json").write_text('{"stage": "an attempt that failed"}')
    (tmp_path / "run/epoch_0001.pth").symlink_to(trained)
    with pytest.raises(InputError, match="another experiment"):
        train(config_of(synthetic), tmp_path / "run")
    (tmp_path / "run/request.json").unlink()
    with pytest.raises(InputError, match=r"holds checkpoints, but no request\.json"):
        train(config_of(synthetic), tmp_path / "run")
    (tmp_path / "run/epoch_0001.pth").unlink()
    (tmp_path / "run/request.json").write_text('{"stage": "search"}')
    with pytest.raises(InputError, match="another experiment"):
        train(config_of(synthetic), tmp_path / "run")
    (tmp_path / "run/request.json").write_text(
        '{"stage": "train", "config": "an attempt that failed"}'
    )
    assert train(config_of(synthetic, epochs=1), tmp_path / "run").name == "epoch_0001.pth"


def test_a_stage_goes_on_where_its_data_has_another_path(synthetic, trained, tmp_path, monkeypatch):
    shutil.copytree(trained.parent, tmp_path / "run")
    (tmp_path / "run/epoch_0002.pth").unlink()
    (tmp_path / "link").symlink_to(synthetic)
    resumed = train(config_of(tmp_path / "link"), tmp_path / "run")
    assert_same_bits(trained, resumed)
    stamp = resumed.stat().st_mtime_ns
    monkeypatch.chdir(tmp_path)
    (tmp_path / "infos").mkdir()
    shutil.copy(synthetic / "nuscenes_infos_train.json", tmp_path / "infos")
    elsewhere = config_of(synthetic)
    elsewhere.train_dataloader.dataset.ann_file = "infos/nuscenes_infos_train.json"
    for config in (config_of("link"), config_of(f"{synthetic}/"), elsewhere):
        assert train(config, Path("run")).stat().st_mtime_ns == stamp


def test_a_stage_names_what_differs_with_both_values(synthetic, trained, tmp_path):
    shutil.copytree(trained.parent, tmp_path / "run")
    others = ("randomness.seed=5", "model.backbone.window_size=8")
    with pytest.raises(
        InputError,
        match=r"another experiment \(its config\.model\.backbone\.window_size is 4, not 8 and its "
        r"config\.randomness\.seed is 0, not 5\)\. Use another --work-dir",
    ):
        train(config_of(synthetic, *others), tmp_path / "run")
    with (tmp_path / "infos.json").open("w") as file:
        file.write((synthetic / "nuscenes_infos_train.json").read_text() + "\n")
    config = config_of(synthetic)
    config.train_dataloader.dataset.ann_file = str(tmp_path / "infos.json")
    with pytest.raises(InputError, match=r"\(its data is \w+\.\.\., not \w+\.\.\.\)"):
        train(config, tmp_path / "run")


def test_damaged_side_files_of_a_work_dir_are_named(synthetic, trained, tmp_path):
    shutil.copytree(trained.parent, tmp_path / "run")
    for text in ("", "[]", '{"stage": "tra', "null"):
        (tmp_path / "run/request.json").write_text(text)
        with pytest.raises(InputError, match=r"request\.json: is damaged .*Use another --work-dir"):
            train(config_of(synthetic), tmp_path / "run")
    for text in ("", "[]", "{}", '{"runs": null}'):
        (tmp_path / "run/provenance.json").write_text(text)
        with pytest.warns(UserWarning, match=r"provenance\.json: is damaged .*are lost"):
            write_provenance(tmp_path / "run", config_of(synthetic))
        assert len(json.loads((tmp_path / "run/provenance.json").read_text())["runs"]) == 1


def test_a_seal_holds_for_every_bit(trained, tmp_path):
    content = torch.load(trained, weights_only=True)
    name = next(name for name, value in content["state_dict"].items() if value.dim() == 4)
    content["state_dict"][name].view(torch.int32)[0, 0, 0, 0] ^= 1
    torch.save(content, tmp_path / "epoch_0002.pth")
    with pytest.raises(
        InputError, match=r"epoch_0002\.pth: damaged, its content is not what was written"
    ):
        read_checkpoint(tmp_path / "epoch_0002.pth")
    seal(content)
    torch.save(content, tmp_path / "epoch_0002.pth")
    read_checkpoint(tmp_path / "epoch_0002.pth")


@pytest.mark.parametrize("size", [0, 1000, 1_000_000])
def test_a_damaged_last_checkpoint_is_not_gone_on_from(synthetic, trained, tmp_path, size):
    shutil.copytree(trained.parent, tmp_path / "run")
    (tmp_path / "run/epoch_0002.pth").write_bytes(trained.read_bytes()[:size])
    with pytest.raises(
        InputError,
        match=r"epoch_0002\.pth: damaged.*\nOnce it is removed, .* goes on from epoch_0001\.pth",
    ):
        train(config_of(synthetic), tmp_path / "run")


def test_a_missing_image_stops_training_and_once_mended_it_goes_on(synthetic, trained, tmp_path):
    shutil.copytree(trained.parent, tmp_path / "run")
    (tmp_path / "run/epoch_0002.pth").unlink()
    lost = next((synthetic / "samples/CAM_BACK").glob("synthetic-train-*"))
    lost.rename(tmp_path / "kept.jpg")
    try:
        with pytest.raises(
            InputError,
            match=rf"run: stopped by .*{lost.name}: cannot be read \(No such .*goes on from "
            r".*epoch_0001\.pth",
        ) as caught:
            train(config_of(synthetic), tmp_path / "run")
    finally:
        (tmp_path / "kept.jpg").rename(lost)
    assert "Traceback" not in str(caught.value)
    assert_same_bits(trained, train(config_of(synthetic), tmp_path / "run"))


def test_a_loss_that_is_no_number_stops_training_before_it_is_saved(synthetic, tmp_path):
    config = config_of(synthetic, "optim_wrapper.optimizer.lr=1e30", "optim_wrapper.clip_grad=null")
    with pytest.raises(
        InputError,
        match=r"run: .* at iteration \d, in epoch 1\. .*smaller optim_wrapper\.optimizer\.lr",
    ):
        train(config, tmp_path / "run")
    assert not list((tmp_path / "run").glob("epoch*"))


def test_a_full_disk_keeps_the_last_good_checkpoint(synthetic, trained, tmp_path):
    """A limit on the size of files stands in for a full disk: the write fails half way in the same
    place.
    """
    shutil.copytree(trained.parent, tmp_path / "run")
    (tmp_path / "run/epoch_0002.pth").unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (trained.stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(
            InputError,
            match=r"epoch_0002\.pth: cannot be written .*Make room.* goes on from "
            r".*epoch_0001\.pth",
        ):
            train(config_of(synthetic), tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["epoch_0001.pth"]
    assert not list((tmp_path / "run").glob(".partial.*"))
    assert_same_bits(trained, train(config_of(synthetic), tmp_path / "run"))
