"""What the README says can be held against the code: the flags and their values, the commands, the rooms' order."""

import ast
import re
import shlex

import pytest

from pyimagesearch.evaluation.options import inference_options
from pyimagesearch.preparation.options import preparation_options
from pyimagesearch.runtime import flags
from pyimagesearch.training.options import training_options
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SCRIPTS = {
    "prepare_dataset.py": preparation_options,
    "train_distributed.py": training_options,
    "distributed_inference.py": inference_options,
}
SHARED = ("--data", "--output", "--workers", "--amp")  # whose defaults stand in an earlier table
COMMAND = re.compile(rf"^ +.*?\b({'|'.join(map(re.escape, SCRIPTS))})(?: (.*))?$", re.MULTILINE)


@pytest.fixture(params=SCRIPTS)
def script(request):
    return request.param


@pytest.fixture
def actions(script, monkeypatch):
    """The flags of `script` as argparse has them, by each of their names."""
    made = []
    with monkeypatch.context() as patched:
        patched.setattr(flags.Parser, "parse_args", lambda parser, arguments: made.append(parser) or exit())
        with pytest.raises(SystemExit):
            SCRIPTS[script]([])
    return {name: action for action in made[0]._actions for name in action.option_strings if action.dest != "help"}


@pytest.fixture
def described(script):
    """The rows of the README's table of `script`: what is said of each flag, by its name."""
    table = README.partition("\n## Flags\n")[2].partition(f"| `{script}` | |")[2].partition("\n\n")[0]
    rows = [row.strip("|").split(" | ", 1) for row in table.replace(r"\|", "¦").splitlines() if row.startswith("| `")]
    said = {}
    for names, text in rows:
        for flag in re.findall(r"`(--[^`]+)`", names):
            name, _, values = flag.partition(" ")
            said[name] = f"{said.get(name, '')} {values} {text}"
    return said


def test_each_flag_of_help_has_its_row_and_each_row_its_flag(actions, described):
    assert set(described) == set(actions)


def test_the_rows_tell_the_defaults(script, actions, described):
    """In parentheses, or as the first of the values that a flag can have."""
    for name, action in actions.items():
        default = action.default
        if default in (None, False) or (script == "distributed_inference.py" and name in SHARED):
            continue
        shown = re.escape(f"{default:g}" if isinstance(default, float) else str(default))
        assert re.search(rf"\([^)]*(?<![\w.]){shown}\b|^ {shown}(¦| )", described[name]), (name, described[name])


def test_each_command_has_flags_that_exist(script):
    given = [rest.partition(" #")[0].replace(" ...", "") for name, rest in COMMAND.findall(README) if name == script]
    assert len(given) > 4
    for rest in given:
        SCRIPTS[script](shlex.split(rest.replace("`", "")))


def test_commands_are_set_as_code():
    assert not re.search(r"^(python|torchrun|\.venv/bin) ", README, re.MULTILINE)


def test_links_to_sections_lead_there():
    titles = re.findall(r"^#+ (.*)", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]*)\)", README)) <= anchors


def test_imports_go_up_the_order_of_the_rooms():
    rows = README.partition("\n## Reading the code\n")[2].partition("\n## ")[0]
    names = [re.findall(r"`(\w+)\.py`", row.split("|")[1]) for row in rows.splitlines() if row.startswith("| `")]
    place = {name: number for number, row in enumerate(names) for name in row}
    rooms = {path.stem: path for path in (REPOSITORY / "pyimagesearch").glob("[!_]*.py")}
    assert set(place) == set(rooms)
    down = []
    for name, path in rooms.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "pyimagesearch":
                _, _, room = node.module.partition(".")
                imported = [room] if room else [one.name for one in node.names]
                down += [f"{name} -> {other}" for other in imported if place.get(other, 0) > place[name]]
    assert not down
