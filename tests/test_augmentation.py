"""From pixels to the tensor a model sees, and back; and randomness that follows from a key alone."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional as TF

from pyimagesearch import config
from pyimagesearch.augmentation import AUGMENTS, denormalize, eval_transform, key_of, keyed_randomness, train_transform

EVERY_VALUE = np.arange(256, dtype=np.uint8)


def draws() -> tuple:
    """One number from each of the generators that transforms use."""
    return torch.rand(()).item(), np.random.random(), random.random()


# --- the transforms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [eval_transform, *(lambda size, a=a: train_transform(size, a) for a in AUGMENTS)])
@pytest.mark.parametrize("size", [(300, 200), (17, 90), (1, 1)])
def test_a_photo_of_any_size_becomes_a_square_tensor(make, size):
    tensor = make(48)(Image.new("RGB", size))
    assert tensor.shape == (3, 48, 48)
    assert tensor.dtype == torch.float32


def test_training_augments_as_the_tutorial_does():
    names = [type(step).__name__ for step in train_transform().transforms]
    assert names == ["RandomResizedCrop", "RandomHorizontalFlip", "RandomRotation", "ToTensor", "Normalize"]
    crop, flip, rotation = train_transform().transforms[:3]
    assert (crop.size, crop.scale, flip.p, rotation.degrees) == ((224, 224), (0.08, 1.0), 0.5, [-90.0, 90.0])


def test_light_augmentation_keeps_photos_upright():
    names = [type(step).__name__ for step in train_transform(224, "light").transforms]
    assert names == ["RandomResizedCrop", "RandomHorizontalFlip", "ToTensor", "Normalize"]
    assert train_transform(224, "light").transforms[0].scale == (0.3, 1.0)


def test_evaluation_squeezes_the_whole_photo_and_normalises_it():
    photo = Image.effect_noise((60, 40), 80).convert("RGB")
    expected = TF.normalize(TF.to_tensor(photo.resize((32, 32), Image.BILINEAR)), config.MEAN, config.STD)
    assert torch.equal(eval_transform(32)(photo), expected)


# --- and back --------------------------------------------------------------------------------------------------------


def test_denormalize_gives_back_every_value_of_every_channel():
    pixels = np.stack([np.roll(EVERY_VALUE, shift) for shift in (0, 85, 170)], axis=-1).reshape(16, 16, 3)
    normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize(config.MEAN, config.STD)])
    back = denormalize(normalise(Image.fromarray(pixels)))
    assert back.dtype == np.uint8
    assert np.array_equal(back, pixels)


def test_denormalize_takes_a_batch_and_any_float():
    photo = Image.effect_noise((8, 6), 80).convert("RGB").resize((8, 8))
    batch = torch.stack([eval_transform(8)(photo)] * 2)
    assert np.array_equal(denormalize(batch), np.stack([np.asarray(photo)] * 2))
    assert denormalize(batch.half()).shape == (2, 8, 8, 3)
    assert denormalize(batch.requires_grad_()).shape == (2, 8, 8, 3)


@pytest.mark.parametrize("value, pixel", [(1e3, 255), (-1e3, 0), (2.65, 255), (-2.2, 0)])
def test_denormalize_clips_where_uint8_would_wrap_round(value, pixel):
    assert np.unique(denormalize(torch.full((3, 2, 2), value))).tolist() == [pixel]


# --- keys ------------------------------------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_numbers_whatever_was_drawn_before():
    seen = []
    for before in range(3):
        [draws() for _ in range(before)]
        with keyed_randomness(1, 2, 3):
            seen.append(draws())
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("other", [(2, 2, 3), (1, 3, 3), (1, 2, 4), (3, 2, 1), (2, 1, 3)])
def test_another_key_gives_other_numbers_from_every_generator(other):
    with keyed_randomness(1, 2, 3):
        one = draws()
    with keyed_randomness(*other):
        two = draws()
    assert all(a != b for a, b in zip(one, two, strict=True))


def test_the_global_generators_go_on_where_they_were_also_after_an_exception():
    for generator in (torch.manual_seed, np.random.seed, random.seed):
        generator(5)
    expected = [draws(), draws()]
    for generator in (torch.manual_seed, np.random.seed, random.seed):
        generator(5)
    first = draws()
    with pytest.raises(ValueError), keyed_randomness(1):
        draws()
        raise ValueError
    assert [first, draws()] == expected


def test_keys_do_not_collide_over_epochs_and_photos():
    keys = {key_of(seed, epoch, index) for seed in range(4) for epoch in range(20) for index in range(200)}
    assert len(keys) == 4 * 20 * 200
    assert all(0 <= key < 2**64 for key in keys)
