"""The command on sources with copies: what is kept together, what is listed, and what an older dataset keeps."""

import shutil

import pytest
from helpers.sources import draw, photo, photos, runner

import prepare_dataset
from pyimagesearch.data.labels_csv import read_label_table
from pyimagesearch.preparation.options import preparation_options
from pyimagesearch.preparation.readers import detect


def test_a_photo_in_two_classes_is_kept_and_listed_in_conflicts_csv(run, source, tmp_path):
    photo(source / "training" / "0_9.jpg", "blue")
    shutil.copy2(source / "training" / "0_9.jpg", source / "training" / "1_7.jpg")
    ended = run()
    assert "the same photo in several classes: 1, listed in " in ended.out
    assert (tmp_path / "dataset" / "conflicts.csv").read_text() == (
        "photo,path,class\n1,training/0_9.jpg,Noodles/Pasta\n1,training/1_7.jpg,Rice\n"
    )
    assert len(photos(tmp_path / "dataset")) == 14
    assert "nothing new" in run().out
    (source / "training" / "1_7.jpg").unlink()
    (tmp_path / "dataset" / "training" / "Rice" / "1_7.jpg").unlink()
    assert "several classes" not in run().out
    assert not (tmp_path / "dataset" / "conflicts.csv").exists()


def test_copies_that_an_older_version_parted_stay_until_overwrite(tmp_path):
    folder = draw(tmp_path / "source", *(f"{name}/{number}.jpg" for name in "ab" for number in range(9)))
    prepare = runner(tmp_path, "--source", folder)
    prepare()
    parted = [next((tmp_path / "dataset" / split / "a").iterdir()) for split in ("training", "evaluation")]
    shutil.copy2(parted[0], parted[1])
    shutil.copy2(folder / "a" / parted[0].name, folder / "a" / parted[1].name)
    assert "nothing new" in prepare().out
    prepare("--overwrite")
    same = [path.parent for path in tmp_path.glob("dataset/*/a/*") if path.name in (parted[0].name, parted[1].name)]
    assert len(same) == 2 and len(set(same)) == 1


def test_group_near_copies_is_refused_for_a_dataset_that_was_made_without(tmp_path):
    folder = draw(tmp_path / "source", *(f"{name}/{number}.jpg" for name in "ab" for number in range(9)))
    prepare = runner(tmp_path, "--source", folder)
    prepare()
    error = prepare("--group-near-copies", status=2).err
    assert "photos would change their split with --val-rate 0.2 --test-rate 0.1 --seed 0 --group-near-copies" in error
    prepare("--group-near-copies", "--overwrite")
    assert "nothing new" in prepare("--group-near-copies").out


def listed(tmp_path, header, *rows):
    """A table beside its photos: 30 photos of 15 groups, of which number 7 is number 0 again."""
    draw(tmp_path / "photos", *(f"{number}.jpg" for number in range(30)))
    shutil.copy2(tmp_path / "photos" / "0.jpg", tmp_path / "photos" / "7.jpg")
    (tmp_path / "t.csv").write_text("\n".join([header, *rows]))

    def run(*flags):
        given = [
            "--source",
            tmp_path / "t.csv",
            "--images",
            tmp_path / "photos",
            "--dest",
            tmp_path / "dataset",
            *flags,
        ]
        args = preparation_options(list(map(str, given)))
        with detect.opened_source(args) as opened:
            prepare_dataset.prepare(args, opened)

    return run


@pytest.mark.parametrize("seed", [1, 2])
def test_copies_in_a_table_of_labels_stay_in_one_split_and_other_labels_are_listed(tmp_path, seed, capsys):
    run = listed(tmp_path, "id,tube,wire", *(f"{number},{int(number % 3 == 0)},{number % 2}" for number in range(30)))
    run("--seed", seed)
    told = capsys.readouterr().out
    assert "photos that are there more than once: 1, each in one split" in told
    assert "the same photo in several classes: 1, listed in " in told
    assert (tmp_path / "dataset" / "conflicts.csv").read_text() == "photo,path,class\n1,0.jpg,tube\n1,7.jpg,wire\n"
    table = read_label_table(tmp_path / "dataset")
    split_of = dict(zip(table.images, table.splits, strict=True))
    assert split_of["0.jpg"] == split_of["7.jpg"]
    run("--seed", seed)
    assert "nothing new" in capsys.readouterr().out


@pytest.mark.parametrize("seed", [0, 1])
def test_copies_in_two_groups_of_a_table_of_classes_stay_in_one_split(tmp_path, seed):
    rows = (f"{number},{'ab'[number % 4 // 2]},p{number % 15}" for number in range(30))
    run = listed(tmp_path, "id,label,patient", *rows)
    run("--group-column", "patient", "--seed", seed)
    split_of = {int(path.stem): path.parts[-3] for path in (tmp_path / "dataset").rglob("*.jpg")}
    assert len(split_of) == 30 and len(set(split_of.values())) == 3
    assert split_of[0] == split_of[7] == split_of[15] == split_of[22]
