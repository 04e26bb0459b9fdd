"""The flags of distributed_inference.py."""

import argparse
import sys

from pyimagesearch import config
from pyimagesearch.runtime.flags import Parser, add_amp, add_places, add_quiet, add_workers, number


def inference_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags as they were given, with defaults for the others."""
    parser = Parser(description="Predict with the trained classifier: a few photos of the test split, or others.")
    what = parser.add_argument_group("what").add_mutually_exclusive_group()
    what.add_argument("--images", nargs="+", metavar="PATH", help="photos of your own, and folders of them")
    what.add_argument(
        "--on", choices=("training", "validation", "test"),
        help="a whole split: accuracy, classification report and confusion matrix, as at the end of training",
    )  # fmt: skip
    what.add_argument(
        "--export", metavar="FILE",
        help="no photos: write the model, from pixels to probabilities, to FILE (.onnx, or .pt2 of torch.export) for "
        "other programs",
    )  # fmt: skip
    places = parser.add_argument_group("places")
    add_places(places)
    places.add_argument("--csv", metavar="FILE", help="also write the predictions there, one row per photo")
    how = parser.add_argument_group("how many")
    how.add_argument("--top-k", type=number(int, 1), metavar="K", help="name the K most probable classes (default 1)")
    how.add_argument(
        "--pages", type=_pages, metavar="N|all",
        help="draw at most N pictures of --images, each of 25 photos; 0 for none (default 4)",
    )  # fmt: skip
    how.add_argument(
        "--count", type=number(int, 1, 100), metavar="N",
        help=f"how many photos of the test split to show (default {config.PRED_BATCH_SIZE} per device)",
    )  # fmt: skip
    how.add_argument(
        "--min-confidence", type=number(float, 0, 1), metavar="P", help="answer `unsure` below this probability"
    )
    how.add_argument("--seed", type=number(int, 0, 2**31 - 1), metavar="N", help="which of them (default: random)")
    devices = parser.add_argument_group("devices and processes")
    add_workers(devices)
    add_amp(devices)
    devices.add_argument(
        "--tta", action="store_true", help="average over each photo and its mirror image, in twice the time"
    )
    add_quiet(parser.add_argument_group("terminal"), "the predictions and where they are")
    args = parser.parse_args(arguments)
    _refuse_idle(parser, args)
    args.top_k = args.top_k or 1
    args.pages = 4 if args.pages is None else args.pages
    return args


def _pages(text: str) -> int:
    return sys.maxsize if text == "all" else number(int, 0)(text)


def _refuse_idle(parser: Parser, args: argparse.Namespace) -> None:
    """Refuse a flag that would do nothing with --images, --on, --export, or without any of them."""
    given = next((name for name in ("images", "on", "export") if getattr(args, name) is not None), None)
    useful = {
        "csv": ("images", "on"), "top_k": ("images", "on"), "pages": ("images",), "count": (None,), "seed": (None,),
        "workers": ("images", "on"), "amp": ("images", "on", None), "tta": ("images", "on", None),
        "min_confidence": ("images", "on", None),
    }  # fmt: skip
    for name, beside in useful.items():
        if getattr(args, name) != parser.get_default(name) and given not in beside:
            flags = " or ".join(f"--{mode}" for mode in beside if mode) or "none of --images, --on and --export"
            parser.error(f"--{name.replace('_', '-')} goes with {flags}")
