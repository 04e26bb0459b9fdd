"""What the scripts' flags share: one-line errors, ranges of numbers, and the flags of several scripts."""

import argparse
import math
import os
import re
import sys
from functools import partial
from typing import NoReturn

from pyimagesearch import config
from pyimagesearch.runtime.errors import one_line


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, without the usage; exit status 2."""

    def __init__(self, *, formatter=argparse.HelpFormatter, **settings):
        super().__init__(allow_abbrev=False, formatter_class=partial(formatter, width=100), **settings)
        self.add_argument("--local-rank", "--local_rank", type=number(int, 0), help=argparse.SUPPRESS)

    def parse_args(self, *arguments) -> argparse.Namespace:  # type: ignore[override]
        """As argparse; an empty value, which is what a shell makes of an unset variable, is an error."""
        args = super().parse_args(*arguments)
        local_rank = vars(args).pop("local_rank")  # of torch.distributed.launch, for what torchrun's LOCAL_RANK says
        if local_rank is not None:
            os.environ.setdefault("LOCAL_RANK", str(local_rank))
        for action in self._actions:
            value = getattr(args, action.dest, None)
            if value == "" or (isinstance(value, list) and "" in value):
                self.error(f"argument {'/'.join(action.option_strings)}: empty; give a value or leave it out")
        return args

    def named(self, arguments: list[str] | None) -> set[str]:
        """The flags that `arguments` give, by their names in the namespace."""
        unnamed = object()
        blank = argparse.Namespace(**{action.dest: unnamed for action in self._actions})
        return {name for name, value in vars(super().parse_args(arguments, blank)).items() if value is not unnamed}

    def error(self, message: str) -> NoReturn:
        print(f"error: {one_line(message)} (see --help)", file=sys.stderr)
        sys.exit(2)


def number(kind: type, least: float, most: float = math.inf, *, above: bool = False, word: str | None = None):
    """An argparse type: an int or a float from `least` (above it, with `above`) to `most`, or the text `word`."""
    largest = min(most, 2**31 - 1 if kind is int else sys.float_info.max)
    expected = f"{'a whole number' if kind is int else 'a number'} {'above' if above else 'of at least'} {least}"
    expected += (f" and at most {most}" if most < math.inf else "") + (f", or {word}" if word else "")

    def parse(text: str):
        if text == word:
            return text
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (least < value if above else least <= value) or value > largest:
            raise argparse.ArgumentTypeError(f"expected {expected}, found {text[:40]!r}")
        return value

    return parse


def seconds(text: str) -> float:
    """An argparse type: a time, in seconds, from "90s", "30m", "1.5h", "1:30" (hours and minutes) or "30" (minutes)."""
    value = math.nan
    if match := re.fullmatch(r"([0-9]+):([0-5][0-9])", text):
        value = float(match[1]) * 3600 + float(match[2]) * 60
    elif match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text):
        value = float(match[1]) * {"s": 1, "m": 60, "h": 3600}.get(match[2], 60)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 30m, 1.5h or 1:30 (h:mm), found {text[:40]!r}")
    return value


def add_places(group) -> None:
    group.add_argument("--data", default=config.BASE_PATH, metavar="DIR", help="prepared dataset (default %(default)s)")
    group.add_argument(
        "--output", default=config.OUTPUT_PATH, metavar="DIR", help="model and report (default %(default)s)"
    )


def add_workers(group) -> None:
    group.add_argument(
        "--workers", type=number(int, 0, 1024), metavar="N",
        help="processes that read photos, for each process that computes (default: one per available core)",
    )  # fmt: skip


def add_quiet(group, left: str) -> None:
    group.add_argument("--quiet", action="store_true", help=f"no progress bars; standard output has only {left}")


def add_amp(group) -> None:
    group.add_argument(
        "--amp", choices=("auto", "bf16", "fp16", "tf32", "off"), default="auto",
        help="bf16, fp16: mixed precision; off: float32; tf32: float32 that the GPU multiplies as TF32; auto: bf16 "
        "where the hardware has it, else fp16 on NVIDIA and AMD GPUs, else off (default %(default)s)",
    )  # fmt: skip
