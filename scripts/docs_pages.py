"""A hook of mkdocs: pages that lie outside docs/, and links that lead there.

Home is the README. Contributing and Changelog are files of the repository's root. A link to any
other file outside docs/ becomes the file's name, because the site has no such page.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
BADGES = re.compile(r"^\[!\[.*\n", re.MULTILINE)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    name = page.file.src_path
    if name in PAGES:
        folder = ROOT
        markdown = BADGES.sub("", (ROOT / PAGES[name]).read_text())
    else:
        folder = ROOT / "docs"
    markdown = LINK.sub(lambda found: _link(folder, found), markdown)
    return markdown.replace("](docs/", "](")


def _link(folder: Path, found: re.Match[str]) -> str:
    words, target, place = found.groups()
    path = (folder / target).resolve()
    for page, source in PAGES.items():
        if path == ROOT / source:
            return f"[{words}]({page}{place or ''})"
    if path.is_relative_to(ROOT / "docs"):
        return f"[{words}]({path.relative_to(ROOT / 'docs')}{place or ''})"
    return words
