"""Set-up refuses what cannot work before anything long begins, and does nothing when nothing has
changed.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def checkout(tmp_path):
    """A fresh checkout's set-up files."""
    for name in ("requirements.txt", "pyproject.toml", "scripts/setup.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def set_up(checkout, **environment):
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, **environment}
    return subprocess.run(
        [checkout / "scripts/setup.sh"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_no_compiler_is_said_first(checkout):
    done = set_up(checkout, CXX="/nowhere/c++")
    assert done.returncode == 1
    assert "no C++ compiler (/nowhere/c++)" in done.stderr
    assert "apt-get install g++" in done.stderr
    assert not (checkout / ".venv").exists()


def test_another_python_is_said_first(checkout):
    other = checkout / "python"
    other.write_text("#!/bin/sh\necho 3.13\n")
    other.chmod(0o755)
    done = set_up(checkout, PYTHON=str(other))
    assert done.returncode == 1
    assert "is Python 3.13" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_full_disk_is_said_first(checkout):
    tools = checkout / "tools"
    tools.mkdir()
    (tools / "df").write_text(
        "#!/bin/sh\necho Filesystem blocks Used Available\necho disk 100 98 2097152\n"
    )
    (tools / "df").chmod(0o755)
    done = set_up(checkout, PATH=f"{tools}:/usr/bin:/bin")
    assert done.returncode == 1
    assert "2 GiB free on this disk; set-up needs 6" in done.stderr


def test_nothing_happens_while_the_pins_stand(checkout):
    pins = subprocess.run(
        "cat requirements.txt pyproject.toml | sha256sum | cut -d' ' -f1",
        shell=True,
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    (checkout / ".venv").mkdir()
    (checkout / ".venv/.pins").write_text(pins.stdout)
    start = time.monotonic()
    done = set_up(checkout)
    assert (done.returncode, done.stdout) == (0, "")
    assert time.monotonic() - start < 3
    with (checkout / "requirements.txt").open("a") as file:
        file.write("# another pin\n")
    # stale: it would install again
    assert "no C++ compiler" in set_up(checkout, CXX="/nowhere/c++").stderr


def test_pins_cover_what_the_project_names():
    import tomllib

    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "requirements.txt").read_text().splitlines()
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"] + project["optional-dependencies"]["dev"]:
        name = requirement.replace("<", ">").split(">")[0].strip()
        assert name in pinned
