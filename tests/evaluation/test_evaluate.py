"""One pass of evaluation: every photo once, in the order of the dataset."""

import contextlib

import numpy as np
import pytest
import torch
from helpers.runs import SIZE, Net, as_the_model_sees
from torch.nn import functional as F

from pyimagesearch.create_dataloaders import get_dataloader
from pyimagesearch.data.transforms import eval_transform
from pyimagesearch.evaluation import evaluate
from pyimagesearch.models.objectives import CROSS_ENTROPY

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_probabilities_come_in_the_order_of_the_dataset_for_any_batch_size(photos, size):
    data, loader = get_dataloader(photos({"a": 4, "b": 3}), eval_transform(SIZE), size, shuffle=False, workers=0)
    probabilities, losses = evaluate.predict_split(Net(), loader)
    images, labels = as_the_model_sees(data, range(len(data)))
    with torch.no_grad():
        logits = Net()(images)
    assert (probabilities.dtype, losses.dtype) == (np.float32, np.float64)
    assert np.allclose(probabilities, logits.softmax(1), atol=1e-6)
    assert np.allclose(losses, F.cross_entropy(logits, labels, reduction="none"), atol=1e-6)


class FitsTwoPhotos(Net):
    """Lacks memory for more than two photos at a time."""

    def forward(self, images):
        if len(images) > 2:
            raise torch.OutOfMemoryError("simulated")
        return super().forward(images)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_batch_for_which_memory_is_short_is_evaluated_in_parts(photos, capsys, mirrored):
    root = photos({"a": 4, "b": 3})
    answers = []
    for model in (Net(), FitsTwoPhotos()):
        _, loader = get_dataloader(root, eval_transform(SIZE), 5, shuffle=False, workers=0)
        answers.append(evaluate.predict_split(model, loader, mirrored=mirrored))
    for one, other in zip(*answers, strict=True):
        assert np.allclose(one, other, atol=1e-6)
    said = [line for line in capsys.readouterr().out.splitlines() if "out of memory" in line]
    assert said == [f"[INFO] out of memory; from here on {rows} photos at a time are evaluated..." for rows in (3, 2)]


def test_a_photo_for_which_memory_is_short_ends_the_evaluation():
    def forward(images):
        raise torch.OutOfMemoryError("simulated")

    model = Net()
    model.forward = forward
    with pytest.raises(torch.OutOfMemoryError):
        evaluate.forward_batch(model, torch.zeros(5, 3, SIZE, SIZE), CROSS_ENTROPY)


def test_the_progress_bar_has_the_name_of_the_split_and_counts_its_photos(photos, monkeypatch):
    _, loader = get_dataloader(
        photos({"a": 4, "b": 3}, root="data/validation"), eval_transform(SIZE), 3, shuffle=False, workers=0
    )
    bars = []

    class Bar(contextlib.nullcontext):
        def __init__(self, title, total):
            self.enter_result, self.n = self, 0
            bars.append((title, total, self))

        def update(self, rows):
            self.n += rows

    monkeypatch.setattr(evaluate, "make_bar", Bar)
    evaluate.predict_split(Net(), loader)
    ((title, total, bar),) = bars
    assert (title, total, bar.n) == ("validation", 7, 7)


def test_an_epoch_has_its_roc_auc_only_with_several_labels():
    assert evaluate.Totals(3.0, 2, 4).summary("Val") == "Val loss: 0.750000, Val accuracy: 0.5000"
    with_auc = evaluate.Totals(3.0, 2.5, 4, 0.875).summary("Val")
    assert with_auc == "Val loss: 0.750000, Val accuracy: 0.6250, Val ROC AUC: 0.8750"


@pytest.mark.parametrize("size", [2, 7])
def test_evaluation_sums_over_photos(photos, size):
    data, loader = get_dataloader(photos({"a": 4, "b": 3}), eval_transform(SIZE), size, shuffle=False, workers=0)
    totals = evaluate.evaluate(Net(), loader)
    images, labels = as_the_model_sees(data, range(len(data)))
    logits = Net()(images)
    assert totals.loss == pytest.approx(F.cross_entropy(logits, labels, reduction="sum").item(), rel=1e-6)
    assert totals.correct == (logits.argmax(1) == labels).sum()
    assert totals.count == 7
