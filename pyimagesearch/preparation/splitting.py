"""Splits that a source lacks, drawn from its training photos, and the splits of a table's rows.

Each photo has a number in [0, 1), a hash of the seed, its class and its name (the path in the class folder). Below the
test rate it belongs to evaluation, in the next interval to validation, above to training. So a photo's split does not
depend on the other photos. If a split gets no photo of some class, the photo of that class with the nearest number
moves there. prepared.json records it, so that no photo changes its split when others are added. Copies in one class
share the number of the first of them by name; one that is in the dataset already stays there.
"""

import hashlib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pyimagesearch import config
from pyimagesearch.data import copies
from pyimagesearch.preparation.source import RATE_FLAGS, Photo, Source, Split, SplitPlan, plan_flags
from pyimagesearch.runtime.errors import UserError

DEFAULT_RATES = {"evaluation": config.TEST_RATE, "validation": config.VAL_RATE}


def find_copies(source: Source, workers: int | None = None) -> None:
    """Fill source.copies."""
    sizes = {photo.path: photo.size for split in source.splits for photo in split.photos}
    source.copies = source.copies or copies.equal_files(sizes, workers)
    if source.copies and not source.kind.has_splits:
        source.notes.append(f"photos that are there more than once: {len(source.copies):,}, each in one split")


def draw_missing(
    source: Source,
    rates: Mapping[str, float | None],
    seed: int = 0,
    former: SplitPlan | None = None,
    *,
    near_copies: bool = False,
    workers: int | None = None,
) -> Source:
    """Return the source with three splits; those that it lacks are drawn from its training photos.

    rates : share of each class, by split; None takes the default of config
    former : the plan of the present dataset; with the same rates and seed, its photos keep their splits
    near_copies : keep them in one split too, not only source.copies
    """
    if near_copies and (not source.kind.has_splits or len(source.splits) == len(config.SPLITS)):
        raise UserError(f"no split of {source.origin} is drawn by class; leave --group-near-copies out")
    if not source.kind.has_splits:
        return source
    splits = {split.name: split for split in source.splits}
    if "training" not in splits:
        raise UserError(f"{source.folder} has no training split, only {' and '.join(splits)}; expected train, training")
    given = {name: rate for name, rate in rates.items() if rate is not None}
    for name, split in splits.items():
        if name in given:
            raise UserError(f"the source has its {name} split, {split.folder}; leave {RATE_FLAGS[name]} out")
    missing = {name: given.get(name, rate) for name, rate in DEFAULT_RATES.items() if name not in splits}
    if not missing:
        return source
    check_rates(missing)

    training, plan = splits["training"], SplitPlan(missing, seed, {}, near_copies)
    moved = former.moved if former and plan_flags(former) == plan_flags(plan) else {}
    together = source.copies
    if near_copies:
        together = copies.near_files([photo.path for photo in training.photos], workers)
        largest = max(map(len, together), default=0)
        source.notes.append(f"near copies: {len(together)} groups, the largest of {largest} photos")
    split_of = _assign_classes(source, training, plan, moved, _first_copies(training, together))
    for name in missing:
        photos = [photo for photo in training.photos if split_of[_key(photo)] == name]
        splits[name] = Split(name, training.folder, len(photos), photos)
        training.found -= len(photos)
    training.photos = [photo for photo in training.photos if split_of[_key(photo)] == "training"]
    return replace(source, splits=[splits[name] for name in config.SPLITS], plan=plan)


def check_rates(rates: Mapping[str, float]) -> None:
    """Raise UserError if `rates`, by split, leave nothing for training."""
    if sum(rates.values()) >= 1:
        flags = " and ".join(f"{RATE_FLAGS[name]} {rate}" for name, rate in rates.items())
        raise UserError(f"nothing would be left for training with {flags}; expected a sum below 1")


def _first_copies(training: Split, groups: Iterable[Sequence[str]]) -> dict[str, str]:
    """The key of the first among the copies of each training photo in its class, by the photo's key."""
    photo_of = {photo.path: photo for photo in training.photos}
    first: dict[str, str] = {}
    for group in groups:
        keys = defaultdict(list)
        for photo in (photo_of[path] for path in group if path in photo_of):
            keys[photo.label].append(_key(photo))
        first |= {key: min(of_class) for of_class in keys.values() for key in of_class}
    return first


def _assign_classes(
    source: Source, training: Split, plan: SplitPlan, moved: Mapping[str, str], first_copy: Mapping[str, str]
) -> dict[str, str]:
    """The split of each training photo, by its key; fills plan.moved."""
    keys: dict[int, set[str]] = defaultdict(set)
    for photo in training.photos:
        keys[photo.label].add(first_copy.get(_key(photo), _key(photo)))
    moved_first = {**{first_copy.get(key, key): split for key, split in moved.items()}, **moved}
    needed = len(plan.rates) + 1
    if few := sorted(label for label, of_class in keys.items() if len(of_class) < needed):
        count, more = len(keys[few[0]]), f" (the first of {len(few)} such classes)" if len(few) > 1 else ""
        raise UserError(
            f"class {source.classes[few[0]]!r} in {training.folder} has {count} usable photo{'s' * (count > 1)}"
            f"{', copies counted once' * bool(first_copy)}, too few for {needed} splits{more}; "
            f"{source.kind.advice}, or remove the class"
        )
    split_of: dict[str, str] = {}
    for of_class in keys.values():
        split_of |= assign_photos(of_class, plan.rates, plan.seed, moved_first)
    split_of |= {key: moved.get(key) or split_of[first] for key, first in first_copy.items()}
    intervals = _intervals(plan.rates)
    drawn = {key: _split_at(hash_to_unit(key, plan.seed), intervals) for key in split_of}
    plan.moved = {key: split_of[key] for key in sorted(split_of) if split_of[key] != drawn[key]}
    return split_of


def assign_photos(
    names: Iterable[str], rates: Mapping[str, float], seed: int, moved: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The split of each photo of one class ("class/name"); each split gets one if there are enough photos.

    rates : by split; the rest is training
    moved : photos that stay in the split that is given here
    """
    numbers, intervals = {name: hash_to_unit(name, seed) for name in names}, _intervals(rates)
    split_of = {name: (moved or {}).get(name) or _split_at(number, intervals) for name, number in numbers.items()}
    for split, (low, high) in intervals.items():
        counts = Counter(split_of.values())
        spare = [name for name, other in split_of.items() if counts[other] > 1]
        if not counts[split] and spare:
            nearest = min(spare, key=lambda name: (max(low - numbers[name], numbers[name] - high), name))
            split_of[nearest] = split
    return split_of


def hash_to_unit(name: str, seed: int) -> float:
    """A number spread evenly over [0, 1), the same on every machine."""
    digest = hashlib.blake2b(f"{seed} {name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def _intervals(rates: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """The numbers that belong to each split."""
    intervals, low = {}, 0.0
    for name in DEFAULT_RATES:
        if name in rates:
            intervals[name] = (low, low + rates[name])
            low += rates[name]
    return {**intervals, "training": (low, 1.0)}


def _split_at(number: float, intervals: Mapping[str, tuple[float, float]]) -> str:
    return next(name for name, (low, high) in intervals.items() if low <= number < high)


def _key(photo: Photo) -> str:
    """Class and name of the photo, in one Unicode form: file systems differ in theirs."""
    return unicodedata.normalize("NFC", photo.target.replace(os.sep, "/"))


@dataclass(frozen=True)
class SplitRates:
    """How the groups of a table are split: shares of the photos, and folds in place of training and validation."""

    validation: float = config.VAL_RATE
    test: float = config.TEST_RATE
    folds: int = 0
    seed: int = 0

    @property
    def shares(self) -> dict[str, float]:
        """By split that is drawn; the rest is training, or the folds."""
        return {"evaluation": self.test, **({} if self.folds else {"validation": self.validation})}


def joined(groups: Sequence[str], paths: Sequence[str], same: Iterable[Sequence[str]]) -> list[str]:
    """The group of each path, where groups that share photos, which are `same`, have become one."""
    group_of, parent = dict(zip(paths, groups, strict=True)), {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    for several in same:
        roots = {root(group_of[path]) for path in several if path in group_of}
        parent.update(dict.fromkeys(roots, min(roots, default="")))
    return [root(group) for group in groups]


def assign_groups(
    groups: Sequence[str], values: np.ndarray, rates: SplitRates, origin: str, given: Container[str] = ()
) -> list[str]:
    """The split or fold of each photo. All photos of a group are in one; each has about its share of each class.

    values : 1 where a photo has a class or label, shape (photos, classes)
    given : splits that are not drawn

    scikit-learn's StratifiedGroupKFold has equal folds of one class per photo. As there, each group in turn goes where
    the shares are then nearest to what they should be.
    """
    shares = {name: share for name, share in rates.shares.items() if name not in given}
    names = [f"fold-{fold + 1}" for fold in range(rates.folds)] or ["training"]
    shares |= dict.fromkeys(names, (1 - sum(shares.values())) / len(names))
    unique, group_of = np.unique(groups, return_inverse=True)
    if len(unique) < len(shares):
        raise UserError(
            f"{origin} has usable photos of {len(unique)} groups; expected at least {len(shares)}, one for each split "
            "or fold"
        )
    counts = np.zeros((len(unique), values.shape[1] + 1))  # the last column counts all photos
    np.add.at(counts, group_of, np.column_stack([values == 1, np.ones(len(groups))]))
    counts /= np.maximum(1, counts.sum(axis=0))
    target = np.array([*shares.values()])[:, None]
    filled, split_of = np.zeros((len(shares), counts.shape[1])), np.zeros(len(unique), int)
    order = np.random.default_rng(rates.seed).permutation(len(unique))
    order = order[np.argsort(-counts.max(axis=1)[order], kind="stable")]  # large groups first
    for place, group in enumerate(order):
        # by how much the squared distances from the targets grow
        costs = (counts[group] * (2 * (filled - target) + counts[group]) / target).sum(axis=1)
        empty = filled[:, -1] == 0
        if len(order) - place <= empty.sum():
            costs[~empty] = np.inf
        split_of[group] = split = costs.argmin()
        filled[split] += counts[group]
    return np.array([*shares], object)[split_of[group_of]].tolist()
