"""What a model is trained for: losses that torch would give, and means whose weights every rank knows."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from pyimagesearch.models.objectives import BinaryCrossEntropy, CrossEntropy, balanced_weights, build_objective
from pyimagesearch.runtime.errors import UserError

LABELS = torch.tensor([0, 2, 2, 1, 2])
LOGITS = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
WEIGHTS = np.array([0.5, 2.0, 1.25])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_summed_and_divided_by_the_weights_it_is_torchs_mean(smoothing, weights):
    objective = CrossEntropy(label_smoothing=smoothing, class_weights=weights)
    mean = objective.training_losses(LOGITS, LABELS).sum() / objective.weight_sum(LABELS.numpy())
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float32)
    expected = F.cross_entropy(LOGITS, LABELS, weight=weight, label_smoothing=smoothing)
    torch.testing.assert_close(mean, expected)


def test_evaluation_is_plain_cross_entropy_whatever_training_is():
    objective = CrossEntropy(label_smoothing=0.1, class_weights=WEIGHTS)
    assert torch.equal(objective.losses(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS, reduction="none"))


def test_right_is_the_likeliest_class():
    objective = CrossEntropy()
    probabilities = objective.probabilities(LOGITS)
    assert torch.allclose(probabilities.sum(1), torch.ones(5))
    assert torch.equal(objective.correct(probabilities, LABELS), LOGITS.argmax(1) == LABELS)


def test_balanced_weights_are_scikit_learns_and_one_in_the_mean():
    labels = np.array([0, 1, 1, 2, 2, 2, 2])
    weights = balanced_weights(labels, 3)
    assert weights == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=labels))
    assert weights[labels].mean() == pytest.approx(1)


def test_several_labels_a_photo_have_torchs_bce_with_logits_as_their_mean_loss():
    labels = torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    objective = BinaryCrossEntropy()
    losses = objective.training_losses(LOGITS, labels)
    mean = losses.sum() / objective.weight_sum(labels.numpy())
    torch.testing.assert_close(mean, F.binary_cross_entropy_with_logits(LOGITS, labels))
    assert torch.equal(objective.losses(LOGITS, labels), losses)


def test_right_is_the_share_of_a_photos_labels_on_the_right_side_of_one_half():
    objective = BinaryCrossEntropy()
    probabilities = objective.probabilities(torch.tensor([[2.0, -1, 0, -3], [1, 1, 1, 1]]))
    labels = torch.tensor([[1.0, 0, 1, 1], [0, 0, 0, 0]])
    assert objective.correct(probabilities, labels).tolist() == [0.75, 0]


@pytest.mark.parametrize(("flags", "said"), [((0.1, False), "--label-smoothing"), ((0.0, True), "--class-weights")])
def test_what_is_for_photos_of_one_class_each_is_refused_for_several_labels(flags, said):
    several, one = np.zeros((5, 3), np.float32), LABELS.numpy()
    settings = {"label_smoothing": flags[0], "balanced": flags[1], "device": torch.device("cpu")}
    with pytest.raises(UserError, match=f"{said} is for photos of one class each"):
        build_objective(several, 3, **settings)
    assert build_objective(one, 3, **settings).task == "single-label"
    assert build_objective(several, 3, label_smoothing=0.0, balanced=False, device=None).task == "multi-label"
