"""What the importers of other datasets' layouts share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsevit3d.errors import InputError

EIGHTH = 8


@dataclass(frozen=True)
class Source:
    """A dataset in its own layout.

    Args:
        document (dict): The content of a frames file.
        left_out (Counter): The number of labels of each class that has no counterpart.
    """

    document: dict[str, Any]
    left_out: Counter[str]


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not empty."""
    try:
        return [line for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Put the file back.") from error


def named_splits(splits: Mapping[str, Path], images: Mapping[str, Path]) -> dict[str, str]:
    """Return the split of each frame that a split's file names.

    Raises InputError for a frame without an image, and for one in two splits.
    """
    found: dict[str, str] = {}
    for split, path in splits.items():
        for frame in (line.strip() for line in read_lines(path)):
            if frame not in images:
                raise InputError(f"{path}: names frame {frame}, which has no image. Mend the list.")
            if found.get(frame, split) != split:
                raise InputError(
                    f"{path}: names frame {frame}, which is in {found[frame]} as well. "
                    "Name it once."
                )
            found[frame] = split
    if not found:
        raise InputError(f"{', '.join(map(str, splits.values()))}: names no frame. Fill the list.")
    return found


def with_search(split_of: Mapping[str, str], group_of: Mapping[str, str]) -> dict[str, str]:
    """Move each eighth group of the training frames to ``search``, unless some frame is there.

    Frames of one group, such as a drive, resemble each other. So they stay in one split.
    """
    if "search" in split_of.values():
        return dict(split_of)
    train = [frame for frame, split in split_of.items() if split == "train"]
    groups = list(dict.fromkeys(group_of.get(frame, frame) for frame in train))
    chosen = set(groups[EIGHTH - 1 :: EIGHTH] or groups[1:][-1:])
    return {
        frame: "search" if split == "train" and group_of.get(frame, frame) in chosen else split
        for frame, split in split_of.items()
    }
