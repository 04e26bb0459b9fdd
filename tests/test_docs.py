"""What the README and docs/ say is checked against the code: commands, flags, defaults, links, paths."""

import ast
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
from helpers.photos import REPOSITORY

from docs import make_flags
from pyimagesearch.runtime import flags

SCRIPTS = make_flags.SCRIPTS
PAGES = [REPOSITORY / "README.md", REPOSITORY / "benchmarks" / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
TEXTS = {path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
WRITTEN = {name: text for name, text in TEXTS.items() if name != "docs/flags.md"}

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(rf"\b({'|'.join(map(re.escape, SCRIPTS))})(?: (.*))?$")
LINK = re.compile(r"\]\(([^)\s]*)\)")
ROOM_PATH = re.compile(r"`((?:docs|tests|benchmarks|deploy|pyimagesearch)/[\w/.]*)`")

# imported name -> what it is called in requirements.txt
PACKAGES = {"cv2": "opencv-python-headless", "PIL": "pillow", "sklearn": "scikit-learn"}
BROUGHT = {"jinja2", "markupsafe", "scipy"}  # by torch and scikit-learn, as requirements.txt says
# named where a flag or a photo needs them
OPTIONAL = {"pillow_heif", "tensorboard", "safetensors", "onnx", "onnxscript", "onnxruntime", "pyarrow"}


def blocks(language: str) -> list[str]:
    return [code for text in WRITTEN.values() for kind, code in BLOCK.findall(text) if kind == language]


def prose(text: str) -> str:
    """The page without its blocks of code."""
    return BLOCK.sub("", text)


def anchors(text: str) -> set[str]:
    """The #anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.fixture(params=SCRIPTS)
def script(request):
    return request.param


@pytest.fixture
def actions(script, monkeypatch):
    """The flags of `script` as argparse has them."""
    made = []
    with monkeypatch.context() as patched:
        patched.setattr(flags.Parser, "parse_args", lambda parser, arguments: made.append(parser) or exit())
        with pytest.raises(SystemExit):
            SCRIPTS[script]([])
    return [action for action in made[0]._actions if action.dest != "help"]


# --- flags and commands ----------------------------------------------------------------------------------------------


def test_the_page_of_flags_is_what_help_prints():
    assert TEXTS["docs/flags.md"] == make_flags.flags_page(), "run python docs/make_flags.py"


def test_every_flag_has_a_help_text_that_names_its_default(actions):
    """As (default X), or as the first of the values that the flag can have."""
    for action in actions:
        text = action.help % {"default": action.default}
        assert text, action.option_strings
        if action.default is not None and not isinstance(action.default, bool):  # --flag and --no-flag
            named = re.search(rf"\(default:? {re.escape(f'{action.default}')}(?![\w.])", text)
            assert named or (action.choices or [None])[0] == action.default, (action.option_strings, text)


def test_each_command_has_flags_that_exist(script):
    lines = [line for code in blocks("bash") for line in code.splitlines()]
    lines += [span for text in WRITTEN.values() for span in re.findall(r"`((?:python|torchrun) [^`]*)`", prose(text))]
    found = [COMMAND.search(line.partition(" #")[0].rstrip().replace(" ...", "")) for line in lines]
    given = [match[2] or "" for match in found if match and match[1] == script]
    assert len(given) > 6
    for arguments in given:
        SCRIPTS[script](shlex.split(arguments))


def test_each_target_of_make_exists():
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = {target for text in WRITTEN.values() for target in re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE)}
    assert {"demo", "check", "test", "lint"} <= named <= targets


def test_commands_are_set_as_code():
    for name, text in WRITTEN.items():
        assert text.count("```") % 2 == 0, name
        assert not re.search(r"^ *(python|torchrun|make|\.venv/bin) ", prose(text), re.MULTILINE), name


def test_python_examples_import_what_is_there():
    imported = []
    for code in blocks("python"):
        nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
        imported += [(node.module, alias.name) for node in nodes for alias in node.names]
    ours = [(module, name) for module, name in imported if module.startswith("pyimagesearch")]
    assert ours
    assert all(hasattr(importlib.import_module(module), name) for module, name in ours)


# --- links and paths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    for link in LINK.findall(prose(TEXTS[name])):
        if re.match("https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / name).parent / path if path else REPOSITORY / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_the_readme_links_every_page():
    linked = set(LINK.findall(WRITTEN["README.md"]))
    assert {name for name in TEXTS if name != "README.md"} <= linked


@pytest.mark.parametrize("name", WRITTEN)
def test_paths_of_the_repository_exist(name):
    assert not [path for path in ROOM_PATH.findall(WRITTEN[name]) if not (REPOSITORY / path).exists()]


def test_where_is_what_names_files_that_exist():
    lines = WRITTEN["docs/where.md"].splitlines()
    rows = [row.strip("| ").split(" | ") for row in lines if row.startswith("| Wh")]
    assert len(rows) >= 20
    places = [place for _, answer in rows for place in re.findall("`([^`]+)`", answer)]
    assert not [place for place in places if not (REPOSITORY / "pyimagesearch" / place).exists()]


# --- packages --------------------------------------------------------------------------------------------------------


def test_every_package_that_is_imported_is_required():
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    required = {re.split("[>=< ]", line)[0] for line in lines if line and line[0] != "#"}
    imported = set()
    for path in [*(REPOSITORY / "pyimagesearch").rglob("*.py"), *(REPOSITORY / name for name in SCRIPTS)]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            imported |= {name.partition(".")[0] for name in names}
    local = {"pyimagesearch", *(Path(name).stem for name in SCRIPTS)}
    others = {PACKAGES.get(name, name) for name in imported - local - set(sys.stdlib_module_names)}
    assert others - BROUGHT - OPTIONAL == required
