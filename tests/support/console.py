"""Where things are, and the command line as a user calls it."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
SMALL = CONFIGS / "fcos3d_small_synthetic.py"
CONSOLE = Path(sys.executable).parent / "sparsevit3d"


def run(*arguments, cwd=ROOT, check=True):
    """Call ``sparsevit3d`` in a process of its own."""
    done = subprocess.run(
        [CONSOLE, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def run_here(*arguments, check=True):
    """Call the front door in this process: a new one takes seconds to import what a verb needs."""
    from sparsevit3d.cli import main

    out = io.StringIO()
    err = io.StringIO()
    code = 0
    with (
        patch.object(sys, "argv", ["sparsevit3d", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    done = subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
    assert not check or code == 0, done.stdout + done.stderr
    return done
