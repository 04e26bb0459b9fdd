"""The temperature that divides a model's logits, so that its probabilities agree with how often it is right.

Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks, 2017, https://arxiv.org/abs/1706.04599
"""

import math

import numpy as np
import torch
from torch.nn import functional as F

from pyimagesearch.data.labels_csv import UNKNOWN
from pyimagesearch.evaluation.metrics import measurable
from pyimagesearch.runtime.terminal import info

BOUNDS = 0.05, 20.0


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float | list[float]:
    """The temperature with the lowest negative log-likelihood of a split's labels; of several labels one for each.

    logits : float of shape (photos, classes); labels : as PhotoDataset has them; one that is not measurable has 1
    """
    if labels.ndim == 1:
        return _lowest(logits, labels)
    found = [1.0] * labels.shape[1]
    for label in np.flatnonzero(measurable(labels)):
        known = labels[:, label] != UNKNOWN
        column = logits[known, label]
        both = np.stack([np.zeros_like(column), column], axis=1)  # a sigmoid of z is a softmax of 0 and z
        found[label] = _lowest(both, labels[known, label].astype(np.int64))
    return found


def _lowest(logits: np.ndarray, labels: np.ndarray) -> float:
    """As fit_temperature for one class per photo."""
    from scipy.optimize import minimize_scalar

    rows, targets = torch.tensor(logits, dtype=torch.float64), torch.from_numpy(labels)
    rows[~rows.isfinite().all(1)] = 0  # which has the same loss at any temperature

    def loss(log_temperature: float) -> float:
        log_shares = (rows / math.exp(log_temperature)).log_softmax(1)
        # One more photo, of all classes alike: few photos that are all right would ask for certainty. The reason is
        # that of Platt's targets, Probabilistic outputs for support vector machines, 1999, section 2.2.
        return float(F.nll_loss(log_shares, targets, reduction="sum") - log_shares.mean())

    found = math.exp(minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded").x)
    if not BOUNDS[0] * 1.01 < found < BOUNDS[1] / 1.01:
        info(f"a temperature is at a bound, {BOUNDS[0]} or {BOUNDS[1]:g}: do not rely on the probabilities...")
    return found
