"""Splits that a source lacks, drawn from its training photos.

Each photo has a number from 0 to 1, made by hashing the seed, its class and its name (its path in the class folder).
Below the one rate it belongs to evaluation, in the next stretch to validation, above to training. So a photo's split
does not depend on which others there are, and each split has about its rate of each class.

Where that leaves a split without a photo of some class, the photo of the class whose number is nearest moves there.
What was moved is noted in the dataset's prepared.json and stays, so no photo changes its split when others come.
"""

import hashlib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pyimagesearch import config
from pyimagesearch.preparation.source import Photo, Source, Split, SplitPlan
from pyimagesearch.runtime.errors import UserError

DEFAULT_RATES = {"evaluation": config.TEST_RATE, "validation": config.VAL_RATE}
FLAGS = {"evaluation": "--test-rate", "validation": "--val-rate"}


def draw_missing(
    source: Source, rates: Mapping[str, float | None], seed: int = 0, former: SplitPlan | None = None
) -> Source:
    """The source with three splits: those that it lacks are drawn from its training photos.

    Parameters
    ----------
    rates : the shares of each class that become validation and evaluation, by these names; None takes config's
    seed : of the draw
    former : the draw of the dataset as it is; with the same rates and seed, no photo that it had changes its split

    Raises
    ------
    UserError : there is no training split, a rate is given for a split that the source has, the rates leave nothing
        for training, or a class has fewer photos than there are splits to fill
    """
    splits = {split.name: split for split in source.splits}
    if "training" not in splits:
        raise UserError(f"{source.folder} has no training split, only {' and '.join(splits)}; expected train, training")
    given = {name: rate for name, rate in rates.items() if rate is not None}
    for name, split in splits.items():
        if name in given:
            raise UserError(f"the source has its {name} split, {split.folder}; leave {FLAGS[name]} out")
    lacking = {name: given.get(name, rate) for name, rate in DEFAULT_RATES.items() if name not in splits}
    if not lacking:
        return source
    check_rates(lacking)

    training, drawing = splits["training"], SplitPlan(lacking, seed, {})
    same = former is not None and (former.rates, former.seed) == (lacking, seed)
    places = _places(source, training, drawing, former.moved if same else {})
    for name in lacking:
        photos = [photo for photo in training.photos if places[_key(photo)] == name]
        splits[name] = Split(name, training.folder, len(photos), photos, [])
        training.found -= len(photos)
    training.photos = [photo for photo in training.photos if places[_key(photo)] == "training"]
    return Source(source.folder, source.classes, [splits[name] for name in config.SPLITS], source.kind, drawing)


def check_rates(rates: Mapping[str, float]) -> None:
    """Raise UserError where `rates`, the shares by split, leave nothing for training."""
    if sum(rates.values()) >= 1:
        flags = " and ".join(f"{FLAGS[name]} {rate}" for name, rate in rates.items())
        raise UserError(f"nothing would be left for training with {flags}; expected less than 1 in all")


def _places(source: Source, training: Split, drawing: SplitPlan, moved: Mapping[str, str]) -> dict[str, str]:
    """The split of each training photo, by its key; what had to move is noted in `drawing`."""
    keys: dict[int, list[str]] = defaultdict(list)
    for photo in training.photos:
        keys[photo.label].append(_key(photo))
    needed = len(drawing.rates) + 1
    if few := sorted(label for label, those in keys.items() if len(those) < needed):
        count, more = len(keys[few[0]]), f", and {len(few) - 1} more classes are" if len(few) > 1 else ""
        raise UserError(
            f"class {source.classes[few[0]]!r} in {training.folder} has {count} usable photo{'s' * (count > 1)}, too "
            f"few for {needed} splits{more}; {source.kind.advice}, or remove the class"
        )
    places = {}
    for those in keys.values():
        places |= assign_photos(those, drawing.rates, drawing.seed, moved)
    stretches = _stretches(drawing.rates)
    drawing.moved = {
        key: places[key]
        for key in sorted(places)
        if places[key] != _stretch(hash_to_unit(key, drawing.seed), stretches)
    }
    return places


def assign_photos(
    names: Iterable[str], rates: Mapping[str, float], seed: int, moved: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The split of each photo of one class: at least one photo for each where there are enough, see above.

    Parameters
    ----------
    names : the photos, as "class/name"
    rates : by split; the rest is training
    moved : photos that keep the split they have there
    """
    stretches = _stretches(rates)
    numbers = {name: hash_to_unit(name, seed) for name in names}
    places = {name: (moved or {}).get(name) or _stretch(numbers[name], stretches) for name in numbers}
    for split, (low, high) in stretches.items():
        counts = Counter(places.values())
        spare = [name for name, place in places.items() if counts[place] > 1]
        if not counts[split] and spare:
            nearest = min(spare, key=lambda name: (max(low - numbers[name], numbers[name] - high), name))
            places[nearest] = split
    return places


def hash_to_unit(name: str, seed: int) -> float:
    """Evenly spread over [0, 1), the same on every machine."""
    digest = hashlib.blake2b(f"{seed} {name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def _stretches(rates: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """From which number to which the photos of each split have."""
    stretches, low = {}, 0.0
    for name in DEFAULT_RATES:
        if name in rates:
            stretches[name] = (low, low + rates[name])
            low += rates[name]
    return {**stretches, "training": (low, 1.0)}


def _stretch(value: float, stretches: Mapping[str, tuple[float, float]]) -> str:
    return next(name for name, (low, high) in stretches.items() if low <= value < high)


def _key(photo: Photo) -> str:
    """The photo's class and name, in the one spelling that file systems agree on."""
    return unicodedata.normalize("NFC", photo.target.replace(os.sep, "/"))


def plan_flags(drawing: SplitPlan | None) -> str:
    """The flags that make such a draw."""
    if drawing is None:
        return "the splits of the source"
    rates = [f"{FLAGS[name]} {drawing.rates[name]}" for name in config.SPLITS if name in drawing.rates]
    return " ".join([*rates, f"--seed {drawing.seed}"])


@dataclass(frozen=True)
class SplitRates:
    """How the groups are parted: the shares of them for validation and for the test, or folds in place of the first.

    folds : of all groups but the test's; 0 for training and validation instead
    """

    validation: float = config.VAL_RATE
    test: float = config.TEST_RATE
    folds: int = 0
    seed: int = 0

    @property
    def rates(self) -> dict[str, float]:
        """The shares of the splits that are drawn; the rest is training, or the folds."""
        return {"evaluation": self.test, **({} if self.folds else {"validation": self.validation})}


def assign_groups(groups: Sequence[str], sides: SplitRates, origin: str) -> list[str]:
    """The side of each photo, a function of the groups and `sides` alone, no group on two of them.

    Parameters
    ----------
    groups : of each photo
    origin : the table that an error names

    Raises
    ------
    UserError : there are fewer groups than sides
    """
    from sklearn.model_selection import GroupKFold, GroupShuffleSplit

    groups = np.array(groups)
    count, others = len(np.unique(groups)), sides.folds or 2  # besides evaluation
    if count <= others:
        raise UserError(f"{origin} has usable photos of {count} groups; expected at least {others + 1}, one a side")
    names, rest = np.full(len(groups), "training", object), np.arange(len(groups))
    for name, share in sides.rates.items():
        most = len(np.unique(groups[rest])) - others
        draw = GroupShuffleSplit(1, test_size=min(max(1, round(share * count)), most), random_state=sides.seed)
        stay, go = next(draw.split(rest, groups=groups[rest]))
        names[rest[go]] = name
        rest, others = rest[stay], others - 1
    if sides.folds:
        for fold, (_, held_out) in enumerate(GroupKFold(sides.folds).split(rest, groups=groups[rest])):
            names[rest[held_out]] = f"fold-{fold + 1}"
    return names.tolist()
