"""The cost of a million files: seconds to list them, and the memory of the workers that read them in each epoch.

    python benchmarks/listing.py --json listing.json
    python benchmarks/listing.py --files 10000 --reads 2000                                    # a quick look

The files are hard links to tiny JPEGs. Memory is read from Linux (smaps_rollup) at the end of each epoch, as the mean
over the workers: PSS, in which each of n processes that share a page counts 1/n of it, and private memory. Forked
workers that touch one Python object per photo copy the pages with the reference counts: their private memory grows with
the photos that they visit.
"""

import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

import measuring

NAMES = ("tutorial", "ours")
LINKS = 30_000  # to one file; ext4 allows 65,000
BATCH, SIZE = 128, 32


def make_files(root: Path, count: int, classes: int) -> None:
    """Make `count` files in `classes` folders: hard links to JPEGs of 16 x 16 pixels."""
    from made_photos import draw

    per_class = -(-count // classes)
    for number in range(count):
        if number % LINKS == 0:
            original = root / f"original{number}.jpg"  # outside the class folders, so not a photo of the dataset
            draw(16, number).save(original, quality=90)
        folder = root / f"class{number // per_class:05}"
        if number % per_class == 0:
            folder.mkdir()
        os.link(original, folder / f"photo{number:08}.jpg")


def build_tutorial(folder: str, workers: int, reads: int, epochs: int):
    import tutorial
    from torch.utils.data import DataLoader, RandomSampler
    from torchvision.datasets import ImageFolder

    def make():
        dataset = ImageFolder(folder, tutorial.train_transforms(SIZE))
        sampler = RandomSampler(dataset, num_samples=reads)
        return DataLoader(dataset, batch_size=BATCH, sampler=sampler, num_workers=workers)

    return lambda: _measure(make, lambda loader, epoch: None, epochs)


def build_ours(folder: str, workers: int, reads: int, epochs: int):
    from pyimagesearch.create_dataloaders import get_dataloader
    from pyimagesearch.data.transforms import train_transform

    def make():
        return get_dataloader(folder, train_transform(SIZE), BATCH, workers=workers)[1]

    def begin(loader, epoch):  # the last batches of the epoch's permutation, as after --resume
        sampler = loader.batch_sampler
        sampler.set_position(epoch, max(sampler.steps - -(-reads // BATCH), 0))

    return lambda: _measure(make, begin, epochs)


def _measure(make, begin, epochs: int) -> measuring.Round:
    """Call `make()`, which lists the files, and read `epochs` epochs, each after `begin(loader, epoch)`."""
    import torch

    torch.set_num_threads(1)
    before, start = _memory(os.getpid())["Pss"], time.perf_counter()
    loader = make()
    found = {"list_s": time.perf_counter() - start, "list_mib": _memory(os.getpid())["Pss"] - before}
    for epoch in range(epochs):
        begin(loader, epoch)
        steps = len(loader)
        for step, _ in enumerate(loader, start=1):
            if step == steps:  # the workers are idle but still alive
                workers = [_memory(worker.pid) for worker in multiprocessing.active_children()]
        found[f"worker_pss_mib_{epoch + 1}"] = statistics.mean(memory["Pss"] for memory in workers)
        found[f"worker_private_mib_{epoch + 1}"] = statistics.mean(memory["Private"] for memory in workers)
    return found


def _memory(pid: int) -> dict[str, float]:
    """The memory of a process in MiB: "Pss" and "Private"."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return {"Pss": kib["Pss"] / 1024, "Private": (kib["Private_Clean"] + kib["Private_Dirty"]) / 1024}


def main() -> None:
    parser = measuring.parser("A million files: seconds to list them, and memory of the workers.", NAMES, rounds=1)
    parser.add_argument("--files", type=measuring.size(), default=1_000_000, metavar="N", help="(default %(default)s)")
    parser.add_argument("--classes", type=measuring.size(), default=1000, metavar="N", help="(default %(default)s)")
    parser.add_argument("--workers", type=measuring.size(), default=2, metavar="N", help="(default %(default)s)")
    parser.add_argument("--epochs", type=measuring.size(), default=3, metavar="N", help="(default %(default)s)")
    parser.add_argument(
        "--reads", type=measuring.size(), default=200_000, metavar="N",
        help="photos read in each epoch, from the whole folder (default %(default)s)",
    )  # fmt: skip
    args = parser.parse_args()
    report = measuring.Report(args)
    args.reads = min(args.reads, args.files)
    builds = {"tutorial": build_tutorial, "ours": build_ours}
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), args.files, args.classes)

        def run(name: str) -> measuring.Round:
            return measuring.once(measuring.Contender(builds[name], folder, args.workers, args.reads, args.epochs))

        turns = {name: lambda name=name: run(name) for name in args.contenders}
        rounds = measuring.interleave(turns, args.rounds, warmups=0)
    title = f"{args.files} files in {args.classes} classes, {args.workers} workers, {args.reads} read per epoch"
    listed, pss, private = (
        {name: [_pick(figures, kind) for figures in found] for name, found in rounds.items()}
        for kind in ("list_", "worker_pss", "worker_private")
    )
    report.add(f"Listing {title}", listed, "list_s", args.contenders[0], less_is_better=True)
    report.add(f"PSS of a worker, {title}", pss, "worker_pss_mib_1", None)
    report.add(f"Private memory of a worker, {title}", private, "worker_private_mib_1", None)


def _pick(figures: measuring.Round, kind: str) -> measuring.Round:
    return {name: value for name, value in figures.items() if name.startswith(kind)}


if __name__ == "__main__":
    main()
