"""The flags of train_distributed.py, grouped by subject. Imports nothing heavy."""

import argparse

from pyimagesearch import config
from pyimagesearch.runtime.flags import Parser, add_amp, add_places, add_quiet, add_workers, number


def training_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of train_distributed.py."""
    parser = Parser(description="Fine-tune an image classifier on none, one or many GPUs.")
    data = parser.add_argument_group("data")
    add_places(data)
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
    add_workers(data)

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
    add_amp(devices)
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
    add_quiet(parser.add_argument_group("terminal"), "three lines an epoch, the report and where things are")
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


def fold(text: str) -> int | str:
    """An argparse type: "all", or the number of a fold, counted from 1."""
    return text if text == "all" else number(int, 1)(text)
