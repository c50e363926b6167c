"""Run all checks of a root, in an order in which each can rely on the checks before it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from data_tools.check import links, objects, sensors
from data_tools.check.files import files
from data_tools.check.report import Problem, Report
from data_tools.check.rows import load_tables
from data_tools.database import Tables, new_database
from sparsevit3d.progress import Progress, no_progress

CHECKS = (
    links.duplicates,
    links.references,
    links.chains,
    links.scenes,
    links.keyframes,
    links.unused,
    objects.names,
    objects.splits,
    sensors.calibrations,
    sensors.poses,
    sensors.times,
    objects.boxes,
)


def check(
    root: Path, version: str, decode_all: bool, workers: int, progress: Progress = no_progress
) -> Report:
    """Run all checks and return the report.

    The tables go through an SQLite file in the folder for temporary files. With ``decode_all``
    every file is decoded, not only one keyframe of each scene.
    """
    report = Report(str(root), version)
    folder = root / version
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "tables.sqlite"
        with new_database(path) as database:
            whole = load_tables(database, folder, report.add, report.rows, progress)
        if not whole:
            what = "references, calibrations, boxes and files have not been looked at"
            report.add(
                Problem(
                    "check not finished",
                    "root",
                    version,
                    what,
                    "mend the tables first, then check again",
                )
            )
            return report
        tables = Tables(path, folder)
        for number, look in enumerate(CHECKS):
            progress(number, len(CHECKS), "references and plausibility")
            for problem in look(tables):
                report.add(problem)
        progress(0, report.rows["sample_data"], "files")
        files(tables, root, decode_all, report, workers, progress)
        tables.database.close()
    return report
