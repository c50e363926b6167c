"""Data that many tests read: a small synthetic nuScenes, made once, and the real keyframes where
somebody put them.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Tests run in as many processes as there are cores; more threads would only wait
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
# A real browser asks nobody for anything.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

if not torch.cuda.is_available():
    # Before anything imports Triton: then it is settled what its functions are
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        import sparsevit3d.swin.kernels.triton_layers  # noqa: F401

settings.register_profile("untimed", deadline=None)  # a busy machine is no fault
settings.load_profile("untimed")

ROOT = Path(__file__).parent.parent
REAL = Path(
    os.environ.get("NUSCENES_KEYFRAMES", ROOT.parent / "shared/data/nuscenes_real/keyframes")
)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Nothing that earlier runs found out is known to tests; but for matplotlib's list of fonts and
    yapf's grammar, which are not ours.
    """
    own = tmp_path_factory.mktemp("cache")
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # Else two processes that a test begins at once would write the one file
    with suppress(FileNotFoundError):
        shutil.copytree(users / "YAPF", own / "YAPF")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR", str(users / "matplotlib")))
        patch.setenv("XDG_CACHE_HOME", str(own))
        yield


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory):
    """A synthetic root with info files of its three splits: 2, 1 and 2 scenes of 2 keyframes at 640
    x 360.
    """
    from data_tools.convert import write_infos
    from data_tools.synthetic.dataset import SPLITS, VERSION, Settings, make_dataset

    root = make_dataset(
        tmp_path_factory.mktemp("nuscenes") / "root", Settings((2, 1, 2), 2, 640, 360, seed=11)
    )
    write_infos(root, VERSION, SPLITS)
    return root


@pytest.fixture(scope="session")
def real():
    """The root of the real keyframes; tests that need it are skipped where it is absent."""
    if not (REAL / "v1.0-mini").is_dir():
        pytest.skip(f"no real keyframes in {REAL}; set NUSCENES_KEYFRAMES to their root")
    return REAL


@pytest.fixture(scope="module")
def small_config(synthetic):
    """The demo's experiment on the synthetic root; made anew for each file, since it also says
    whose names mmengine looks for first.
    """
    from sparsevit3d.stages.config import load_config

    return load_config(ROOT / "configs/fcos3d_small_synthetic.py", synthetic)


@pytest.fixture(scope="session")
def untrained(tmp_path_factory, synthetic):
    """A checkpoint of fresh weights under a plan, as finetune would leave it; what it detects does
    not matter to who uses it.
    """
    from mmdet3d.registry import MODELS

    from sparsevit3d.stages.checkpoints import seal
    from sparsevit3d.stages.config import load_config

    config = load_config(
        ROOT / "configs/fcos3d_small_synthetic.py",
        synthetic,
        options=["model.test_cfg.score_thr=0.0"],
    )
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    model.backbone.plan = "0.5|0.5|0.4|0.3"
    path = tmp_path_factory.mktemp("weights") / "epoch_0001.pth"
    checkpoint = {"state_dict": model.state_dict()}
    seal(checkpoint)
    torch.save(checkpoint, path)
    config.dump(path.with_name("config.py"))
    return path


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip(
            "no Chromium: pages were not tried in a browser. On Debian: apt-get install chromium"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=BROWSER, args=list(QUIET))
        yield program
        program.close()
