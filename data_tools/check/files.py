"""Check the files that the tables name: a file exists, is not empty and has the right content."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from data_tools.check.report import Problem, Report
from data_tools.database import Tables
from data_tools.images import ImageError, image_size, read_image
from data_tools.schema import IMAGE_FORMATS
from sparsevit3d.progress import Progress

ANEW = "copy it again from where it came from"
BATCH = 512  # files checked at the same time
END_MARK = b"\xff\xd9"  # ends a JPEG, and any bytes after the mark are padding
POINT_BYTES = 20  # x, y, z, intensity, ring in float32

# Token, filename, fileformat, modality, is_key_frame, width, height, whether to decode the file.
File = tuple[str, str, str, str, int, int, int, int]


def files(
    tables: Tables, root: Path, decode_all: bool, report: Report, workers: int, progress: Progress
) -> None:
    """Report what is wrong with the files of sample_data and map.

    Decodes one keyframe of every scene, or all files if ``decode_all`` is set.
    """
    for row in tables.all("map"):
        if row["filename"] and not (root / row["filename"]).is_file():
            report.add(
                Problem(
                    "missing map",
                    "map",
                    row["token"],
                    f"no {row['filename']}",
                    "download the maps",
                    warning=True,
                )
            )
    (total,) = tables.database.execute("SELECT COUNT(*) FROM sample_data").fetchone()
    query = """SELECT sample_data.token, filename, fileformat, modality, is_key_frame,
            width, height,
            ? OR (is_key_frame AND sample_token IN (SELECT first_sample_token FROM scene))
        FROM sample_data
        LEFT JOIN calibrated_sensor ON calibrated_sensor.token = calibrated_sensor_token
        LEFT JOIN sensor ON sensor.token = sensor_token
        WHERE filename IS NOT NULL ORDER BY sample_data.rowid"""
    rows = iter(tables.database.execute(query, (decode_all,)))
    with ThreadPoolExecutor(workers) as threads:
        while batch := list(islice(rows, BATCH)):
            for found in threads.map(lambda row: list(_file(root, row)), batch):
                for problem in found:
                    report.add(problem)
            report.files += len(batch)
            report.decoded += sum(bool(row[-1]) for row in batch)
            progress(report.files, total, "files")


def _file(root: Path, row: File) -> Iterator[Problem]:
    token, name, form, modality, is_keyframe, width, height, decode = row
    path = root / name
    try:
        size = path.stat().st_size
    except OSError as error:
        # Many users have no sweeps and need none.
        remedy = ANEW if is_keyframe else "copy sweeps/ as well, if you want sweeps"
        yield Problem(
            "missing file" if is_keyframe else "missing sweep",
            "sample_data",
            token,
            f"{name}: {error.strerror}",
            remedy,
            not is_keyframe,
        )
        return
    if not size:
        yield Problem("empty file", "sample_data", token, f"{name} has no bytes", ANEW)
    elif modality == "camera" and (is_keyframe or decode):
        yield from _image(path, token, name, form, (width, height), bool(decode))
    elif form == "pcd" and modality == "lidar":
        yield from _points(path, token, name, size, bool(decode))


def _image(
    path: Path, token: str, name: str, said: str, wanted: tuple[int, int], decode: bool
) -> Iterator[Problem]:
    try:
        # The loader reads by the same functions, so this finds what would stop a training.
        size = read_image(path)[1] if decode else image_size(path)
    except ImageError as error:
        cause = error.__cause__
        refused = cause is None or isinstance(cause, Image.DecompressionBombError)
        kind = "truncated image" if "truncated" in str(cause) else "undecodable image"
        what = str(error).removeprefix(f"{path}: ") if refused else str(cause)
        remedy = "put an image in its place that the loader reads" if refused else ANEW
        yield Problem(kind, "sample_data", token, f"{name}: {what}", remedy)
        return
    with Image.open(path) as image:
        form = image.format
    if form not in IMAGE_FORMATS.get(said, (said.upper(),)):
        what = f"{name} is a {form}, sample_data says {said}"
        remedy = f"save it as a {said}, or set fileformat"
        yield Problem("image of another format", "sample_data", token, what, remedy)
    # Decoding finds truncation itself.
    elif said == "jpg" and not decode and END_MARK not in path.read_bytes()[-1024:]:
        what = f"{name} ends before its end mark"
        yield Problem("truncated image", "sample_data", token, what, ANEW)
        return
    if size != wanted:
        what = f"{name} is {size[0]} x {size[1]}, sample_data says {wanted[0]} x {wanted[1]}"
        remedy = "put the original back, or set width and height and scale camera_intrinsic"
        yield Problem("image of another size", "sample_data", token, what, remedy)


def _points(path: Path, token: str, name: str, size: int, decode: bool) -> Iterator[Problem]:
    if size % POINT_BYTES:
        yield Problem(
            "truncated lidar",
            "sample_data",
            token,
            f"{name} is {size} bytes, no whole number of points ({POINT_BYTES} each)",
            ANEW,
        )
    elif decode:
        points = np.fromfile(path, np.float32).reshape(-1, 5)
        if not np.isfinite(points).all() or np.abs(points[:, :3]).max() > 1000:
            yield Problem(
                "impossible lidar",
                "sample_data",
                token,
                f"{name} has points that are no numbers, or kilometres away",
                ANEW,
            )
