"""Predictions of the trained model: for any photos, for a whole split, for a random batch of the test split."""

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from pyimagesearch import config
from pyimagesearch.create_dataloaders import PhotoLoader, WholeBatchSampler, begin_worker, get_dataloader
from pyimagesearch.data.cache import DeviceLoader
from pyimagesearch.data.datasets import NO_LABEL, SEPARATOR, Key, PhotoDataset, open_split, truths_of
from pyimagesearch.data.decoding import describe_fault, photos_below, pixels_of, read_pixels
from pyimagesearch.data.transforms import SquareTransform, to_device
from pyimagesearch.evaluation.evaluate import forward_batch
from pyimagesearch.food_classifier import load_classifier, resolve_amp, set_precision
from pyimagesearch.models import parallel
from pyimagesearch.models.model_card import model_path, read_model_card, thresholds_of, transform_of
from pyimagesearch.models.objectives import objective_of
from pyimagesearch.runtime import distributed, terminal
from pyimagesearch.runtime.errors import UserError

UNSURE = "unsure"
NOT_FINITE = "the model's output is not a finite number; try --amp off"
IN_MEMORY = Image.Image, np.ndarray  # the types of images that have no path, see decoding.pixels_of
PhotoSource = str | os.PathLike | Image.Image | np.ndarray
BATCH = 32  # photos; there are at most as many workers as batches, so a few hundred photos must make several


class Prediction(NamedTuple):
    """The most probable classes of one photo with their probabilities, best first; or the error that prevented it.

    Where photos may have several labels: the predicted labels and their probabilities in the model's order, and
    `probabilities` of all labels. `answer`: see with_answers.
    """

    path: str
    classes: tuple[str, ...] = ()
    confidences: tuple[float, ...] = ()
    error: str = ""
    probabilities: tuple[float, ...] = ()
    answer: str = ""

    @property
    def prediction(self) -> str:
        """The most probable class, "" if there is none."""
        return self.classes[0] if self.classes else ""

    @property
    def confidence(self) -> float:
        """The probability of the most probable class, NaN if there is none."""
        return self.confidences[0] if self.confidences else math.nan

    @property
    def text(self) -> str:
        """The classes with their probabilities, or the error, as one phrase."""
        pairs = zip(self.classes, self.confidences, strict=True)
        text = self.error or SEPARATOR.join(f"{name} ({share:.1%})" for name, share in pairs) or NO_LABEL
        return f"{UNSURE}: {text}" if self.answer == UNSURE else text


@dataclass(frozen=True)
class Trained:
    """A trained model in evaluation mode on `device`, its model card, and whether it sees mirror images too."""

    model: nn.Module
    card: dict
    device: torch.device
    tta: bool = False


def load_trained(output: str, launch: distributed.Launch, amp: str = "auto", *, tta: bool = False) -> Trained:
    """The trained model in the folder `output`, on every rank. Nothing is downloaded.

    amp : as resolve_amp's choice; tta : see predict
    """
    with distributed.failing_together():
        card = read_model_card(output)
        model = load_classifier(model_path(output), card)
        set_precision(model, resolve_amp(amp, launch.device, trained_in=card["training"].get("amp")))
    model.to(launch.device).to(memory_format=torch.channels_last)
    return Trained(parallel.wrap_for_inference(model, launch).eval(), card, launch.device, tta)


def predict(
    paths: Sequence[PhotoSource] | PhotoSource, output: str = config.OUTPUT_PATH, *, top_k: int = 1,
    batch: int = BATCH, workers: int = 0, tta: bool = False,
) -> list[Prediction]:  # fmt: skip
    """What distributed_inference.py predicts, for use in Python: one Prediction per photo, in the order of list_photos.

    paths : photos, folders of them, and images in memory: PIL images, or uint8 arrays of shape (height, width, 3) in
        RGB or (height, width); in place of a path, their predictions have "image 1" (the number of the photo)
    output : the folder of the trained model
    top_k : how many classes to name for each photo
    batch, workers : photos per batch, and processes that read them; under torchrun for each rank
    tta : average the probabilities of each photo and its mirror image, in twice the time
    """
    with distributed.started() as launch:
        trained = load_trained(output, launch, tta=tta)
        with distributed.failing_together():
            check_top_k(top_k, trained.card)
            photos = list_photos([paths] if isinstance(paths, (str, os.PathLike, *IN_MEMORY)) else paths)
        return predict_photos(trained, photos, top_k=top_k, batch=batch, workers=workers)


def list_photos(named: Sequence[PhotoSource]) -> list[PhotoSource]:
    """The files and images in `named` as they are and the photos below its folders, sorted; in the order of `named`."""
    photos: list[PhotoSource] = []
    for one in named:
        if isinstance(one, IN_MEMORY):
            photos.append(one)
            continue
        path = os.fspath(one)
        if not os.path.lexists(path):
            url = re.match(r"[A-Za-z][\w+.-]+:/", path)
            what = f"{path} is a URL; download it first" if url else f"there is no {path}"
            raise UserError(f"{what}; name photos, or folders that have photos")
        photos += photos_below(path) if os.path.isdir(path) else [path]
    if not photos:
        raise UserError(f"no photo in {', '.join(map(str, named))}; name photos, or folders that have photos")
    return photos


def check_top_k(top_k: int, card: dict, min_confidence: float | None = None) -> None:
    """Raise UserError if the model cannot name so many classes, or predicts several labels, each from its threshold."""
    if thresholds_of(card) and (top_k > 1 or min_confidence is not None):
        flag = "--top-k" if top_k > 1 else "--min-confidence"
        raise UserError(f"{flag} is for one class per photo, and this model predicts several labels; leave it out")
    classes = len(card["classes"])
    if not 1 <= top_k <= classes:
        raise UserError(f"cannot name {top_k} classes: the model knows {classes}; ask for 1 to {classes}")


class PhotoList(Dataset):
    """Some photos. An item is (transformed photo, ""), or (blank, the reason) if it cannot be read."""

    def __init__(self, photos: Sequence[PhotoSource], transform: SquareTransform):
        self.photos, self.transform = photos, transform

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, key: Key) -> tuple[Tensor, str]:
        photo = self.photos[key.index]
        try:
            read = pixels_of if isinstance(photo, IN_MEMORY) else read_pixels
            return self.transform(read(photo, self.transform.value_range)), ""
        except Exception as error:  # Pillow's readers raise nearly anything for broken files
            return self.transform(np.zeros((1, 1, 3), np.uint8)), describe_fault(error)


def predict_photos(
    trained: Trained, photos: Sequence[PhotoSource], *, top_k: int = 1, batch: int = BATCH, workers: int = 0, bar=None
) -> list[Prediction]:
    """One Prediction per photo, in the order of `photos`, on every rank and the same for any number of ranks.

    batch, workers : see predict; bar : a progress bar, see terminal.make_bar
    """
    paths = [
        f"image {number}" if isinstance(one, IN_MEMORY) else os.fspath(one) for number, one in enumerate(photos, 1)
    ]
    dataset = PhotoList(photos, transform_of(trained.card))
    sampler = WholeBatchSampler(len(dataset), batch)
    loader = PhotoLoader(
        dataset, batch_sampler=sampler, num_workers=min(workers, len(sampler)), worker_init_fn=begin_worker,
        generator=torch.Generator(),  # else DataLoader draws a seed for its workers from the global one
    )  # fmt: skip
    mine = []
    for (images, faults), indices, rows in zip(loader, sampler.batches, sampler.turns, strict=False):
        predicted = predict_batch(trained, [paths[index] for index in indices], images, top_k)
        pairs = zip(predicted, faults, strict=True)
        mine += [Prediction(one.path, error=fault) if fault else one for one, fault in pairs]
        if bar is not None:
            bar.update(rows)
    everywhere = dict[int, Prediction]()
    for places, predicted in distributed.gather_objects((sampler.indices, mine)):
        everywhere.update(zip(places, predicted, strict=True))
    return [everywhere[index] for index in range(len(paths))]


@torch.inference_mode()
def predict_batch(trained: Trained, paths: Sequence[str], images: Tensor, top_k: int = 1) -> list[Prediction]:
    """The predictions for one batch: `images` are the photos at `paths`, transformed and stacked."""
    images, _ = to_device(images, torch.empty(0), trained.device)
    _, probabilities = forward_batch(trained.model, images, objective_of(trained.card), mirrored=trained.tta)
    return predictions_of(paths, probabilities.cpu().numpy(), trained.card, top_k)


def predictions_of(paths: Iterable[str], probabilities: np.ndarray, card: dict, top_k: int = 1) -> list[Prediction]:
    """One Prediction per row of `probabilities`, float of shape (photos, classes); equal classes stay in order.

    top_k : how many classes to name; of a model of several labels those are named that reach their threshold
    """
    classes, thresholds = card["classes"], thresholds_of(card)
    predictions, several = [], thresholds is not None
    for path, row in zip(paths, probabilities, strict=True):
        chosen = np.flatnonzero(row >= thresholds) if several else np.argsort(-row, kind="stable")[:top_k]
        names, confidences = tuple(classes[index] for index in chosen), tuple(row[chosen].tolist())
        one = Prediction(path, names, confidences, probabilities=tuple(row.tolist()) if several else ())
        finite = np.isfinite(row if several else row[chosen]).all()
        predictions.append(one if finite else Prediction(path, error=NOT_FINITE))
    return predictions


def with_answers(predictions: list[Prediction], least: float | None) -> list[Prediction]:
    """The predictions, each with its class as `answer`, or UNSURE below the probability `least`; None: as they are."""
    if least is None:
        return predictions
    return [one._replace(answer=one.prediction if one.confidence >= least else UNSURE) for one in predictions]


def open_split_of_model(
    trained: Trained, data: str, split: str, workers: int
) -> tuple[PhotoDataset, PhotoLoader | DeviceLoader]:
    """A split of the dataset in the folder `data`, and a loader of training's batches. Every rank calls this.

    split : "training", "validation" or "test"
    """
    card, folder = trained.card, os.path.join(data, "evaluation" if split == "test" else split)
    settings = card["training"]
    batch = settings.get("batch_size", config.LOCAL_BATCH_SIZE)
    dataset, loader = get_dataloader(
        folder, transform_of(card), batch, shuffle=False, workers=workers, fold=settings.get("fold"),
        classes=card["classes"],
    )  # fmt: skip
    if settings.get("cache", "none") != "none":
        terminal.info(f"evaluating the photos themselves; training evaluated copies (--cache {settings['cache']})...")
    return dataset, loader


def predict_random(trained: Trained, data: str, count: int, seed: int | None) -> tuple[list, list[str], Tensor]:
    """Predictions for `count` random photos of the test split, their true classes, and the photos, normalised."""
    card, folder = trained.card, os.path.join(data, "evaluation")
    testDS = open_split(folder, transform_of(card), classes=card["classes"], fold=card["training"].get("fold"))
    count = min(count, len(testDS))
    terminal.info(f"using a batch size of {count}...")
    chosen = np.random.default_rng(seed).choice(len(testDS), count, replace=False).tolist()
    images, labels = default_collate([testDS[index] for index in chosen])
    images, _ = to_device(images, labels, trained.device)
    predictions = predict_batch(trained, [testDS.path(index) for index in chosen], images)
    return predictions, truths_of(testDS.labels[chosen], testDS.classes), images
