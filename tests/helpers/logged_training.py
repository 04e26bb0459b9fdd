"""train_distributed.py, noting in $STEP_LOG the pixels of every photo that a step is taken on, by rank and step."""

import hashlib
import os
import runpy
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> None:
    sys.path.insert(0, str(REPOSITORY))
    from pyimagesearch.runtime import distributed
    from pyimagesearch.training import loop

    take_step, add = loop.train_step, loop.RunningTotals.add
    pending = []

    def train_step(model, images, labels, *rest, **options):
        pending[:] = [hashlib.sha256(image.numpy().tobytes()).hexdigest()[:16] for image in images.contiguous()]
        return take_step(model, images, labels, *rest, **options)

    def noting_add(self, step, *rest):
        with open(os.path.join(os.environ["STEP_LOG"], f"step{step}-rank{distributed.rank()}.txt"), "w") as file:
            file.write("\n".join(pending))
        return add(self, step, *rest)

    loop.train_step, loop.RunningTotals.add = train_step, noting_add
    runpy.run_path(str(REPOSITORY / "train_distributed.py"), run_name="__main__")


if __name__ == "__main__":
    main()
