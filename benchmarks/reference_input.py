"""train_distributed.py with the tutorial's torchvision transforms instead of this project's, for accuracy.py.

The flags and everything else (order of photos, loop, model) are the script's.
"""

import measuring  # noqa: F401  puts the repository on sys.path
import tutorial

import train_distributed
from pyimagesearch.data import transforms
from pyimagesearch.runtime import errors

if __name__ == "__main__":
    transforms.train_transform = lambda size, *_, **__: tutorial.train_transforms(size)
    transforms.eval_transform = lambda size, *_, **__: tutorial.eval_transforms(size)
    errors.run(train_distributed.main)
