"""The photos of a split: a multi-label dataset with splits or folds, its one cache, and what identifies the photos."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from pyimagesearch.create_dataloaders import get_dataloader
from pyimagesearch.data.datasets import PhotoDataset, PhotoFolder, PhotoTable, open_split, truths_of
from pyimagesearch.data.labels_csv import LabelTable
from pyimagesearch.data.transforms import eval_transform
from pyimagesearch.runtime.errors import UserError

VALUES = np.array([[0, 1], [1, 1], [0, 0], [1, 0], [0, 1], [0, 0], [1, 1]], np.uint8)
SPLITS = ["training", "validation", "training", "evaluation", "training", "training", "training"]
FOLDS = ["fold-1", "fold-2", "fold-1", "evaluation", "fold-3", "fold-2", "fold-3"]


@pytest.fixture
def dataset(tmp_path):
    """dataset(splits) makes seven photos, photo n with the grey level 30 n, and their table; returns the folder."""

    def make(splits: list[str]):
        folder = tmp_path / "dataset"
        (folder / "images" / "deep").mkdir(parents=True)
        names = [f"deep/{n}.png" for n in range(7)]
        for n, name in enumerate(names):
            Image.new("RGB", (40 + n, 40), (30 * n,) * 3).save(folder / "images" / name)
        (folder / "labels.csv").write_text(LabelTable(["a", "b"], names, names, splits, VALUES).text())
        return folder

    return make


def greys(images: torch.Tensor) -> list[int]:
    return (images.float().mean((1, 2, 3)) / 30).round().int().tolist()


def test_a_split_has_its_rows_in_the_order_of_the_table(dataset):
    data, loader = get_dataloader(dataset(SPLITS) / "training", eval_transform(32), 3, shuffle=False, workers=0)
    assert isinstance(data, PhotoTable)
    assert data.classes == ["a", "b"]
    batches = list(loader)
    assert [greys(images) for images, _ in batches] == [[0, 2, 4], [5, 6]]
    labels = torch.cat([labels for _, labels in batches])
    assert labels.dtype == torch.float32
    assert labels.tolist() == VALUES[[0, 2, 4, 5, 6]].tolist()


def test_any_transform_of_torchvision_gives_the_same_labels(dataset):
    _, loader = get_dataloader(
        dataset(SPLITS) / "training",
        transforms.Compose([transforms.Resize((8, 8)), transforms.ToTensor()]),
        2, shuffle=False, workers=0,
    )  # fmt: skip
    assert torch.cat([labels for _, labels in loader]).tolist() == VALUES[[0, 2, 4, 5, 6]].tolist()


def test_a_fold_is_validation_the_others_are_training_and_evaluation_stays(dataset):
    folder = dataset(FOLDS)
    rows = {split: open_split(folder / split, eval_transform(32), fold=2).rows.tolist() for split in set(SPLITS)}
    assert rows == {"training": [0, 2, 4, 6], "validation": [1, 5], "evaluation": [3]}


@pytest.mark.parametrize("cache", ["disk", "device"])
def test_all_splits_and_folds_share_one_cache(dataset, cache):
    folder = dataset(FOLDS)
    made = set()
    for fold in (1, 2, 3):
        for split in ("training", "validation", "evaluation"):
            settings = {"shuffle": False, "workers": 0, "fold": fold, "cache_size": 36}
            plain, cached = (
                get_dataloader(folder / split, eval_transform(32), 2, cache=kind, **settings)
                for kind in ("none", cache)
            )
            made.add((cached[0].cache.path, (folder.parent / "dataset.cache" / "images-36.pixels").stat().st_ino))
            for (images, labels), (others, other_labels) in zip(plain[1], cached[1], strict=True):
                assert greys(images) == greys(others)
                assert labels.tolist() == other_labels.tolist()
    assert len(made) == 1


def test_a_limit_keeps_the_first_photos_of_each_label_and_of_none(dataset):
    folder = dataset(SPLITS)
    assert PhotoTable(folder, "training", None, limit=1).rows.tolist() == [0, 2, 6]
    assert PhotoTable(folder, "training", None, limit=2).rows.tolist() == [0, 2, 4, 5, 6]


def test_the_fingerprint_changes_with_a_label_and_with_the_fold(dataset):
    folder = dataset(FOLDS)
    one, two = (PhotoTable(folder, "training", None, fold=fold).fingerprint() for fold in (1, 2))
    table = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(table.replace("4.png,fold-3,0,1", "4.png,fold-3,1,1"))
    assert len({one, two, PhotoTable(folder, "training", None, fold=1).fingerprint()}) == 3


def test_a_fingerprint_stays_what_it_was_so_that_caches_and_checkpoints_are_still_found():
    names, classes = ["a/1.jpg", "b/ä.png", "b/3.jpg"], ["a", "b"]
    assert PhotoDataset("photos", names, np.array([0, 1, 1]), classes, None).fingerprint() == "42c77ae4f6ded1ce"
    several = np.array([[0, 1], [1, 1], [0, 0]], np.float32)
    assert PhotoDataset("photos", names, several, classes, None).fingerprint() == "fc29d0cb95cacbb9"


def test_the_title_is_the_name_of_the_split(dataset, photos):
    folder = dataset(SPLITS)
    assert [PhotoTable(folder, split, None).title for split in ("training", "validation")] == ["training", "validation"]
    assert PhotoFolder(f"{photos({'a': 1}, root='colours/evaluation')}/", None).title == "evaluation"


@pytest.mark.parametrize(
    ("splits", "fold", "said"),
    [
        (FOLDS, None, "has 3 folds; choose one with --fold"),
        (FOLDS, 4, "has no fold 4: it was prepared with 3 folds"),
        (SPLITS, 1, "has no fold 1: it was prepared with no folds"),
    ],
)
def test_a_fold_that_the_table_does_not_have_is_refused(dataset, splits, fold, said):
    with pytest.raises(UserError, match=said):
        open_split(dataset(splits) / "training", None, fold=fold)


def test_a_fold_of_class_folders_is_refused(photos):
    with pytest.raises(UserError, match="no folds; leave --fold out"):
        open_split(photos({"a": 1}, root="dataset/training"), None, fold=1)


def test_an_unknown_label_is_minus_1_in_a_batch_and_is_no_label_for_a_limit(dataset):
    folder = dataset(["training"] * 5 + ["validation", "evaluation"])
    table = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(table.replace("training,0,0", "training,,0"))
    split = PhotoTable(folder, "training", None)
    assert split.labels.tolist() == [[0, 1], [1, 1], [-1, 0], [1, 0], [0, 1]]
    assert truths_of(split.labels, split.classes) == ["b", "a; b", "a?", "a", "b"]
    assert PhotoTable(folder, "training", None, limit=1).labels.tolist() == [[0, 1], [1, 1], [-1, 0]]
