"""The benchmarks run, on tiny settings, and write what they promise. What they find here says nothing."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import measuring

TRAINING = ["--make", "11", "11", "11", "--side", "40", "--image-size", "32", "--batch-size", "4", "--epochs", "1"]
RUNS = {
    "train_step": ["--contenders", "ours", "--batch-sizes", "2", "3", "--image-size", "32", "--profile"],
    "input_pipeline": ["--contenders", "tutorial", "ours-cached", "--count", "11", "--sides", "48"],
    "end_to_end": ["--contenders", "tutorial", "ours", *TRAINING],
    "scaling": ["--contenders", "ddp", "--processes", "1", "--figure", "scaling.png", *TRAINING, "--", "--amp", "off"],
    "listing": ["--files", "300", "--classes", "3", "--reads", "200", "--epochs", "2", "--workers", "1"],
    "accuracy": ["--contenders", "reference", *TRAINING],
    "prepare": ["--count", "33", "--side", "40"],
    "recipes": ["--contenders", "modern-short", "--figure", "recipes.png", *TRAINING],
}  # fmt: skip


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What each benchmark wrote, by name. They run at the same time, for they mostly wait for imports."""
    folder = tmp_path_factory.mktemp("benchmarks")
    settings = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = {
        name: subprocess.Popen(
            [sys.executable, REPOSITORY / f"benchmarks/{name}.py", "--rounds", "1", "--json", f"{name}.json", *flags],
            **settings,
        )
        for name, flags in RUNS.items()
    }
    told = {name: process.communicate(timeout=600)[0] for name, process in running.items()}
    for name, process in running.items():
        assert process.returncode == 0, told[name]
    for figure in ("scaling.png", "recipes.png"):
        assert (folder / figure).read_bytes().startswith(b"\x89PNG")
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in RUNS}


@pytest.mark.training
@pytest.mark.parametrize(
    ("name", "contenders", "figures"),
    [
        ("train_step", {"ours"}, {"images_per_s", "ratio"}),
        ("input_pipeline", {"tutorial", "ours-cached"}, {"images_per_s", "ratio"}),
        ("end_to_end", {"tutorial", "ours"}, {"images_per_s", "epoch_s", "wall_s", "ratio"}),
        ("scaling", {"ddp x 1"}, {"images_per_s", "epoch_s", "wall_s", "ratio"}),
        ("listing", {"tutorial", "ours"}, {"list_s", "list_mib", "ratio"}),
        ("accuracy", {"reference"}, {"val_acc", "test_acc"}),
        ("recipes", {"modern-short"}, {"test_acc", "seconds", "ratio"}),
        ("prepare", {"cp", "no-verify", "verify", "link"}, {"seconds", "photos_per_s", "ratio"}),
    ],
)
def test_a_report_has_every_contender_with_median_and_spread_and_the_machine(reports, name, contenders, figures):
    report = reports[name]
    section = report["sections"][0]
    assert report["benchmark"] == name
    assert {"processor", "cores", "memory GiB", "GPUs", "torch", "timm"} <= set(report["machine"])
    assert report["settings"]["rounds"] == 1
    assert set(section["summary"]) == set(section["rounds"]) == contenders
    for spreads in section["summary"].values():
        cells = {key: spread for key, spread in spreads.items() if key in figures}
        assert set(cells) == figures
        assert all(spread["min"] <= spread["median"] <= spread["max"] for spread in cells.values())


@pytest.mark.training
def test_further_promises(reports):
    assert "convolution" in reports["train_step"]["sections"][0]["profile"]
    assert [section["batch"] for section in reports["train_step"]["sections"]] == [2, 3]
    assert reports["input_pipeline"]["sections"][0]["side"] == 48
    assert reports["scaling"]["sections"][0]["efficiency"] == {"ddp": {"1": 1.0}}
    assert reports["scaling"]["settings"]["flags"] == ["--amp", "off"]
    pss = reports["listing"]["sections"][1]["summary"]["ours"]
    assert set(pss) == {"worker_pss_mib_1", "worker_pss_mib_2"}


def test_contenders_take_turns_and_the_warm_up_is_left_out():
    turns = []

    def contender(name):
        return lambda: turns.append(name) or {"images_per_s": float(len(turns))}

    found = measuring.interleave({name: contender(name) for name in "ab"}, rounds=2, warmups=1)
    assert turns == list("ababab")
    assert found == {
        "a": [{"images_per_s": 3.0}, {"images_per_s": 5.0}],
        "b": [{"images_per_s": n} for n in (4.0, 6.0)],
    }


def test_the_ratio_is_of_one_round_and_above_1_for_the_better():
    rounds = {"slow": [{"s": 2.0}, {"s": 20.0}, {"s": 2.0}], "fast": [{"s": 1.0}, {"s": 10.0}, {"s": 0.5}]}
    ratio = measuring.summarise(rounds, "s", "slow", less_is_better=True)["fast"]["ratio"]
    assert ratio == {"median": 2.0, "min": 2.0, "max": 4.0}


def test_a_contender_has_its_own_process_and_environment_and_reports_why_it_fails():
    with measuring.closing({"one": measuring.Contender(_build, 3, environment={"OF_A_CONTENDER": "yes"})}) as made:
        found = made["one"](4)
        assert found == {"product": 12, "environment": "yes", "pid": found["pid"]}
        assert found["pid"] != os.getpid()
        assert "OF_A_CONTENDER" not in os.environ
        with pytest.raises(RuntimeError, match="unsupported operand"):
            made["one"](None)


def test_a_contender_that_cannot_be_built_reports_why():
    with measuring.closing({"one": measuring.Contender(_build, 3)}) as made:
        made["one"]._process.join()  # it is gone when it is called
        with pytest.raises(RuntimeError, match="OF_A_CONTENDER"):
            made["one"](4)


def _build(factor):
    found = os.environ["OF_A_CONTENDER"]
    return lambda n: {"product": factor * n, "environment": found, "pid": os.getpid()}
