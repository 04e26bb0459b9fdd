"""The flags of train_distributed.py, grouped by subject, and what their defaults come to. Imports nothing heavy."""

import argparse
import sys

from pyimagesearch import config
from pyimagesearch.runtime.flags import Parser, add_amp, add_places, add_quiet, add_workers, number, seconds
from pyimagesearch.training.recipes import MODERN, RECIPES, apply_recipe, as_flags


def training_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of train_distributed.py, checked against each other."""
    parser = Parser(
        description="Fine-tune an image classifier on none, one or many GPUs.",
        formatter=argparse.RawDescriptionHelpFormatter,  # a recipe's flags are not broken at their hyphens
    )
    _add_data(parser.add_argument_group("data"))
    _add_model(parser.add_argument_group("model"))
    _add_training(parser.add_argument_group("training"))
    _add_optimization(parser.add_argument_group("optimization"))
    _add_devices(parser.add_argument_group("devices and processes"))
    parser.add_argument_group("logs").add_argument(
        "--tensorboard", action="store_true", help="curves, flags and pictures for TensorBoard, in OUTPUT/tensorboard"
    )
    _add_recovery(parser.add_argument_group("recovery"))
    add_quiet(parser.add_argument_group("terminal"), "three lines per epoch, the report and where the files are")
    for part in MODERN:
        parser.add_argument_group(f"--recipe modern, {part.runs}", as_flags(part.values))
    args = parser.parse_args(arguments)
    apply_recipe(args, parser.named(arguments) & vars(args).keys())
    if args.lr_final is not None and args.scheduler != "cosine":
        parser.error("--lr-final is where the cosine ends; add --scheduler cosine, or leave it out")
    if args.warmup_epochs >= args.epochs:
        parser.error(f"--warmup-epochs {args.warmup_epochs:g} leaves none of the {args.epochs} --epochs; choose fewer")
    if args.mix_share is not None and args.mix == "none":
        parser.error("--mix-share is how many batches --mix mixes; add --mix cutmix, or leave it out")
    args.fit_batch = args.batch_size == "auto"  # see food_classifier.build_model
    args.batch_size = None if args.fit_batch else args.batch_size
    if args.global_batch_size and args.batch_size:
        parser.error("--batch-size is for one device and --global-batch-size for all; give one of the two")
    if args.fit_batch and (args.sync_bn or args.parallel == "fsdp"):
        parser.error("--batch-size auto tries each process alone, which --sync-bn and fsdp do not allow; give a number")
    if args.shares == "auto" and args.compile:
        parser.error("--compile would compile anew for each size of --shares auto; leave one of the two out")
    if args.grow_from < 1 and args.compile:
        parser.error("--compile would compile anew for each size of --grow-from; leave one of the two out")
    if args.freeze_backbone and args.weights == "none":
        parser.error("--freeze-backbone would leave the network untrained; give it --weights")
    if args.freeze_backbone and args.freeze_bn is False:
        parser.error("--no-freeze-bn does not go with --freeze-backbone, which freezes BatchNorm too; leave one out")
    if args.backbone_lr != 1 and (args.freeze_backbone or args.weights == "none"):
        parser.error("--backbone-lr is for pretrained weights that train on, at a rate of their own; leave it out")
    return args


def resolve(args: argparse.Namespace, launch, found: dict | None) -> argparse.Namespace:
    """`args` with every default decided for this launch; from then on nobody decides one.

    launch : a runtime.distributed.Launch
    found : the checkpoint to go on from; a resumed run keeps its global batch on however many devices
    """
    from pyimagesearch.food_classifier import freezes_batchnorm, resolve_amp
    from pyimagesearch.runtime import distributed
    from pyimagesearch.runtime.errors import UserError

    args = argparse.Namespace(**vars(args))
    args.batch_size = args.batch_size or config.LOCAL_BATCH_SIZE
    args.lr_batch_size = args.batch_size
    args.cache_size = None if args.cache == "none" else args.cache_size
    if args.mix != "none":
        args.mix_share = config.MIX_SHARE if args.mix_share is None else args.mix_share
    args.workers = distributed.cores_of_rank() if args.workers is None else args.workers
    args.freeze_bn = freezes_batchnorm(args)
    if found:
        _keep_batch(args, launch, found["config"])
    args.parts_for_memory = found["config"].get("parts_for_memory", 1) if found else 1  # see loop.survive_step
    args.global_batch_size = args.global_batch_size or args.batch_size * launch.devices * args.accumulate
    args.accumulate = max(args.accumulate, args.parts_for_memory)
    if args.scheduler == "cosine":
        args.lr_final = config.LR_FINAL if args.lr_final is None else args.lr_final
    args.parallel = launch.parallel
    with distributed.failing_together():
        kept = found["config"]["amp"] if found and args.amp == "auto" else args.amp
        args.amp = resolve_amp(kept, launch.device)
        if not isinstance(args.shares, str) and len(args.shares) != (ranks := distributed.world_size()):
            raise UserError(f"--shares has {len(args.shares)} numbers, for {ranks} processes; give one for each")
        if args.shares == "auto" and launch.parallel == "fsdp":
            raise UserError("--shares auto times each process alone, and --parallel fsdp lets all wait; leave one out")
        if args.ema and launch.parallel == "fsdp":
            raise UserError("--ema keeps a whole copy of the weights, and --parallel fsdp splits them; leave one out")
    return args


def _keep_batch(args: argparse.Namespace, launch, before: dict) -> None:
    """Keep the global batch of the resumed run `before`, and what its --lr is for. Another --batch-size means parts."""
    from pyimagesearch.runtime.terminal import info

    args.lr_batch_size = before.get("lr_batch_size", before["batch_size"])
    if args.global_batch_size is None:
        args.global_batch_size = before["global_batch_size"]
        if args.batch_size != args.lr_batch_size and not args.fit_batch:
            args.accumulate = max(args.accumulate, -(-args.global_batch_size // (args.batch_size * launch.devices)))
    if args.accumulate != before.get("accumulate", 1) and not args.fit_batch:
        statistics = "" if args.freeze_bn else ", each with its own statistics of BatchNorm"
        info(f"computing each batch of {args.global_batch_size} in {args.accumulate} parts{statistics}...")


def _add_data(group) -> None:
    add_places(group)
    group.add_argument(
        "--limit", type=number(int, 1), metavar="N", help="at most N photos of each class, for a quick look"
    )
    group.add_argument(
        "--fold", type=number(int, 1, word="all"), metavar="K|all",
        help="of a dataset with folds: validate on fold K (from 1) and train on the others, into OUTPUT/fold-K; all: "
        "one training per fold, each from fresh weights",
    )  # fmt: skip
    group.add_argument(
        "--image-size", type=number(int, 32, 4096), default=config.IMAGE_SIZE, metavar="PIXELS",
        help="side of the square that the model sees (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--grow-from", type=number(float, 0, 1, above=True), default=1.0, metavar="SHARE",
        help="train on smaller images first, which takes less time: their side grows from this share of --image-size "
        "over the first three quarters of --epochs (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--value-range", type=value_range, metavar="LOW:HIGH",
        help="black and white in grey photos of more than 8 bits, for the whole dataset (default: the usual range that "
        "holds the values of training photos, such as 0:4095); a negative LOW needs =, as in --value-range=-1000:400",
    )  # fmt: skip
    group.add_argument(
        "--augment", choices=("tutorial", "light"), default="tutorial",
        help="tutorial: crops of 8 to 100 %% of the area, flips, rotations up to 90 degrees; light: crops of 30 to "
        "100 %%, flips (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--mix", choices=("none", "cutmix", "mixup", "both"), default="none",
        help="cutmix: put a part of another photo over a part of each; mixup: blend each with another; both: one of "
        "the two. Both photos' labels count by their shares, in the training loss and the training accuracy (default "
        "%(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--mix-share", type=number(float, 0, 1, above=True), metavar="SHARE",
        help=f"share of the batches that --mix mixes (default {config.MIX_SHARE})",
    )  # fmt: skip
    group.add_argument(
        "--cache", choices=("none", "disk", "device"), default="none",
        help="none: decode each photo each time; disk: once, into a file of smaller copies; device: keep those copies "
        "on the GPU, which augments them itself (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--cache-size", type=number(int, 16, 4096), default=256, metavar="PIXELS",
        help="shorter side of a copy in the cache (default %(default)s)",
    )  # fmt: skip
    group.add_argument("--cache-dir", metavar="DIR", help="the folder of the cache (default: DATA.cache, beside DATA)")
    add_workers(group)


def _add_model(group) -> None:
    group.add_argument(
        "--model", default=config.MODEL, metavar="NAME",
        help="any classification network of torchvision: resnet50, efficientnet_b0, vit_b_16 ... (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--weights", default="imagenet", metavar="imagenet|none|PATH",
        help="what the network starts from: ImageNet weights, which torchvision downloads once; none, to train from "
        "scratch; or a file, .safetensors too, from which all but the classifier is loaded (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--partial-weights", action="store_true",
        help="begin even if the file of --weights lacks part of the network, which then is random",
    )  # fmt: skip
    group.add_argument(
        "--channels", type=int, choices=(1, 3), default=3,
        help="3 for colour, 1 for grey photos: the first convolution's weights are summed over the colours (default "
        "%(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--freeze-bn", action=argparse.BooleanOptionalAction, default=None,
        help="keep BatchNorm as the weights have it (default: on, and off with --weights none)",
    )  # fmt: skip
    group.add_argument(
        "--freeze-backbone", action="store_true", help="train the classifier alone, on the weights as they are"
    )


def _add_training(group) -> None:
    group.add_argument(
        "--recipe", choices=tuple(RECIPES), default="tutorial",
        help="the defaults of flags that are not given; those of modern are listed at the end, by what a run starts "
        "from (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--epochs", type=number(int, 1), default=config.EPOCHS, metavar="N",
        help="passes over the photos, at most (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--patience", type=number(int, 1), metavar="EPOCHS",
        help="end when so many epochs in turn were not better on validation (default: go on)",
    )  # fmt: skip
    group.add_argument(
        "--max-time", type=seconds, metavar="TIME",
        help="for training and validation: 90s, 30m, 1.5h, 1:30 (h:mm), or minutes. After each epoch, the cosine is "
        "stretched over the epochs that still fit, and ends with the last; of the other schedules the end is cut off. "
        "A resumed run has the rest of the time. As times differ, such a run cannot be repeated bit for bit",
    )  # fmt: skip
    group.add_argument(
        "--batch-size", type=number(int, 1, word="auto"), metavar="N|auto",
        help=f"photos on each device at a time (default {config.LOCAL_BATCH_SIZE}); the global batch is N x devices x "
        "--accumulate. auto: the global batch as without it, in as few parts as the GPUs' memory allows",
    )  # fmt: skip
    group.add_argument(
        "--global-batch-size", type=number(int, 1), metavar="N", help="photos per step on all devices together"
    )
    group.add_argument(
        "--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N",
        help="of first weights, order and augmentation (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--keep", choices=("best", "last"), default="best",
        help="the model to keep and to report on: best on validation, or the last epoch's (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--no-calibrate", dest="calibrate", action="store_false",
        help="leave the probabilities as they are; else a temperature that is fitted on validation corrects them",
    )  # fmt: skip


def _add_optimization(group) -> None:
    group.add_argument(
        "--optimizer", choices=("adam", "adamw", "sgd"), default="adam",
        help="sgd has Nesterov momentum 0.9 and needs a larger --lr (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--lr", type=number(float, 0, above=True), default=config.LR, metavar="RATE",
        help="learning rate for one device's batch; it grows in proportion to the global batch (default "
        f"%(default)s for a batch of --batch-size, or of {config.LOCAL_BATCH_SIZE} with --global-batch-size)",
    )  # fmt: skip
    group.add_argument(
        "--backbone-lr", type=number(float, 0, above=True), default=1.0, metavar="FACTOR",
        help="train what is pretrained at FACTOR times --lr, and the new classifier at --lr (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--scheduler", choices=("step", "cosine", "none"), default="step",
        help="step: a tenth of the rate after each 10 epochs; cosine: down to --lr-final, in every step (default "
        "%(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--lr-final", type=number(float, 0, 1), metavar="SHARE",
        help=f"share of --lr at which the cosine ends (default {config.LR_FINAL})",
    )  # fmt: skip
    group.add_argument(
        "--warmup-epochs", type=number(float, 0), default=0, metavar="N",
        help="raise the rate evenly over the steps of N epochs, 0.5 for example; then the schedule begins (default 0)",
    )  # fmt: skip
    group.add_argument(
        "--ema", type=number(float, 0, 0.999999, above=True), metavar="DECAY",
        help="validate, keep and report the exponential moving average of the weights, with a decay per step of 0.999 "
        "for example, and less in the first steps; takes the memory of the weights once more (default: off)",
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
        help="compute each step's batch in N parts: N times the batch in the same memory (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--label-smoothing", type=number(float, 0, 0.999), default=0.0, metavar="SHARE",
        help="share of the target that is spread over all classes, in training alone (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--class-weights", choices=("none", "balanced"), default="none",
        help="balanced: each class counts as much as any other in the training loss (default %(default)s)",
    )  # fmt: skip


def _add_devices(group) -> None:
    add_amp(group)
    group.add_argument(
        "--parallel", choices=("auto", "dp", "ddp", "fsdp", "none"), default="auto",
        help="auto: DistributedDataParallel under torchrun, nn.DataParallel for several GPUs in one process; fsdp: "
        "split parameters, gradients and optimizer state over the processes, for models that fill a GPU",
    )  # fmt: skip
    group.add_argument(
        "--nproc", type=number(int, 1), metavar="N", help="start N processes on this host, as torchrun does"
    )
    group.add_argument(
        "--shares", type=share_list, default="equal", metavar="equal|auto|A,B,...",
        help="how the processes share each batch: equally, by numbers such as 3,1 (one per process), or auto: in "
        "proportion to their speed, for GPUs that differ; the losses stay the same (default %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--compile", action="store_true", help="let torch.compile rewrite the model, which takes minutes"
    )
    group.add_argument(
        "--activation-checkpointing", action="store_true",
        help="compute each block again in the backward pass instead of keeping what it computed: less memory, one more "
        "forward pass; BatchNorm must be frozen",
    )  # fmt: skip
    group.add_argument(
        "--plan",
        action="store_true",
        help="print the memory that each of --nproc processes needs under ddp and under fsdp, and end; needs no data",
    )
    group.add_argument(
        "--sync-bn", action="store_true", help="take BatchNorm's statistics over all processes (SyncBatchNorm)"
    )


def _add_recovery(group) -> None:
    group.add_argument(
        "--checkpoint-every", type=number(int, 1), metavar="STEPS",
        help="save every STEPS steps too, not only after each epoch",
    )  # fmt: skip
    again = group.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the newest checkpoint, where there is one")
    again.add_argument("--restart", action="store_true", help="discard an unfinished run and begin again")


def value_range(text: str) -> tuple[float, float]:
    """An argparse type: LOW:HIGH."""
    low, high = map(number(float, -sys.float_info.max), text.split(":") if text.count(":") == 1 else ("", ""))
    if not low < high:
        raise argparse.ArgumentTypeError(f"expected LOW:HIGH, two numbers, the lower one first, found {text[:40]!r}")
    return low, high


def share_list(text: str) -> str | list[float]:
    """An argparse type: "equal", "auto", or a number for each process."""
    return text if text in ("equal", "auto") else [number(float, 0.001)(part) for part in text.split(",")]
