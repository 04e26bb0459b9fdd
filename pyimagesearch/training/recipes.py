"""Recipes: the defaults that --recipe sets, by what a run starts from. Imports nothing heavy.

Every entry is a flag that exists by itself, and a flag that is given wins. The tutorial's recipe is the flags' own
defaults.
"""

import argparse
import os
import textwrap
from collections.abc import Callable, Collection
from typing import NamedTuple

TRANSFORMERS = ("vit_", "swin_", "maxvit_")


class Part(NamedTuple):
    """What a recipe sets for the runs to which the part applies. A later part wins over an earlier one."""

    runs: str  # as --help names them
    applies: Callable[[argparse.Namespace], bool]
    values: dict[str, object]


MODERN = (
    Part("every run", lambda args: True, {
        "optimizer": "adamw",
        "lr": 1e-3,  # at batches of 32; a ResNet-18 in 6 epochs was worse at 3e-3
        "scheduler": "cosine",
        "warmup_epochs": 0.5,  # over steps, so that a run of one epoch has it too
        "weight_decay": 0.05,  # as torchvision's references for ConvNeXt and Swin
        "clip_norm": 1.0,  # a rare large gradient does little harm (arXiv:2205.01580)
        "label_smoothing": 0.1,  # arXiv:1512.00567
        "augment": "light",  # photos stand upright: no rotations, and crops that still show the object
    }),
    Part("every --parallel but fsdp", lambda args: args.parallel != "fsdp", {
        "ema": 0.999,  # and less in the first steps
    }),
    Part("--weights none and at least 50 --epochs", lambda args: args.weights == "none" and args.epochs >= 50, {
        # on half of the batches; 20 epochs (docs/recipes.md) and fine-tuning (arXiv:1912.11370) are better without
        "mix": "cutmix",
    }),
    Part("--weights none, but for vit_*, swin_*, maxvit_* and --compile", lambda args: _can_grow(args), {
        "grow_from": 0.5,  # where one side is not built in, in the network, its frozen BatchNorm or the compiled code
    }),
    Part("a vit_*, swin_* or maxvit_*", lambda args: args.model.startswith(TRANSFORMERS), {
        "lr": 3e-4,  # they become unstable at rates that convolutions stand
        "weight_decay": 0.1,  # and overfit few photos more (arXiv:2106.10270)
    }),
    Part("pretrained weights that train on", lambda args: args.weights != "none" and not args.freeze_backbone, {
        "backbone_lr": 0.1,  # the classifier is new, and the features are not (arXiv:1801.06146, section 3.2)
    }),
    Part("--freeze-backbone", lambda args: args.freeze_backbone, {
        "lr": 1e-3,  # one linear layer, whatever is below it
        "weight_decay": 0.0,
    }),
    Part("several labels per photo", lambda args: _several_labels(args.data), {
        "label_smoothing": 0.0,  # is for one class per photo
    }),
)  # fmt: skip
RECIPES: dict[str, tuple[Part, ...]] = {"tutorial": (), "modern": MODERN}


def apply_recipe(args: argparse.Namespace, named: Collection[str]) -> None:
    """Set what the recipe of `args` sets, other than the flags that were `named`, and args.origin.

    origin : what set each flag that has not its own default, "command line" or "recipe", by the flag's name
    """
    values: dict[str, object] = {}
    for part in RECIPES[args.recipe]:
        values |= part.values if part.applies(args) else {}
    args.origin = dict.fromkeys(values, "recipe") | dict.fromkeys(sorted(named), "command line")
    vars(args).update({name: value for name, value in values.items() if name not in named})


def as_flags(values: dict[str, object]) -> str:
    """The command line that has the same effect, in lines for --help."""
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in values.items())
    return textwrap.fill(flags, 96, break_on_hyphens=False)


def _can_grow(args: argparse.Namespace) -> bool:
    return args.weights == "none" and not args.compile and not args.model.startswith(TRANSFORMERS)


def _several_labels(data: str) -> bool:
    from pyimagesearch.data.labels_csv import LABELS_CSV  # late: it imports NumPy

    return os.path.isfile(os.path.join(data, LABELS_CSV))
