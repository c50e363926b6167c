"""Damage, each kind made on purpose and each named by table, token and remedy."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_tools.check.run import check
from data_tools.synthetic.dataset import VERSION, Settings, make_dataset
from tests.support.damage import DAMAGE, edit, keyframe_file, put, row_of
from tests.support.damage_of_sense import an_image_is_cut_off

CONSOLE = Path(sys.executable).parent / "sparsevit3d"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    settings = Settings((1, 1, 1), 3, 96, 54, seed=2, preset="standard", sweeps=True)
    return make_dataset(tmp_path_factory.mktemp("sound") / "root", settings)


@pytest.fixture
def root(sound, tmp_path):
    """A copy to damage; its large files are links, so whoever damages one puts a new one in its
    place.
    """
    shutil.copytree(sound, tmp_path / "root", copy_function=os.link)
    for path in (tmp_path / "root" / VERSION).iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    return tmp_path / "root"


def test_nothing_is_found_where_nothing_is_wrong(sound):
    report = check(sound, VERSION, True, 2)
    assert (report.errors, report.warnings, report.examples) == (0, 0, [])
    assert report.decoded == report.files == 3 * (3 * 7 + 2 * 4)


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named_by_table_token_and_remedy(name, root):
    function, kind, table, warning = DAMAGE[name]
    token = function(root)
    report = check(root, VERSION, False, 1)
    found = [
        problem
        for problem in report.examples
        if (problem.kind, problem.table, problem.token) == (kind, table, token)
    ]
    assert found, [
        (problem.kind, problem.table, problem.token, problem.what) for problem in report.examples
    ]
    assert found[0].warning == warning
    assert len(found[0].what) > 5
    assert len(found[0].remedy) > 5


def test_padding_after_an_images_end_is_no_damage(root):
    keyframe_file(root, ".jpg", lambda old: old + b"\0\0")
    assert check(root, VERSION, True, 1).errors == check(root, VERSION, False, 1).errors == 0


def test_a_box_is_measured_from_the_lidar_alone(root):
    """Radar files are pcd as well."""
    with_radar(root)
    token = put(root, "sample_annotation", 0, translation=[1e5, 0.0, 0.0])
    (problem,) = [
        row
        for row in check(root, VERSION, False, 1).as_dict()["problems"]
        if row["kind"] == "far away"
    ]
    assert (problem["count"], problem["examples"][0]["token"]) == (1, token)


def with_radar(root):
    """A radar's rows, and files, for every keyframe of the lidar."""
    sensors = json.loads((root / VERSION / "sensor.json").read_text())
    lidar = next(row["token"] for row in sensors if row["channel"] == "LIDAR_TOP")
    edit(
        root,
        "sensor",
        lambda rows: rows.append({"token": "radar", "channel": "RADAR_FRONT", "modality": "radar"}),
    )
    mounts = json.loads((root / VERSION / "calibrated_sensor.json").read_text())
    own = {row["token"]: f"radar-{row['token']}" for row in mounts if row["sensor_token"] == lidar}
    radars = [
        row | {"token": own[row["token"]], "sensor_token": "radar"}
        for row in mounts
        if row["token"] in own
    ]
    edit(root, "calibrated_sensor", lambda rows: rows.extend(radars))

    def add(rows):
        scans = [
            row for row in rows if row["calibrated_sensor_token"] in own and row["is_key_frame"]
        ]
        for row in scans:
            new = {
                "token": f"radar-{row['token']}",
                "calibrated_sensor_token": own[row["calibrated_sensor_token"]],
            }
            new |= {
                "filename": row["filename"]
                .replace("LIDAR_TOP", "RADAR_FRONT")
                .replace(".pcd.bin", ".pcd"),
                "prev": "",
                "next": "",
            }
            (root / new["filename"]).parent.mkdir(exist_ok=True)
            (root / new["filename"]).write_bytes(b"VERSION 0.7")
            rows.append(row | new)

    edit(root, "sample_data", add)
    assert check(root, VERSION, True, 1).errors == 0


def test_there_are_many_kinds():
    assert len({(kind, table) for _, kind, table, _ in DAMAGE.values()}) >= 50


def test_what_is_only_in_files_not_yet_looked_at_is_found_by_looking_at_all(root):
    index = row_of(root, "sample_data", lambda row: not row["is_key_frame"])
    row = json.loads((root / VERSION / "sample_data.json").read_text())[index]
    (root / row["filename"]).unlink()
    (root / row["filename"]).write_bytes(np.full((9, 5), np.nan, np.float32).tobytes())
    assert check(root, VERSION, False, 1).errors == 0
    assert check(root, VERSION, True, 1).errors == 1


def test_a_thousand_problems_are_counted_and_a_few_are_kept(root):
    for path in (root / "samples").glob("*/*"):
        path.unlink()
    report = check(root, VERSION, False, 1)
    assert report.errors == 3 * 3 * 7
    assert len(report.examples) == 5


@pytest.mark.slow
def test_from_the_command_line(sound, root):
    done = subprocess.run(
        [CONSOLE, "data", "check", sound], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors, 0 warnings" in " ".join(done.stdout.split())
    token = an_image_is_cut_off(root)
    done = subprocess.run(
        [CONSOLE, "data", "check", root], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "truncated image" in done.stdout
    done = subprocess.run(
        [CONSOLE, "data", "check", root, "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem["examples"][0]["token"] == token
