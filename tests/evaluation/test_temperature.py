"""The temperature: found, harmless to the predictions, and bounded where validation says little."""

import math

import numpy as np
import pytest
import torch

from pyimagesearch.data.labels_csv import UNKNOWN
from pyimagesearch.evaluation.pictures.calibration import calibration_bins, expected_calibration_error
from pyimagesearch.evaluation.reporting import temperature
from pyimagesearch.evaluation.reporting.temperature import BOUNDS, fit_temperature
from pyimagesearch.models.objectives import BinaryCrossEntropy, CrossEntropy

FACTORS = [0.3, 1.0, 3.0, 8.0]


def drawn(photos: int = 4000, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels that are drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(photos, classes)) * 2
    gumbel = rng.gumbel(size=logits.shape)  # the largest sum of logit and Gumbel noise is a draw from the softmax
    return logits.astype(np.float32), (logits + gumbel).argmax(axis=1)


def error_of(probabilities, labels) -> float:
    return expected_calibration_error(calibration_bins(probabilities.max(1), probabilities.argmax(1) == labels))


@pytest.mark.parametrize("factor", FACTORS)
def test_the_factor_of_scaled_logits_is_found(factor):
    logits, labels = drawn()
    assert fit_temperature(logits * factor, labels) == pytest.approx(factor, rel=0.05)


@pytest.mark.parametrize("factor", FACTORS)
def test_of_several_labels_each_has_the_factor_of_its_own(factor):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)).astype(np.float32) * 2
    labels = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    labels[rng.random(4000) < 0.2, 0] = UNKNOWN
    logits[labels[:, 0] == UNKNOWN, 0] = 1e6  # counts for nothing
    found = fit_temperature(logits * [1, factor, 2], labels)
    assert found == pytest.approx([1, factor, 2], rel=0.08)


def test_a_label_without_a_known_positive_or_a_known_negative_keeps_its_probabilities():
    labels = np.array([[1, 1, 0], [0, 1, 0], [1, UNKNOWN, 0]], np.float32)
    found = fit_temperature(np.random.default_rng(0).normal(size=(3, 3)), labels)
    assert found[1:] == [1, 1] and found[0] != 1


def test_a_photo_whose_logits_are_not_finite_counts_for_nothing():
    logits, labels = drawn(500)
    expected = fit_temperature(3 * logits, labels)
    broken = np.array([[math.nan, 99, 0, 0, 0], [99, math.inf, 0, 0, 0], [99, 0, 0, 0, -math.inf]], np.float32)
    found = fit_temperature(np.vstack([3 * logits, broken]), np.append(labels, [1, 2, 3]))
    assert found == pytest.approx(expected, rel=1e-3)


def test_the_calibration_error_of_other_photos_falls_and_no_prediction_changes():
    logits, labels = drawn(2000)
    fitted, others = slice(0, 1000), slice(1000, 2000)
    found = fit_temperature(3 * logits[fitted], labels[fitted])
    before, after = (
        CrossEntropy(temperature=one).probabilities(torch.from_numpy(3 * logits[others])).numpy()
        for one in (1.0, found)
    )
    assert error_of(after, labels[others]) < error_of(before, labels[others]) / 3
    assert (after.argmax(1) == before.argmax(1)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("one", [*BOUNDS, 0.7, 1.3, 2.0])
def test_the_most_probable_class_stays_at_any_temperature_equals_too(one, dtype):
    logits = (torch.randn(20000, 11, generator=torch.Generator().manual_seed(0)) * 4).to(dtype).float()
    before, after = (CrossEntropy(temperature=t).probabilities(logits).argmax(1) for t in (1.0, one))
    assert torch.equal(before, after)
    decided = [BinaryCrossEntropy(t).probabilities(logits) >= 0.5 for t in (1.0, [one] * 11)]
    assert torch.equal(*decided)


@pytest.mark.parametrize("photos", [1, 3, 100])
def test_few_photos_that_are_all_right_ask_for_no_more_than_their_number_can_tell(photos):
    logits = np.eye(2, dtype=np.float32)[[0] * photos] * 4
    found = fit_temperature(logits, np.zeros(photos, np.int64))
    confidence = 1 / (1 + math.exp(-4 / found))
    assert confidence == pytest.approx((photos + 0.5) / (photos + 1), abs=1e-3)


@pytest.mark.parametrize("logits", [np.zeros((3, 2)), np.full((3, 2), math.nan), np.array([[math.inf, 0]] * 3)])
def test_logits_that_say_nothing_end_within_the_bounds(logits):
    assert BOUNDS[0] <= fit_temperature(logits.astype(np.float32), np.array([0, 1, 1])) <= BOUNDS[1]


def test_a_model_that_is_always_sure_and_wrong_is_at_the_bound_which_is_said(monkeypatch):
    said = []
    monkeypatch.setattr(temperature, "info", said.append)
    logits = np.eye(2, dtype=np.float32)[[0] * 50] * 9
    assert fit_temperature(logits, np.ones(50, np.int64)) == pytest.approx(BOUNDS[1], rel=0.01)
    both = np.array([[1, 0]] * 25 + [[0, 1]] * 25, np.float32)
    fit_temperature((0.5 - both) * 9, both)
    fit_temperature(*drawn(100))
    assert len(said) == 3 and all("a temperature is at a bound, 0.05 or 20" in line for line in said)
