"""What the trained model says of photos, shared out to the ranks: of any, or of a whole split with its truths."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pyimagesearch import config
from pyimagesearch.create_dataloaders import PhotoLoader, WholeBatchSampler, begin_worker, get_dataloader
from pyimagesearch.data.datasets import NO_LABEL, SEPARATOR, Key, PhotoDataset
from pyimagesearch.data.decoding import describe_fault, photos_below, read_pixels
from pyimagesearch.data.transforms import SquareTransform, to_device
from pyimagesearch.food_classifier import amp_dtype, load_classifier
from pyimagesearch.models import parallel
from pyimagesearch.models.model_card import amp_of_training, model_path, read_model_card, thresholds_of, transform_of
from pyimagesearch.models.objectives import objective_of
from pyimagesearch.runtime import distributed, terminal
from pyimagesearch.runtime.errors import UserError

NOT_FINITE = "the model's answer is not a finite number; try --amp off"
BATCH = 32  # photos; as many workers read as there are batches, so a few hundred photos must be several


class Prediction(NamedTuple):
    """What is said of one photo: the likeliest classes, best first, with their probabilities; or why nothing is.

    Where photos may have several labels: those that this one is said to have, in the model's order, with theirs, and
    `probabilities` of all labels.
    """

    path: str
    classes: tuple[str, ...] = ()
    confidences: tuple[float, ...] = ()
    error: str = ""
    probabilities: tuple[float, ...] = ()

    @property
    def prediction(self) -> str:
        """The likeliest class, "" where there is none."""
        return self.classes[0] if self.classes else ""

    @property
    def confidence(self) -> float:
        """The probability of the likeliest class, NaN where there is none."""
        return self.confidences[0] if self.confidences else math.nan

    @property
    def said(self) -> str:
        """All of it, for a person."""
        pairs = zip(self.classes, self.confidences, strict=True)
        return self.error or SEPARATOR.join(f"{name} ({share:.1%})" for name, share in pairs) or NO_LABEL


@dataclass(frozen=True)
class Trained:
    """A trained model where it computes.

    model : in evaluation mode, on `device`; several GPUs of one process share it by nn.DataParallel
    facts : what the .json beside it says, see run.read_facts
    """

    model: nn.Module
    facts: dict
    device: torch.device


def load_trained(output: str, launch: distributed.Launch, amp: str = "auto") -> Trained:
    """The trained model in the folder `output`, on every rank. Nothing is downloaded.

    amp : see food_classifier.amp_dtype; "auto" is what the model was trained in, where the device has it

    Raises
    ------
    UserError : there is no trained model, it is damaged, or `amp` does not go with the device
    """
    with distributed.failing_together():
        facts = read_model_card(output)
        model = load_classifier(model_path(output), facts)
        if amp == "auto":
            amp = amp_of_training(facts, launch.device)
        model.amp_dtype = amp_dtype(amp, launch.device)
    model = model.to(launch.device, memory_format=torch.channels_last)
    return Trained(parallel.wrap_for_inference(model, launch).eval(), facts, launch.device)


# --- any photos ------------------------------------------------------------------------------------------------------


def predict(
    paths: Sequence[str | os.PathLike],
    output: str = config.OUTPUT_PATH,
    *,
    top_k: int = 1,
    batch: int = BATCH,
    workers: int = 0,
) -> list[Prediction]:
    """What the trained model in the folder `output` says of photos: the same as distributed_inference.py.

    Parameters
    ----------
    paths : photos, and folders of them
    top_k : how many classes to name for each photo, best first
    batch, workers : photos in a batch, and processes that read them; under torchrun, for each rank

    Returns
    -------
    one Prediction a photo, in the order of list_photos; of one that cannot be read, with its error

    Raises
    ------
    UserError : no such path, no photo, no trained model, or a model of fewer than `top_k` classes
    """
    with distributed.started() as launch:
        trained = load_trained(output, launch)
        with distributed.failing_together():
            check_top_k(top_k, trained.facts)
            photos = list_photos([paths] if isinstance(paths, (str, os.PathLike)) else paths)
        return predict_photos(trained, photos, top_k=top_k, batch=batch, workers=workers)


def list_photos(named: Sequence[str | os.PathLike]) -> list[str]:
    """The photos that a person named: files as they are, and of folders all photos below, sorted, in the order named.

    Raises
    ------
    UserError : a path does not exist, or there is no photo at all
    """
    photos = []
    named = [os.fspath(path) for path in named]
    for path in named:
        if not os.path.lexists(path):
            raise UserError(f"there is no {path}; name photos, or folders that have photos")
        photos += photos_below(path) if os.path.isdir(path) else [path]
    if not photos:
        raise UserError(f"no photo in {', '.join(named)}; name photos, or folders that have photos")
    return photos


def check_top_k(top_k: int, facts: dict) -> None:
    """Raise UserError where the model has fewer classes than are asked for, or says of each which photos have it."""
    if top_k > 1 and thresholds_of(facts):
        raise UserError("--top-k goes with one class a photo, and this model tells all labels of each; leave it out")
    classes = len(facts["classes"])
    if not 1 <= top_k <= classes:
        raise UserError(f"cannot name the {top_k} likeliest classes: the model knows {classes}; ask for 1 to {classes}")


class PhotoList(Dataset):
    """Photos by their paths. An item is (what `transform` makes of it, "") or, of a broken one, (blank, the reason)."""

    def __init__(self, paths: Sequence[str], transform: SquareTransform):
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, str]:
        try:
            return self.transform(read_pixels(self.paths[key.index])), ""
        except Exception as error:  # Pillow's readers of broken files raise nearly anything
            return self.transform(np.zeros((1, 1, 3), np.uint8)), describe_fault(error)


def predict_photos(
    trained: Trained,
    paths: Sequence[str],
    *,
    top_k: int = 1,
    batch: int = BATCH,
    workers: int = 0,
    after_batch: Callable[[int], None] = lambda rows: None,
) -> list[Prediction]:
    """The model's answer for each photo, in the order of `paths`, on every rank and the same for any number of ranks.

    Parameters
    ----------
    top_k : up to the number of classes
    batch, workers : photos in a batch, and processes that read them, for each rank
    after_batch : called with the number of rows that all ranks have just done, as rank 0 counts them
    """
    dataset = PhotoList(paths, transform_of(trained.facts))
    sampler = WholeBatchSampler(len(dataset), batch)
    loader = PhotoLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=min(workers, len(sampler)),
        worker_init_fn=begin_worker,
        generator=torch.Generator(),  # else DataLoader draws a seed for its workers from the global one
    )
    answers = []
    for (images, faults), indices, rows in zip(loader, sampler.batches, sampler.turns, strict=False):
        said = predict_batch(trained, [paths[index] for index in indices], images, top_k)
        answers += [
            Prediction(one.path, error=fault) if fault else one for one, fault in zip(said, faults, strict=True)
        ]
        after_batch(rows)
    everywhere: list[Prediction] = [None] * len(paths)
    for indices, some in distributed.gather_objects((sampler.indices, answers)):
        for index, one in zip(indices, some, strict=True):
            everywhere[index] = one
    return everywhere


@torch.inference_mode()
def predict_batch(trained: Trained, paths: Sequence[str], images: torch.Tensor, top_k: int = 1) -> list[Prediction]:
    """What the model says of one batch: `images`, as the transform gives them, stacked, are the photos at `paths`."""
    images, _ = to_device(images, torch.empty(0), trained.device)
    probabilities = objective_of(trained.facts).probabilities(trained.model(images).float()).cpu().numpy()
    return predictions_of(paths, probabilities, trained.facts["classes"], top_k, thresholds_of(trained.facts))


def predictions_of(
    paths: Sequence[str],
    probabilities: np.ndarray,
    classes: Sequence[str],
    top_k: int,
    thresholds: Sequence[float] | None = None,
) -> list[Prediction]:
    """What `probabilities`, float of shape (photos, classes), say of the photos; of equals the first class is named.

    thresholds : one a class, where photos may have several labels: those from there on are named, in place of `top_k`
    """
    if thresholds is not None:
        rows = zip(paths, probabilities.tolist(), strict=True)
        return [_labels_of(path, shares, classes, thresholds) for path, shares in rows]
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    best = np.take_along_axis(probabilities, order, axis=1).tolist()
    return [
        Prediction(path, tuple(classes[index] for index in some), tuple(confidences))
        if all(map(math.isfinite, confidences))
        else Prediction(path, error=NOT_FINITE)
        for path, some, confidences in zip(paths, order.tolist(), best, strict=True)
    ]


def _labels_of(
    path: str, probabilities: Sequence[float], classes: Sequence[str], thresholds: Sequence[float]
) -> Prediction:
    if not all(map(math.isfinite, probabilities)):
        return Prediction(path, error=NOT_FINITE)
    having = [index for index, share in enumerate(probabilities) if share >= thresholds[index]]
    names, confidences = tuple(classes[index] for index in having), tuple(probabilities[index] for index in having)
    return Prediction(path, names, confidences, probabilities=tuple(probabilities))


# --- a whole split ---------------------------------------------------------------------------------------------------


def open_split_of_model(trained: Trained, data: str, split: str, workers: int) -> tuple[PhotoDataset, DataLoader]:
    """A split of the dataset in the folder `data`, in the batches in which training evaluated it.

    Every rank calls this at the same time.

    Parameters
    ----------
    split : "training", "validation" or "test"

    Raises
    ------
    UserError : see photo_table.open_split; or its classes are not the model's
    """
    facts, folder = trained.facts, os.path.join(data, "evaluation" if split == "test" else split)
    settings = facts.get("training", {})
    batch = settings.get("batch size", config.LOCAL_BATCH_SIZE)
    dataset, loader = get_dataloader(
        folder, transform_of(facts), batch, shuffle=False, workers=workers, fold=settings.get("fold")
    )
    with distributed.failing_together():
        check_classes(dataset, facts["classes"])
    if settings.get("cache", "none") != "none":
        terminal.info(f"evaluating the photos themselves; training evaluated copies (--cache {settings['cache']})...")
    return dataset, loader


def check_classes(dataset: PhotoDataset, classes: list[str]) -> None:
    """Raise UserError unless the dataset has exactly the model's `classes`."""
    if dataset.classes == classes:
        return
    differing = [f"{name!r} is unknown to the model" for name in sorted(set(dataset.classes) - set(classes))]
    differing += [f"there is no folder for {name!r}" for name in sorted(set(classes) - set(dataset.classes))]
    raise UserError(
        f"{dataset.root} has other classes than the model: {differing[0]}"
        + (f", and {len(differing) - 1} more" if len(differing) > 1 else "")
        + f" ({len(dataset.classes)} classes there, {len(classes)} in the model); name another --data or --output"
    )
