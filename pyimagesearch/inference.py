"""What the trained model says of any photos, shared out to the ranks."""

import csv
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pyimagesearch import config, distributed
from pyimagesearch.augmentation import eval_transform
from pyimagesearch.create_dataloaders import WholeBatchSampler
from pyimagesearch.errors import UserError, one_line
from pyimagesearch.files import atomic_write
from pyimagesearch.photo_dataset import Key
from pyimagesearch.photos import photos_below, read_photo

CSV_COLUMNS = ("path", "prediction", "confidence", "error")


class Prediction(NamedTuple):
    """What is said of one photo: a class and its probability, or why the photo could not be read."""

    path: str
    prediction: str
    confidence: float
    error: str = ""


def list_photos(named: Sequence[str]) -> list[str]:
    """The photos that a person named: files as they are, and of folders all photos below, sorted, in the order named.

    Raises
    ------
    UserError : a path does not exist, or there is no photo at all
    """
    photos = []
    for path in named:
        if not os.path.lexists(path):
            raise UserError(f"there is no {path}; name photos, or folders that have photos")
        photos += photos_below(path) if os.path.isdir(path) else [path]
    if not photos:
        raise UserError(f"no photo in {', '.join(named)}; name photos, or folders that have photos")
    return photos


class PhotoList(Dataset):
    """Photos by their paths. An item is (what `transform` makes of it, "") or, of a broken one, (zeros, the reason)."""

    def __init__(self, paths: Sequence[str], transform, image_size: int):
        self.paths, self.transform, self.image_size = paths, transform, image_size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, str]:
        try:
            return self.transform(read_photo(self.paths[key.index])), ""
        except Exception as error:  # Pillow's readers of broken files raise nearly anything
            return torch.zeros(3, self.image_size, self.image_size), str(error) or type(error).__name__


@torch.inference_mode()
def predict_photos(
    model: nn.Module,
    paths: Sequence[str],
    facts: dict,
    device: torch.device,
    *,
    batch: int = config.LOCAL_BATCH_SIZE,
    workers: int = 0,
    after_batch: Callable[[int], None] = lambda rows: None,
) -> list[Prediction]:
    """The model's answer for each photo, in the order of `paths`, on every rank and the same for any number of ranks.

    Parameters
    ----------
    model : in evaluation mode, on `device`
    facts : of the model, see run.read_facts
    batch, workers : photos in a batch, and processes that read them, for each rank
    after_batch : called with the number of this rank's rows that were just done
    """
    dataset = PhotoList(paths, eval_transform(facts["image_size"]), facts["image_size"])
    sampler = WholeBatchSampler(len(dataset), batch)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=workers)
    answers = []
    for images, errors in loader:
        images = images.to(device, non_blocking=True, memory_format=torch.channels_last)
        confidences, labels = model(images).float().softmax(1).max(1)
        answers += zip(labels.tolist(), confidences.tolist(), errors, strict=True)
        after_batch(len(errors))
    everywhere: list[Prediction] = [None] * len(paths)
    for indices, some in distributed.gather_objects((sampler.indices, answers)):
        for index, (label, confidence, error) in zip(indices, some, strict=True):
            said = ("", float("nan"), one_line(error)) if error else (facts["classes"][label], confidence, "")
            everywhere[index] = Prediction(paths[index], *said)
    return everywhere


def write_predictions(path: str, predictions: Sequence[Prediction]) -> None:
    """Write one row a photo, as CSV, whole or not at all; a photo that could not be read has an error and no class."""
    with atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for item in predictions:
            confidence = "" if np.isnan(item.confidence) else f"{item.confidence:.6f}"
            writer.writerow([one_line(item.path), item.prediction, confidence, item.error])
