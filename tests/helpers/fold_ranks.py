"""What test_folds.py starts under torchrun: `fold_ranks.py DATA OUTPUT`, in each rank.

Trains a small network on each of three folds through the package's own functions and leaves what it measured.
"""

import json
import sys

import torch
from helpers.ranks import SmallNet
from helpers.runs import NoHooks, make_run

from pyimagesearch.create_dataloaders import get_dataloader
from pyimagesearch.data.transforms import eval_transform, train_transform
from pyimagesearch.evaluation import evaluate, metrics
from pyimagesearch.food_classifier import FoodClassifier
from pyimagesearch.models import parallel
from pyimagesearch.models.batchnorm import prepare_batchnorm
from pyimagesearch.models.objectives import BinaryCrossEntropy
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import run
from pyimagesearch.training import loop

EPOCHS, FOLDS = 3, (1, 2, 3)


def main() -> None:
    data, output = sys.argv[1:]
    torch.set_num_threads(1)
    objective, folds = BinaryCrossEntropy(), []
    with distributed.started("ddp") as launch:
        for fold in FOLDS:
            torch.manual_seed(0)
            shared = {"workers": 0, "fold": fold}
            train_set, loader = get_dataloader(f"{data}/training", train_transform(32, "light"), 7, **shared)
            (_, val), (_, test) = (
                get_dataloader(f"{data}/{split}", eval_transform(32), 5, shuffle=False, **shared)
                for split in ("validation", "evaluation")
            )
            base = prepare_batchnorm(SmallNet(), freeze=False, synchronise=True, rows=2, image_size=64)
            model = parallel.wrap(FoodClassifier(base, len(train_set.classes)), launch)
            optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
            epochs = []
            run = make_run(model, loader, launch=launch, optimizer=optimizer, objective=objective)
            for run.epoch in range(EPOCHS):
                trained = loop.train_epoch(run, loader, NoHooks())
                validated = evaluate.evaluate(model, val, objective)
                epochs.append([trained.mean_loss, trained.accuracy, validated.mean_loss, validated.auc])
            answers = [evaluate.predict_split(model, split, objective)[0] for split in (val, test)]
            thresholds = metrics.best_thresholds(val.dataset.labels, answers[0])
            figures = metrics.measure_labels(test.dataset.labels, answers[1], train_set.classes, thresholds)
            folds.append({"epochs": epochs, "thresholds": thresholds, "figures": figures})
        if distributed.is_main():
            with open(output, "w") as file:
                json.dump(folds, file)


if __name__ == "__main__":
    run(main)
