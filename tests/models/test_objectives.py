"""The objectives' losses, weights and correctness agree with torch's and scikit-learn's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pyimagesearch.models.objectives import BinaryCrossEntropy, CrossEntropy, balanced_weights, build_objective
from pyimagesearch.runtime.errors import UserError

LABELS = torch.tensor([0, 2, 2, 1, 2])
LOGITS = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
WEIGHTS = np.array([0.5, 2.0, 1.25])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_loss_sum_over_the_weight_sum_is_torchs_mean(smoothing, weights):
    objective = CrossEntropy(label_smoothing=smoothing, class_weights=weights)
    mean = objective.training_losses(LOGITS, LABELS).sum() / objective.weight_sum(LABELS.numpy())
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float32)
    expected = F.cross_entropy(LOGITS, LABELS, weight=weight, label_smoothing=smoothing)
    torch.testing.assert_close(mean, expected)


def test_evaluation_is_plain_cross_entropy_whatever_training_is():
    objective = CrossEntropy(label_smoothing=0.1, class_weights=WEIGHTS)
    assert torch.equal(objective.losses(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS, reduction="none"))


def test_correct_means_the_most_probable_class():
    objective = CrossEntropy()
    probabilities = objective.probabilities(LOGITS)
    assert torch.allclose(probabilities.sum(1), torch.ones(5))
    assert torch.equal(objective.correct(probabilities, LABELS), LOGITS.argmax(1) == LABELS)


def test_balanced_weights_are_inverse_to_the_class_counts_with_a_mean_of_one_per_photo():
    labels = np.array([0, 1, 1, 2, 2, 2, 2])
    weights = balanced_weights(labels, 3)
    assert weights.tolist() == (7 / (3 * np.array([1, 2, 4]))).tolist()  # to the last bit
    assert weights[labels].mean() == pytest.approx(1)


def test_the_mean_loss_of_several_labels_per_photo_is_torchs_bce_with_logits():
    labels = torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    objective = BinaryCrossEntropy()
    losses = objective.training_losses(LOGITS, labels)
    mean = losses.sum() / objective.weight_sum(labels.numpy())
    torch.testing.assert_close(mean, F.binary_cross_entropy_with_logits(LOGITS, labels))
    assert torch.equal(objective.losses(LOGITS, labels), losses)


def test_correct_is_the_share_of_a_photos_labels_on_the_right_side_of_one_half():
    objective = BinaryCrossEntropy()
    probabilities = objective.probabilities(torch.tensor([[2.0, -1, 0, -3], [1, 1, 1, 1]]))
    labels = torch.tensor([[1.0, 0, 1, 1], [0, 0, 0, 0]])
    assert objective.correct(probabilities, labels).tolist() == [0.75, 0]


@pytest.mark.parametrize(("flags", "named"), [((0.1, False), "--label-smoothing"), ((0.0, True), "--class-weights")])
def test_flags_for_photos_of_one_class_each_are_refused_for_several_labels(flags, named):
    several, one = (
        SimpleNamespace(labels=labels, classes=["a", "b", "c"])
        for labels in (np.zeros((5, 3), np.float32), LABELS.numpy())
    )
    settings = {"label_smoothing": flags[0], "balanced": flags[1], "device": torch.device("cpu")}
    with pytest.raises(UserError, match=f"{named} is for photos of one class each"):
        build_objective(several, **settings)
    assert build_objective(one, **settings).task == "single-label"
    assert build_objective(several, label_smoothing=0.0, balanced=False, device=None).task == "multi-label"


def test_where_all_labels_are_known_loss_and_share_are_the_plain_means_to_the_last_bit():
    labels = torch.randint(2, (50, 7), generator=torch.Generator().manual_seed(1)).float()
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(2)).requires_grad_()
    objective = BinaryCrossEntropy()
    plain = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)
    assert torch.equal(objective.training_losses(logits, labels), plain)
    gradients = [
        torch.autograd.grad(losses.sum(), logits)[0] for losses in (objective.training_losses(logits, labels), plain)
    ]
    assert torch.equal(*gradients)
    probabilities = objective.probabilities(logits)
    assert torch.equal(
        objective.correct(probabilities, labels), ((probabilities >= 0.5) == (labels >= 0.5)).double().mean(1)
    )


def test_an_unknown_label_counts_neither_in_the_loss_nor_in_its_gradient_nor_as_correct():
    labels = torch.tensor([[1.0, -1, 0], [-1, -1, 1], [-1, -1, -1]])
    logits = torch.tensor([[2.0, 5, 1], [5, -5, -1], [1, 2, 3]], requires_grad=True)
    objective = BinaryCrossEntropy()
    losses = objective.training_losses(logits, labels)
    known = F.binary_cross_entropy_with_logits(logits[0, [0, 2]], labels[0, [0, 2]])
    alone = F.binary_cross_entropy_with_logits(logits[1, 2], labels[1, 2])
    torch.testing.assert_close(losses, torch.stack([known, alone, torch.zeros(())]))
    assert objective.correct(objective.probabilities(logits), labels).tolist() == pytest.approx([0.5, 0, 0])
    losses.sum().backward()
    assert torch.equal(logits.grad != 0, labels != -1)
