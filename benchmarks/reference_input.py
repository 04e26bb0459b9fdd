"""train_distributed.py with the tutorial's torchvision transforms instead of this project's, for accuracy.py.

The flags and everything else (order of photos, loop, model) are the script's.
"""

import measuring  # noqa: F401  puts the repository on sys.path
import tutorial

import train_distributed
from pyimagesearch import create_dataloaders
from pyimagesearch.runtime import errors

if __name__ == "__main__":
    create_dataloaders.train_transform = lambda size, *_, **__: tutorial.train_transforms(size)
    create_dataloaders.eval_transform = lambda size, *_, **__: tutorial.eval_transforms(size)
    errors.run(train_distributed.main)
