"""The pictures through the command line: on made data, on real frames, and what is told where
something is wrong.
"""

import json
import shutil
from importlib.util import find_spec

import pytest

from sparsevit3d.files import add_seal
from tests.support.console import SMALL, run_here


def run(verb, *arguments, wanted=0):
    """Call ``sparsevit3d visualize`` in this process; return what was said, without spaces."""
    done = run_here("visualize", verb, *arguments, check=False)
    told = done.stdout + done.stderr
    assert done.returncode == wanted, told
    return "".join(told.replace("│", "").split())


@pytest.fixture(scope="module")
def real_infos(real, tmp_path_factory):
    from data_tools.convert import write_infos

    folder = tmp_path_factory.mktemp("infos")
    write_infos(real, "v1.0-mini", ["real_train", "real_val"], folder)
    return folder


@pytest.mark.parametrize(
    "split",
    ["val", *(pytest.param(split, marks=pytest.mark.slow) for split in ("real_train", "real_val"))],
)
def test_every_picture(request, untrained, tmp_path, split):
    """Of made and of real frames."""
    real = split != "val"
    root = request.getfixturevalue("real" if real else "synthetic")
    infos = request.getfixturevalue("real_infos") if real else root
    of = (
        SMALL,
        untrained,
        "--split",
        split,
        "--data",
        root,
        "--infos",
        infos,
        "--set",
        "model.test_cfg.score_thr=0.001",
    )
    for verb in ("masks", "boxes"):
        run(verb, *of, "--out", tmp_path)
    names = {path.name for path in (tmp_path / f"{split}_0000").iterdir()}
    stages = {
        f"{kind}_stage{stage}.png" for kind in ("windows", "importance") for stage in range(4)
    }
    assert names == stages | {"blocks.png", "survival.png", "boxes.png", "bird.png"}
    recording = [("rerun", "drive.rrd")] if find_spec("rerun") else []
    for verb, name in (
        ("scene", "scene.png"),
        ("video", "drive.mp4"),
        ("report", "new/report.html"),
        *recording,
    ):
        assert str(tmp_path / name) in run(verb, *of, "--out", tmp_path / name)
        assert (tmp_path / name).stat().st_size > 50_000
    keyframes = 1 if real else 4
    # ten are to stay under 15 MB
    assert (tmp_path / "new/report.html").stat().st_size < keyframes * 1_500_000
    assert "pedestrian" in run("recall", *of, "--out", tmp_path)
    found = json.loads((tmp_path / "recall.json").read_text())
    assert found["keyframes"] == keyframes
    assert found["stages"][0]["all"]["objects"] > 20
    image = next((root / "samples/CAM_FRONT").glob("*.jpg"))
    run("compare", image, untrained, "--out", tmp_path / "comparison.png")
    assert (tmp_path / "comparison.png").stat().st_size > 50_000


def test_another_plan_and_a_keyframe_that_is_not_there(synthetic, untrained, tmp_path):
    run("masks", SMALL, untrained, "--data", synthetic, "--plan", "0|0|0.5|0", "--out", tmp_path)
    assert [path.name for path in (tmp_path / "val_0000").glob("importance*")] == [
        "importance_stage2.png"
    ]
    told = run(
        "masks",
        SMALL,
        untrained,
        "--data",
        synthetic,
        "--keyframe",
        99,
        "--out",
        tmp_path / "none",
        wanted=1,
    )
    assert "keyframes0to3" in told
    assert not (tmp_path / "none").exists()
    assert "keyframes0to3" in run(
        "video",
        SMALL,
        untrained,
        "--data",
        synthetic,
        "--keyframe",
        99,
        "--out",
        tmp_path / "d.mp4",
        wanted=1,
    )


def test_what_cannot_be_written_is_told_first(tmp_path):
    for verb, name in (("scene", "scene"), ("video", "drive.avi"), ("report", "report.pdf")):
        assert "isnofileendingin" in run(
            verb, SMALL, tmp_path / "no.pth", "--out", tmp_path / name, wanted=2
        )


def test_a_drive_is_its_own_keyframes_alone(synthetic, untrained, tmp_path):
    """``val`` has two scenes of two keyframes."""
    import imageio.v2 as imageio

    for keyframe in (0, 3):
        run(
            "video",
            SMALL,
            untrained,
            "--data",
            synthetic,
            "--keyframe",
            keyframe,
            "--out",
            tmp_path / "drive.gif",
        )
        with imageio.get_reader(tmp_path / "drive.gif") as frames:
            assert len(list(frames.iter_data())) == 2


def test_a_report_of_a_search_shows_its_plans(synthetic, untrained, tmp_path):
    plans = ["0.5|0.5|0.4|0.4", "0.2|0.2|0.4|0.4", "0.4|0.4|0.4|0.4"]
    request = {
        "score": "mAP",
        "algorithm": "evolution",
        "settings": {},
        "max_macs": 0.9,
        "max_gmacs": None,
        "max_ms": None,
    }
    rows = [
        {
            "plan": plan,
            "metrics": {"mAP": score},
            "generation": 0,
            "costs": {"share of dense MACs": share},
        }
        for plan, score, share in zip(plans, (0.1, 0.2, 0.05), (0.6, 0.8, 0.7), strict=True)
    ]
    lines = [json.dumps(add_seal(row)) for row in (request, *rows)]
    (tmp_path / "journal.jsonl").write_text("\n".join(lines) + "\n")
    run(
        "report",
        SMALL,
        untrained,
        "--data",
        synthetic,
        "--search",
        tmp_path,
        "--out",
        tmp_path / "report.html",
    )
    page = (tmp_path / "report.html").read_text()
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    # the third costs more than the first and scores less
    assert [plan["name"] for plan in data["plans"]] == [plans[1], plans[0], "dense"]
    assert [plan["score"] for plan in data["plans"]] == [0.2, 0.1, None]
    assert len(data["judged"]) == 3
    assert len(data["frames"]) == 4


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda root: first(root, "CAM_BACK").unlink(), "Put it back"),
        (lambda root: cut(first(root, "LIDAR_TOP"), 10), "is cut off"),
        (
            lambda root: rewrite(root, "instances", "bbox_3d"),
            "bbox_3d that is not 7 finite numbers",
        ),
        (lambda root: smaller(first(root, "CAM_BACK")), "calibrated for 640 x 360"),
    ],
    ids=["missing image", "cut-off lidar", "box of NaN", "wrong size"],
)
def test_what_is_wrong_with_the_data_is_told(synthetic, untrained, tmp_path, harm, words):
    root = tmp_path / "root"
    shutil.copytree(synthetic, root)
    harm(root)
    told = run("boxes", SMALL, untrained, "--data", root, "--out", tmp_path / "out", wanted=1)
    assert words.replace(" ", "") in told
    assert str(root) in told
    assert not (tmp_path / "out").exists()


def first(root, channel):
    """A file of the first keyframe of ``val``."""
    return min((root / "samples" / channel).glob("*-val-*"))


def cut(path, length):
    path.write_bytes(path.read_bytes()[:-length])


def rewrite(root, key, field):
    path = root / "nuscenes_infos_val.json"
    document = json.loads(path.read_text())
    for info in document["data_list"]:
        for row in info[key][:1]:
            row[field][0] = float("nan")
    path.write_text(json.dumps(document))


def smaller(path):
    from PIL import Image

    Image.open(path).resize((320, 180)).save(path)


def test_a_comparison_needs_a_plan_that_prunes(synthetic, untrained, tmp_path):
    image = first(synthetic, "CAM_FRONT")
    assert "prunesanything" in run(
        "compare", image, untrained, "--plan", "dense", "--out", tmp_path / "c.png", wanted=2
    )
