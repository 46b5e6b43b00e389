"""The list in docs/architecture.md is true: every package is in it, and imports point down."""

import ast
import re
from pathlib import Path
from statistics import median, quantiles

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "foretell"
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))
OUTSIDE = ("presets", "studies")
"""Folders without code."""


def layers() -> dict[str, int]:
    """The layer of every package in the list."""
    listed = (ROOT / "docs" / "architecture.md").read_text().partition("```\n")[2].partition("```")[0]
    found, layer = {}, -1
    for line in listed.splitlines():
        layer_here, package = re.fullmatch(r"(?:layer (\d+))?\s+(\w+)(?:/|\.py)\s.*", line).groups()
        layer = layer if layer_here is None else int(layer_here)
        found[package] = layer
    return found


LAYERS = layers()


def package_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports(path: Path) -> set[str]:
    """The packages of Foretell that a file imports."""
    packages = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "foretell":
            packages |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("foretell."):
            packages.add(package_of(node.module))
        elif isinstance(node, ast.Import):
            packages |= {package_of(alias.name) for alias in node.names if alias.name.startswith("foretell.")}
    return packages & LAYERS.keys()


def test_every_package_is_in_the_list():
    packages = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert packages - {"__init__", "__main__"} == LAYERS.keys()


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
@pytest.mark.long
def test_imports_point_down(path):
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):
        return
    for package in imports(path) - {own}:
        assert LAYERS[package] < LAYERS[own], f"{own} imports {package}"


@pytest.mark.long
def test_no_module_imports_itself_in_a_circle():
    modules = {".".join(("foretell", *path.relative_to(SOURCE).with_suffix("").parts)): path for path in FILES}
    graph = {}
    for name, path in modules.items():
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
        graph[name] = {node.module for node in top if node.module in modules}
    done: set[str] = set()

    def visit(name, above):
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def function_lengths():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.end_lineno - node.body[0].lineno + 1


@pytest.mark.long
def test_functions_and_files_are_short():
    lengths = list(function_lengths())
    assert median(lengths) <= 10
    assert quantiles(lengths, n=10)[-1] <= 30
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 350, path


def test_the_loop_only_reads_the_clock():
    """When to do what is decided in one place."""
    words = ("trials %", "random_steps", "eval_every", "warmup_episodes", "random_episodes")
    loop = (SOURCE / "training" / "loop.py").read_text()
    assert not [word for word in words if word in loop]
