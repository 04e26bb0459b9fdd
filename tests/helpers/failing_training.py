"""train_distributed.py, whose last rank meets $FAULT in its third step: a Python expression that raises or kills."""

import os
import runpy
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> None:
    sys.path.insert(0, str(REPOSITORY))
    import torch

    from pyimagesearch.runtime import distributed
    from pyimagesearch.training import loop

    take_step = loop.train_step
    steps = []

    def train_step(*arguments, **options):
        steps.append(None)
        if len(steps) == 3 and distributed.rank() == distributed.world_size() - 1:
            exec(os.environ["FAULT"], {"os": os, "torch": torch})
        return take_step(*arguments, **options)

    loop.train_step = train_step
    runpy.run_path(str(REPOSITORY / "train_distributed.py"), run_name="__main__")


if __name__ == "__main__":
    main()
