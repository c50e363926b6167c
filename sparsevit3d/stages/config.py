"""An experiment: a config with its data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmdet3d.utils import register_all_modules
from mmengine.config import Config, ConfigDict

from data_tools.info_file import read_infos
from data_tools.schema import CLASSES
from sparsevit3d.detector import dataset, detector, losses, norm, transforms
from sparsevit3d.detector.mm_private import tree_of
from sparsevit3d.errors import InputError
from sparsevit3d.stages import hooks, submission
from sparsevit3d.stages.options import set_option

REGISTERED = (
    dataset,
    detector,
    losses,
    norm,
    transforms,
    hooks,
    submission,
)  # modules whose classes configs name
UNBOUNDED = 1e8  # FCOS3D's way to say that a range has no end
SMALLEST = 32  # pixels: least width and height of the network's image, one cell of the last stage
LARGEST = 8192  # pixels: greatest width and height of the network's image


def read_config(path: Path, options: Sequence[str] = (), stage: str | None = None) -> Config:
    """Read a config as ``stage`` runs it, with ``options`` such as ``train_cfg.max_epochs=2``.

    What the config's ``stages`` say of this stage overrides the rest. Otherwise only what follows
    from ``image_size`` and ``classes`` changes. The size goes to loaders and FitCamera, and to the
    head's ``regress_ranges``, which are in pixels of images of the size ``regress_ranges_at``. The
    classes go to the datasets and the head.

    Raises InputError for a missing file or an option the config does not know.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such config. There are "
            f"{', '.join(sorted(map(str, Path('configs').glob('*.py'))))}"
        )
    register_all_modules(init_default_scope=True)  # so that the names in configs mean something
    config = Config.fromfile(path)
    if "image_size" not in config:
        raise InputError(
            f"{path}: sets no image_size, so it is not a nuScenes experiment. Its docstring says "
            "how to run it."
        )
    stages = tree_of(config).pop("stages", {})
    if stage is not None and stage not in stages:
        raise InputError(
            f"{path}: has no stage {stage!r}. Its stages are "
            f"train{''.join(f', {name}' for name in stages)}"
        )
    if stage is not None:
        config.merge_from_dict(stages[stage])
    for option in options:
        set_option(tree_of(config), option)
    fit_image_size(config, path)
    _fit_classes(config, path)
    return config


def fit_image_size(config: Config, path: Path) -> None:
    """Bring ``image_size`` to every loader and FitCamera, and the head's ranges to its pixels."""
    width, height = _size(config, "image_size", path)
    given_width, given_height = _size(config, "regress_ranges_at", path)
    for part in dicts_in(tree_of(config)):
        if part.get("type") in ("LoadCalibratedImage", "FitCamera"):
            part.update(width=width, height=height)
    scale = max(width / given_width, height / given_height)  # as FitCamera scales
    head = config.model.bbox_head
    head.regress_ranges = [[_scaled(side, scale) for side in pair] for pair in head.regress_ranges]
    config.regress_ranges_at = (width, height)


def _size(config: Config, name: str, path: Path) -> tuple[int, int]:
    """Return the width and height that a config says under ``name``. Raises InputError if wrong."""
    size = config[name]
    if not isinstance(size, list | tuple) or [type(side) for side in size] != [int, int]:
        raise InputError(f"{path}: {name} is {size!r}. Give it as [width, height] in pixels.")
    if min(size) < SMALLEST:
        raise InputError(
            f"{path}: {name} is {size!r}, too small to find anything in. "
            f"Give a width and a height of at least {SMALLEST} pixels."
        )
    if max(size) > LARGEST:
        raise InputError(
            f"{path}: {name} is {size!r}, too large for any memory. "
            f"Give a width and a height of at most {LARGEST} pixels."
        )
    width, height = size
    return width, height


def _fit_classes(config: Config, path: Path) -> None:
    """Bring ``classes`` to every loader and to the head. Some of nuScenes' ten are possible."""
    classes = config.classes
    if (
        not isinstance(classes, list | tuple)
        or not classes
        or len(set(classes)) < len(classes)
        or not set(classes) <= set(CLASSES)
    ):
        raise InputError(
            f"{path}: classes is {classes!r}. Name one or more of {', '.join(CLASSES)}."
        )
    for part in dicts_in(tree_of(config)):
        if "classes" in part.get("metainfo", {}):
            part["metainfo"]["classes"] = classes
    head = config.model.bbox_head
    head.num_classes = len(classes)
    coder = head.bbox_coder
    for name in ("base_depths", "base_dims"):  # one for each class, or one for all
        if len(coder.get(name) or ()) == len(CLASSES):
            coder[name] = [coder[name][CLASSES.index(each)] for each in classes]


def _scaled(side: float, scale: float) -> float:
    return side if side in (-1, UNBOUNDED) else side * scale


def load_config(
    path: Path,
    data: Path | None,
    infos: Path | None = None,
    options: Sequence[str] = (),
    stage: str | None = None,
) -> Config:
    """Read a config and point it at its data. For the rest see :func:`read_config`.

    Args:
        path (Path): The config.
        data (Path or None): The nuScenes root. None: the config's own.
        infos (Path or None): The folder of the info files. None: the root.
        options (sequence of str): Values to change, such as ``train_cfg.max_epochs=2``.
        stage (str or None): The stage to run, as in :func:`read_config`.

    Raises:
        InputError: There is no such root.
    """
    config = read_config(path, options, stage)
    root = Path(data or config.data_root)
    if not root.is_dir():
        raise InputError(
            f"{root}: no such dataset. Make one with 'sparsevit3d data synth', or say --data ROOT."
        )
    config.data_root = str(root)
    for part in dicts_in(tree_of(config)):
        if "data_root" in part:
            part["data_root"] = str(root)
        if "ann_file" in part:
            part["ann_file"] = str((infos or root).absolute() / Path(part["ann_file"]).name)
            if not part["ann_file"].endswith(".json"):
                raise InputError(
                    f"{part['ann_file']}: is no JSON. Pickles can run code, so they are not "
                    "read. If you trust its maker: "
                    "sparsevit3d data infos ROOT --split SPLIT --from FILE --trust-pickle"
                )
    return config


def dicts_in(value: Any) -> Iterator[ConfigDict]:
    """Yield ``value``, if it is a dictionary, and all dictionaries within it."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from dicts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from dicts_in(item)


def use_split(config: Config, split: str) -> None:
    """Point the test loader and the metric at a split's info file.

    Where the images of a batch share a budget of windows, a batch becomes a keyframe.
    """
    for part in (config.test_dataloader.dataset, config.test_evaluator):
        part["ann_file"] = str(Path(part["ann_file"]).with_name(f"nuscenes_infos_{split}.json"))
        path = info_file(part)
    if config.model.backbone.get("budget") == "batch":
        config.test_dataloader.batch_size = len(read_infos(path).cameras)


def info_file(part: ConfigDict) -> Path:
    """The info file of a dataset or metric, which is there."""
    path = Path(part["ann_file"])
    if not path.is_file():
        split = path.stem.removeprefix("nuscenes_infos_")
        raise InputError(
            f"{path}: no info file of split {split!r}. Make it with 'sparsevit3d data infos'."
        )
    return path
