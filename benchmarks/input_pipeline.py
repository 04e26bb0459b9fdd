"""From photo files to the batch that a model sees, on one core: images per second of one process with one thread.

    python benchmarks/input_pipeline.py --photos dataset/training --json input.json

Each contender is bound to the same core and reads in its own process, without workers. It ends with a normalised
float32 batch on the CPU; this project's loader yields uint8, so its time includes the normalisation.
"""

import os
import tempfile
import time
from pathlib import Path

import measuring

# timm has no rotation, so it does less work than the tutorial's transforms
NAMES = ("tutorial", "ours", "ours-cached", "timm", "decode-pillow", "decode-ours")
BATCH = 32


def build_tutorial(folder: str, size: int):
    import tutorial

    _, loader = tutorial.make_loader(folder, tutorial.train_transforms(size), BATCH, workers=0)
    return lambda: _rate(images for images, _ in loader)


def build_ours(folder: str, size: int, cache: str):
    """This project's loader, uncached or with its disk cache, which is filled here, before the measurement."""
    import torch

    from pyimagesearch.create_dataloaders import get_dataloader
    from pyimagesearch.data.transforms import to_device, train_transform

    _, loader = get_dataloader(folder, train_transform(size, "tutorial"), BATCH, workers=0, cache=cache)
    device = torch.device("cpu")
    return lambda: _rate(to_device(images, labels, device)[0] for images, labels in loader)


def build_timm(folder: str, size: int):
    import timm_train

    loader = timm_train.make_loader(folder, size, BATCH, True, workers=0)
    return lambda: _rate(images for images, _ in loader)


def build_decode(folder: str, ours: bool):
    """Decode every photo to RGB, by Pillow or by this project's reader."""
    from PIL import Image

    from pyimagesearch.data.decoding import photos_below, read_pixels

    paths = photos_below(folder)

    def pillow(path):
        with Image.open(path) as photo:
            return photo.convert("RGB")

    read = read_pixels if ours else pillow
    return lambda: _rate([read(path)] for path in paths)


def _rate(batches) -> measuring.Round:
    begin = time.perf_counter()
    photos = sum(len(batch) for batch in batches)
    return {"images_per_s": photos / (time.perf_counter() - begin)}


def contender(name: str, folder: str, size: int, core: int | None) -> measuring.Contender:
    """One of NAMES, bound to `core`."""
    build, *arguments = {
        "tutorial": (build_tutorial, size),
        "ours": (build_ours, size, "none"),
        "ours-cached": (build_ours, size, "disk"),
        "timm": (build_timm, size),
        "decode-pillow": (build_decode, False),
        "decode-ours": (build_decode, True),
    }[name]
    return measuring.Contender(build, folder, *arguments, environment={"OMP_NUM_THREADS": "1"}, core=core)


def main() -> None:
    parser = measuring.parser("Images per second of the input on one core.", NAMES)
    parser.add_argument("--photos", metavar="DIR", help="photos to resize (default: drawn ones)")
    parser.add_argument("--count", type=measuring.size(), default=600, metavar="N", help="photos (default %(default)s)")
    parser.add_argument(
        "--sides", nargs="+", type=measuring.size(8), default=[348, 500], metavar="PIXELS",
        help="short side of the files (default 348 500)",
    )  # fmt: skip
    parser.add_argument("--image-size", type=measuring.size(32), default=224, metavar="PIXELS")
    args = parser.parse_args()
    report = measuring.Report(args)
    names = measuring.present(args.contenders)
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    for side in args.sides:
        with tempfile.TemporaryDirectory() as folder:
            from made_photos import make_folder

            # two folders deep, because the cache is written beside the folder of the split
            folder = make_folder(Path(folder, "dataset", "training"), args.count, side, args.photos)
            weight = sum(path.stat().st_size for path in folder.rglob("*.jpg")) / args.count
            made = {name: contender(name, os.fspath(folder), args.image_size, core) for name in names}
            with measuring.closing(made):
                rounds = measuring.interleave(made, args.rounds)
            title = f"Input on one core, {side} px in files of {weight / 1024:.1f} KiB -> {args.image_size} px"
            report.add(title, rounds, "images_per_s", names[0], side=side, bytes_per_photo=weight)


if __name__ == "__main__":
    main()
