"""Where things are, and the command line as a user calls it."""

import subprocess
import sys
from pathlib import Path

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
