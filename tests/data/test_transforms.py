"""From pixels to the tensor that a model sees, and back; and random numbers that follow from a key alone."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional as TF

from pyimagesearch import config
from pyimagesearch.data.crops import NUMBERS
from pyimagesearch.data.keyed_randomness import key_of, keyed_numbers, keyed_randomness
from pyimagesearch.data.transforms import (
    AUGMENTS,
    MixedLabels,
    Mixing,
    denormalize,
    eval_transform,
    growing_sides,
    mix_pairs,
    normalize,
    to_grey,
    train_transform,
)

EVERY_VALUE = np.arange(256, dtype=np.uint8)


def draws() -> tuple:
    """One number from each of the generators that transforms use."""
    return torch.rand(()).item(), np.random.random(), random.random()


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))


# --- the transforms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "make", [lambda s, c: eval_transform(s, c), *(lambda s, c, a=a: train_transform(s, a, c) for a in AUGMENTS)]
)
@pytest.mark.parametrize("size", [(300, 200), (17, 90), (1, 1), (1, 2000)])
def test_a_photo_of_any_size_becomes_a_square_of_pixels(make, size, channels):
    tensor = make(48, channels)(Image.new("RGB", size, "white"))
    assert tensor.shape == (channels, 48, 48)
    assert tensor.dtype == torch.uint8
    assert tensor.max() == 255


def test_an_image_and_its_array_become_the_same():
    photo = noise(60, 40)
    for transform in (eval_transform(32), train_transform(32)):
        with keyed_randomness(1):
            one = transform(photo)
        with keyed_randomness(1):
            assert torch.equal(one, transform(np.asarray(photo)))


def test_evaluation_squeezes_the_whole_photo_as_torchvision_does():
    for size in ((60, 40), (500, 375), (20, 10), (20, 100)):
        photo = noise(*size)
        expected = TF.pil_to_tensor(transforms.Resize((32, 32))(photo)).int()
        assert (eval_transform(32)(photo).int() - expected).abs().max() <= 1


def test_light_augmentation_never_rotates_a_photo():
    white = Image.new("RGB", (50, 40), "white")
    assert all((train_transform(32, "light")(white) == 255).all() for _ in range(50))
    assert any((train_transform(32, "tutorial")(white) == 0).any() for _ in range(50))


def test_grey_is_the_lightness_that_pillow_computes():
    photo = noise(32, 32)
    expected = torch.from_numpy(np.array(photo.convert("L"))).int()
    assert (eval_transform(32, 1)(photo)[0].int() - expected).abs().max() <= 1
    assert (to_grey(eval_transform(32)(photo)[None])[0, 0].int() - expected).abs().max() <= 1


# --- normalised, and back --------------------------------------------------------------------------------------------


def test_normalize_is_what_torchvision_does():
    pixels = torch.from_numpy(np.array(noise(20, 10))).permute(2, 0, 1)
    expected = TF.normalize(pixels / 255, config.MEAN, config.STD)
    assert torch.allclose(normalize(pixels[None])[0], expected, atol=1e-6)


def test_one_channel_is_normalised_by_the_mean_over_colours():
    grey = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 2)
    expected = (np.array([0, 1]) - np.mean(config.MEAN)) / np.mean(config.STD)
    assert normalize(grey).flatten().tolist() == pytest.approx(expected.tolist(), rel=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_denormalize_restores_every_value_of_every_channel(channels):
    pixels = np.stack([np.roll(EVERY_VALUE, shift) for shift in (0, 85, 170)][:channels]).reshape(channels, 16, 16)
    back = denormalize(normalize(torch.from_numpy(pixels)))
    assert back.dtype == np.uint8
    assert back.shape == (16, 16, 3)
    assert np.array_equal(back, np.broadcast_to(pixels, (3, 16, 16)).transpose(1, 2, 0))


def test_denormalize_takes_a_batch_and_any_float():
    photo = noise(8, 8)
    batch = normalize(torch.stack([eval_transform(8)(photo)] * 2))
    assert np.array_equal(denormalize(batch), np.stack([np.asarray(photo)] * 2))
    assert denormalize(batch.half()).shape == (2, 8, 8, 3)
    assert denormalize(batch.requires_grad_()).shape == (2, 8, 8, 3)


@pytest.mark.parametrize("value, pixel", [(1e3, 255), (-1e3, 0), (2.65, 255), (-2.2, 0)])
def test_denormalize_clips_where_uint8_would_wrap_round(value, pixel):
    assert np.unique(denormalize(torch.full((3, 2, 2), value))).tolist() == [pixel]


# --- keys ------------------------------------------------------------------------------------------------------------


def numbers_of(seed: int, epoch: int, indices) -> np.ndarray:
    indices = np.asarray(indices, np.int64)
    return keyed_numbers(seed, np.full_like(indices, epoch), indices)


def test_the_numbers_of_a_photo_do_not_depend_on_the_others_in_its_batch():
    together = numbers_of(3, 1, [5, 2, 9])
    assert together.shape == (3, NUMBERS)
    assert np.array_equal(together[1], numbers_of(3, 1, [2])[0])
    assert numbers_of(3, 1, []).shape == (0, NUMBERS)


def test_another_seed_epoch_or_photo_gives_other_numbers():
    streams = [numbers_of(seed, epoch, range(50)) for seed in range(3) for epoch in range(3)]
    assert len({row.tobytes() for stream in streams for row in stream}) == 9 * 50


def test_the_numbers_of_a_key_stay_what_they_were_so_that_a_run_can_be_repeated():
    assert numbers_of(3, 1, [7])[0, :3].tolist() == [0.07430945746630413, 0.11082040499891332, 0.37154184323807316]
    assert key_of(3, 1, 7) == 2385150977119170615


def test_the_numbers_are_uniform_and_independent():
    numbers = numbers_of(0, 0, range(20_000))
    assert numbers.min() >= 0 and numbers.max() < 1
    # five standard deviations of a mean, and of a correlation, of 20,000 numbers
    assert np.abs(numbers.mean(axis=0) - 0.5).max() < 5 * np.sqrt(1 / 12 / 20_000)
    correlations = np.corrcoef(numbers, rowvar=False) - np.eye(NUMBERS)
    assert np.abs(correlations).max() < 5 / np.sqrt(20_000)
    neighbours = np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]
    assert abs(neighbours) < 5 / np.sqrt(20_000)


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


def test_the_global_generators_continue_where_they_were_also_after_an_exception():
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


# --- sides that grow -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image_size, first, epochs, sides",
    [
        (96, 0.5, 8, (48, 64, 64, 64, 80, 96)),
        (224, 0.5, 10, (112, 128, 144, 160, 176, 192, 208)),
        (100, 0.1, 4, (32, 32, 64)),  # at least 32, and in multiples of 16
        (104, 0.9, 4, (96, 96, 96)),  # 94, 97 and 101
        (100, 1.0, 4, ()),
        (96, 0.5, 1, ()),  # the last epoch has the full side
        (96, 1, 20, ()),
    ],
)
def test_the_side_grows_evenly_over_three_quarters_of_the_epochs(image_size, first, epochs, sides):
    assert growing_sides(image_size, first, epochs) == sides
    transform = train_transform(image_size, sides=sides)
    assert [transform.at(epoch).size for epoch in range(epochs)] == [*sides, *[image_size] * (epochs - len(sides))]


# --- mixed photos ----------------------------------------------------------------------------------------------------


def drawn_of(kind: str, count: int = 200) -> list[tuple]:
    return [drawn for step in range(count) if (drawn := Mixing(kind, 1.0).draw(7, 0, step))]


def rows(count: int, side: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Photos of which each has its own number in all pixels, and those numbers as labels."""
    numbers = torch.arange(count)
    images = numbers.float()[:, None, None, None].expand(-1, 3, side, side)
    return images.contiguous(memory_format=torch.channels_last), numbers


@pytest.mark.parametrize("side", [12, 15])
def test_cutmix_puts_one_rectangle_of_each_photo_of_a_pair_into_the_other_and_counts_labels_by_area(side):
    shares = []
    for drawn in drawn_of("cutmix"):
        mixed, labels = mix_pairs(*rows(4, side), drawn, slice(0, 4))
        assert labels.own.tolist() == [0, 1, 2, 3] and labels.partner.tolist() == [1, 0, 3, 2]
        other = mixed != labels.own[:, None, None, None]
        assert torch.equal(mixed[other], labels.partner[:, None, None, None].expand_as(mixed)[other].float())
        assert (other == other[0, 0]).all()
        inside = other[0, 0]
        assert inside.sum() == inside.any(0).sum() * inside.any(1).sum()  # a rectangle
        assert labels.share == pytest.approx(1 - inside.float().mean().item(), abs=1e-6)
        shares.append(labels.share)
    assert min(shares) < 0.2 and max(shares) > 0.95 and len(set(shares)) > 30


def test_mixup_blends_each_photo_of_a_pair_with_the_other():
    for drawn in drawn_of("mixup"):
        mixed, labels = mix_pairs(*rows(4), drawn, slice(0, 4))
        expected = labels.share * labels.own + (1 - labels.share) * labels.partner
        assert torch.allclose(mixed, expected[:, None, None, None].expand_as(mixed))
    shares = [share for _, share, *_ in drawn_of("mixup")]
    assert 0.4 < np.mean(shares) < 0.6 and 0.35 < np.mean([0.1 < share < 0.9 for share in shares]) < 0.6


@pytest.mark.parametrize("kind", ["cutmix", "mixup"])
def test_the_last_photo_of_an_odd_number_stays_as_it_is_and_a_batch_keeps_its_layout(kind):
    for count in (0, 1, 5):
        mixed, labels = mix_pairs(*rows(count), drawn_of(kind)[0], slice(0, count))
        assert torch.allclose(mixed[4:], rows(count)[0][4:]) and labels.partner[4:].tolist() == labels.own[4:].tolist()
        assert mixed.shape == (count, 3, 12, 12)
        assert count == 0 or mixed.is_contiguous(memory_format=torch.channels_last)


def test_the_rows_that_are_kept_are_those_of_the_whole_batch_to_the_last_bit():
    images = torch.randn(7, 3, 5, 5)
    for drawn in drawn_of("both", 20):
        whole, labels = mix_pairs(images, torch.arange(7), drawn, slice(0, 7))
        for first, last in ((0, 3), (1, 2), (3, 6), (5, 7), (3, 3)):
            start, stop = first // 2 * 2, -(-last // 2) * 2
            some = slice(first - start, last - start)
            part, some_labels = mix_pairs(images[start:stop], torch.arange(7)[start:stop], drawn, some)
            assert torch.equal(part, whole[first:last])
            assert torch.equal(some_labels.partner, labels.partner[first:last])


def test_which_batches_are_mixed_and_how_follows_from_the_key_and_the_share():
    keys = [(seed, epoch, step) for seed in (0, 1) for epoch in range(10) for step in range(50)]
    drawn = [Mixing("both", 0.3).draw(*key) for key in keys]
    assert drawn == [Mixing("both", 0.3).draw(*key) for key in keys]
    kinds = [found[0] for found in drawn if found]
    assert 0.25 < len(kinds) / len(keys) < 0.35 and len({found for found in drawn if found}) == len(kinds)
    assert 0.4 < kinds.count("cutmix") / len(kinds) < 0.6
    assert {found[0] for found in drawn_of("mixup")} == {"mixup"} and len(drawn_of("cutmix")) == 200


def test_mixing_waits_for_nothing():
    """On the meta device a tensor has no value: to read one is an error."""
    for kind in ("cutmix", "mixup"):
        images, labels = torch.empty(5, 3, 8, 8, device="meta"), torch.empty(5, dtype=torch.int64, device="meta")
        mixed, mixed_labels = mix_pairs(images, labels, drawn_of(kind)[0], slice(1, 4))
        assert mixed.shape == (3, 3, 8, 8) and mixed_labels.partner.shape == (3,)


def test_mixed_labels_are_split_as_photos_are():
    parts = MixedLabels(torch.arange(5), torch.arange(5, 10), 0.3).tensor_split(2)
    assert [(part.own.tolist(), part.partner.tolist(), part.share) for part in parts] == [
        ([0, 1, 2], [5, 6, 7], 0.3),
        ([3, 4], [8, 9], 0.3),
    ]
