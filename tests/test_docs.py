"""The pages: they become a site, a browser opens each of them, and their sentences are short."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from sparsevit3d.cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
OUTSIDE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return folder


def test_every_page_opens_on_a_phone_without_complaint(site, browser):
    complaints = []
    page = browser.new_page(viewport=PHONE)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append((request.url, request.failure)))
    opened = [path for path in sorted(site.glob("*.html")) if path.stem != "404"]
    assert len(opened) == len(PAGES)
    for path in opened:
        page.goto(path.as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= PHONE["width"], f"{path.name} is {wide} pixels wide"
    # The icon of a page that is left may not have come yet.
    assert not [each for each in complaints if "net::ERR_ABORTED" not in each]


def test_links_between_pages_lead_somewhere(site):
    texts = {path.name: path.read_text() for path in site.glob("*.html") if path.stem != "404"}
    for name, text in texts.items():
        for target in set(re.findall(r'(?:href|src)="([^"]+)"', text)):
            if re.match(r"https?:|data:|mailto:", target):
                continue
            file, _, place = target.partition("#")
            assert not file or (site / file).exists(), f"{name}: {target}"
            if place and (file or name) in texts:
                assert f'id="{place}"' in texts[file or name], f"{name}: {target}"


@pytest.mark.parametrize("page", [*PAGES, *OUTSIDE], ids=lambda path: path.name)
def test_python_on_pages_is_python(page):
    for code in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
        compile(code, page.name, "exec")


def test_the_backbone_of_the_readme_and_the_tutorial_run(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    for source in (code, (ROOT / "examples/prune_a_swin.py").read_text()):
        ran = subprocess.run(
            [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr


def commands(text):
    """The words of each command of ours in a page's blocks of code, comments left out."""
    for block in re.findall(r"```\n(.*?)```", text, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("sparsevit3d "):
                yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("page", [*PAGES, *OUTSIDE], ids=lambda path: path.name)
def test_commands_on_pages_name_verbs_and_options_that_exist(page):
    for words in commands(page.read_text()):
        command = typer.main.get_command(app)
        while hasattr(command, "commands"):
            name = words.pop(0) if words[0] in command.commands else "run"  # of search
            command = command.commands[name]
        known = {option for one in command.params if not one.hidden for option in one.opts}
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= known | {"--help"}, f"{page.name}: {' '.join(words)}"


def sentences(text):
    """The sentences of a page's prose. Code, tables, headings and pictures are left out."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for block in re.split(r"\n\s*\n", text):
        if block.lstrip().startswith(("|", "#", "![", "<!--", ":::")):
            continue
        for item in re.split(r"\n(?=\s*[-*] |\s*\d+\. )", block):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "code", item))
            yield from re.split(r"(?<=[.:!?])\s+", " ".join(words.split()).strip(" -*"))


@pytest.mark.parametrize("path", [*PAGES, *OUTSIDE], ids=lambda path: path.name)
def test_a_page_is_short_and_so_are_its_sentences(path):
    text = path.read_text()
    assert len(text.splitlines()) <= (150 if path.name == "README.md" else 200)
    found = [one for one in sentences(text) if len(one.split()) > 1]
    assert sum(len(one.split()) for one in found) <= 20 * len(found)
    assert not [one for one in found if one.startswith("Of ")]
