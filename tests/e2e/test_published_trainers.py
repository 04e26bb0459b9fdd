"""The commands of docs/differences.md that replace three published trainers, at smaller sizes, on drawn photos."""

import csv
import json
import math
import re
import shlex
import shutil
import statistics
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from helpers.kill_and_resume import REPOSITORY
from helpers.scripts import run
from helpers.shapes import LABELS, draw_shapes
from torchvision import models

COLOURS = {"daisy": (240, 240, 230), "roses": (200, 30, 60), "tulips": (240, 170, 40)}
SMALL = {"--nproc": "2", "--image-size": "32", "--workers": "0"}


def commands(published: str) -> list[list[str]]:
    """The three commands of the row of the page's table that begins with `published`, as words."""
    page = (REPOSITORY / "docs" / "differences.md").read_text(encoding="utf-8")
    _, _, section = page.partition("\n## Commands of other published trainers\n")
    (row,) = (line for line in section.splitlines() if line.startswith(f"| {published}"))
    ours = re.findall("`python ([^`]+)`", row.split(" | ")[1])
    assert [command.partition(" ")[0] for command in ours] == [
        "prepare_dataset.py", "train_distributed.py", "distributed_inference.py",
    ]  # fmt: skip
    return [shlex.split(command) for command in ours]


def smaller(command: list[str], sizes: dict[str, str]) -> list[str]:
    """`command` with these values of flags in place of its own."""
    for flag, value in sizes.items():
        if flag in command:
            where = command.index(flag)
            command = [*command[: where + 1], value, *command[where + 2 :]]
        else:
            command = [*command, flag, value]
    return command


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_flower_photos_with_synchronised_batchnorm_and_the_published_cosine(photos, tmp_path):
    for name, colour in COLOURS.items():
        photos({name: 20}, "flower_photos", colour=colour)
    shutil.copytree(tmp_path / "flower_photos", tmp_path / "new")
    torch.save(models.resnet34(weights=None).state_dict(), tmp_path / "resNet34.pth")
    prepare, train, infer = commands("[ResNet-34 on flower_photos]")

    run(*prepare, folder=tmp_path)
    assert 6 <= len(list((tmp_path / "flowers" / "validation").rglob("*.png"))) <= 18  # 0.2 of 60, as chance has it

    told, _ = run(*smaller(train, {**SMALL, "--epochs": "3"}), folder=tmp_path)
    assert re.search(r"loaded (\d+) of the backbone's \1 tensors", told)
    history = table(tmp_path / "runs" / "flowers" / "history.csv")
    # published per epoch, ours per step; the history has the rate of each epoch's last step
    steps = math.ceil(len(list((tmp_path / "flowers" / "training").rglob("*.png"))) / 32)
    parts = [(epoch * steps - 1) / (3 * steps) for epoch in (1, 2, 3)]
    cosine = [(1 + math.cos(part * math.pi)) / 2 * (1 - 0.1) + 0.1 for part in parts]  # with lrf 0.1
    assert [float(row["lr"]) for row in history] == pytest.approx([0.001 * 2 * share for share in cosine])
    facts = json.loads((tmp_path / "runs" / "flowers" / "food_classifier.json").read_text())
    assert (facts["architecture"], facts["classes"]) == ("resnet34", list(COLOURS))
    trained = torch.load(tmp_path / "runs" / "flowers" / "food_classifier.pth", weights_only=True)
    assert trained["baseModel.bn1.running_mean"].abs().max() > 0  # BatchNorm is not frozen
    assert list((tmp_path / "runs" / "flowers" / "tensorboard").glob("events.*"))

    run(*infer, folder=tmp_path)
    predicted = table(tmp_path / "predictions.csv")
    assert len(predicted) == 60
    assert all(row["prediction"] in COLOURS and not row["error"] for row in predicted)


def test_text_lists_whose_labels_become_classes(photo, tmp_path):
    label_of = {f"{number:04}.png": number % 3 for number in range(48)}
    for name, label in label_of.items():
        photo(tmp_path / "images" / name, colour=list(COLOURS.values())[label])
    for split, names in {"Train": list(label_of)[:36], "Test": list(label_of)[36:]}.items():
        (tmp_path / f"{split}.txt").write_text("".join(f"images/{name} {label_of[name]}\n" for name in names))
    prepare, train, infer = commands("A trainer of ResNeXt50_32x4d or ResNet-50 over text lists")

    run(*prepare, folder=tmp_path)
    placed = {path.name: path.parent.name for path in (tmp_path / "listed").rglob("*.png")}
    assert placed == {name: str(label) for name, label in label_of.items()}
    tested = {path.name for path in (tmp_path / "listed" / "evaluation").rglob("*.png")}
    assert tested == set(list(label_of)[36:])

    run(*smaller(train, {**SMALL, "--epochs": "2", "--batch-size": "8", "--weights": "none"}), folder=tmp_path)
    facts = json.loads((tmp_path / "runs" / "listed" / "food_classifier.json").read_text())
    assert (facts["architecture"], facts["classes"]) == ("resnext50_32x4d", ["0", "1", "2"])
    assert len(table(tmp_path / "runs" / "listed" / "history.csv")) == 2

    told, _ = run(*infer, folder=tmp_path)
    assert (tmp_path / "runs" / "listed" / "classification_report.txt").read_text() in told
    predicted = table(tmp_path / "predictions.csv")
    assert {Path(row["path"]).name: row["truth"] for row in predicted} == {name: placed[name] for name in tested}


def test_xrays_of_patients_that_no_two_sides_share(tmp_path):
    drawn = draw_shapes(tmp_path / "drawn", patients=14, images=3)
    header, _, rows = drawn.read_text().partition("\n")
    columns = {"id": "StudyInstanceUID", "patient": "PatientID"}
    (tmp_path / "train.csv").write_text(",".join(columns.get(name, name) for name in header.split(",")) + "\n" + rows)
    shutil.copytree(tmp_path / "drawn" / "photos", tmp_path / "train")
    shutil.copytree(tmp_path / "drawn" / "photos", tmp_path / "new")
    prepare, train, infer = commands("A trainer for the X-rays of RANZCR CLiP")

    run(*smaller(prepare, {"--folds": "2"}), folder=tmp_path)
    sides = defaultdict(set)
    for row in table(tmp_path / "clip" / "labels.csv"):
        sides[row["image"].partition("-")[0]].add(row["split"])  # photos are drawn as <patient>-<number>.png
    assert {len(splits) for splits in sides.values()} == {1}
    assert set.union(*sides.values()) == {"fold-1", "fold-2", "evaluation"}

    run(*smaller(train, {**SMALL, "--epochs": "1", "--batch-size": "16", "--weights": "none"}), folder=tmp_path)
    summary = [row for row in table(tmp_path / "runs" / "clip" / "folds.csv") if row["split"] == "validation"]
    assert {"macro", "micro", *LABELS} == {row["label"] for row in summary}
    for row in summary:
        figures = [float(row[name]) for name in ("fold-1", "fold-2")]
        assert float(row["mean"]) == pytest.approx(statistics.mean(figures))
        assert float(row["sd"]) == pytest.approx(statistics.stdev(figures))
    facts = json.loads((tmp_path / "runs" / "clip" / "fold-1" / "food_classifier.json").read_text())
    assert (facts["task"], facts["channels"], facts["classes"]) == ("multi-label", 1, LABELS)

    run(*infer, folder=tmp_path)
    predicted = table(tmp_path / "predictions.csv")
    assert len(predicted) == len(list((tmp_path / "new").iterdir()))
    assert all(0 <= float(row[label]) <= 1 for row in predicted for label in LABELS)
