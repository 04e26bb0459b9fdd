"""The table of a multi-label dataset is written, read and checked."""

import numpy as np
import pytest

from pyimagesearch.data.labels_csv import LabelTable, read_label_table
from pyimagesearch.runtime.errors import UserError


def table(splits: list[str], groups: list[str] | None = None) -> LabelTable:
    count = len(splits)
    images = [f"deep/photo {n}, of ;;;; many.jpg" for n in range(count)]
    values = np.arange(2 * count, dtype=np.int8).reshape(-1, 2) % 2
    return LabelTable(["tube;;;;", 'the "line", bent'], images, groups or images, splits, values)


SPLITS = ["training", "evaluation", "validation", "training"]
FOLDS = ["fold-2", "evaluation", "fold-1", "fold-3", "fold-2"]


@pytest.mark.parametrize("splits", [SPLITS, FOLDS])
def test_a_written_table_is_read_back(splits, tmp_path):
    written = table(splits)
    (tmp_path / "labels.csv").write_text(written.text())
    read = read_label_table(tmp_path)
    assert np.array_equal(read.values, written.values) and read.values.dtype == np.int8
    for name in ("labels", "images", "groups", "splits"):
        assert getattr(read, name) == getattr(written, name)


def test_the_rows_of_splits():
    assert table(SPLITS).folds == 0
    rows = {split: table(SPLITS).rows(split).tolist() for split in ("training", "validation", "evaluation")}
    assert rows == {"training": [0, 3], "validation": [2], "evaluation": [1]}


def test_with_fold_k_validation_is_fold_k_and_training_is_the_other_folds():
    folds = table(FOLDS)
    assert folds.folds == 3
    assert folds.rows("training", 2).tolist() == [2, 3]
    assert folds.rows("validation", 2).tolist() == [0, 4]
    assert folds.rows("evaluation", 2).tolist() == [1]
    assert sorted(row for fold in (1, 2, 3) for row in folds.rows("validation", fold)) == [0, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot read"),
        ("image,group,split\na.jpg,p,training\n", "then one per label"),
        ("image,patient,split,tube\na.jpg,p,training,0\n", "has the columns image, patient, split, tube"),
        ("image,group,split,tube\na.jpg,p,training,2\n", "line 2: expected"),
        ("image,group,split,tube\na.jpg,p,training\n", "line 2: expected"),
        ("image,group,split,tube\na.jpg,p,train,0\n", "line 2: no split 'train'"),
        ("image,group,split,tube\na,p,training,0\nb,q,validation,0\n", "evaluation is missing"),
        ("image,group,split,tube\na,p,fold-1,0\nb,q,fold-3,0\nc,r,evaluation,0\n", "fold-2 is missing"),
        ("image,group,split,tube\na,p,fold-1,0\nb,q,training,0\nc,r,evaluation,0\n", "training is not one of them"),
        ("image,group,split,tube\na,p,training,0\nb,q,validation,0\nc,p,evaluation,0\n", "the group 'p' in two splits"),
    ],
)
def test_a_table_with_a_fault_is_refused(text, said, tmp_path):
    if text is not None:
        (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        read_label_table(tmp_path)


def test_an_unknown_label_is_an_empty_cell_and_counts_as_no_positive(tmp_path):
    written = table(SPLITS)
    written.values[0] = [1, -1]
    (tmp_path / "labels.csv").write_text(written.text())
    assert ",training,1,\n" in written.text()
    assert np.array_equal(read_label_table(tmp_path).values, written.values)
    assert [row[1:] for row in written.counts()[3:]] == [["1", "0", "0"], ["1", "1", "1"]]
