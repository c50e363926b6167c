"""Info files of whole splits: on all cores, in memory that does not grow, whole or not at all, and going on where they were cut off.

Work lies in a hidden folder beside the info files until they are written: the tables as SQLite, and a file for every 64 keyframes. The
same tables give the same bytes, for any number of workers and after any interruption.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from PIL import Image

from data_tools.database import Tables, build, fingerprint, rows_of
from data_tools.files import DataError, alone_in, whole_file, write_bytes, write_json
from data_tools.infos import held_together, keyframe, undetected
from data_tools.schema import CAMERAS, CLASSES
from data_tools.splits import training_scenes
from data_tools.work import in_order

CHUNK = 64  # keyframes of a piece of work

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is, of how much


def info_path(folder: Path, split: str) -> Path:
    return folder / f"nuscenes_infos_{split}.json"


def write_infos(
    root: Path,
    version: str,
    splits: Sequence[str],
    out: Path | None = None,
    workers: int = 1,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, int]:
    """Write the info files of ``splits`` into ``out`` (None: the root); returns the number of keyframes of each.

    That of ``train`` leaves out ``search``. Raises DataError where the tables are not what they should be, and OSError where nothing
    can be written; what earlier calls wrote stays.
    """
    out, tables = out or root, root / version
    wanted = {split: training_scenes(root, version, split) for split in splits}  # a mistake is better told before the work
    out.mkdir(parents=True, exist_ok=True)
    scratch = out / f".infos-{version}"
    index, counts = scratch / "tables.sqlite", {}
    with alone_in(out):
        _claim(scratch, fingerprint(tables))
        if not index.exists():
            build(tables, index, lambda done, total: progress("reading tables", done, total))
        try:
            for split, scenes in wanted.items():
                counts[split] = _write_split(index, tables, split, scenes, info_path(out, split), workers, progress)
        finally:
            _tables.cache_clear()  # after an error the next call may read mended tables
        shutil.rmtree(scratch)
    return counts


def _claim(scratch: Path, tables: str) -> None:
    """An empty folder to work in, or the one that an interrupted call left, of these very tables."""
    marker = scratch / "tables.txt"
    if not marker.exists() or marker.read_text() != tables:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        write_bytes(marker, tables.encode())


def _write_split(index: Path, folder: Path, split: str, scenes: set[str], path: Path, workers: int, progress: Progress) -> int:
    tokens = Tables(index, folder).samples(scenes)
    total = sum(1 for _ in Tables(index, folder).samples(scenes))
    title, count, ignored = f"keyframes of {split}", 0, set()
    body = index.parent / f"{split}.body"
    progress(title, 0, total)
    with whole_file(body) as file:
        pieces = enumerate(iter(lambda: list(islice(tokens, CHUNK)), []))
        jobs = ((index, folder, piece, index.parent / f"{split}-{number:05d}.json") for number, piece in pieces)
        for piece in in_order(_convert, jobs, workers):
            document = json.loads(piece.read_text())
            ignored |= set(document["undetected"])
            for info in document["keyframes"]:
                file.write((b",\n" if count else b"") + json.dumps({"sample_idx": count} | info).encode())
                count += 1
            progress(title, count, total)
    categories = {name: label for label, name in enumerate(CLASSES)} | dict.fromkeys(sorted(ignored), -1)
    metainfo = {"categories": categories, "dataset": "nuscenes", "version": folder.name, "info_version": "1.1"}
    head = json.dumps(metainfo | {"split": split, "scenes": sorted(scenes)})
    with whole_file(path) as file, body.open("rb") as source:
        file.write(f'{{"metainfo": {head}, "data_list": [\n'.encode())
        shutil.copyfileobj(source, file)
        file.write(b"\n]}\n")
    return count


def _convert(index: Path, folder: Path, tokens: list[str], path: Path) -> Path:
    """One worker's piece of work, unless an earlier call did it."""
    if not path.exists():
        tables, names, keyframes = _tables(index, folder), set(), []
        for token in tokens:
            with held_together(tables, token):
                names |= undetected(tables, token)
                keyframes.append(keyframe(tables, token))
        write_json(path, {"undetected": sorted(names), "keyframes": keyframes})
    return path


@lru_cache(1)
def _tables(index: Path, folder: Path) -> Tables:
    return Tables(index, folder)


def from_mmdet3d(source: Path, root: Path, version: str, split: str, out: Path) -> int:
    """Write mmdet3d's own info file of a split of ``root``, a pickle, as JSON into ``out``; returns its number of keyframes.

    It does not say how large the images are, which is read off them, nor of which scenes it is, which the tables of ``version`` do.

    Reading a pickle runs whatever code is in it: only for files whose maker is trusted. Raises DataError where it holds another
    schema than 1.1, the cameras of another order, or no cameras.
    """
    try:
        with source.open("rb") as file:
            document = pickle.load(file)
        metainfo, keyframes = document["metainfo"], document["data_list"]
        cameras, schema = [list(info["images"]) for info in keyframes], metainfo.get("info_version")
        tokens = {info["token"] for info in keyframes}
        images = [(name, image, image["img_path"]) for info in keyframes for name, image in info["images"].items()]
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a pickle can fail in every way
        raise DataError(
            f"{source}: is no info file of mmdet3d 1.x ({error!r}); make info files anew with 'sparsevit3d data infos ROOT'"
        ) from error
    if schema != "1.1" or any(names != list(CAMERAS) for names in cameras):
        raise DataError(
            f"{source}: is of info version {schema} or has other cameras than {', '.join(CAMERAS)}, in this order; "
            "make info files anew with 'sparsevit3d data infos ROOT'"
        )
    for name, image, file_name in images:
        with Image.open(root / "samples" / name / file_name) as opened:
            image["width"], image["height"] = opened.size
    metainfo |= {"version": version, "split": split, "scenes": _scenes_of(root / version, tokens, source)}
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(info_path(out, split), json.dumps(document, default=lambda value: value.tolist()).encode())
    return len(keyframes)


def _scenes_of(folder: Path, samples: set[str], source: Path) -> list[str]:
    """Names of the scenes of samples."""
    scenes = {row["token"]: row["scene_token"] for row in rows_of(folder / "sample.json") if row["token"] in samples}
    if lost := samples - scenes.keys():
        raise DataError(
            f"{source}: keyframe {min(lost)} is not in {folder / 'sample.json'}; name the root and --version that it is of"
        )
    wanted = set(scenes.values())
    return sorted(row["name"] for row in rows_of(folder / "scene.json") if row["token"] in wanted)
