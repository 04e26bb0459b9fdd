"""The kit itself, on a CPU: which sections it runs, what it keeps of them, and the table that it writes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.photos import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import gpu_check
from gpu_sections import table
from gpu_sections.kit import Findings, Kit
from gpu_sections.running import run_section

from pyimagesearch.runtime.errors import UserError

SECTIONS = {name: gpu_check.Section("any", 5, lambda kit: None) for name in ("one", "two", "three")}
GOOD = {"facts": {"speed": "5 images/s"}, "claims": {"it works": {"holds": True, "found": "yes"}}, "seconds": 1.0}
BAD = {**GOOD, "claims": {"it works": {"holds": False, "found": "no"}}}
BROKEN = {"error": "RuntimeError: no such kernel", "seconds": 1.0}


@pytest.fixture
def kit(tmp_path, monkeypatch):
    """kit(answers, *flags) runs gpu_check.py on three sections that answer so; returns (exit status, those run)."""
    (tmp_path / "page.md").write_text(f"before\n{table.BEGIN}\nstale\n{table.END}\nafter\n")
    for section in SECTIONS.values():
        section.function.__doc__ = "What it measures."

    def run(answers: dict, *arguments):
        begun = []

        def answer(function, *settings):
            name = next(name for name, section in SECTIONS.items() if section.function is function)
            begun.append(name)
            return answers[name]

        monkeypatch.setattr(gpu_check, "SECTIONS", SECTIONS)
        monkeypatch.setattr(gpu_check, "run_section", answer)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        places = ["--json", str(tmp_path / "found.json"), "--readme", str(tmp_path / "page.md")]
        return gpu_check.main(["--device", "cpu", *places, *arguments]), begun

    return run


def test_a_second_start_goes_on_with_the_sections_that_are_missing_or_had_an_error(kit):
    assert kit({"one": GOOD, "two": GOOD, "three": GOOD}, "--only", "one") == (0, ["one"])
    assert kit({"two": BROKEN, "three": GOOD}) == (1, ["two", "three"])
    assert kit({"two": GOOD}) == (0, ["two"])
    assert kit({}) == (0, [])
    assert kit({"three": BAD}, "--only", "three") == (1, ["three"])


def test_a_killed_kit_has_kept_the_sections_that_had_ended(kit):
    with pytest.raises(KeyError):  # the second ends the kit
        kit({"one": GOOD})
    assert kit({"two": GOOD, "three": GOOD}) == (0, ["two", "three"])


def test_the_table_is_written_between_its_lines_and_the_rest_of_the_page_stays(kit, tmp_path):
    status, _ = kit({"one": GOOD, "two": BROKEN, "three": BAD})
    assert status == 1
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("before\n") and page.endswith("\nafter\n") and "stale" not in page
    for row in ("| one | What it measures. | 20", "|  | speed | 5 images/s |", "|  | it works | holds: yes |",
                "| two | What it measures. | **not measured**: RuntimeError: no such kernel |",
                "|  | it works | **fails**: no |"):  # fmt: skip
        assert row in page
    (tmp_path / "page.md").write_text("a page without them")
    with pytest.raises(UserError, match="has no lines"):
        kit({}, "--table")


def test_results_of_another_machine_are_not_mixed_in(kit, tmp_path):
    kit({"one": GOOD, "two": GOOD, "three": GOOD})
    with pytest.raises(UserError, match="another machine or version"):
        kit({}, "--quick")
    assert kit({}, "--table") == (0, [])


def test_without_a_gpu_the_kit_says_so_in_one_line(kit, capsys, monkeypatch):
    monkeypatch.setattr(gpu_check.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        gpu_check.main([])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: there is no GPU; --device cpu")


def test_the_sections_of_one_gpu_take_at_most_nine_minutes():
    once = [section for section in gpu_check.SECTIONS.values() if section.needs in ("any", "gpu")]
    assert sum(section.seconds for section in once if section.function is not gpu_check.speed.food11) <= 9 * 60 - 10


def test_the_page_of_benchmarks_has_a_row_for_each_section():
    _, _, rest = gpu_check.README.read_text().partition(table.BEGIN)
    rows, end, _ = rest.partition(table.END)
    assert end
    assert [row for row in gpu_check.SECTIONS if f"\n| {row} | " not in rows] == []


@pytest.mark.parametrize(("limit", "done"), [(1000, ["a", "b", "c"]), (0.02, ["a"])])
def test_what_there_is_no_time_for_is_named(limit, done, tmp_path):
    found, kit = Findings(), Kit("cpu", False, limit, tmp_path)
    for item in kit.as_time_allows(["a", "b", "c"], found):
        assert item == done.pop(0)
        time.sleep(0.02)
    assert not done
    assert found.facts == ({} if limit == 1000 else {"no time was left for": "b, c"})


# --- sections in their processes -------------------------------------------------------------------------------------


def fails(kit: Kit) -> Findings:
    raise ValueError("one\nlast line")


def dies(kit: Kit) -> Findings:
    os._exit(7)


def hangs(kit: Kit) -> Findings:
    """It starts a process and writes its number, then waits for ever."""
    child = subprocess.Popen(["sleep", "600"])
    Path(os.environ["NUMBER"]).write_text(str(child.pid))
    time.sleep(600)


@pytest.mark.training
def test_a_section_that_fails_dies_or_hangs_leaves_one_line_and_no_process(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBER", str(tmp_path / "number"))  # before the first section, whose server keeps it
    assert run_section(fails, "cpu", True, 60)["error"] == "ValueError: last line"
    assert run_section(dies, "cpu", True, 60)["error"] == "its process ended with exit status 7"
    result = run_section(hangs, "cpu", True, 3)
    assert result["error"] == "it was ended after 3 s"
    assert result["seconds"] < 10
    number = int((tmp_path / "number").read_text())
    end = time.monotonic() + 5
    while alive(number) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(number)


def alive(number: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.training
def test_sections_run_on_a_cpu_on_tiny_shapes_and_their_claims_hold(tmp_path):
    names = ["precision", "warp", "empty-batches", "one-rank", "two-ranks", "networks", "loading"]
    command = [sys.executable, REPOSITORY / "benchmarks" / "gpu_check.py", "--device", "cpu", "--quick"]
    done = subprocess.run(
        [*command, "--json", "found.json", "--only", *names], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    found = json.loads((tmp_path / "found.json").read_text())["sections"]
    assert list(found) == names
    assert not [result["error"] for result in found.values() if "error" in result], done.stderr
    assert all(result["facts"] or result["claims"] for result in found.values())
    claims = {claim: verdict for result in found.values() for claim, verdict in result["claims"].items()}
    assert not {claim: verdict["found"] for claim, verdict in claims.items() if not verdict["holds"]}
    assert len(claims) > 7
    assert done.returncode == 0, done.stderr
