"""Splits that a source lacks: what they hold, what keeps its split when photos are added, what is refused."""

import os
import random
import shutil
from collections import Counter

import pytest
from helpers.photos import scene
from helpers.sources import draw as draw_photos

from pyimagesearch import config
from pyimagesearch.preparation import splitting
from pyimagesearch.preparation.readers import detect
from pyimagesearch.preparation.source import SplitPlan
from pyimagesearch.runtime.errors import UserError

RATES = {"validation": 0.2, "evaluation": 0.1}


def names(count, first=0):
    return [f"Rice/{number}.jpg" for number in range(first, first + count)]


def test_a_photos_split_depends_on_its_name_class_and_seed_alone():
    alone = {name: splitting.assign_photos([name], RATES, seed=0)[name] for name in names(300)}
    together = splitting.assign_photos(names(2000), RATES, seed=0)
    assert all(together[name] == split for name, split in alone.items())
    assert splitting.assign_photos(reversed(names(2000)), RATES, seed=0) == together
    assert splitting.assign_photos(names(2000), RATES, seed=1) != together
    other_class = splitting.assign_photos([name.replace("Rice", "Bread") for name in names(2000)], RATES, seed=0)
    assert list(other_class.values()) != list(together.values())


def test_each_split_has_about_its_rate_of_a_class():
    counts = Counter(splitting.assign_photos(names(10_000), RATES, seed=0).values())
    # four standard deviations of a binomial count
    assert abs(counts["evaluation"] - 1000) < 120
    assert abs(counts["validation"] - 2000) < 160


def test_the_numbers_are_the_same_on_every_machine():
    assert splitting.hash_to_unit("Rice/0.jpg", 0) == 0.9262820749640208
    assert splitting.hash_to_unit("Rice/0.jpg", 1) == 0.36070363563459606


def test_every_split_has_a_photo_and_none_changes_its_split_when_others_are_added():
    chance = random.Random(0)
    for _ in range(300):
        few, more, seed = chance.randint(3, 12), chance.randint(0, 30), chance.randrange(2**31)
        rates = {"validation": chance.uniform(0.01, 0.45), "evaluation": chance.uniform(0.01, 0.45)}
        first = splitting.assign_photos(names(few), rates, seed)
        assert set(first.values()) == set(config.SPLITS)
        then = splitting.assign_photos(names(few + more), rates, seed, moved=first)
        assert first.items() <= then.items()


def test_recording_the_moved_photos_is_enough(tmp_path):
    draw_photos(tmp_path / "source", *names(3))
    drawn = read(tmp_path)
    assert drawn.plan.moved  # three photos do not fall into three splits by themselves
    before = {photo.target: split.name for split in drawn.splits for photo in split.photos}
    draw_photos(tmp_path / "source", *names(30, first=3))
    after = {photo.target: split.name for split in read(tmp_path, drawn.plan).splits for photo in split.photos}
    afresh = {photo.target: split.name for split in read(tmp_path).splits for photo in split.photos}
    assert before.items() <= after.items()
    assert not before.items() <= afresh.items()  # without the note, what was moved goes back
    assert {target for target in after if after[target] != afresh[target]} <= drawn.plan.moved.keys()


def read(tmp_path, former=None, rates=RATES, seed=2):
    source = detect.read_folder(tmp_path / "source")
    return splitting.draw_missing(source, rates, seed, former)


@pytest.mark.parametrize(("rates", "seed"), [(RATES, 1), ({"validation": 0.2}, 2), ({**RATES, "validation": 0.3}, 2)])
def test_a_plan_with_other_rates_or_another_seed_has_no_effect(tmp_path, rates, seed):
    draw_photos(tmp_path / "source", *names(30))
    assert read(tmp_path, SplitPlan(rates, seed, dict.fromkeys(names(30), "evaluation"))) == read(tmp_path)


def test_the_spelling_of_an_accent_does_not_matter(tmp_path):
    draw_photos(tmp_path / "source", *(f"Caf\u00e9/{number}.jpg" for number in range(30)))
    composed = [[os.path.basename(photo.path) for photo in split.photos] for split in read(tmp_path).splits]
    (tmp_path / "source" / "Caf\u00e9").rename(tmp_path / "source" / "Cafe\u0301")
    assert [[os.path.basename(photo.path) for photo in split.photos] for split in read(tmp_path).splits] == composed


def test_a_split_that_the_source_has_is_left_as_it_is(tmp_path):
    draw_photos(tmp_path / "source", *(f"train/{name}" for name in names(40)), *(f"test/{name}" for name in names(3)))
    drawn = read(tmp_path, rates={"validation": 0.3, "evaluation": None})
    training, validation, evaluation = drawn.splits
    assert len(evaluation.photos) == 3
    assert (training.found, validation.found) == (len(training.photos), len(validation.photos))
    assert training.found + validation.found == 40
    assert drawn.plan.rates == {"validation": 0.3}


def test_rates_are_those_of_config_where_none_are_given(tmp_path):
    draw_photos(tmp_path / "source", *names(5))
    rates = read(tmp_path, rates={"validation": None, "evaluation": None}).plan.rates
    assert rates == {"validation": config.VAL_RATE, "evaluation": config.TEST_RATE}


@pytest.mark.parametrize(
    ("files", "rates", "said"),
    [
        (
            ("train/a/0.jpg", "val/a/0.jpg", "test/a/0.jpg"),
            {"validation": 0.2},
            "validation split, .*val; leave --",
        ),
        (("train/a/0.jpg", "test/a/0.jpg"), {"evaluation": 0.2}, "leave --test-rate out"),
        (("val/a/0.jpg", "test/a/0.jpg"), {}, "no training split, only validation and evaluation"),
        (
            names(9),
            {"validation": 0.5, "evaluation": 0.5},
            "left for training with --test-rate 0.5 and --val-rate 0.5",
        ),
        (names(9), {"validation": 0.95}, "nothing would be left"),
        (names(2), {}, "class 'Rice' in .*source has 2 usable photos, too few for 3 splits; add some, or remove"),
        (
            ("a/0.jpg", "b/0.jpg", "c/0.jpg"),
            {},
            "'a' .* has 1 usable photo, too few .*the first of 3 such",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, files, rates, said):
    draw_photos(tmp_path / "source", *files)
    with pytest.raises(UserError, match=said):
        read(tmp_path, rates=rates)


# --- copies -----------------------------------------------------------------------------------------------------------


def copied(folder, first, *others):
    """Make others of equal bytes."""
    for other in others:
        (folder / other).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / first, folder / other)


def split_of_each(source):
    return {photo.target: split.name for split in source.splits for photo in split.photos}


def read_with_copies(tmp_path, former=None, rates=RATES, **options):
    source = detect.read_folder(tmp_path / "source")
    splitting.find_copies(source)
    return splitting.draw_missing(source, rates, 2, former, **options)


def test_photos_of_equal_bytes_in_a_class_are_in_one_split_and_no_other_moves(tmp_path):
    source = draw_photos(tmp_path / "source", *names(30), *(f"Soup/{number}.jpg" for number in range(30)))
    before = split_of_each(read(tmp_path))
    groups = [[f"Rice/{number}.jpg", *(f"Rice/{copy}-{number}.jpg" for copy in "abc")] for number in range(30)]
    for first, *others in groups:
        copied(source, first, *others)
    parted = split_of_each(read(tmp_path))  # without find_copies
    assert any(len({parted[name] for name in group}) > 1 for group in groups)
    drawn = read_with_copies(tmp_path)
    after = split_of_each(drawn)
    assert all(len({after[name] for name in group}) == 1 for group in groups)
    assert set(after.values()) == set(config.SPLITS)
    assert before.items() <= after.items()  # "0.jpg" comes before "a-0.jpg"
    assert split_of_each(read_with_copies(tmp_path, drawn.plan)) == after


def test_a_copy_with_an_earlier_name_follows_the_photo_that_is_in_the_dataset(tmp_path):
    source = draw_photos(tmp_path / "source", *names(30))
    before = read_with_copies(tmp_path)
    for number in range(30):
        copied(source, f"Rice/{number}.jpg", f"Rice/+{number}.jpg")
    former = SplitPlan(RATES, 2, split_of_each(before))  # as staging.former_plan has it
    after = split_of_each(read_with_copies(tmp_path, former))
    assert split_of_each(before).items() <= after.items()
    assert all(after[f"Rice/+{number}.jpg"] == after[f"Rice/{number}.jpg"] for number in range(30))


def test_a_class_of_copies_of_one_photo_cannot_be_split(tmp_path):
    copied(draw_photos(tmp_path / "source", "Rice/0.jpg"), "Rice/0.jpg", *names(8, first=1))
    with pytest.raises(UserError, match="has 1 usable photo, copies counted once, too few for 3 splits"):
        read_with_copies(tmp_path)


def test_near_copies_are_kept_together_where_that_is_asked_for(tmp_path):
    source = tmp_path / "source"
    for number in range(20):
        scene(number).save(draw_photos(source, f"Rice/{number}.png") / f"Rice/{number}.png")
        scene(number).resize((80, 60)).save(source / f"Rice/{number}-small.jpg", quality=70)
    (source / "Rice" / "broken.jpg").write_text("no photo")

    def parted(drawn):
        split_of = split_of_each(drawn)
        return [n for n in range(20) if split_of[f"Rice/{n}.png"] != split_of[f"Rice/{n}-small.jpg"]]

    assert parted(read_with_copies(tmp_path))
    drawn = read_with_copies(tmp_path, near_copies=True)
    assert not parted(drawn)
    assert drawn.summary().endswith("--group-near-copies; near copies: 20 groups, the largest of 2 photos")


def test_near_copies_of_splits_that_are_there_cannot_be_kept_together(tmp_path):
    draw_photos(tmp_path / "source", *(f"{split}/a/0.jpg" for split in ("train", "val", "test")))
    with pytest.raises(UserError, match=r"no split of .* is drawn by class; leave --group-near-copies out"):
        read_with_copies(tmp_path, rates={}, near_copies=True)
