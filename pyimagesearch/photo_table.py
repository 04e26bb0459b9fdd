"""The photos of one split of a multi-label dataset, as its table of labels has them."""

import os

import numpy as np

from pyimagesearch import config
from pyimagesearch.errors import UserError
from pyimagesearch.label_table import NAME, PHOTOS, read_label_table
from pyimagesearch.photo_dataset import PhotoDataset, PhotoFolder

SEPARATOR, NO_LABEL = "; ", "no label"  # how several labels are told, and none


class PhotoTable(PhotoDataset):
    """Photos that may have several labels each, in the order of the table.

    Parameters
    ----------
    folder : the dataset: it holds the table and the folder of the photos
    split : "training", "validation" or "evaluation"
    fold : where the table has folds, which of them, counted from 1, is validation
    limit : pass over a photo when as many are taken that have each of its labels, or none as it; None takes all
    transform, seed : see PhotoDataset

    Attributes
    ----------
    labels : float32 of 0 and 1, of shape (photos, classes)
    whole, rows : all photos of the table, of whatever split, and int64 of shape (photos,): which of them these are

    Raises
    ------
    UserError : the table cannot be read, or `fold` does not go with it
    """

    def __init__(
        self, folder, split: str, transform, *, fold: int | None = None, seed: int = 0, limit: int | None = None
    ):
        table = read_label_table(folder)
        if fold is None and table.folds:
            raise UserError(f"{folder} has {table.folds} folds; choose one with --fold, or --fold all")
        if fold is not None and fold > table.folds:
            raise UserError(f"{folder} has no fold {fold}: it was prepared with {table.folds or 'no'} folds")
        root, labels = os.path.join(folder, PHOTOS), table.values.astype(np.float32)
        rows = table.rows(split, fold)
        if limit is not None:
            rows = rows[_first_of_each(table.values[rows], limit)]
        super().__init__(root, [table.images[row] for row in rows], labels[rows], table.labels, transform, seed=seed)
        self.rows = rows
        self._whole = PhotoDataset(root, table.images, labels, table.labels, transform, seed=seed)

    @property
    def whole(self) -> PhotoDataset:
        return self._whole


def _first_of_each(values: np.ndarray, limit: int) -> list[int]:
    """The rows, in their order, that have a label, or none at all, of which fewer than `limit` were taken before."""
    kinds = np.column_stack([values, ~values.any(axis=1)]).astype(bool)
    taken, rows = np.zeros(kinds.shape[1], np.int64), []
    for row, having in enumerate(kinds):
        if (taken[having] < limit).any():
            taken += having
            rows.append(row)
    return rows


def truths_of(labels: np.ndarray, classes: list[str]) -> list[str]:
    """What photos of these labels, see PhotoDataset, show, as it is told: a class, or labels, or none."""
    if labels.ndim == 1:
        return [classes[label] for label in labels]
    return [SEPARATOR.join(np.array(classes)[has > 0]) or NO_LABEL for has in labels]


def open_split(root, transform, *, fold: int | None = None, seed: int = 0, limit: int | None = None) -> PhotoDataset:
    """The split `root`, "dataset/training" say: class folders, or those rows of dataset/labels.csv.

    Raises
    ------
    UserError : see PhotoFolder and PhotoTable; or `fold` is given for class folders
    """
    folder, split = os.path.split(os.fspath(root))
    if split in config.SPLITS and not os.path.isdir(root) and os.path.isfile(os.path.join(folder, NAME)):
        return PhotoTable(folder, split, transform, fold=fold, seed=seed, limit=limit)
    if fold is not None:
        raise UserError(f"{folder} has class folders and no folds; leave --fold out")
    return PhotoFolder(root, transform, seed=seed, limit=limit)
