"""A hook of mkdocs: pages that lie outside docs/, and links that lead there.

Home is the README. Contributing and Changelog are files of the repository's root. The tutorial is a
Python file whose comments are the text. A link to any other file outside docs/ becomes plain words,
because the site has no such page.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
TUTORIAL = {"tutorial.md": "examples/prune_a_swin.py"}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
BADGES = re.compile(r"^\[!\[.*\n", re.MULTILINE)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    name = page.file.src_path
    if name in PAGES:
        folder = ROOT
        markdown = BADGES.sub("", (ROOT / PAGES[name]).read_text())
    elif name in TUTORIAL:
        folder = (ROOT / TUTORIAL[name]).parent
        markdown = as_markdown((ROOT / TUTORIAL[name]).read_text())
    else:
        folder = ROOT / "docs"
    markdown = LINK.sub(lambda found: _link(folder, found), markdown)
    return markdown.replace("](docs/", "](")


def as_markdown(source: str) -> str:
    """Turn Python into a page. Comments at the start of a line are text, all else is code."""
    parts: list[str] = []
    for is_text, lines in groupby(source.splitlines(), lambda line: line.startswith("#")):
        block = "\n".join(line[2:] if is_text else line for line in lines).strip()
        if block:
            parts.append(block if is_text else f"```python\n{block}\n```")
    return "\n\n".join(parts)


def _link(folder: Path, found: re.Match[str]) -> str:
    words, target, place = found.groups()
    path = (folder / target).resolve()
    for page, source in PAGES.items():
        if path == ROOT / source:
            return f"[{words}]({page}{place or ''})"
    if path.is_relative_to(ROOT / "docs"):
        return f"[{words}]({path.relative_to(ROOT / 'docs')}{place or ''})"
    return words
