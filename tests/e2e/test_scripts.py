"""The three scripts, run as a person does."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.kill_and_resume import REPOSITORY, draw_dataset, identical
from helpers.scripts import run
from PIL import Image

SMALL = ["--weights", "none", "--image-size", "32", "--batch-size", "8", "--epochs", "1"]
GROCERY = REPOSITORY.parent / "shared" / "data" / "Grocery-11"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_dataset(tmp_path_factory.mktemp("data"), {"training": 9, "validation": 3, "evaluation": 5})


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained")
    told, _ = run("train_distributed.py", "--data", data, "--output", output, *SMALL, "--workers", "0")
    return output, told


def test_from_raw_photos_to_a_picture_of_predictions(tmp_path):
    """With the tutorial's three commands, but for the size of the job, in an empty folder, no place named."""
    for split, count in (("training", 4), ("validation", 2), ("evaluation", 3)):
        (tmp_path / "Food-11" / split).mkdir(parents=True)
        for label in range(11):
            for index in range(count):
                pixels = np.random.default_rng([label, index]).integers(0, 60, (40, 40, 3)) + 15 * label
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "Food-11" / split / f"{label}_{index}.jpg")
    told, _ = run("prepare_dataset.py", folder=tmp_path)
    assert "[INFO] total images found: 44..." in told
    assert "[INFO] total images copied to dataset/training: 44..." in told
    told, _ = run("train_distributed.py", *SMALL, folder=tmp_path)
    for line in ("number of GPUs found", "using a batch size of 8...", "training the network...", "EPOCH: 1/1"):
        assert f"[INFO] {line}" in told
    assert "Train loss: " in told and "Val loss: " in told
    assert "     Noodles  " in told and "   Vegetable  " in told  # as the tutorial's report prints them
    told, _ = run("distributed_inference.py", "--seed", "1", folder=tmp_path)
    assert told.count("Ground Truth: ") == 4
    assert Image.open(tmp_path / "output" / "results.png").width > 300


def test_training_leaves_all_that_the_readme_lists(trained):
    output, told = trained
    names = {path.name for path in output.iterdir()}
    assert names == {
        "food_classifier.pth", "food_classifier.json", "model_training.png", "history.csv", "classification_report.txt",
        "classification_report.json", "confusion_matrix.png", "classes.png", "calibration.png", "mistakes.png",
        "risk_coverage.png", "label_issues.csv", "label_issues.png", "report.html", "checkpoints",
    }  # fmt: skip
    assert (output / "classification_report.txt").read_text() in told
    after = told.split("[INFO] total time taken to train the model: ")[1].splitlines()
    ends = ("test accuracy: ", "best epoch: 1 of 1", "time: ", "images/s: ", f"files: {output}")
    assert [line.startswith(f"[INFO] {end}") for line, end in zip(after[-5:], ends, strict=True)] == [True] * 5
    state = torch.load(output / "food_classifier.pth", weights_only=True)
    assert not any(name.startswith("module.") for name in state)
    facts = json.loads((output / "food_classifier.json").read_text())
    report = json.loads((output / "classification_report.json").read_text())
    assert facts["classes"] == ["class0", "class1", "class2"]
    assert facts["metrics"]["test_acc"] == pytest.approx(report["accuracy"])


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_seed_gives_the_same_weights_bit_for_bit_with_any_number_of_workers(workers, trained, data, tmp_path):
    run("train_distributed.py", "--data", data, "--output", tmp_path, *SMALL, "--workers", workers)
    assert identical(tmp_path / "food_classifier.pth", trained[0] / "food_classifier.pth")


def test_the_scripts_own_launcher_trains_as_one_process_does(data, tmp_path):
    flags = ["--weights", "none", "--freeze-bn", "--amp", "off", "--image-size", "32", "--global-batch-size", "8"]
    for processes in (1, 3):
        run("train_distributed.py", "--data", data, "--output", tmp_path / str(processes), *flags, "--epochs", "1",
            "--nproc", processes, "--shares", {1: "equal", 3: "3,1,2"}[processes], "--batch-size", "auto")  # fmt: skip
    histories = [next(csv.DictReader(open(tmp_path / str(n) / "history.csv"))) for n in (1, 3)]  # noqa: SIM115
    for name in ("train_loss", "val_loss"):
        assert float(histories[1][name]) == pytest.approx(float(histories[0][name]), rel=1e-5)
    assert histories[1]["lr"] == histories[0]["lr"]
    reports = [(tmp_path / str(n) / "classification_report.txt").read_text() for n in (1, 3)]
    assert reports[0] == reports[1]


def test_a_mistake_under_the_scripts_own_launcher_is_printed_once_and_exits_with_2(tmp_path):
    _, err = run("train_distributed.py", "--data", tmp_path / "none", *SMALL, "--nproc", "2", status=2)
    assert err.count("error: ") == 1
    assert "Traceback" not in err


def test_ranks_that_were_started_with_other_flags_end_with_one_line(data, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python", "sh"]
    script = f"exec {sys.executable} {REPOSITORY / 'train_distributed.py'} --data {data} --epochs $((RANK + 1))"
    done = subprocess.run([*command, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "--epochs is 2 and 1; start all ranks alike" in errors[0]
    assert os.listdir(tmp_path) == []


def test_torchrun_forwards_sigusr1_when_asked_to(data, tmp_path):
    """What deploy/slurm.sbatch relies on."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["--signals-to-handle=SIGTERM,SIGINT,SIGUSR1", str(REPOSITORY / "train_distributed.py")]
    command += ["--data", str(data), "--output", str(tmp_path), *SMALL, "--epochs", "99", "--freeze-bn"]
    process = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    end = time.monotonic() + 120
    while not list(tmp_path.glob("checkpoints/*.pt")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    told, _ = process.communicate(timeout=60)
    assert "SIGUSR1: saved in" in told


def test_predictions_of_many_photos_are_the_same_for_one_and_two_processes_and_in_the_order_of_the_paths(
    trained, data, tmp_path
):
    (tmp_path / "broken.png").write_bytes(b"no photo")
    photos = [data / "evaluation", tmp_path / "broken.png"]
    told = {}
    for processes in (0, 2):
        told[processes], _ = run(
            "distributed_inference.py", "--output", trained[0], "--images", *photos, "--top-k", "2", "--quiet",
            "--csv", tmp_path / "said.csv", "--workers", "1", processes=processes,
        )  # fmt: skip
        (tmp_path / "said.csv").rename(tmp_path / f"{processes}.csv")
    one, two = ((tmp_path / f"{processes}.csv").read_text() for processes in (0, 2))
    assert one == two
    assert told[0] == told[2]
    rows = list(csv.DictReader(one.splitlines()))
    assert [Path(row["path"]).name for row in rows[:2]] == ["0_0.png", "0_1.png"]
    assert len(rows) == 16
    assert rows[-1]["prediction"] == "" and "broken.png" in rows[-1]["path"] and rows[-1]["error"] == "not an image"
    assert float(rows[0]["confidence"]) >= float(rows[0]["confidence_2"])
    assert "16 photos, 1 of them unreadable" in told[0]
    assert Image.open(trained[0] / "predictions.png").width > 300
    (trained[0] / "predictions.png").unlink()


def test_from_a_notebook_predictions_are_those_of_the_script(trained, data, tmp_path):
    run("distributed_inference.py", "--output", trained[0], "--images", data / "evaluation", "--pages", "0",
        "--csv", tmp_path / "said.csv")  # fmt: skip
    script = (
        f"from pyimagesearch.evaluation.predict import predict\n"
        f"for one in predict({[str(data / 'evaluation')]!r}, {str(trained[0])!r}):\n"
        f"    print(one.path, one.prediction, f'{{one.confidence:.6f}}', one.error, sep=',')"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert said.stdout.splitlines() == (tmp_path / "said.csv").read_text().splitlines()[1:]


@pytest.mark.parametrize("processes", [0, 3])
def test_a_split_has_the_report_that_training_ended_with_for_any_number_of_processes(
    trained, data, tmp_path, processes
):
    told, _ = run("distributed_inference.py", "--data", data, "--output", trained[0], "--on", "test", "--workers", "0",
                  "--csv", tmp_path / "said.csv", processes=processes)  # fmt: skip
    report = (trained[0] / "classification_report.txt").read_text()
    assert report in told
    accuracy = json.loads((trained[0] / "food_classifier.json").read_text())["metrics"]["test_acc"]
    assert f"test accuracy {accuracy:.4f} of 15 photos" in told
    rows = list(csv.DictReader(open(tmp_path / "said.csv")))  # noqa: SIM115
    assert sum(row["truth"] == row["prediction"] for row in rows) == round(accuracy * 15)
    for number, name in enumerate(["class0", "class1", "class2"]):  # the row of the confusion matrix
        said = [row["prediction"] for row in rows if row["truth"] == name]
        counts = [str(said.count(other)) for other in ("class0", "class1", "class2")]
        assert [str(number), name, *counts] in [line.split() for line in told.splitlines()]


def test_an_exported_model_is_checked_and_named(trained, tmp_path):
    told, _ = run("distributed_inference.py", "--output", trained[0], "--export", "model.pt2", folder=tmp_path)
    assert "model.pt2: uint8 pixels (batch, 3, 32, 32) to probabilities (batch, 3)" in told
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--images", "photo.png", "--csv", "."], "not a regular file"),
        (["--on", "test", "--data", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_in_inference_is_printed_once_by_two_processes_before_the_work(trained, tmp_path, flags, found):
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    _, err = run("distributed_inference.py", "--output", trained[0], *flags, folder=tmp_path, processes=2, status=1)
    assert err.count("error: ") == 1 and found in err


@pytest.mark.parametrize(
    ("script", "flags", "found"),
    [
        ("train_distributed.py", ["--data", "nowhere"], "nowhere"),
        ("train_distributed.py", ["--weights", "nowhere.pth"], "nowhere.pth"),
        ("train_distributed.py", ["--weights", "none", "--freeze-bn", "--sync-bn"], "--sync-bn has no effect"),
        ("train_distributed.py", ["--weights", "none", "--amp", "fp16"], "--amp fp16"),
        ("train_distributed.py", ["--weights", "none", "--batch-size", "26"], "BatchNorm"),
        ("distributed_inference.py", ["--output", "nowhere"], "train_distributed.py first"),
        ("distributed_inference.py", ["--output", "nowhere", "--export", "model.pth"], ".onnx or .pt2"),
        ("distributed_inference.py", ["--output", "nowhere", "--export", "model.pt2"], "train_distributed.py first"),
        ("prepare_dataset.py", ["--source", "nowhere"], "--sample"),
    ],
)
def test_a_mistake_is_one_line_with_exit_status_2(script, flags, found, data, tmp_path):
    given = ["--data", data, "--image-size", "32"] if script == "train_distributed.py" else []
    _, err = run(script, *given, *flags, folder=tmp_path, status=2)
    assert err.startswith("error: ") and len(err.splitlines()) == 1
    assert found in err


def test_classes_that_differ_between_splits_are_named_before_anything_trains(tmp_path):
    data = draw_dataset(tmp_path / "data", {"training": 2, "validation": 2, "evaluation": 2})
    (data / "validation" / "class1").rename(data / "validation" / "class9")
    told, err = run("train_distributed.py", "--data", data, "--output", tmp_path / "output", *SMALL, status=2)
    assert "validation has the class 'class9', which is none of the" in err
    assert "training the network" not in told


def test_a_photo_that_breaks_after_preparing_is_named_with_its_path(tmp_path):
    data = draw_dataset(tmp_path / "data", {"training": 4, "validation": 2, "evaluation": 2})
    photo = data / "training" / "class1" / "1_1.png"
    photo.write_bytes(photo.read_bytes()[:200])
    _, err = run("train_distributed.py", "--data", data, "--output", tmp_path / "output", *SMALL, status=2)
    assert len(err.splitlines()) == 1
    assert str(photo) in err


@pytest.mark.skipif(not GROCERY.is_dir(), reason="Grocery-11 is not here")
def test_real_photos_are_prepared_and_trained_on(tmp_path):
    run("prepare_dataset.py", "--source", GROCERY, "--dest", tmp_path / "g11")
    told, _ = run("train_distributed.py", "--data", tmp_path / "g11", "--output", tmp_path / "output", *SMALL,
                  "--limit", "5", "--batch-size", "16", "--amp", "off")  # fmt: skip
    assert "Yoghurt" in told
    run("distributed_inference.py", "--data", tmp_path / "g11", "--output", tmp_path / "output", "--count", "5")
