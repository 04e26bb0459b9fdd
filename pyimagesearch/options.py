"""The flags of the three scripts, grouped by subject. Imports nothing heavy."""

import argparse
import math
import sys
from typing import NoReturn

from pyimagesearch import config
from pyimagesearch.errors import one_line

# flags of prepare_dataset.py that make a dataset
CHECK_IGNORES = (
    "val_list", "test_list", "root", "images", "id_column", "label_columns", "group_column", "folds", "val_rate",
    "test_rate", "seed", "dest", "overwrite", "strict", "no_verify", "link",
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line, without the whole usage before it; exit status 2."""

    def __init__(self, **settings):
        super().__init__(
            allow_abbrev=False, formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100), **settings
        )

    def parse_args(self, *arguments) -> argparse.Namespace:
        """As argparse does; an empty text, which is what a shell makes of a variable that is not set, is refused."""
        args = super().parse_args(*arguments)
        for action in self._actions:
            value = getattr(args, action.dest, None)
            if value == "" or (isinstance(value, list) and "" in value):
                self.error(f"argument {'/'.join(action.option_strings)}: it is empty; name something, or leave it out")
        return args

    def error(self, message: str) -> NoReturn:
        print(f"error: {one_line(message)} (see --help)", file=sys.stderr)
        sys.exit(2)


def number(kind: type, least: float, most: float = math.inf, *, above: bool = False):
    """An argparse type: an int or a float from `least` (or above it) to `most`."""
    largest = min(most, 2**31 - 1) if kind is int else most

    def parse(text: str):
        bounds = f"{'above' if above else 'of at least'} {least}" + (f" and at most {most}" if most < math.inf else "")
        name = "a whole number" if kind is int else "a number"
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (least < value if above else least <= value) or not value <= largest or value in (math.inf, math.nan):
            raise argparse.ArgumentTypeError(f"expected {name} {bounds}, found {text[:40]!r}")
        return value

    return parse


def fold(text: str) -> int | str:
    """An argparse type: "all", or the number of a fold, counted from 1."""
    return text if text == "all" else number(int, 1)(text)


def preparation_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of prepare_dataset.py."""
    parser = Parser(
        description="Sort photos into the class folders of training, validation and evaluation. Each is decoded once; "
        "what cannot be used is left out and listed in DEST/rejected.csv. The dataset appears whole or not at all; run "
        "again, it brings in what is new.",
    )
    origin = parser.add_argument_group("from where to where")
    one_of = origin.add_mutually_exclusive_group()
    one_of.add_argument(
        "--source", metavar="DIR", default=config.DATA_PATH,
        help="holds train, val and test (or training, validation, evaluation, ...) with photos named K_N.ext, K the "
        "number of the class, and classes.txt, one name a line, where the classes are not those of Food-11; or with a "
        "folder a class; or folders of classes without splits; or train.txt, val.txt and test.txt, a path and a class "
        "(its name, or its number in classes.txt) a line; or a CSV file, see below (default %(default)s)",
    )  # fmt: skip
    one_of.add_argument("--train-list", metavar="FILE", help="a text list of any name, in place of --source")
    one_of.add_argument(
        "--sample", action="store_true", help=f"draw the built-in sample in {config.SAMPLE_PATH} and take it as source"
    )
    one_of.add_argument(
        "--check", nargs="?", const=config.BASE_PATH, metavar="DIR",
        help="make nothing, and say whether the dataset DIR is fit to train on: counts, sizes, broken photos, photos "
        f"that are in two splits; exit status 1 where it is not (default {config.BASE_PATH})",
    )  # fmt: skip
    origin.add_argument("--val-list", metavar="FILE", help="goes with --train-list")
    origin.add_argument("--test-list", metavar="FILE", help="goes with --train-list")
    origin.add_argument(
        "--root", metavar="DIR", help="where the paths in text lists begin (default: in the folder of each list)"
    )
    for split, name, default in (("val", "validation", config.VAL_RATE), ("test", "evaluation", config.TEST_RATE)):
        origin.add_argument(
            f"--{split}-rate", type=number(float, 0, 1, above=True), metavar="RATE",
            help=f"share of each class's training photos that becomes {name} where the source has none; by a photo's "
            f"name and --seed, so that it stays there when others come; of a CSV the share of its groups (default "
            f"{default})",
        )  # fmt: skip
    origin.add_argument(
        "--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N",
        help="of the splits that are drawn, and of the sample (default %(default)s)",
    )  # fmt: skip
    origin.add_argument("--dest", metavar="DIR", default=config.BASE_PATH, help="the dataset (default %(default)s)")
    origin.add_argument(
        "--overwrite", action="store_true", help="replace whatever is at DEST with exactly what the source holds"
    )
    _add_table(parser.add_argument_group("a CSV file as source: several labels a photo"))
    how = parser.add_argument_group("how")
    how.add_argument("--strict", action="store_true", help="a file that cannot be used is an error: nothing is changed")
    how.add_argument("--no-verify", action="store_true", help="do not decode the photos: faster, finds no broken one")
    how.add_argument(
        "--link", action="store_true", help="hard-link: takes no space, but edited in place both photos change"
    )
    how.add_argument(
        "--workers", type=number(int, 1, 1024), metavar="N", help="threads (default: a few more than there are cores)"
    )
    _add_quiet(how, "the table of counts and what was left out; with --check, the problems and the verdict")
    args = parser.parse_args(arguments)
    if args.check is not None:
        idle = [name for name in CHECK_IGNORES if getattr(args, name) != parser.get_default(name)]
        if idle:
            parser.error(f"--check changes nothing; leave --{idle[0].replace('_', '-')} out")
    if (args.val_list or args.test_list) and not args.train_list:
        parser.error("--val-list and --test-list go with --train-list")
    _check_table(parser, args)
    return args


def _add_table(group) -> None:
    group.add_argument("--images", metavar="DIR", help="where the photos lie")
    group.add_argument(
        "--id-column", metavar="NAME", help="its values name the photos in --images, with their suffix or without"
    )
    group.add_argument(
        "--label-columns", nargs="+", metavar="NAME", help="of 0 and 1 (default: all columns that hold nothing else)"
    )
    group.add_argument(
        "--group-column", metavar="NAME",
        help="of a patient, say: photos of one group are all in one split (default: each photo is its own group)",
    )  # fmt: skip
    group.add_argument(
        "--folds", type=number(int, 2), metavar="K",
        help="for cross-validation: what is not evaluation becomes K folds, in place of training and validation",
    )  # fmt: skip


def _check_table(parser: Parser, args: argparse.Namespace) -> None:
    """The flags of a table of labels go together."""
    table = args.source.lower().endswith(".csv")
    if table and not (args.images and args.id_column):
        parser.error(f"{args.source} is a table of labels; say where its photos lie with --images, and --id-column")
    for name in ("images", "id_column", "label_columns", "group_column", "folds"):
        if not table and getattr(args, name) is not None:
            parser.error(f"--{name.replace('_', '-')} goes with a CSV file as --source")
    if table and args.root:
        parser.error("--root goes with text lists; the photos of a CSV file are in --images")
    if args.folds and args.val_rate:
        parser.error("--folds takes the place of validation; leave --val-rate out")


def training_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of train_distributed.py."""
    parser = Parser(description="Fine-tune an image classifier on none, one or many GPUs.")
    data = parser.add_argument_group("data")
    _add_places(data)
    data.add_argument(
        "--limit", type=number(int, 1), metavar="N", help="at most N photos of each class, for a quick look"
    )
    data.add_argument(
        "--fold", type=fold, metavar="K|all",
        help="of a multi-label dataset with folds: validate on fold K (from 1) and train on the others, into "
        "OUTPUT/fold-K; or on each in its turn, each time from fresh weights",
    )  # fmt: skip
    data.add_argument(
        "--image-size", type=number(int, 32, 4096), default=config.IMAGE_SIZE, metavar="PIXELS",
        help="side of the square that the model sees (default %(default)s)",
    )  # fmt: skip
    data.add_argument(
        "--augment", choices=("tutorial", "light"), default="tutorial",
        help="tutorial: crops of 8 to 100 %% of the area, flips, rotations up to 90 degrees; light: crops of 30 to "
        "100 %%, flips (default %(default)s)",
    )  # fmt: skip
    data.add_argument(
        "--cache", choices=("none", "disk", "device"), default="none",
        help="none: decode each photo each time; disk: once, into a file of smaller copies; device: those lie on the "
        "GPU, which augments them itself (default %(default)s)",
    )  # fmt: skip
    data.add_argument(
        "--cache-size", type=number(int, 16, 4096), default=256, metavar="PIXELS",
        help="shorter side of a copy in the cache (default %(default)s)",
    )  # fmt: skip
    data.add_argument("--cache-dir", metavar="DIR", help="the folder of the cache (default: DATA.cache, beside DATA)")
    _add_workers(data)

    model = parser.add_argument_group("model")
    model.add_argument(
        "--model", default=config.MODEL, metavar="NAME",
        help="any classification network of torchvision: resnet50, efficientnet_b0, vit_b_16 ... (default %(default)s)",
    )  # fmt: skip
    model.add_argument(
        "--weights", default="imagenet", metavar="imagenet|none|PATH",
        help="what the network starts from: ImageNet weights, which torchvision downloads once; none, to train from "
        "scratch; or a file, .safetensors too, of which everything is taken that fits but the classifier (default "
        "%(default)s)",
    )  # fmt: skip
    model.add_argument(
        "--channels", type=int, choices=(1, 3), default=3,
        help="3 colours, or 1 for grey photos: the first convolution's weights are summed over the colours (default "
        "%(default)s)",
    )  # fmt: skip
    model.add_argument(
        "--freeze-bn", action=argparse.BooleanOptionalAction, default=None,
        help="leave BatchNorm as the weights have it (default: on, and off with --weights none)",
    )  # fmt: skip
    model.add_argument(
        "--freeze-backbone", action="store_true", help="train the classifier alone, on the weights as they are"
    )

    training = parser.add_argument_group("training")
    training.add_argument(
        "--epochs",
        type=number(int, 1),
        default=config.EPOCHS,
        metavar="N",
        help="passes over the photos (default %(default)s)",
    )
    sizes = training.add_mutually_exclusive_group()
    sizes.add_argument(
        "--batch-size", type=number(int, 1), metavar="N",
        help=f"photos on each device at a time (default {config.LOCAL_BATCH_SIZE}); the global batch is N x devices x "
        "--accumulate",
    )  # fmt: skip
    sizes.add_argument(
        "--global-batch-size", type=number(int, 1), metavar="N", help="photos a step on all devices together"
    )
    training.add_argument(
        "--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N",
        help="of first weights, order and augmentation (default %(default)s)",
    )  # fmt: skip
    training.add_argument(
        "--keep", choices=("best", "last"), default="best",
        help="the model to keep and to report on: best on validation, or the last epoch's (default %(default)s)",
    )  # fmt: skip

    _add_optimization(parser.add_argument_group("optimization"))

    devices = parser.add_argument_group("devices and processes")
    _add_amp(devices)
    devices.add_argument(
        "--parallel", choices=("auto", "dp", "ddp", "none"), default="auto",
        help="auto: DistributedDataParallel under torchrun, nn.DataParallel for several GPUs in one process",
    )  # fmt: skip
    devices.add_argument(
        "--nproc", type=number(int, 1), metavar="N", help="start N processes on this host, as torchrun does"
    )
    devices.add_argument(
        "--compile",
        action="store_true",
        help="let torch.compile rewrite the model, which takes minutes",
    )
    devices.add_argument(
        "--sync-bn", action="store_true", help="let BatchNorm take its statistics over all processes (SyncBatchNorm)"
    )

    parser.add_argument_group("logs").add_argument(
        "--tensorboard", action="store_true", help="curves, flags and pictures for TensorBoard, in OUTPUT/tensorboard"
    )

    recovery = parser.add_argument_group("recovery")
    recovery.add_argument(
        "--checkpoint-every",
        type=number(int, 1),
        metavar="STEPS",
        help="save every so many steps, and after each epoch",
    )
    again = recovery.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the newest checkpoint, where there is one")
    again.add_argument("--restart", action="store_true", help="throw away an unfinished run and begin again")
    _add_quiet(parser.add_argument_group("terminal"), "three lines an epoch, the report and where things are")
    args = parser.parse_args(arguments)
    if args.lr_final is not None and args.scheduler != "cosine":
        parser.error("--lr-final is where the cosine ends; say --scheduler cosine, or leave it out")
    if args.warmup_epochs >= args.epochs:
        parser.error(f"--warmup-epochs {args.warmup_epochs} leaves none of the {args.epochs} --epochs; take fewer")
    if args.freeze_backbone and args.weights == "none":
        parser.error("--freeze-backbone would leave the network untrained; give it --weights")
    if args.freeze_backbone and args.freeze_bn is False:
        parser.error("--no-freeze-bn does not go with --freeze-backbone, which freezes BatchNorm too; leave one out")
    args.lr_final = config.LR_FINAL if args.lr_final is None else args.lr_final
    return args


def _add_optimization(group) -> None:
    group.add_argument(
        "--optimizer", choices=("adam", "adamw", "sgd"), default="adam",
        help="sgd has momentum 0.9 (Nesterov's) and wants a larger --lr (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--lr", type=number(float, 0, above=True), default=config.LR, metavar="RATE",
        help="learning rate for one device's batch; it grows in proportion to the global batch (default "
        f"%(default)s for a batch of --batch-size, or of {config.LOCAL_BATCH_SIZE} with --global-batch-size)",
    )  # fmt: skip
    group.add_argument(
        "--scheduler", choices=("step", "cosine", "none"), default="step",
        help="step: a tenth of the rate after each 10 epochs; cosine: down to --lr-final (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--lr-final", type=number(float, 0, 1), metavar="SHARE",
        help=f"of --lr, where the cosine ends (default {config.LR_FINAL})",
    )  # fmt: skip
    group.add_argument(
        "--warmup-epochs", type=number(int, 0), default=0, metavar="N",
        help="let the rate rise evenly for N epochs, 1/(N+1) of it in the first; then the schedule begins (default 0)",
    )  # fmt: skip
    group.add_argument(
        "--weight-decay", type=number(float, 0), default=0.0, metavar="DECAY",
        help="of weights, not of biases and BatchNorm; adamw's is decoupled (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--clip-norm", type=number(float, 0, above=True), metavar="NORM",
        help="scale a longer gradient down to this norm, over all parameters",
    )  # fmt: skip
    group.add_argument(
        "--accumulate", type=number(int, 1), default=1, metavar="N",
        help="take each step's batch in N parts: N times the batch in the same memory (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--label-smoothing", type=number(float, 0, 0.999), default=0.0, metavar="SHARE",
        help="of the target, spread over all classes, in training alone (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--class-weights", choices=("none", "balanced"), default="none",
        help="balanced: in the training loss, each class counts as much as any other (default %(default)s)",
    )  # fmt: skip


def inference_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of distributed_inference.py."""
    parser = Parser(description="Show what the trained classifier says of photos, a few of the test split or others.")
    what = parser.add_argument_group("what").add_mutually_exclusive_group()
    what.add_argument("--images", nargs="+", metavar="PATH", help="photos of your own, and folders of them")
    what.add_argument(
        "--on", choices=("training", "validation", "test"),
        help="a whole split: accuracy, classification report and confusion matrix, as at the end of training",
    )  # fmt: skip
    what.add_argument(
        "--export", metavar="FILE",
        help="no photos: write the model to FILE, .onnx or .pt2 (torch.export), pixels in and probabilities out, for "
        "programs without this one",
    )  # fmt: skip
    places = parser.add_argument_group("places")
    _add_places(places)
    places.add_argument("--csv", metavar="FILE", help="write the predictions there too, one row a photo")
    how = parser.add_argument_group("how many")
    how.add_argument("--top-k", type=number(int, 1), metavar="K", help="name the K likeliest classes (default 1)")
    how.add_argument(
        "--pages", type=_pages, metavar="N|all",
        help="pictures to draw of --images at most, each of 25 photos; 0 for none (default 4)",
    )  # fmt: skip
    how.add_argument(
        "--count", type=number(int, 1, 100), metavar="N",
        help=f"photos of the test split to show (default {config.PRED_BATCH_SIZE} a device)",
    )  # fmt: skip
    how.add_argument(
        "--seed", type=number(int, 0, 2**31 - 1), metavar="N", help="which of them (default: others each time)"
    )
    devices = parser.add_argument_group("devices and processes")
    _add_workers(devices)
    _add_amp(devices)
    _add_quiet(parser.add_argument_group("terminal"), "the predictions and where they are")
    args = parser.parse_args(arguments)
    _refuse_idle(parser, args)
    args.top_k = args.top_k or 1
    args.pages = 4 if args.pages is None else args.pages
    return args


def _pages(text: str) -> int:
    return sys.maxsize if text == "all" else number(int, 0)(text)


def _refuse_idle(parser: Parser, args: argparse.Namespace) -> None:
    """Complain of a flag that would do nothing beside --images, --on, --export, or without any of them."""
    given = next((name for name in ("images", "on", "export") if getattr(args, name) is not None), None)
    useful = {
        "csv": ("images", "on"), "top_k": ("images", "on"), "pages": ("images",), "count": (None,), "seed": (None,),
        "workers": ("images", "on"), "amp": ("images", "on", None),
    }  # fmt: skip
    for name, beside in useful.items():
        if getattr(args, name) != parser.get_default(name) and given not in beside:
            flags = " or ".join(f"--{mode}" for mode in beside if mode) or "none of --images, --on and --export"
            parser.error(f"--{name.replace('_', '-')} goes with {flags}")


def _add_places(group) -> None:
    group.add_argument(
        "--data", default=config.BASE_PATH, metavar="DIR", help="the prepared dataset (default %(default)s)"
    )
    group.add_argument(
        "--output", default=config.OUTPUT_PATH, metavar="DIR", help="the model and its report (default %(default)s)"
    )


def _add_workers(group) -> None:
    group.add_argument(
        "--workers", type=number(int, 0, 1024), metavar="N",
        help="processes that read photos, for each process that trains (default: one a core it may use)",
    )  # fmt: skip


def _add_quiet(group, left: str) -> None:
    group.add_argument("--quiet", action="store_true", help=f"no bars, and on standard output no more than {left}")


def _add_amp(group) -> None:
    group.add_argument(
        "--amp", choices=("auto", "fp16", "bf16", "off"), default="auto",
        help="mixed precision; auto: fp16 on GPUs, bf16 on CPUs that have it in hardware (default %(default)s)",
    )  # fmt: skip
