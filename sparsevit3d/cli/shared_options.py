"""Options that several verbs of the front door take, and a plan as people write it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsevit3d.swin.plan import SparsityPlan

if TYPE_CHECKING:
    from mmengine.config import Config

    from sparsevit3d.stages.look import Keyframes

ConfigPath = Annotated[
    Path, typer.Argument(help="An experiment, such as configs/fcos3d_small_synthetic.py.")
]
Checkpoint = Annotated[
    Path, typer.Argument(help="A checkpoint that train, adapt or finetune wrote.")
]
WorkDir = Annotated[
    Path,
    typer.Option(
        help="Folder for checkpoints, logs and results. A run that was cut off here goes on."
    ),
]
Data = Annotated[Path | None, typer.Option(help="The nuScenes root. Default: the config's own.")]
Infos = Annotated[Path | None, typer.Option(help="Folder of the info files. Default: the root.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change one value of the config, such as train_cfg.max_epochs=2 or "
        "image_size=[384,192].",
    ),
]
From = Annotated[Path, typer.Option("--from", help="The checkpoint to start from.")]
Plan = Annotated[
    str | None,
    typer.Option(
        help="A plan file, a plan such as '0.3|0|0.1|0', or 'dense'. Default: the checkpoint's."
    ),
]
CarriedConfig = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="The checkpoint's experiment, a Python file that is run. Default: the config.py "
        "beside the checkpoint, which is read as data and not run.",
    ),
]
Split = Annotated[
    str, typer.Option(help="The split whose info file is read: val, search, real_train or another.")
]


def renamed(old: str, new: str) -> Any:
    """A hidden option that has another name now. Whoever gives ``old`` is told the new name."""

    def refuse(value: Any) -> Any:
        if value:
            raise typer.BadParameter(f"This option was renamed. Say {new}.", param_hint=old)
        return value

    return typer.Option(old, hidden=True, callback=refuse, help=f"The old name of {new}.")


def read_plan(text: str | None, config: Config) -> SparsityPlan | None:
    """Read ``--plan``: a file's plan, or the plan written out."""
    if text is None:
        return None
    if text == "dense":
        return SparsityPlan.uniform(0, config.model.backbone.depths)
    return (
        SparsityPlan.load(text)
        if text.endswith(".json") or Path(text).is_file()
        else SparsityPlan.parse(text)
    )


def target_file(*suffixes: str) -> Callable[[Path | None], Path | None]:
    """Check that an --out is a file of one of these kinds, before anything long begins.

    Its folder is made if need be.
    """

    def check(path: Path | None) -> Path | None:
        if path is None:
            return None
        if path.suffix.lower() not in suffixes:
            raise typer.BadParameter(f"{path} is no file ending in {' or '.join(suffixes)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    return check


def open_split(
    config: Path,
    checkpoint: Path,
    split: str,
    plan: str | None,
    data: Path | None,
    infos: Path | None,
    options: list[str] | None,
) -> tuple[Keyframes, SparsityPlan | None]:
    from sparsevit3d.stages.config import load_config
    from sparsevit3d.stages.look import open_keyframes

    experiment = load_config(config, data, infos, options or ())
    return open_keyframes(experiment, checkpoint, split), read_plan(plan, experiment)
