"""Which rank sees which photo when.

The training stream is a pure function of (seed, epoch, global batch size): epoch e visits the photos in a permutation
drawn from (seed, e); global batch k is positions kB to (k+1)B of it, the last one as short as it is; each rank takes
its share of each; and photo i's augmentation draws from a generator keyed by (seed, e, i).
"""

import atexit
import gc
import itertools
import math
import multiprocessing.util
import os
import shutil
import signal
import statistics
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from pyimagesearch import config
from pyimagesearch.data.cache import DeviceLoader, cache_path, open_cache
from pyimagesearch.data.datasets import Key, PhotoDataset, Unreadable, open_split, photo_facts
from pyimagesearch.data.transforms import (
    Mixing,
    SquareTransform,
    eval_transform,
    growing_sides,
    mix_pairs,
    train_transform,
)
from pyimagesearch.runtime import distributed, launcher, signals
from pyimagesearch.runtime.errors import UserError, one_line
from pyimagesearch.runtime.terminal import info

PREFETCH = 2  # batches that each worker reads ahead, as DataLoader lets it
CORRECT_EVERY = 20  # steps between two corrections of --shares auto
GAIN = 0.1  # the part of a step's time that a correction must save, so that equal devices keep equal shares

# torch would raise the death of a worker at any line, perhaps in a step; the wait for its batch finds it too, in 5 s
signal_handling._SIGCHLD_handler_set = True


def open_splits(args, device: torch.device, found: dict | None = None) -> tuple["Loader", "Loader", "Loader"]:
    """The loaders of training, validation and evaluation; the classes are those of training.

    args : resolved, see training.options.resolve
    found : the checkpoint to go on from, if any; a lone process's workers read while the model is built
    """
    evalWorkers = args.workers // 4
    common = {
        "limit": args.limit, "fold": args.fold, "cache": args.cache, "cache_size": args.cache_size,
        "cache_dir": args.cache_dir, "device": device,
    }  # fmt: skip
    sides = growing_sides(args.image_size, args.grow_from, args.epochs)
    if sides:
        info(f"growing images from {sides[0]} pixels to {args.image_size} in epoch {len(sides) + 1}...")
    trainDS, trainLoader = get_dataloader(
        os.path.join(args.data, "training"),
        train_transform(args.image_size, args.augment, args.channels, args.value_range, sides),
        args.global_batch_size, seed=args.seed, workers=args.workers - evalWorkers,
        mixing=None if args.mix == "none" else Mixing(args.mix, args.mix_share), shares=args.shares, **common,
    )  # fmt: skip
    args.value_range = trainDS.value_range  # part of the run config: it is stored with the model
    with distributed.failing_together():
        if trainDS.labels.ndim == 1 and len(trainDS.classes) == 1:
            raise UserError(
                f"{trainDS.root} has one class folder, {trainDS.classes[0]!r}; expected at least two, as "
                f"prepare_dataset.py --source {args.data} makes them"
            )
    (_, valLoader), (_, testLoader) = (
        get_dataloader(
            os.path.join(args.data, split), eval_transform(args.image_size, args.channels, args.value_range),
            args.batch_size, shuffle=False, workers=evalWorkers, classes=trainDS.classes, **common,
        )
        for split in ("validation", "evaluation")
    )  # fmt: skip
    with distributed.failing_together():
        # Among ranks they begin with the first step: twice, a rank of a resumed run then waited for ever. The cause is
        # not known; workers that are forked while gloo's threads are busy are suspected.
        if distributed.world_size() == 1 and not (found and found["finished"]):
            trainLoader.batch_sampler.set_position(*((found["epoch"], found["step"]) if found else (0, 0)))
            trainLoader.begin()
    return trainLoader, valLoader, testLoader


def get_dataloader(
    rootDir,
    transforms,
    bs: int,
    shuffle: bool = True,
    *,
    classes: list[str] | None = None,
    seed: int = 0,
    workers: int | None = None,
    limit: int | None = None,
    fold: int | None = None,
    cache: str = "none",
    cache_size: int = 256,
    cache_dir: str | None = None,
    device: torch.device | None = None,
    mixing: Mixing | None = None,
    shares: str | Sequence[float] = "equal",
) -> tuple[PhotoDataset, "Loader"]:
    """The dataset in `rootDir` and a loader of (images, labels). Every rank calls this at the same time.

    rootDir : a folder with one folder per class; or a split of a dataset with several labels, "dataset/training"
    transforms : from train_transform or eval_transform, or any torchvision Compose that works on PIL images
    bs : with `shuffle` the global batch size, of which this rank gets its share; without, the size of a batch
    shuffle : True for training, in the order of (seed, epoch); False for the order of the dataset
    classes : those of training, if this is another split; None: its own
    workers : processes that read photos; None takes a third of this rank's cores, as a script has three loaders
    limit : keep at most this many photos per class
    fold : of a dataset with folds, the one that is validation, counted from 1
    cache : "none" decodes each photo each time; "disk" once, into copies with a shorter side of `cache_size` pixels;
        "device" keeps those copies on `device`, which then makes the batches itself
    mixing, shares : with `shuffle`, see GlobalBatchSampler.mixed and Shares
    """
    with distributed.failing_together():
        dataset = open_split(rootDir, transforms, classes=classes, fold=fold, seed=seed, limit=limit)
        facts = photo_facts(dataset) if distributed.world_size() > 1 else {}
    distributed.check_same(facts)
    if shuffle:
        _agree_on_range(dataset)
    if cache != "none":
        path = cache_path(dataset.root, cache_size, cache_dir)
        dataset.cache = distributed.main_first(lambda: open_cache(dataset, path, cache_size), per_host=True)
    workers = distributed.cores_of_rank() // 3 if workers is None else workers
    sampler: Any = WholeBatchSampler(len(dataset), bs)
    if shuffle:
        parts = Shares(shares, 0 if cache == "device" else PREFETCH * workers, device)
        sampler = GlobalBatchSampler(len(dataset), bs, seed=seed, mixing=mixing, shares=parts)
    if cache == "device":
        with distributed.failing_together():
            return dataset, DeviceLoader(dataset, sampler, device or config.DEVICE)
    loader = PhotoLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=dataset.collate,
        num_workers=workers,
        pin_memory=config.DEVICE.type == "cuda",
        persistent_workers=workers > 0,
        worker_init_fn=begin_worker,
        generator=torch.Generator(),  # else DataLoader draws a seed for its workers from the global one
    )
    return dataset, loader


def _agree_on_range(dataset: PhotoDataset) -> None:
    """Let the training photos, as rank 0 sees them, decide the value range, unless it is given."""
    transform = dataset.transform
    if not isinstance(transform, SquareTransform) or transform.value_range is not None:
        return
    found = None
    with distributed.failing_together():
        if distributed.is_main():
            found = dataset.sampled_range()
    found = distributed.broadcast_object(found)
    for part in filter(None, (dataset, dataset.whole)):  # a cache is of the whole
        part.transform = replace(transform, value_range=found)


class Shares:
    """Which part of each global batch each rank takes.

    With "auto" every rank times its forward passes, in which it waits for no other rank, and every CORRECT_EVERY steps
    the ranks agree on shares that let all of them end at the same time. A correction holds from the first step on of
    which no rank has begun to read photos.

    plan : where the shares change: (step of the run, a whole number per rank in proportion to its share), in order
    pace : with "auto", each rank's seconds per photo, smoothed; empty before the first correction
    """

    def __init__(self, wanted: str | Sequence[float] = "equal", ahead: int = 0, device: torch.device | None = None):
        """wanted : "equal", "auto", or a number per rank; ahead : steps of which this rank reads photos in advance"""
        self.auto = wanted == "auto" and distributed.world_size() > 1
        parts = [1.0] * distributed.world_size() if isinstance(wanted, str) else wanted
        self.plan = [(0, [round(part * 10**6) for part in parts])]
        self.pace: list[float] = []
        self._ahead, self._device = ahead, device or config.DEVICE
        self._passes: list[tuple[int, Any, Any]] = []  # photos, begin, end

    def load(self, plan: list, pace: list[float]) -> None:
        """With "auto", go on from those of a checkpoint, unless it is of another number of ranks."""
        if self.auto and len(pace) == distributed.world_size():
            self.plan, self.pace = plan, pace

    def at(self, step: int) -> list[int]:
        """The shares in step `step` of the run."""
        return next(parts for first, parts in reversed(self.plan) if first <= step)

    @contextmanager
    def timed(self, rows: int) -> Iterator[None]:
        """A block that computes `rows` photos and waits for no other rank."""
        if not (self.auto and rows):
            yield
            return
        begin = self._now()
        yield
        self._passes.append((rows, begin, self._now()))

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def correct(self, done: int, global_batch: int) -> None:
        """With "auto", plan other shares where they save time, after `done` steps. Every rank calls this."""
        if not self.auto or done % CORRECT_EVERY:
            return
        first_time, before = not self.pace, self.plan[-1][1]
        everyones = distributed.gather_objects((self._seconds_per_photo(), self._ahead))
        new = [seconds for seconds, _ in everyones if seconds is not None]
        if len(new) < len(everyones):  # a rank had no photos
            return
        self.pace = new if first_time else [(one + other) / 2 for one, other in zip(self.pace, new, strict=True)]
        parts = _fitting(self.pace, global_batch)
        if gains := _time_of_step(parts, self.pace) < (1 - GAIN) * _time_of_step(before, self.pace):
            done += max(ahead for _, ahead in everyones)
            self.plan.append((done, parts))
        if gains or first_time:
            self.tell(done)

    def tell(self, step: int) -> None:
        """Print the shares from step `step` of the run on, counted from 0, and why they are what they are."""
        parts = self.at(step)
        shares = ", ".join(f"{part / sum(parts):.1%}" for part in parts)
        pace = ", ".join(f"{1000 * seconds:.3g}" for seconds in self.pace)
        why = f"ms per photo: {pace}" if pace else "nothing is measured yet" if self.auto else "as given"
        info(f"shares of each batch from step {step + 1} of the run on: {shares} ({why})...")

    def _seconds_per_photo(self) -> float | None:
        """The median over the passes since it was last asked for."""
        passes, self._passes = self._passes, []
        if passes and self._device.type == "cuda":
            passes[-1][2].synchronize()
            passes = [(rows, 0, begin.elapsed_time(end) / 1000) for rows, begin, end in passes]
        return statistics.median([(end - begin) / rows for rows, begin, end in passes]) if passes else None


def _fitting(pace: Sequence[float], global_batch: int) -> list[int]:
    """Shares with which ranks of this `pace`, in seconds per photo, end a step at the same time."""
    speeds = [1 / seconds for seconds in pace]
    return [max(1, round(global_batch * speed / sum(speeds))) for speed in speeds]


def _time_of_step(parts: Sequence[int], pace: Sequence[float]) -> float:
    """The time that the slowest rank takes for its share, per photo of the global batch."""
    return max(part * seconds for part, seconds in zip(parts, pace, strict=True)) / sum(parts)


class GlobalBatchSampler:
    """The batches of one rank in training: its share of each global batch of each epoch's permutation.

    Every pass over it is one epoch, and the next pass the next epoch; `set_position` goes to any epoch and step.
    """

    def __init__(
        self, size: int, global_batch: int, *, seed: int = 0, mixing: Mixing | None = None, shares: Shares | None = None
    ):
        """size : photos in the dataset; global_batch : photos that all ranks see together in one step"""
        self.size, self.global_batch, self.seed, self.mixing = size, global_batch, seed, mixing
        self.shares = shares or Shares()
        self.epoch = self.step = 0
        self._drawn: tuple[int, np.ndarray] | None = None

    @property
    def steps(self) -> int:
        """Steps of a whole epoch."""
        return -(-self.size // self.global_batch)

    def set_position(self, epoch: int, step: int = 0) -> None:
        """Let the next pass be epoch `epoch` from its step `step` on, both counted from 0."""
        self.epoch, self.step = epoch, step

    def order(self, epoch: int) -> np.ndarray:
        """Epoch `epoch`'s permutation: int64 of shape (size,). The last one is kept, for `batch`."""
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.size)
        return self._drawn[1]

    def batch(self, epoch: int, step: int) -> np.ndarray:
        """The indices of the photos that all ranks see together in one step."""
        return self.order(epoch)[step * self.global_batch : (step + 1) * self.global_batch]

    def count(self, step: int) -> int:
        """The number of photos that all ranks see together in step `step`."""
        return min(self.global_batch, self.size - step * self.global_batch)

    def bounds(self, epoch: int, step: int) -> list[int]:
        """The positions in a global batch at which the ranks' shares begin, and its end."""
        shares = self.shares.at(epoch * self.steps + step)
        return [self.count(step) * before // sum(shares) for before in itertools.accumulate(shares, initial=0)]

    def mine(self, epoch: int, step: int) -> slice:
        """This rank's share of a global batch."""
        return slice(*self.bounds(epoch, step)[distributed.rank() :][:2])

    def parts(self, step: int, accumulate: int) -> int:
        """The parts in which each rank takes its share of global batch `step`; the same on every rank.

        A whole global batch has `accumulate` parts, the short last one as many of that size as it fills. No part is
        empty on all ranks: BatchNorm has no statistics of nothing.
        """
        count, size = self.count(step), math.ceil(self.global_batch / accumulate)
        return min(math.ceil(count / size), math.ceil(count / distributed.world_size()))

    def fewest_rows(self, accumulate: int, replicas: int = 1) -> int:
        """The rows of the smallest batch that a model sees, on any rank and any of its `replicas`."""
        fewest = []
        for step in (0, self.steps - 1):
            share = torch.empty(min(self.sizes(step)))
            for part in share.tensor_split(self.parts(step, accumulate)):
                fewest += [len(chunk) for chunk in part.chunk(replicas)]  # as nn.DataParallel scatters it
        return min(fewest)

    def sizes(self, step: int) -> list[int]:
        """How many photos each rank takes of a global batch of the first epoch."""
        return [stop - start for start, stop in itertools.pairwise(self.bounds(0, step))]

    def __len__(self) -> int:
        return self.steps - self.step

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, first = self.epoch, self.step
        self.epoch, self.step = epoch + 1, 0
        for step in range(first, self.steps):
            mine = self.mine(epoch, step)
            if mine.start < mine.stop and self._drawn_mix(epoch, step):  # whole pairs
                mine = slice(mine.start // 2 * 2, math.ceil(mine.stop / 2) * 2)
            yield [Key(epoch, index) for index in self.batch(epoch, step)[mine].tolist()]

    def mixed(self, images: Tensor, labels: Tensor, epoch: int, step: int):
        """This rank's share of global batch `step`, mixed if it is to be, of what the loader gave for it.

        Positions 2j and 2j + 1 of the global batch are mixed with each other: neighbours in a random permutation are
        random partners. Where a share begins or ends inside a pair, both ranks read both photos.
        """
        if (drawn := self._drawn_mix(epoch, step)) is None:
            return images, labels
        mine = self.mine(epoch, step)
        first = mine.start % 2
        return mix_pairs(images, labels, drawn, slice(first, first + mine.stop - mine.start))

    def _drawn_mix(self, epoch: int, step: int):
        return self.mixing and self.mixing.draw(self.seed, epoch, step)


class WholeBatchSampler:
    """The batches of one rank in evaluation: every world-size-th batch of the dataset in its own order.

    Whole batches go round the ranks, so a photo is computed in the company of the same photos for any world size, and
    each is seen exactly once. `turns` has the photos that all ranks see while rank 0 sees a batch.
    """

    def __init__(self, size: int, batch: int):
        starts = range(0, size, batch)[distributed.rank() :: distributed.world_size()]
        self.batches = [range(start, min(start + batch, size)) for start in starts]
        turn = batch * distributed.world_size()
        self.turns = [min(turn, size - start) for start in range(0, size, turn)]

    @property
    def indices(self) -> list[int]:
        """This rank's photos, in the order in which they come."""
        return [index for batch in self.batches for index in batch]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in self.batches:
            yield [Key(0, index) for index in batch]


class PhotoLoader(DataLoader):
    """A DataLoader that raises UserError, in this process, for unreadable photos, full shared memory, dead workers."""

    dataset: Any
    batch_sampler: Any
    _workers: Any = ()
    _ending: Any = None
    _begun: Any = None  # a pass that the workers have begun, and the sampler's position at which it starts

    def begin(self) -> None:
        """Let the workers read the first batches of the next pass. The sampler stays where it is."""
        if self.num_workers:
            sampler = self.batch_sampler
            position = sampler.epoch, sampler.step
            self._begun = self._start(), position
            sampler.set_position(*position)

    def __iter__(self):
        sampler, begun, self._begun = self.batch_sampler, self._begun, None
        if begun and begun[1] == (sampler.epoch, sampler.step):
            batches = begun[0]
            sampler.set_position(sampler.epoch + 1)
        else:
            batches = self._start()
        with self._faults_explained():
            for batch in batches:
                if isinstance(batch, Unreadable):
                    raise UserError(batch.message)
                yield batch

    def _start(self) -> Any:
        """Begin a pass; workers begin to read."""
        multiprocessing.util.get_temp_dir()  # now, so that new workers have its name
        for worker in self._workers:
            with suppress(FileNotFoundError):
                os.truncate(stderr_file(worker.pid), 0)  # of the pass before
        with self._faults_explained():
            batches: Any = super().__iter__()
        if self.num_workers and self._ending is None:
            # when this loader goes, by the garbage collector or at exit, its workers must be asked to go while their
            # queues are open: the SIGTERM that would follow is one that they ignore, and Python would wait for ever
            self._ending = weakref.finalize(self, batches._shutdown_workers)
            atexit.register(self._ending)
        self._workers = getattr(batches, "_workers", ())
        return batches

    @contextmanager
    def _faults_explained(self) -> Iterator[None]:
        """A block in which a lack of shared memory, and the death of a worker, raise UserError."""
        try:
            yield
        except (RuntimeError, OSError) as error:
            if self.num_workers and "No space left on device" in str(error):
                shared = shutil.disk_usage("/dev/shm")
                raise UserError(
                    f"too little shared memory for {self.num_workers} workers: /dev/shm has {shared.total / 1e6:,.0f} "
                    f"MB, of which {shared.free / 1e6:,.0f} MB are free; enlarge it (docker run --shm-size=8g), use "
                    "fewer --workers, or --workers 0, which needs none"
                ) from None
            for worker in self._workers:
                if worker.exitcode:
                    for other in self._workers:
                        other.kill()  # it may wait, for ever, for a lock that the dead one held
                    raise UserError(_death_of(worker)) from None
            raise


Loader = PhotoLoader | DeviceLoader


def begin_worker(worker: int) -> None:
    """Prepare a loader's process. It ignores signals: Ctrl-C reaches it too, and its rank still needs the batch."""
    launcher.end_after(multiprocessing.parent_process().join)  # type: ignore[union-attr]
    for name in signals.names_here():
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    gc.freeze()  # the garbage collector writes to what it looks at, and so would copy the parent's pages
    # what a worker prints tells why it died; alive, it only prints libjpeg's warnings, without names, of surplus bytes
    # in photos that are read well
    os.dup2(os.open(stderr_file(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)


def stderr_file(pid: int | None) -> str:
    """Where a worker's standard error goes."""
    return os.path.join(multiprocessing.util.get_temp_dir(), f"worker-{pid}.txt")


def _death_of(worker: Any) -> str:
    """The line about a worker that ended by itself or by a signal."""
    status = worker.exitcode
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    file = Path(stderr_file(worker.pid))
    printed = file.read_text(errors="replace").strip().splitlines() if file.exists() else []
    last = f" after it printed {one_line(printed[-1])!r}" if printed and status != -signal.SIGKILL else ""
    return (
        f"a worker that reads photos (process {worker.pid}) {how}{last}; memory or /dev/shm may be full: use fewer "
        "--workers, or --workers 0"
    )
