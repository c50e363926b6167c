"""Write the info files of whole splits.

Conversion can use all cores. Memory does not grow with the split. An info file is
written whole or not at all. An interrupted call is continued by the next one.

Until the info files are written, work lies in a hidden folder beside them. The folder holds the
tables as SQLite and one file for every 64 keyframes. All are checked before they are used again,
and what is damaged is made anew. The same tables give the same bytes, for any
number of workers and after any interruption.
"""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from data_tools.database import Tables, build, fingerprint, rows_of
from data_tools.images import image_size
from data_tools.info_file import VERSION, root_fingerprint
from data_tools.infos import held_together, keyframe, undetected
from data_tools.rig import full_path, ordered
from data_tools.schema import CLASSES
from data_tools.splits import training_scenes
from sparsevit3d.errors import InputError
from sparsevit3d.files import (
    parse_object,
    parse_sealed,
    read_or_drop,
    sole_owner,
    stream_fingerprint,
    whole_file,
    write_bytes,
    write_sealed,
    write_text,
)
from sparsevit3d.processes import in_order
from sparsevit3d.progress import Progress, no_progress

CHUNK = 64  # keyframes in one piece of work
# What a work folder holds beside its pieces: the tables that it is of, as SQLite, and its hash.
MARKER = "tables.txt"
INDEX = "tables.sqlite"
INDEX_SEAL = "tables.sqlite.sha256"


def info_path(folder: Path, split: str) -> Path:
    return folder / f"nuscenes_infos_{split}.json"


def write_infos(
    root: Path,
    version: str,
    splits: Sequence[str],
    out: Path | None = None,
    workers: int = 1,
    progress: Progress = no_progress,
) -> dict[str, int]:
    """Write the info files of ``splits`` and return the number of keyframes of each split.

    The files go into ``out``, or into the root if ``out`` is None. The info file of ``train``
    leaves out the scenes of ``search``.

    Raises InputError if the tables are not valid, and OSError if nothing can be written. Files that
    earlier calls wrote stay in place.
    """
    out = out or root
    tables = root / version
    # Unknown splits are reported here, before any work starts.
    wanted = {split: training_scenes(root, version, split) for split in splits}
    out.mkdir(parents=True, exist_ok=True)
    scratch = out / f".infos-{version}"
    index = scratch / INDEX
    counts = {}
    with sole_owner(out):
        _claim(scratch, fingerprint(tables))
        if not index.exists():
            build(tables, index, progress)
            write_text(scratch / INDEX_SEAL, stream_fingerprint(index))
        try:
            for split, scenes in wanted.items():
                counts[split] = _write_split(
                    index, tables, split, scenes, info_path(out, split), workers, progress
                )
        finally:
            _tables.cache_clear()  # after an error the next call may read corrected tables
        shutil.rmtree(scratch)
    return counts


def _claim(scratch: Path, tables: str) -> None:
    """Make an empty work folder, or keep the one that an interrupted call left for these tables."""
    marker = scratch / MARKER
    if _is_text(marker, tables) and _is_index_whole(scratch):
        return
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    write_text(marker, tables)


def _is_text(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _is_index_whole(scratch: Path) -> bool:
    """Whether the tables in a work folder are as they were written. Warns if they are not."""
    index = scratch / INDEX
    if not index.exists():
        return True
    if _is_text(scratch / INDEX_SEAL, stream_fingerprint(index)):
        return True
    warnings.warn(f"{index}: is damaged or unfinished. The tables are read anew.", stacklevel=2)
    return False


def _write_split(
    index: Path,
    folder: Path,
    split: str,
    scenes: set[str],
    path: Path,
    workers: int,
    progress: Progress,
) -> int:
    tokens = Tables(index, folder).samples(scenes)
    total = sum(1 for _ in Tables(index, folder).samples(scenes))
    title = f"keyframes of {split}"
    count = 0
    ignored = set()
    body = index.parent / f"{split}.body"
    progress(0, total, title)
    with whole_file(body) as file:
        pieces = enumerate(iter(lambda: list(islice(tokens, CHUNK)), []))
        jobs = (
            (index, folder, piece, _usable(index.parent / f"{split}-{number:05d}.json", piece))
            for number, piece in pieces
        )
        for piece in in_order(_convert, jobs, workers):
            document = parse_object(piece.read_bytes())
            ignored |= set(document["undetected"])
            for info in document["keyframes"]:
                file.write(
                    (b",\n" if count else b"") + json.dumps({"sample_idx": count} | info).encode()
                )
                count += 1
            progress(count, total, title)
    categories = {name: label for label, name in enumerate(CLASSES)} | dict.fromkeys(
        sorted(ignored), -1
    )
    metainfo = {
        "categories": categories,
        "dataset": "nuscenes",
        "version": folder.name,
        "info_version": VERSION,
        "root": root_fingerprint(folder),
    }
    told = {"split": split, "scenes": sorted(scenes), "keyframes": count}
    head = json.dumps(metainfo | told)
    with whole_file(path) as file, body.open("rb") as source:
        file.write(f'{{"metainfo": {head}, "data_list": [\n'.encode())
        shutil.copyfileobj(source, file)
        file.write(b"\n]}\n")
    return count


def _usable(path: Path, tokens: list[str]) -> Path:
    """Return ``path``, and remove what an interrupted call left there if it is not ``tokens``."""

    def parse(text: bytes) -> bool:
        found = [info["token"] for info in parse_sealed(text)["keyframes"]]
        if found != tokens:
            raise ValueError("it holds other keyframes")
        return True

    if read_or_drop(path, "It is made anew.", parse) is None:
        path.unlink(missing_ok=True)
    return path


def _convert(index: Path, folder: Path, tokens: list[str], path: Path) -> Path:
    """Convert one worker's piece of work, unless an earlier call did."""
    if not path.exists():
        tables = _tables(index, folder)
        names = set()
        keyframes = []
        for token in tokens:
            with held_together(tables, token):
                names |= undetected(tables, token)
                keyframes.append(keyframe(tables, token))
        write_sealed(path, {"undetected": sorted(names), "keyframes": keyframes})
    return path


@lru_cache(1)
def _tables(index: Path, folder: Path) -> Tables:
    return Tables(index, folder)


def from_mmdet3d(source: Path, root: Path, version: str, split: str, out: Path) -> int:
    """Convert mmdet3d's own info file of a split, a pickle, to JSON in ``out``.

    Returns the number of keyframes. The pickle does not say how large the images are. The image
    sizes are read from the image files in ``root``. Nor does the pickle name the split's scenes.
    The scenes are looked up in the tables of ``version``.

    Reading a pickle runs whatever code is in the pickle, so use only files whose maker is trusted.

    Raises InputError if the schema is not 1.1, if the cameras are in another order, or if there are
    no cameras.
    """
    try:
        with source.open("rb") as file:
            document = pickle.load(file)
        metainfo = document["metainfo"]
        keyframes = document["data_list"]
        cameras = [list(info["images"]) for info in keyframes]
        schema = metainfo.get("info_version")
        tokens = {info["token"] for info in keyframes}
        images = [
            (name, image, image["img_path"])
            for info in keyframes
            for name, image in info["images"].items()
        ]
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror}).") from error
    except Exception as error:  # reading a pickle can raise any exception
        raise InputError(
            f"{source}: is no info file of mmdet3d 1.x ({error!r}). Make info files anew with "
            "'sparsevit3d data infos ROOT'."
        ) from error
    if schema != VERSION or not cameras or any(names != cameras[0] for names in cameras):
        raise InputError(
            f"{source}: is of info version {schema}, or its keyframes differ in cameras. "
            "Make info files anew with 'sparsevit3d data infos ROOT'."
        )
    if cameras[0] != list(ordered(cameras[0])):
        raise InputError(
            f"{source}: has its cameras in the order {', '.join(cameras[0])}. "
            "Make info files anew with 'sparsevit3d data infos ROOT'."
        )
    for name, image, file_name in images:
        image["width"], image["height"] = image_size(full_path(root, name, file_name))
    metainfo |= {
        "version": version,
        "split": split,
        "scenes": _scenes_of(root / version, tokens, source),
        "root": root_fingerprint(root / version),
        "keyframes": len(keyframes),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_bytes(
        info_path(out, split), json.dumps(document, default=lambda value: value.tolist()).encode()
    )
    return len(keyframes)


def _scenes_of(folder: Path, samples: set[str], source: Path) -> list[str]:
    """Return the sorted names of the scenes that the samples belong to."""
    scenes = {
        row["token"]: row["scene_token"]
        for row in rows_of(folder / "sample.json")
        if row["token"] in samples
    }
    if lost := samples - scenes.keys():
        raise InputError(
            f"{source}: keyframe {min(lost)} is not in {folder / 'sample.json'}. Name the root "
            "and --version that it is of."
        )
    wanted = set(scenes.values())
    return sorted(row["name"] for row in rows_of(folder / "scene.json") if row["token"] in wanted)
