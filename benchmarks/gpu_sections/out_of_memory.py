"""train_distributed.py on a rank that runs out of memory: `out_of_memory.py RANK FLAGS...`.

That rank's GPU has 1 GiB for it. Without GPUs, its second step fails as it would there.
"""

import os
import runpy
import sys

import measuring
import torch

from pyimagesearch.training import loop


def main() -> None:
    if os.environ.get("RANK", "0") == sys.argv.pop(1):
        if torch.cuda.is_available():
            number = int(os.environ.get("LOCAL_RANK", "0"))
            torch.cuda.set_per_process_memory_fraction(2**30 / torch.cuda.mem_get_info(number)[1], number)
        else:
            loop.train_step = after_one_step(loop.train_step)
    script = measuring.REPOSITORY / "train_distributed.py"
    sys.argv[0] = str(script)
    runpy.run_path(str(script), run_name="__main__")


def after_one_step(train_step):
    done = []

    def failing(*args, **settings):
        if done:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        done.append(True)
        return train_step(*args, **settings)

    return failing


if __name__ == "__main__":
    main()
