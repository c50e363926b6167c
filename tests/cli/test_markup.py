"""A user's names are text, whatever brackets they have."""

import json
import shutil

import pytest
from PIL import Image

from tests.support.console import SMALL, run_here
from tests.support.damage import put

ODD = "r[/b]:car:[red]"


def told(*arguments, code=0):
    done = run_here(*arguments, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return "".join((done.stdout + done.stderr).split())


@pytest.fixture
def odd_root(synthetic, tmp_path):
    """A link to the synthetic root, under a name that rich would take for markup."""
    (tmp_path / "[/]").mkdir(parents=True)
    root = tmp_path / "[/]" / ODD.replace("/", "")
    root.symlink_to(synthetic)
    return root


def test_help_shows_every_bracket():
    text = told("predict", "--help")
    assert '"intrinsic":[[fx,0,cx],[0,fy,cy],[0,0,1]]' in text
    assert "pipinstall'sparsevit3d[rerun]'" in told("visualize", "rerun", "--help")
    assert "image_size=[384,192]" in told("train", "--help")


def test_a_roots_name_is_printed_as_it_is(odd_root, tmp_path):
    out = tmp_path / "x[" / "red]" / "sheet.png"
    assert "x[/red]/sheet.png" in told("data", "sheet", odd_root, "--out", out, "--count", 1)
    assert odd_root.name in told("data", "check", odd_root)
    assert "[/red]" in told("data", "stats", odd_root, "--out", tmp_path / "y[" / "red]" / "s.png")


def test_what_is_wrong_with_a_root_is_printed_as_it_is(synthetic, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(synthetic, root)
    put(root, "scene", 0, token="[/red]:car:")
    assert "[/red]:car:" in told("data", "check", root, code=1)


def test_a_file_that_is_not_there_is_named_as_it_is(synthetic, untrained, tmp_path):
    lost = tmp_path / "[" / "red]" / "epoch_0001.pth"
    assert "[/red]/epoch_0001.pth:nosuchcheckpoint" in told(
        "eval", SMALL, lost, "--data", synthetic, code=1
    )
    results = tmp_path / "[" / "b]results.json"
    assert "[/b]results.json" in told(
        "score", results, "--data", synthetic, "--split", "val", code=1
    )


def test_predictions_go_to_a_folder_of_any_name(synthetic, untrained, tmp_path):
    image = next((synthetic / "samples/CAM_FRONT").iterdir())
    entry = {"intrinsic": [[500, 0, 320], [0, 250, 180], [0, 0, 1]], "width": 640, "height": 360}
    calibration = tmp_path / "[bold]c.json"
    calibration.write_text(json.dumps({"[/red]": entry}))
    out = tmp_path / "x" / "[" / "red]"
    out.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "[blue].png")
    text = told(
        *("predict", image, tmp_path / "[blue].png", "--calibration", calibration),
        *("--checkpoint", untrained, "--out", out),
        code=1,
    )
    assert "x/[/red]/predictions.jsonl:" in text
    assert "[bold]c.json:camera'[/red]':fx/fyis2.00" in text
    assert "[blue].png:is8x8" in text
