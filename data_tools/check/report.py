"""The results of a check, in memory that does not grow with the number of faults."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

EXAMPLES = 5  # examples kept of each kind in each table


@dataclass(frozen=True)
class Problem:
    """One fault."""

    kind: str  # such as "dangling reference"
    table: str  # name of the table, name of the file's folder, or "root"
    token: str  # token of the row, or name of the file or scene if there is no row
    what: str
    remedy: str
    warning: bool = False  # nothing breaks, but somebody should look


@dataclass
class Report:
    """All problems counted, with the first few of each kind and table as examples."""

    root: str
    version: str
    counts: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    examples: list[Problem] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)  # number of rows of each table
    files: int = 0  # number of files checked
    decoded: int = 0  # how many of these files were decoded completely

    def add(self, problem: Problem) -> None:
        key = problem.kind, problem.table, problem.warning
        self.counts[key] += 1
        if self.counts[key] <= EXAMPLES:
            self.examples.append(problem)

    @property
    def errors(self) -> int:
        return sum(count for (_, _, warning), count in self.counts.items() if not warning)

    @property
    def warnings(self) -> int:
        return sum(self.counts.values()) - self.errors

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON: each kind with its count and examples, errors first."""
        kinds = []
        for (kind, table, warning), count in sorted(
            self.counts.items(), key=lambda item: (item[0][2], -item[1], item[0])
        ):
            found = [
                each
                for each in self.examples
                if (each.kind, each.table, each.warning) == (kind, table, warning)
            ]
            examples = [
                {key: asdict(each)[key] for key in ("token", "what", "remedy")} for each in found
            ]
            kinds.append(
                {
                    "kind": kind,
                    "table": table,
                    "warning": warning,
                    "count": count,
                    "examples": examples,
                }
            )
        counts = {"errors": self.errors, "warnings": self.warnings, "rows": self.rows}
        return (
            {"root": self.root, "version": self.version}
            | counts
            | {"files": self.files, "decoded": self.decoded, "problems": kinds}
        )
