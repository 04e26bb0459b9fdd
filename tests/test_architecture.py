"""The rules of docs/architecture.md, read from the source: where files stand, who imports whom, how long things are."""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from helpers.photos import REPOSITORY

PACKAGE = REPOSITORY / "pyimagesearch"
SCRIPTS = ("prepare_dataset.py", "train_distributed.py", "distributed_inference.py")

FLOORS = {
    "__version__": 0,
    "config": 1,
    "runtime": 2,
    "data": 3,
    "create_dataloaders": 4, "models": 4, "preparation": 4,
    "food_classifier": 5,
    "evaluation": 6,
    "training": 7,
}  # fmt: skip

# public names that several modules define on purpose, with the reason
DEFINED_TWICE: dict[str, str] = {}
READERS = "pyimagesearch/preparation/readers/"  # these share one interface: a name there is the same step of each

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
FOLDERS = [PACKAGE, *sorted(path for path in PACKAGE.rglob("*") if path.is_dir() and path.name != "__pycache__")]


def shown(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("__init__.py", "__pycache__"))


def room(path: Path) -> str:
    """The room or the file at the top of the package in which `path` lies: evaluation/metrics.py lies in evaluation."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of each import, inside functions too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines) of each function and method, nested ones too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


def public_names(path: Path) -> list[str]:
    """The functions and classes at the top of a module."""
    found = [
        node for node in tree(path).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    return [node.name for node in found if not node.name.startswith("_")]


def words(path: Path) -> int:
    """As `wc -w` counts them."""
    return len(path.read_text(encoding="utf-8").split())


def test_the_package_shows_at_most_ten_names():
    assert len(entries(PACKAGE)) <= 10, entries(PACKAGE)


@pytest.mark.parametrize("folder", FOLDERS[1:], ids=shown)
def test_a_folder_has_at_most_eight_entries(folder):
    assert len(entries(folder)) <= 8, entries(folder)


def test_every_room_has_a_floor():
    assert {room(path) for path in MODULES} == set(FLOORS) - {"__version__"}


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_a_module_imports_only_its_own_room_and_lower_floors(path):
    here, climbing = room(path), []
    for line, name in imported_modules(path):
        top, _, rest = name.partition(".")
        if top == "":  # relative
            climbing.append(f"line {line}: {name} is relative; write pyimagesearch...")
        elif top == "pyimagesearch":
            there = rest.partition(".")[0]
            if there != here and FLOORS.get(there, 99) >= FLOORS[here]:
                climbing.append(f"line {line}: {here} imports {there}")
        elif f"{top}.py" in SCRIPTS or top in ("tests", "benchmarks"):
            climbing.append(f"line {line}: {here} imports {top}")
    assert not climbing


@pytest.mark.parametrize("path", [folder / "__init__.py" for folder in FOLDERS[1:]], ids=shown)
def test_init_files_of_rooms_are_empty(path):
    assert path.read_text(encoding="utf-8") == ""


def test_no_listed_exception_is_left_over():
    defined = Counter(name for path in MODULES for name in public_names(path))
    assert all(defined[name] > 1 for name in DEFINED_TWICE)


def test_no_public_name_is_defined_in_two_modules():
    places = defaultdict(list)
    for path in MODULES:
        for name in public_names(path):
            places[name].append(shown(path))
    twice = {name: where for name, where in places.items() if len(where) > 1 and name not in DEFINED_TWICE}
    assert not {name: where for name, where in twice.items() if not all(path.startswith(READERS) for path in where)}


@pytest.mark.parametrize("path", [*MODULES, *(REPOSITORY / name for name in SCRIPTS)], ids=shown)
def test_no_function_is_longer_than_sixty_lines(path):
    long = {name: lines for name, lines in functions(path) if lines > 60}
    assert not long


def test_the_story_of_training_fits_a_page():
    assert dict(functions(REPOSITORY / "train_distributed.py"))["train"] <= 60


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_at_most_150_lines(name):
    assert len((REPOSITORY / name).read_text(encoding="utf-8").splitlines()) <= 150


def test_the_package_has_at_most_12000_lines():
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")) <= 12000


def test_the_readme_has_at_most_2000_words():
    assert words(REPOSITORY / "README.md") <= 2000


@pytest.mark.parametrize("path", sorted((REPOSITORY / "docs").glob("*.md")), ids=shown)
def test_a_page_has_at_most_1200_words(path):
    if path.name != "flags.md":  # generated, as long as the flags are
        assert words(path) <= 1200
