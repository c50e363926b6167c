"""The house: who may import whom, what a stranger can rely on, and how code is written."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sparsevit3d", "data_tools", "visualize")
# From the top. What stands on one floor may import what stands there and below.
FLOORS = (
    ("sparsevit3d.cli",),
    ("visualize", "sparsevit3d.search"),
    ("sparsevit3d.stages",),
    ("sparsevit3d.detector",),
    ("sparsevit3d.cost", "sparsevit3d.backbone"),
    ("sparsevit3d.swin",),
    (
        "sparsevit3d.files",
        "sparsevit3d.processes",
        "sparsevit3d.devices",
        "sparsevit3d.terminal",
        "sparsevit3d.errors",
        "sparsevit3d.progress",
        "data_tools",
    ),
)
FRAMEWORKS = ("mmengine", "mmcv", "mmdet", "mmdet3d", "nuscenes")


def files() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


EVERYWHERE = subprocess.run(
    ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split()
MODULES = {name_of(path): ast.parse(path.read_text()) for path in files()}


def imports_of(tree: ast.AST) -> Iterator[str]:
    """All that a file imports, within functions too: full names of modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def own_imports(name: str) -> set[str]:
    return {each for each in imports_of(MODULES[name]) if each in MODULES}


def floor_of(name: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if any(name == room or name.startswith(f"{room}.") for room in rooms):
            return number
    raise AssertionError(f"{name} stands on no floor")


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"sparsevit3d"}))
def test_no_arrow_runs_up(name):
    up = [each for each in own_imports(name) if floor_of(each) < floor_of(name)]
    assert not up


def test_no_files_import_each_other_in_a_circle():
    list(TopologicalSorter({name: own_imports(name) for name in MODULES}).static_order())


def test_the_backbone_imports_torch_and_numpy_alone():
    allowed = {"torch", "numpy", "safetensors", "triton", "sparsevit3d", *sys.stdlib_module_names}
    for name in MODULES:
        if name.startswith(("sparsevit3d.swin", "sparsevit3d.cost")):
            assert {each.partition(".")[0] for each in imports_of(MODULES[name])} <= allowed, name


def test_plans_counts_and_algorithms_import_no_framework():
    code = (
        "import sys; import {}; sys.exit(str([n for n in sys.argv[1:] if n in sys.modules] or 0))"
    )
    for name in ("swin.plan", "swin.windows", "cost.macs", "search.algorithms", "search.front"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(f"sparsevit3d.{name}"), *FRAMEWORKS],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr.strip() in ("", "0"), f"{name}: {done.stderr}"


def test_pictures_are_given_plain_data():
    """No dataset and no model: of the method pictures know traces, views and windows."""
    plain = ("errors", "files", "stages.views", "swin.plan", "swin.trace", "swin.windows")
    allowed = {"visualize", "data_tools", *(f"sparsevit3d.{name}" for name in plain)}
    for name in MODULES:
        if name.startswith("visualize"):
            own = {each for each in own_imports(name) if not each.startswith("visualize.")}
            assert own <= allowed, f"{name} imports {own - allowed}"
            outside = {each.partition(".")[0] for each in imports_of(MODULES[name])}
            assert not outside & {"torch", *FRAMEWORKS}, name


def test_torch_is_not_imported_by_what_makes_and_checks_data():
    code = "import data_tools.synthetic.dataset, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def faults(tree: ast.AST) -> Iterator[str]:
    """What ruff cannot forbid: several assignments in one, conditions in nested comprehensions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            pairs = product(node.targets, [node.value])
            if len(node.targets) > 1:
                yield f"line {node.lineno}: one name a line"
            if all(isinstance(one, ast.Tuple) and isinstance(two, ast.Tuple) for one, two in pairs):
                yield f"line {node.lineno}: one assignment a line"
        if isinstance(node, COMPREHENSIONS):
            inner = [each for each in ast.walk(node) if isinstance(each, COMPREHENSIONS)]
            conditions = [part.ifs for each in inner for part in each.generators]
            if len(inner) > 1 and any(conditions):
                yield f"line {node.lineno}: a condition in a comprehension within another"


@pytest.mark.parametrize("path", EVERYWHERE)
def test_code_has_room_to_breathe(path):
    assert not list(faults(ast.parse((ROOT / path).read_text())))


def test_files_are_short_enough_to_read():
    long = {name_of(path): len(path.read_text().splitlines()) for path in files()}
    assert not {name: lines for name, lines in long.items() if lines > 370}


def test_tests_stand_where_what_they_test_stands():
    rooms = {path.name for path in (ROOT / "sparsevit3d").iterdir() if path.is_dir()}
    folders = rooms | {"data_tools", "visualize", "benchmarks", "support"}
    found = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    assert found - {"__pycache__"} <= folders
