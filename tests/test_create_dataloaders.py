"""The training stream is a pure function of (seed, epoch, global batch size); evaluation sees each photo once."""

import faulthandler
import gc
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from helpers.runs import ONE, Net, train_one_epoch
from PIL import Image
from torchvision import datasets, transforms

from pyimagesearch import create_dataloaders
from pyimagesearch.create_dataloaders import GlobalBatchSampler, Shares, WholeBatchSampler, get_dataloader, open_splits
from pyimagesearch.data.datasets import Key, PhotoFolder, open_split
from pyimagesearch.data.transforms import MixedLabels, Mixing, eval_transform, to_device, train_transform
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.training.options import resolve, training_options

WORLDS = (1, 2, 3, 5)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class DrawsFrom:
    """A transform that adds one number from a generator to what it gives."""

    def __init__(self, draw):
        self.draw = draw

    def __call__(self, photo):
        return torch.tensor([float(self.draw()), photo.getpixel((0, 0))[0]], dtype=torch.float64)


class Dies:
    """A transform that ends its process, after it has printed something."""

    def __init__(self, number: int, text: bytes = b""):
        self.number, self.text = number, text

    def __call__(self, photo):
        faulthandler.disable()  # pytest's, which would print a page
        os.write(2, self.text)
        os.kill(os.getpid(), self.number)


class LeavesATrace:
    """A transform that makes a new file for each photo."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, photo):
        (self.folder / f"{time.monotonic_ns()}-{os.getpid()}").touch()
        return torch.tensor(photo.getpixel((0, 0)))


class Refuses:
    """A transform that is never to be reached."""

    def __call__(self, photo):
        raise AssertionError("a photo was read")


@pytest.fixture
def as_rank(monkeypatch):
    """as_rank(1, 3): from here on this process is rank 1 of 3."""

    def become(rank: int, world: int) -> None:
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: world)
        monkeypatch.setattr(distributed, "all_reduce_max", lambda *numbers: list(numbers))
        monkeypatch.setattr(distributed, "broadcast_object", lambda item: item)

    return become


def indices(sampler) -> list[list[int]]:
    return [[key.index for key in batch] for batch in sampler]


def flat(batches) -> list[int]:
    return [index for batch in batches for index in batch]


def stream(loader, epochs: int = 1) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [batch for _ in range(epochs) for batch in loader]


def same(one: list, two: list) -> bool:
    """Whether two streams have the same batches, bit for bit."""
    pairs = list(zip(one, two, strict=True))
    return all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)


# --- the order -------------------------------------------------------------------------------------------------------


def test_an_epochs_order_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    orders = {(seed, e): GlobalBatchSampler(50, 8, seed=seed).order(e) for seed in (0, 1) for e in (0, 1, 2)}
    assert all(sorted(order) == list(range(50)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == len(orders)
    assert all(np.array_equal(GlobalBatchSampler(50, 3, seed=s).order(e), order) for (s, e), order in orders.items())


@pytest.mark.parametrize("size, batch", [(20, 8), (16, 8), (1, 8), (5, 1), (7, 7), (8, 100)])
def test_global_batches_use_each_photo_once_and_the_last_is_as_short_as_it_is(size, batch):
    sampler = GlobalBatchSampler(size, batch, seed=4)
    batches = indices(sampler)
    lengths = [len(b) for b in batches]
    assert sorted(flat(batches)) == list(range(size))
    assert lengths == [sampler.count(step) for step in range(sampler.steps)]
    assert all(length == batch for length in lengths[:-1]) and 0 < lengths[-1] <= batch
    assert batches == [sampler.batch(0, step).tolist() for step in range(sampler.steps)]


@pytest.mark.parametrize("world", WORLDS)
def test_the_ranks_shares_are_together_the_global_batch_in_order(as_rank, world):
    whole = indices(GlobalBatchSampler(23, 8, seed=1))
    shares = []
    for rank in range(world):
        as_rank(rank, world)
        shares.append(indices(GlobalBatchSampler(23, 8, seed=1)))
    together = [flat(parts) for parts in zip(*shares, strict=True)]
    assert together == whole
    for parts in zip(*shares, strict=True):
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("shares", [[0.6, 0.3, 0.1], [5.0, 1.0, 1.0], [1e-3, 1.0, 1.0]])
def test_unequal_shares_are_together_the_global_batch_in_order_and_as_near_as_possible(as_rank, shares):
    whole = indices(GlobalBatchSampler(23, 8, seed=1))
    ranks = []
    for rank in range(3):
        as_rank(rank, 3)
        ranks.append(indices(GlobalBatchSampler(23, 8, seed=1, shares=Shares(shares))))
    assert [flat(parts) for parts in zip(*ranks, strict=True)] == whole
    for parts, batch in zip(zip(*ranks, strict=True), whole, strict=True):
        exact = [share / sum(shares) * len(batch) for share in shares]
        assert all(abs(len(part) - wanted) < 1 for part, wanted in zip(parts, exact, strict=True))


def corrected(monkeypatch, speeds, noise: float, steps: int = 400) -> list[tuple[int, list[int]]]:
    """The plan of ranks that compute at these speeds, in photos per second, for so many steps."""
    monkeypatch.setattr(distributed, "world_size", lambda: len(speeds))
    shares, drawn = Shares("auto", ahead=4), random.Random(0)
    for done in range(1, steps + 1):
        # a step has a cost of its own, so the pace of a smaller share seems slower
        parts = [part / sum(shares.at(done)) for part in shares.at(done)]
        paces = [(1 / s + 0.001 / part) * drawn.uniform(1, 1 + noise) for s, part in zip(speeds, parts, strict=True)]
        monkeypatch.setattr(distributed, "gather_objects", lambda own, paces=paces: [(pace, own[1]) for pace in paces])
        shares.correct(done, 64)
    return shares.plan


def test_equal_devices_keep_equal_shares(monkeypatch):
    assert corrected(monkeypatch, [100, 100, 100], 0.15) == [(0, [10**6] * 3)]


def test_shares_follow_speeds_from_a_step_on_for_which_nobody_has_read_and_then_stay(monkeypatch, capsys):
    plan = corrected(monkeypatch, [300, 100, 200], 0.1)
    assert plan[1][0] == create_dataloaders.CORRECT_EVERY + 4 and len(plan) < 4
    assert np.allclose(np.array(plan[-1][1]) / sum(plan[-1][1]), [3 / 6, 1 / 6, 2 / 6], atol=0.05)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(plan) - 1
    assert said[0].startswith(f"[INFO] shares of each batch from step {plan[1][0] + 1} of the run on: ")


def test_a_forward_pass_is_timed_alone_and_only_where_shares_follow_it(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(create_dataloaders, "CORRECT_EVERY", 1)
    gathered = []
    monkeypatch.setattr(distributed, "gather_objects", lambda own: gathered.append(own[0]) or [own, own])
    for shares in (Shares("auto"), Shares("equal")):
        with shares.timed(4):
            time.sleep(0.2)
        with shares.timed(0):  # an empty share
            time.sleep(0.1)
        shares.correct(1, 8)
    assert len(gathered) == 1 and 0.05 <= gathered[0] < 0.1


def test_every_pass_is_the_next_epoch():
    sampler = GlobalBatchSampler(9, 4, seed=2)
    passes = [flat(indices(sampler)) for _ in range(3)]
    assert passes == [sampler.order(epoch).tolist() for epoch in range(3)]


@pytest.mark.parametrize("step", [0, 1, 3])
def test_a_position_gives_exactly_the_rest_of_that_epoch(step):
    sampler = GlobalBatchSampler(23, 8, seed=2)
    sampler.set_position(5)
    whole = list(sampler)
    sampler.set_position(5, step)
    assert len(sampler) == 3 - step
    assert list(sampler) == whole[step:]
    assert (sampler.epoch, sampler.step, len(sampler)) == (6, 0, 3)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("size, batch", [(23, 4), (4, 4), (3, 8), (20, 1)])
def test_evaluation_deals_whole_batches_and_each_photo_to_one_rank(as_rank, world, size, batch):
    alone = indices(WholeBatchSampler(size, batch))
    dealt = []
    for rank in range(world):
        as_rank(rank, world)
        sampler = WholeBatchSampler(size, batch)
        dealt += indices(sampler)
        assert len(sampler) == len(indices(sampler))
        assert sampler.indices == flat(indices(sampler))
        if rank == 0:  # whose bar counts for all
            assert (len(sampler.turns), sum(sampler.turns)) == (len(sampler), size)
    assert sorted(dealt) == alone
    assert flat(alone) == list(range(size))


# --- the pixels ------------------------------------------------------------------------------------------------------


def test_batches_are_the_same_bit_for_bit_for_any_number_of_workers(photos):
    root = photos({"a": 6, "b": 5})
    streams = {
        workers: stream(get_dataloader(root, train_transform(32), 4, seed=3, workers=workers)[1], epochs=3)
        for workers in (0, 1, 2, 3)
    }
    assert len(streams[0]) == 9
    assert all(same(streams[0], other) for other in streams.values())


def test_the_augmentation_of_a_photo_depends_on_seed_epoch_and_photo_alone(photos):
    root = photos({"a": 7})
    data = PhotoFolder(root, train_transform(32), seed=3)
    for batch in (1, 3, 7):
        _, loader = get_dataloader(root, train_transform(32), batch, seed=3, workers=0)
        loader.batch_sampler.set_position(2)
        order = loader.batch_sampler.order(2)
        seen = torch.cat([images for images, _ in loader])
        torch.rand(batch)
        assert all(torch.equal(seen[place], data[Key(2, int(index))][0]) for place, index in enumerate(order))


@pytest.mark.parametrize("draw", [lambda: torch.rand(()), np.random.random, random.random], ids=["torch", "np", "py"])
def test_whichever_generator_a_transform_draws_from_it_is_keyed(photos, draw):
    root = photos({"a": 3})
    one, again = (PhotoFolder(root, DrawsFrom(draw), seed=1) for _ in range(2))
    numbers = {(epoch, index): one[Key(epoch, index)][0][0].item() for epoch in range(3) for index in range(3)}
    other_seed = PhotoFolder(root, DrawsFrom(draw), seed=2)
    assert all(again[Key(*key)][0][0].item() == numbers[key] for key in reversed(numbers))
    assert len(set(numbers.values())) == len(numbers)
    assert all(other_seed[Key(*key)][0][0].item() != numbers[key] for key in numbers)


def test_a_photo_looks_different_in_the_next_epoch(photos):
    data = PhotoFolder(photos({"a": 1}), train_transform(32))
    assert not torch.equal(data[Key(0, 0)][0], data[Key(1, 0)][0])


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generators_of_this_process_are_left_as_they_were(photos, as_rank, workers):
    root = photos({"a": 5})
    as_rank(0, 4)  # the last batch, of one photo, leaves this rank an empty share
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = torch.rand(1).item(), np.random.random(), random.random()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    for shuffle in (True, False):
        stream(get_dataloader(root, train_transform(32), 4, shuffle, workers=workers)[1])
    assert (torch.rand(1).item(), np.random.random(), random.random()) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_left_in_the_middle_resumes_where_it_was(photos, workers):
    root = photos({"a": 9})
    whole = stream(get_dataloader(root, train_transform(32), 2, workers=0)[1], epochs=2)
    _, loader = get_dataloader(root, train_transform(32), 2, workers=workers)
    begun = [batch for batch, _ in zip(loader, range(2), strict=False)]
    loader.batch_sampler.set_position(0, 2)
    assert same(begun + stream(loader, epochs=2), whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_empty_share_has_no_rows_and_the_shape_and_dtype_of_the_others(photos, as_rank, workers):
    root = photos({"a": 5})
    as_rank(0, 2)  # 4 and 1 photos: shares of 2 and of none
    (full, full_labels), (empty, empty_labels) = get_dataloader(root, train_transform(32), 4, workers=workers)[1]
    assert (len(full), len(empty)) == (2, 0)
    assert (empty.shape[1:], empty.dtype) == (full.shape[1:], full.dtype)
    assert (empty_labels.shape, empty_labels.dtype) == ((0,), full_labels.dtype)


def test_evaluation_gives_the_photos_in_the_order_of_the_dataset(photos):
    data, loader = get_dataloader(photos({"a": 3, "b": 4}), eval_transform(32), 3, shuffle=False, workers=0)
    images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert labels.tolist() == data.targets
    assert all(torch.equal(images[index], data[index][0]) for index in range(7))


# --- mixed photos and sides that grow --------------------------------------------------------------------------------


def mixed_stream(root, **options) -> list[tuple[torch.Tensor, MixedLabels]]:
    """The photos and labels with which this rank trains in each step of two epochs, the first at half the side."""
    options = {"workers": 0, "cache_size": 1000, "device": ONE.device, **options}
    transform = train_transform(32, sides=(16,))
    _, loader = get_dataloader(root, transform, 7, seed=5, mixing=Mixing("both", 0.7), **options)
    found, sampler = [], loader.batch_sampler
    for epoch in (0, 1):
        for step, batch in enumerate(loader):
            images, labels = sampler.mixed(*to_device(*batch, ONE.device), epoch, step)
            assert not len(images) or images.shape[2:] == ((16, 16), (32, 32))[epoch]
            assert len(batch[0]) - len(images) in ((0, 1, 2) if isinstance(labels, MixedLabels) else (0,))
            assert len(images) == len(range(sampler.count(step))[sampler.mine(epoch, step)])
            labels = labels if isinstance(labels, MixedLabels) else MixedLabels(labels, labels, 1.0)
            found.append((images, labels))
    return found


@pytest.mark.parametrize("cache", ["none", "disk", "device"])
def test_any_number_of_ranks_trains_on_the_same_mixed_photos(photos, as_rank, cache):
    """Batches of 7, of which shares begin and end inside a pair, and a last one of 2, where some ranks have none."""
    root = photos({"a": 12, "b": 11})
    whole = mixed_stream(root, cache=cache)
    drawn = [Mixing("both", 0.7).draw(5, epoch, step) for epoch in (0, 1) for step in range(4)]
    assert {found and found[0] for found in drawn} == {None, "cutmix", "mixup"}
    assert [labels.share == 1 for _, labels in whole] == [found is None for found in drawn]
    for world in WORLDS[1:]:
        ranks = []
        for rank in range(world):
            as_rank(rank, world)
            ranks.append(mixed_stream(root, cache=cache))
        for (images, labels), *parts in zip(whole, *ranks, strict=True):
            assert torch.equal(torch.cat([part for part, _ in parts if len(part)]), images)
            assert all(part.share == labels.share for rows, part in parts if len(rows))
            for name in ("own", "partner"):
                together = torch.cat([getattr(part, name) for _, part in parts])
                assert torch.equal(together, getattr(labels, name))


def test_workers_change_no_mixed_photo(photos, as_rank):
    root = photos({"a": 12, "b": 11})
    as_rank(1, 2)
    alone, many = (mixed_stream(root, workers=workers) for workers in (0, 2))
    assert all(torch.equal(one, two) for (one, _), (two, _) in zip(alone, many, strict=True))


def test_photos_that_grow_show_the_same_at_each_side_and_are_decoded_no_finer_than_that(tmp_path, monkeypatch):
    y, x = np.mgrid[0:300, 0:400]
    (tmp_path / "a").mkdir()
    Image.fromarray(np.stack([x * 0.6, y * 0.8, 255 - x * 0.6], axis=-1).astype(np.uint8)).save(tmp_path / "a/0.jpg")
    growing = PhotoFolder(tmp_path, train_transform(64, "light", sides=(16, 32)), seed=1)
    decoded = []
    monkeypatch.setattr(
        growing, "pixels", lambda *args: decoded.append(PhotoFolder.pixels(growing, *args)) or decoded[-1]
    )
    for epoch, side in enumerate((16, 32, 64, 64)):
        fixed = PhotoFolder(tmp_path, train_transform(side, "light"), seed=1)
        assert torch.equal(growing[Key(epoch, 0)][0], fixed[Key(epoch, 0)][0])
    heights = [pixels.shape[0] for pixels, _ in decoded]
    assert heights[0] < heights[2]


# --- the tutorial's call ---------------------------------------------------------------------------------------------


def test_any_compose_of_torchvision_works_with_the_tutorials_call(photos):
    every = transforms.Compose([
        transforms.RandomResizedCrop(24), transforms.ColorJitter(0.4, 0.4, 0.4, 0.1), transforms.GaussianBlur(3),
        transforms.RandomApply([transforms.RandomGrayscale()]), transforms.ToTensor(),
        transforms.Lambda(lambda image: image + 0.1 * torch.randn_like(image)), transforms.RandomErasing(),
    ])  # fmt: skip
    root = photos({"a": 3, "b": 2})
    data, loader = get_dataloader(root, every, 2, True)
    _, again = get_dataloader(root, every, 2, True, workers=0)
    batches = stream(loader)
    assert [images.shape for images, _ in batches] == [(2, 3, 24, 24), (2, 3, 24, 24), (1, 3, 24, 24)]
    assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == [0, 0, 0, 1, 1]
    assert len(data) == 5
    assert same(batches, stream(again))


def test_the_dataset_lists_photos_as_torchvisions_imagefolder_does(photos, photo):
    root = photos({"Noodles/Pasta": 3, "Bread": 2, "Vegetable/Fruit": 1, "egg": 2, "Käse": 1})
    for folder in ("z", "deeper/still", "deeper", "b", "a", "y", "c"):
        photo(root / "Bread" / folder / "0.png")
    photo(root / "Bread" / "a.JPG")
    photo(root.parent / "elsewhere" / "1.png")
    for link in ("linked", "a/linked"):  # a photo counts twice when a person links it twice
        (root / "Bread" / link).symlink_to(root.parent / "elsewhere")
    (root / "Bread" / "notes.txt").write_text("no photo")
    (root / "classes.txt").write_text("no class")
    ours, theirs = PhotoFolder(root, None), datasets.ImageFolder(root)
    assert ours.classes == theirs.classes == ["Bread", "Käse", "Noodles", "Vegetable", "egg"]
    assert ours.class_to_idx == theirs.class_to_idx
    assert ours.targets == theirs.targets == ours.labels.tolist()
    assert ours.samples == theirs.samples == ours.imgs
    assert [ours.path(index) for index in range(len(ours))] == [path for path, _ in theirs.samples]


def test_a_link_that_leads_back_is_not_followed_round_and_round(photos):
    root = photos({"Bread/rye": 1, "Soup": 1})
    for link, target in (("Bread/rye/up", ".."), ("Bread/root", root.parent), ("Bread/self", "self"),
                         ("Soup/bread", root / "Bread"), ("Bread/soup", root / "Soup")):  # fmt: skip
        (root / link).symlink_to(target)
    found = [os.path.relpath(path, root) for path, _ in PhotoFolder(root, None).samples]
    assert found == ["Bread/rye/000.png", "Bread/soup/000.png", "Soup/000.png", "Soup/bread/rye/000.png"]


def test_an_index_past_the_end_is_an_index_error_and_a_negative_one_counts_from_it(photos):
    data = PhotoFolder(photos({"a": 3}), eval_transform(8))
    assert torch.equal(data[-1][0], data[2][0])
    with pytest.raises(IndexError):
        data[3]


def test_a_limit_takes_the_first_photos_of_each_class(photos):
    root = photos({"a": 5, "b": 1})
    whole, limited = PhotoFolder(root, None), PhotoFolder(root, None, limit=2)
    assert limited.targets == [0, 0, 1]
    assert limited.samples == [whole.samples[index] for index in (0, 1, 5)]


def test_the_fingerprint_depends_on_names_and_labels_alone(photos):
    one = PhotoFolder(photos({"a": 2, "b": 1}, "one"), None)
    assert PhotoFolder(photos({"a": 2, "b": 1}, "two"), None).fingerprint() == one.fingerprint()
    for number, other in enumerate(({"a": 1, "b": 2}, {"a": 2, "c": 1}, {"a": 3, "b": 1})):
        assert PhotoFolder(photos(other, f"other{number}"), None).fingerprint() != one.fingerprint()


def test_large_photos_are_decoded_no_finer_than_the_square_and_show_the_same(tmp_path):
    y, x = np.mgrid[0:600, 0:800]
    photo = Image.fromarray(np.stack([x * 0.3, y * 0.4, 255 - x * 0.3], axis=-1).astype(np.uint8))
    for kind, options in (("png", {}), ("jpg", {"quality": 95})):
        (tmp_path / kind / "a").mkdir(parents=True)
        photo.save(tmp_path / kind / "a" / f"0.{kind}", **options)
    whole, reduced = (PhotoFolder(tmp_path / kind, train_transform(32), seed=1) for kind in ("png", "jpg"))
    sizes = set()
    for epoch in range(20):
        (numbers,) = reduced.numbers([Key(epoch, 0)])
        sizes.add(reduced.pixels(0, lambda w, h, n=numbers: reduced.transform.reduction(n, w, h))[0].shape)
        difference = (whole[Key(epoch, 0)][0].int() - reduced[Key(epoch, 0)][0].int()).abs()
        assert difference.median() <= 2
        assert (difference > 16).float().mean() < 0.06  # on the border of what is black
    assert len(sizes) >= 2
    assert eval_transform(32).reduction([], 800, 600) == 1


def test_making_a_loader_reads_no_photo(photos):
    get_dataloader(photos({"a": 3}), Refuses(), 2, workers=0)


@pytest.mark.parametrize("started", ["fork", "spawn"])
def test_a_program_that_still_has_a_loader_at_its_end_ends(photos, tmp_path, started):
    """Forked or spawned, as Linux and Windows start workers; one loader is whole, one is left in the middle."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, torch.multiprocessing\n"
        "from pyimagesearch.data.transforms import eval_transform\n"
        "from pyimagesearch.create_dataloaders import get_dataloader\n"
        "if __name__ == '__main__':\n"
        "    torch.multiprocessing.set_start_method(sys.argv[2])\n"
        "    _, loader = get_dataloader(sys.argv[1], eval_transform(8), 2, workers=1)\n"
        "    print([len(images) for images, _ in loader])\n"
        "    left = iter(loader)\n"
        "    print(len(next(left)[0]))\n"
        "    begun = get_dataloader(sys.argv[1], eval_transform(8), 2, workers=1)[1]\n"
        "    begun.begin()\n"
    )
    repository = create_dataloaders.__file__.rpartition("pyimagesearch")[0]
    out = subprocess.run(
        [sys.executable, program, photos({"a": 3}), started],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": repository},
    )  # fmt: skip
    assert (out.returncode, out.stdout, out.stderr) == (0, "[2, 1]\n2\n", "")


def test_workers_end_at_once_when_the_garbage_collector_finds_their_loader(photos):
    """As after an error whose traceback holds it. Workers ignore the SIGTERM that torch would fall back on."""
    _, loader = get_dataloader(photos({"a": 6}), eval_transform(8), 2, workers=2)
    batches = iter(loader)
    next(batches)
    circle = [loader, batches]
    circle.append(circle)
    workers = set(multiprocessing.active_children())
    began = time.monotonic()
    del loader, batches, circle
    gc.collect()
    assert len(workers) >= 2 and not workers & set(multiprocessing.active_children())
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_that_begins_before_it_is_asked_for_changes_no_batch(photos, workers):
    root = photos({"a": 9})
    whole = stream(get_dataloader(root, train_transform(32), 2, workers=0)[1], epochs=3)
    _, loader = get_dataloader(root, train_transform(32), 2, workers=workers)
    sampler, batches = loader.batch_sampler, []
    for epoch in range(3):
        loader.begin()
        assert (sampler.epoch, sampler.step) == (epoch, 0)
        batches += stream(loader)
    assert same(batches, whole)


def test_a_pass_that_has_begun_elsewhere_is_discarded(photos):
    root = photos({"a": 9})
    whole = stream(get_dataloader(root, train_transform(32), 2, workers=0)[1], epochs=2)
    _, loader = get_dataloader(root, train_transform(32), 2, workers=2)
    loader.begin()
    loader.batch_sampler.set_position(0, 2)
    assert same(stream(loader, epochs=2), whole[2:])


def test_an_epoch_lets_workers_read_the_next_ones_first_batches_and_the_last_epoch_does_not(photos, tmp_path):
    _, loader = get_dataloader(photos({"a": 4, "b": 4}), eval_transform(8), 2, workers=1)
    for epoch in (0, 1):
        train_one_epoch(Net(), loader, epoch=epoch, flags=["--epochs", "2"])
        assert (loader._begun is None) is (epoch == 1)


def test_workers_read_from_the_position_of_the_checkpoint_before_there_is_a_model(dataset, monkeypatch, tmp_path):
    traces = tmp_path / "traces"
    traces.mkdir()
    monkeypatch.setattr(create_dataloaders, "train_transform", lambda *_: LeavesATrace(traces))
    flags = ["--data", str(dataset()), "--batch-size", "4", "--workers", "1", "--epochs", "2"]
    args = resolve(training_options(flags), ONE, None)
    loader, _, _ = open_splits(args, ONE.device, {"epoch": 1, "step": 5, "finished": False})
    wait_until(lambda: len(list(traces.iterdir())) == 4)  # the last of six steps
    loader.batch_sampler.set_position(1, 5)
    ((images, _),) = loader
    assert len(images) == len(list(traces.iterdir())) == 4
    before = len(multiprocessing.active_children())
    finished = open_splits(args, ONE.device, {"epoch": 2, "step": 0, "finished": True})
    assert len(multiprocessing.active_children()) == before and len(finished) == 3


def wait_until(found, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.01)


# --- mistakes in the data --------------------------------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.*No such file.*prepare_dataset.py"):
        PhotoFolder(tmp_path / "nowhere", None)


def test_a_folder_without_classes_is_named(tmp_path):
    (tmp_path / "0.jpg").touch()
    with pytest.raises(UserError, match=f"{tmp_path} has no class folder"):
        PhotoFolder(tmp_path, None)


def test_a_class_without_a_photo_is_named(photos):
    root = photos({"Bread": 1, "Rice": 0})
    (root / "Rice" / "notes.txt").touch()
    with pytest.raises(UserError, match="Rice has no photo"):
        PhotoFolder(root, None)


def test_a_split_has_the_classes_of_training_and_may_lack_some(photos, capsys):
    training = open_split(photos({"Bread": 1, "Egg": 2, "Rice": 1}, "set/train").parent / "training", None)
    photos({"Bread": 1, "Egg": 0, "Rice": 2}, "set/val")
    other = open_split(training.root.replace("train", "validation"), None, classes=training.classes)
    assert other.root.endswith("val")
    assert (other.classes, other.targets) == (["Bread", "Egg", "Rice"], [0, 2, 2])
    assert capsys.readouterr().out == f"[INFO] {other.root} has no photo of 1 of 3 classes: Egg\n"


@pytest.mark.parametrize(
    "names, text",
    [
        (["Bread", "Soup"], "evaluation has the class 'Soup', which is none of the 2 classes of training"),
        (["Breaf", "Soup"], "evaluation has the class 'Breaf' and 1 more, which"),
    ],
)
def test_a_class_that_training_lacks_is_refused_by_name(photos, names, text):
    with pytest.raises(UserError, match=text):
        PhotoFolder(photos(dict.fromkeys(names, 1), "evaluation"), None, classes=["Bread", "Egg"])


def test_one_class_folder_in_training_is_refused(photos):
    data = photos({"training_set": 2}, "set/training_set").parent
    args = resolve(training_options(["--data", str(data)]), ONE, None)
    with pytest.raises(UserError, match=r"training_set has one class folder, 'training_set'.* --source .*set makes"):
        open_splits(args, ONE.device)


def test_a_split_without_any_photo_is_refused(photos):
    with pytest.raises(UserError, match=r"evaluation has no photo of the 2 classes of training"):
        PhotoFolder(photos({"Bread": 0, "Other": 0}, "evaluation"), None, classes=["Bread", "Egg"])


def test_class_names_are_one_in_any_unicode_form(photos):
    training = PhotoFolder(photos({"Caf\u00e9": 1, "Tea": 1, "Cafe\u0301": 2}, "training"), None)
    assert (training.classes, sorted(training.targets)) == (["Caf\u00e9", "Tea"], [0, 0, 0, 1])
    other = PhotoFolder(photos({"Cafe\u0301": 1, "Tea": 1}, "evaluation"), None, classes=training.classes)
    assert sorted(other.targets) == [0, 1]


def truncate(path):
    path.write_bytes(path.read_bytes()[:200])


def make_a_bomb(path):
    path.write_bytes(b"P6 99999 99999 255\n")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", [truncate, make_a_bomb, lambda path: path.unlink()], ids=["cut", "bomb", "gone"])
def test_an_unreadable_photo_is_named_on_one_line_from_any_process(photos, workers, damage):
    root = photos({"a": 4, "b": 4})
    data, loader = get_dataloader(root, eval_transform(32), 2, workers=workers)
    damage(root / "b" / "002.png")
    with pytest.raises(UserError) as caught:
        stream(loader)
    text = str(caught.value)
    assert text.startswith(f"cannot read {data.path(6)}: ")
    assert text.endswith("; remove or replace it")
    assert len(text.splitlines()) == 1 and "Traceback" not in text


def test_a_fault_in_a_transform_is_not_taken_for_a_photos(photos):
    with pytest.raises(AssertionError, match="a photo was read"):
        stream(get_dataloader(photos({"a": 1}), Refuses(), 1, workers=0)[1])


# --- workers that die ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault, text",
    [
        (Dies(signal.SIGKILL, b"a warning\n"), r"was killed by SIGKILL; memory or /dev/shm may be full: use fewer --w"),
        (
            Dies(signal.SIGABRT, b"first\ndouble free\n"),
            r"was killed by SIGABRT after it printed 'double free'; memory",
        ),
    ],
    ids=["SIGKILL", "SIGABRT"],
)
def test_what_a_worker_dies_of_is_told_on_one_line(photos, fault, text):
    _, loader = get_dataloader(photos({"a": 4}), fault, 2, workers=2)
    with pytest.raises(UserError, match=r"^a worker that reads photos \(process \d+\) " + text) as caught:
        stream(loader)
    assert len(str(caught.value).splitlines()) == 1
    assert not any(worker.is_alive() for worker in loader._workers if not worker.join(5))


def test_what_libraries_print_in_a_worker_that_lives_is_not_shown(photos, capfd):
    _, loader = get_dataloader(photos({"a": 4}), Dies(0, b"2 extraneous bytes before marker 0xd9\n"), 2, workers=1)
    with pytest.raises(TypeError):  # it returns no tensor
        stream(loader)
    assert capfd.readouterr().err == ""


SMALL_SHARED_MEMORY = """
import sys
from torchvision.transforms import Compose, ToTensor
from pyimagesearch.create_dataloaders import PhotoLoader, WholeBatchSampler, begin_worker, get_dataloader
from pyimagesearch.data.transforms import eval_transform
from pyimagesearch.evaluation.predict import PhotoList
from pyimagesearch.runtime.errors import UserError

def lines(loader):
    for _ in range(2):
        try:
            yield sum(len(images) for images, _ in loader)
        except UserError as error:
            yield error

for workers in (0, 2):
    data, squares = get_dataloader(sys.argv[1], eval_transform(224), 4, workers=workers)
    _, composed = get_dataloader(sys.argv[1], Compose([ToTensor()]), 40, workers=workers)
    photos = PhotoList([data.path(index) for index in range(40)], eval_transform(224))
    predicted = PhotoLoader(photos, batch_sampler=WholeBatchSampler(40, 4), num_workers=workers)
    for loader in (squares, composed, predicted):
        print(*lines(loader), sep="\\n")
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="a small /dev/shm of its own needs Linux")
def test_too_little_shared_memory_is_one_line_and_no_workers_need_none(photos, tmp_path):
    """torch's own thread would lose the batch, and the parent wait for it for ever."""
    program = tmp_path / "program.py"
    program.write_text(SMALL_SHARED_MEMORY)
    mounted = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=400k none /dev/shm && "$@"']
    if subprocess.run([*mounted, "sh", "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    repository = create_dataloaders.__file__.rpartition("pyimagesearch")[0]
    out = subprocess.run(
        [*mounted, "sh", sys.executable, program, photos({"a": 40})],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": repository},
    )  # fmt: skip
    assert (out.returncode, out.stderr) == (0, "")
    lines = out.stdout.splitlines()
    assert len(lines) == 12 and lines[:6] == ["40"] * 6
    for line in lines[6:]:
        assert line.startswith("too little shared memory for 2 workers: /dev/shm has 0 MB, of which ")
        assert "--shm-size" in line and line.endswith("--workers 0, which needs none")


# --- workers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gpu", [False, True])
def test_memory_is_pinned_where_the_device_is_a_gpu(photos, monkeypatch, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    _, loader = get_dataloader(photos({"a": 1}), eval_transform(8), 1, workers=0)
    assert loader.pin_memory is gpu


@pytest.mark.parametrize("workers, persistent", [(0, False), (2, True)])
def test_workers_stay_for_the_next_epoch(photos, workers, persistent):
    _, loader = get_dataloader(photos({"a": 1}), eval_transform(8), 1, workers=workers)
    assert (loader.num_workers, loader.persistent_workers) == (workers, persistent)


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 7, 8, 64])
@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_default_workers_never_outnumber_the_cores(photos, dataset, monkeypatch, cores, ranks):
    monkeypatch.setattr(create_dataloaders.PhotoLoader, "begin", lambda loader: None)
    monkeypatch.setattr(distributed, "available_cores", lambda: cores)
    monkeypatch.setattr(distributed, "local_world_size", lambda: ranks)
    training, evaluation = workers_of(dataset())
    _, loader = get_dataloader(photos({"a": 1}), eval_transform(8), 1)
    of_one_rank = max(1, cores // ranks)
    assert training >= 1 and evaluation >= 0
    assert training + evaluation <= of_one_rank
    assert 3 * loader.num_workers <= of_one_rank


@pytest.mark.parametrize("asked", range(10))
def test_as_many_workers_as_asked_for_are_divided_among_the_loaders(dataset, monkeypatch, asked):
    monkeypatch.setattr(create_dataloaders.PhotoLoader, "begin", lambda loader: None)
    training, evaluation = workers_of(dataset(), "--workers", str(asked))
    assert training + evaluation == asked
    assert training >= evaluation >= 0


def workers_of(data, *flags) -> tuple[int, int]:
    """How many processes read photos of training, and of evaluation, of which only one reads at a time."""
    args = resolve(training_options(["--data", str(data), *flags]), ONE, None)
    training, *evaluation = (loader.num_workers for loader in open_splits(args, ONE.device))
    assert evaluation[0] == evaluation[1]
    return training, evaluation[0]
