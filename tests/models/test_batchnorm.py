"""BatchNorm is frozen, synchronised, or refused where a batch is too small for it."""

import pytest
import torch
from helpers.runs import ONE
from torch import nn

from pyimagesearch.models.batchnorm import FrozenBatchNorm2d, prepare_batchnorm
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import UserError

CPU = torch.device("cpu")


def convolution() -> nn.Module:
    """A network that makes a map of a 32nd of the image."""
    return nn.Sequential(nn.Conv2d(3, 4, 32, stride=32), nn.BatchNorm2d(4))


@pytest.mark.parametrize("freeze", [True, False])
def test_batchnorm_is_frozen_when_asked_and_else_as_it_is(freeze):
    model = prepare_batchnorm(convolution(), ONE, freeze=freeze, synchronise=False, rows=2, image_size=32)
    assert isinstance(model[1], FrozenBatchNorm2d) is freeze


def test_frozen_and_synchronised_at_once_is_refused():
    with pytest.raises(UserError, match="--sync-bn has no effect"):
        prepare_batchnorm(convolution(), ONE, freeze=True, synchronise=True, rows=2, image_size=32)


def test_synchronising_over_the_threads_of_dataparallel_is_refused():
    two_gpus = distributed.Launch("dp", CPU, 2, 2)
    with pytest.raises(UserError, match="torchrun"):
        prepare_batchnorm(convolution(), two_gpus, freeze=False, synchronise=True, rows=2, image_size=32)


@pytest.mark.parametrize("rows, image_size, right", [(1, 32, False), (0, 224, False), (2, 32, True), (1, 64, True)])
def test_a_batch_too_small_for_statistics_is_refused_before_training(rows, image_size, right):
    settings = {"synchronise": False, "rows": rows, "image_size": image_size}
    prepare_batchnorm(convolution(), ONE, freeze=True, **settings)
    if right:
        prepare_batchnorm(convolution(), ONE, freeze=False, **settings)
        return
    with pytest.raises(UserError, match="the last batch of an epoch leaves"):
        prepare_batchnorm(convolution(), ONE, freeze=False, **settings)


@pytest.mark.parametrize("freeze", [True, False])
def test_a_network_without_batchnorm_is_left_as_it_is(freeze):
    model = nn.Sequential(nn.Conv2d(3, 4, 32, stride=32), nn.Linear(1, 1))
    assert prepare_batchnorm(model, ONE, freeze=freeze, synchronise=True, rows=0, image_size=32) is model
    assert len(model) == 2 and all(parameter.requires_grad for parameter in model.parameters())


def test_images_too_small_for_the_network_are_refused_before_training():
    with pytest.raises(UserError, match="16 x 16 pixels are too small for Sequential"):
        prepare_batchnorm(convolution(), ONE, freeze=True, synchronise=False, rows=2, image_size=16)
