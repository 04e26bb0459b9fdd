"""The command on sources with copies: what is kept together, what is listed, and what an older dataset keeps."""

import shutil

from helpers.sources import draw, photo, photos, runner


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
