"""train_distributed.py with the tutorial's transforms, torchvision's own, in place of this project's: same flags.

Everything else, the order of the photos, the loop, the model, is the script's. For accuracy.py.
"""

import measuring  # noqa: F401  finds the packages of the repository
import tutorial

import train_distributed
from pyimagesearch import create_dataloaders
from pyimagesearch.runtime import errors

if __name__ == "__main__":
    create_dataloaders.train_transform = lambda size, *_, **__: tutorial.train_transforms(size)
    create_dataloaders.eval_transform = lambda size, *_, **__: tutorial.eval_transforms(size)
    errors.run(train_distributed.main)
