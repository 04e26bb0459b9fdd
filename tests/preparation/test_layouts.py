"""Each layout in the table of docs/data.md is prepared by the command beside it."""

import re
import shlex
from collections import Counter

import pytest
from helpers.photos import REPOSITORY
from helpers.sources import LAYOUTS, photos

import prepare_dataset

ROW = re.compile(r"^\| ([^|]+) \| [^|]+ \| `python prepare_dataset\.py ?([^|`]*)` \|$", re.MULTILINE)
COMMANDS = dict(ROW.findall((REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")))


def test_every_layout_of_the_page_is_made_here():
    assert COMMANDS.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("layout", COMMANDS)
def test_a_layout_is_prepared_by_the_command_of_the_page(layout, tmp_path, monkeypatch):
    if layout.startswith("parquet"):
        pytest.importorskip("pyarrow")
    expected = LAYOUTS[layout](tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prepare_dataset.py", *shlex.split(COMMANDS[layout])])
    assert prepare_dataset.main() == 0
    made = [name.split("/")[:2] for name in photos(tmp_path / "dataset")]
    assert Counter(name for _, name in made) == expected
    assert {split for split, _ in made} == {"training", "validation", "evaluation"}
    assert (tmp_path / "dataset" / "rejected.csv").read_text() == "path,reason\n"
