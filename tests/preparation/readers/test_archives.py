"""Archives as source: read as a folder is, refused in one line where they are hostile, and nothing is left behind."""

import gzip
import io
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest
from helpers.sources import SCRIPT, draw, pack, photos, runner, tree

import prepare_dataset
from pyimagesearch.preparation.options import preparation_options
from pyimagesearch.preparation.readers import archives, detect
from pyimagesearch.runtime.errors import UserError

NAMES = [f"{name}/{number}.jpg" for name in ("Bread", "Soup") for number in range(8)]


@pytest.fixture
def flowers(tmp_path):
    """Class folders in one folder, with files around them that no reader needs."""
    folder = draw(tmp_path / "around" / "flowers", *NAMES)
    (folder / "Bread" / ".hidden").write_text("x")
    (tmp_path / "around" / "__MACOSX").mkdir()
    (tmp_path / "around" / "__MACOSX" / "._1.jpg").write_text("x")
    return folder


def prepare(source, dest, *flags):
    """Run the script in this process."""
    args = preparation_options(["--source", str(source), "--dest", str(dest), "--quiet", *flags])
    with detect.opened_source(args) as opened:
        return prepare_dataset.prepare(args, opened)


def competition(tmp_path, inner, *names):
    """A folder as Kaggle serves it, with one class per row of train.csv."""
    folder = tmp_path / "kaggle" / inner
    draw(folder, *(f"train/{number}.jpg" for number in range(12)), "test/99.jpg")
    rows = "".join(f"{number},{('cat', 'dog')[number % 2]}\n" for number in range(12))
    for name in names:
        (folder / name).write_text("id,label\n" + rows)
    return folder


@pytest.mark.parametrize("inner", ["", "comp"])
@pytest.mark.parametrize("names", [["labels.csv"], ["sample_submission.csv", "train.csv"]])
def test_a_csv_file_in_an_archive_is_read_as_beside_the_unpacked_photos(tmp_path, inner, names, capsys):
    folder = competition(tmp_path, inner, *names)
    archive = pack(tmp_path / "kaggle", tmp_path / "a.zip")
    prepare(folder / names[-1], tmp_path / "of-folder")
    prepare(archive, tmp_path / "of-archive")
    of_folder, of_archive = (tree(tmp_path / made) for made in ("of-folder", "of-archive"))
    assert {path: facts[2] for path, facts in of_archive.items() if path != b"prepared.json"} == {
        path: facts[2] for path, facts in of_folder.items() if path != b"prepared.json"
    }
    assert len([path for path in of_archive if path.endswith(b".jpg")]) == 12
    assert archives.INNER not in (tmp_path / "of-archive" / "prepared.json").read_text()
    prepare(archive, tmp_path / "of-archive")
    assert "nothing new" in capsys.readouterr().out


def test_flags_of_a_csv_file_hold_for_one_in_an_archive(tmp_path):
    folder = competition(tmp_path, "", "train.csv")
    rows = (folder / "train.csv").read_text().splitlines()
    groups = ["site", *(f"s{number // 3}" for number in range(12))]
    (folder / "train.csv").write_text("".join(f"{row},{group}\n" for row, group in zip(rows, groups, strict=True)))
    flags = ["--group-column", "site", "--label-column", "label", "--images", "train"]
    prepare(pack(folder, tmp_path / "a.zip"), tmp_path / "made", *flags)
    assert "site" in (tmp_path / "made" / "prepared.json").read_text()
    for path in (tmp_path / "made").rglob("*.jpg"):
        beside = {f"{number}.jpg" for number in range(12) if number // 3 == int(path.stem) // 3}
        assert beside <= {
            one.name for one in (tmp_path / "made" / path.relative_to(tmp_path / "made").parts[0]).rglob("*")
        }


@pytest.mark.parametrize(
    ("names", "flags", "said"),
    [
        (["a.csv", "b.csv"], [], "holds several tables, a.csv, b.csv; unpack it, and name one with --source"),
        ([], ["--group-column", "site"], "holds no CSV file, which --group-column goes with; leave it out"),
    ],
)
def test_an_archive_whose_table_is_not_clear_is_one_line(tmp_path, names, flags, said):
    archive = pack(competition(tmp_path, "", *names), tmp_path / "a.zip")
    with pytest.raises(UserError) as refused:
        prepare(archive, tmp_path / "made", *flags)
    assert said in str(refused.value) and archives.INNER not in str(refused.value)
    assert sorted(os.listdir(tmp_path)) == ["a.zip", "kaggle"]


def checked(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["prepare_dataset.py", "--check", *map(str, arguments)])
    return prepare_dataset.main()


def test_an_archive_is_checked_without_leaving_anything(flowers, tmp_path, monkeypatch, capsys):
    shutil.copy(flowers / NAMES[0], flowers / NAMES[-1])
    (flowers / os.path.dirname(NAMES[0]) / "broken.jpg").write_text("x")
    archive = pack(flowers.parent, tmp_path / "a.zip")
    before = sorted(os.listdir(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert checked(monkeypatch, archive) == 1
    out = capsys.readouterr().out
    assert "broken.jpg: not an image" in out and "1 photo in more than one class" in out
    assert "there is no folder" not in out and archives.INNER not in out
    assert sorted({*os.listdir(tmp_path)} - {"a.zip-near-copies.png"}) == before


def test_an_archive_with_a_table_is_checked(tmp_path, monkeypatch, capsys):
    archive = pack(competition(tmp_path, "", "train.csv"), tmp_path / "a.zip")
    monkeypatch.chdir(tmp_path)
    assert checked(monkeypatch, archive) == 0
    assert ["total", "12", "0", "0"] in [line.split() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz", "without-suffix"])
def test_an_archive_gives_the_dataset_that_its_folder_gives(flowers, tmp_path, name, capsys):
    archive = pack(flowers.parent, tmp_path / (name if "." in name else "b.zip")).rename(tmp_path / name)
    before = sorted(os.listdir(tmp_path))
    prepare(flowers, tmp_path / "of-folder")
    prepare(archive, tmp_path / "of-archive")
    of_folder, of_archive = (tree(tmp_path / made) for made in ("of-folder", "of-archive"))
    assert {path: facts[2] for path, facts in of_archive.items() if path != b"prepared.json"} == {
        path: facts[2] for path, facts in of_folder.items() if path != b"prepared.json"
    }
    assert sorted({*os.listdir(tmp_path)} - {"of-folder", "of-archive"}) == before
    capsys.readouterr()
    prepare(archive, tmp_path / "of-archive", "--link")
    assert "nothing new" in capsys.readouterr().out
    assert tree(tmp_path / "of-archive") == of_archive


def test_members_that_changed_at_the_same_time_and_size_are_not_taken_for_the_old_ones(tmp_path):
    def make(blue):
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            for number, name in enumerate(NAMES):
                bmp = b"BM" + struct.pack("<IIIIiiHHIIiiII", 58, 0, 54, 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0)
                add(archive, name, bmp + bytes([blue, number, 0, 0]))  # of the time 0

    make(0)
    prepare(tmp_path / "a.tar", tmp_path / "dataset")
    make(255)
    with pytest.raises(UserError, match="was changed since it was copied"):  # one of them must be taken for newer
        prepare(tmp_path / "a.tar", tmp_path / "dataset")
    prepare(tmp_path / "a.tar", tmp_path / "dataset", "--overwrite")
    assert {path.read_bytes()[54] for path in tmp_path.glob("dataset/*/*/*.jpg")} == {255}


# --- hostile archives -------------------------------------------------------------------------------------------------


def zipped(path, *members, **settings):
    """A zip of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content, **settings)
    return path


def add(archive, name, content=b"x", **fields):
    member = tarfile.TarInfo(name)
    member.size = 0 if "type" in fields else len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    archive.addfile(member, io.BytesIO(content))


def tarred(path, *members, mode="w:gz"):
    """A tar of (name, content, {field: value}), behind a good photo."""
    with tarfile.open(path, mode) as archive:
        add(archive, "Bread/good.jpg")
        for name, content, fields in members:
            add(archive, name, content, **fields)
    return path


def special(name, kind):
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, (kind | 0o777) << 16
    return member


def zip_of_name(name):
    return lambda path: zipped(path, ("Bread/1.jpg", b"x"), (name, b"x"))


def tar_of(*members, **settings):
    return lambda path: tarred(path, *members, **settings)


def tar_of_name(name):
    return tar_of((name, b"x", {}))


def tar_link(name, kind, target):
    return tar_of((name, b"", {"type": kind, "linkname": target}))


def encrypted(path):
    """A zip whose directory says that its member is encrypted."""
    content = bytearray(zipped(path, ("Bread/1.jpg", b"x" * 40)).read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)


def damaged(make, cut=None, flip=None):
    def spoil(path):
        content = bytearray(make(path).read_bytes())
        if flip is not None:
            content[flip] ^= 0xFF
        path.write_bytes(content[:cut])

    return spoil


def overlapping(path):
    """A zip whose 60 directory entries, of 100 KB each, share one member."""
    made = zipped(path, ("Bread/100.jpg", bytes(100_000))).read_bytes()
    start = made.index(b"PK\1\2")
    entry = made[start : made.index(b"PK\5\6")]
    entries = b"".join(entry.replace(b"100.jpg", b"%d.jpg" % number) for number in range(100, 160))
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 60, 60, len(entries), start, 0)
    path.write_bytes(made[:start] + entries + end)


def long_header(path):
    """A tar.gz with an extended header of 2 GB behind a photo."""
    good, header = tarfile.TarInfo("Bread/1.jpg"), tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2 << 30
    path.write_bytes(gzip.compress(good.tobuf() + header.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 20)))


def negative_size(path, **fields):
    """A tar whose second member leads back to the first (CVE-2025-8194)."""
    good, back = tarfile.TarInfo("Bread/1.jpg"), tarfile.TarInfo("Bread/2.jpg")
    back.pax_headers = fields
    back.size = 0 if fields else -1024
    kind = tarfile.PAX_FORMAT if fields else tarfile.GNU_FORMAT
    path.write_bytes(good.tobuf() + back.tobuf(kind) + bytes(1024))


def big_tar(path):
    return tarred(path, *((f"Bread/{n}.jpg", bytes(300_000), {}) for n in range(10)), mode="w:xz")


OUTSIDE = "leads outside of the archive"
LINK = "outside of the archive"
good_zip, good_tar = zip_of_name("Bread/2.jpg"), tar_of(("Bread/2.jpg", os.urandom(60_000), {}))

HOSTILE = {
    "zip-parent": (zip_of_name("../evil.jpg"), OUTSIDE),
    "zip-parent-within": (zip_of_name("Bread/../../../evil.jpg"), OUTSIDE),
    "zip-absolute": (zip_of_name("/tmp/evil.jpg"), OUTSIDE),
    "zip-drive": (zip_of_name("C:/evil.jpg"), OUTSIDE),
    "zip-backslash": (zip_of_name("..\\..\\evil.jpg"), OUTSIDE),
    "zip-share": (zip_of_name("\\\\host\\evil.jpg"), OUTSIDE),
    "zip-hidden-parent": (zip_of_name(".x/../../evil.jpg"), OUTSIDE),
    "zip-link": (lambda path: zipped(path, (special("Bread/1.jpg", stat.S_IFLNK), "../../../etc/passwd")), LINK),
    "zip-link-absolute": (lambda path: zipped(path, (special("Bread/1.jpg", stat.S_IFLNK), "/etc/passwd")), LINK),
    "zip-device": (lambda path: zipped(path, (special("Bread/1.jpg", stat.S_IFCHR), "")), "is a device"),
    "zip-encrypted": (encrypted, "that is encrypted"),
    "zip-same-name": (zip_of_name("Bread/1.jpg"), "twice"),
    "zip-same-name-but-for-case": (zip_of_name("Bread/1.JPG"), "twice, or two whose names differ only by case"),
    "zip-nested-folders": (zip_of_name("a/" * 2000 + "1.jpg"), "in more than 64 nested folders"),
    "zip-nested-empty-folders": (zip_of_name("a/" * 2000), "in more than 64 nested folders"),
    "zip-bomb": (lambda path: zipped(path, ("Bread/1.jpg", bytes(3 << 20))), "--max-unpacked"),
    "zip-bomb-that-overlaps": (overlapping, "--max-unpacked"),
    "zip-truncated": (damaged(good_zip, cut=-40), "cannot unpack"),
    "zip-flipped": (damaged(good_zip, flip=45), "cannot unpack"),
    "zip-file-that-is-a-folder": (zip_of_name("Bread/1.jpg/2.jpg"), "cannot unpack"),
    "zip-long-name": (zip_of_name("x" * 300 + ".jpg"), "File name too long"),
    "zip-empty": (lambda path: zipped(path), "holds no photo"),
    "zip-in-zip": (
        lambda path: zipped(path, ("train.zip", b"PK"), ("about.pdf", b"x")),
        "but train.zip, an archive: unpack",
    ),
    "tar-parent": (tar_of_name("../evil.jpg"), OUTSIDE),
    "tar-absolute": (tar_of_name("/tmp/evil.jpg"), OUTSIDE),
    "tar-link": (tar_link("Bread/1.jpg", tarfile.SYMTYPE, "../../etc/passwd"), LINK),
    "tar-link-to-a-folder": (tar_link("Bread/out", tarfile.SYMTYPE, "/tmp"), LINK),
    "tar-hard-link": (tar_link("Bread/1.jpg", tarfile.LNKTYPE, "../evil.jpg"), LINK),
    "tar-pipe": (tar_of(("Bread/1.jpg", b"", {"type": tarfile.FIFOTYPE})), "is a device"),
    "tar-device": (tar_of(("Bread/1.jpg", b"", {"type": tarfile.CHRTYPE})), "is a device"),
    "tar-same-name": (tar_of_name("Bread/GOOD.jpg"), "twice"),
    "tar-nested-folders": (tar_of_name("a/" * 2000 + "1.jpg"), "in more than 64 nested folders"),
    "tar-truncated": (damaged(good_tar, cut=30_000), "cannot unpack"),
    "tar-flipped": (damaged(good_tar, flip=10_000), "cannot unpack"),
    "tar-long-header": (long_header, "has 2,147,483,648 bytes"),
    "tar-negative-size": (negative_size, "cannot unpack"),
    "tar-negative-extended-size": (lambda path: negative_size(path, size="-2048"), "--max-unpacked"),
    "tar-bomb": (big_tar, "--max-unpacked"),
    "gzip-of-no-tar": (lambda path: path.write_bytes(gzip.compress(b"no tar" * 99)), "cannot unpack"),
    "rar": (lambda path: path.write_bytes(b"Rar!\x1a\x07\x01\x00 and so on"), "is of the kind RAR"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_in_one_line_and_leaves_nothing(tmp_path, monkeypatch, case):
    monkeypatch.setattr(archives, "SMALL", 1 << 20)
    make, said = HOSTILE[case]
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    make(folder / "evil")
    before = tree(tmp_path)
    with pytest.raises(UserError) as refused:
        prepare(folder / "evil", folder / "new" / "dataset")
    assert said in str(refused.value) and str(folder / "evil") in str(refused.value)
    assert archives.INNER not in str(refused.value)
    assert tree(tmp_path) == before
    assert os.listdir(folder) == ["evil"]
    assert not os.path.exists("/tmp/evil.jpg")


def test_more_may_be_allowed(tmp_path, flowers, monkeypatch):
    archive = pack(flowers, tmp_path / "a.zip")
    with pytest.raises(UserError, match="more than 1e-06 GB unpacked"):
        prepare(archive, tmp_path / "dataset", "--max-unpacked", "0.000001")
    monkeypatch.setattr(archives, "SMALL", 1 << 20)
    zipped(tmp_path / "b.zip", *((f"{c}/{n}.jpg", bytes(300_000 + n)) for c in "ab" for n in range(5)))
    with pytest.raises(UserError, match=r"0\.000977 GB unpacked, which looks like a bomb"):
        prepare(tmp_path / "b.zip", tmp_path / "dataset", "--no-verify")
    prepare(tmp_path / "b.zip", tmp_path / "dataset", "--no-verify", "--max-unpacked", "1")
    assert len(photos(tmp_path / "dataset")) == 10


# --- odd archives, which are read -------------------------------------------------------------------------------------


def class_names(tmp_path, archive):
    args = preparation_options(["--source", str(archive), "--dest", str(tmp_path / "dataset"), "--quiet"])
    with detect.opened_source(args) as source:
        return source.classes, source.notes


def test_names_in_other_encodings_are_decoded(tmp_path):
    zipped(tmp_path / "a.zip", ("Brot/1.jpg", b"x"), ("Zqpfe/1.jpg", b"x"), ("Kqse/1.jpg", b"x"))
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"Zqpfe", "Zöpf".encode()).replace(b"Kqse", b"K\x84se"))  # cp437
    assert class_names(tmp_path, tmp_path / "a.zip")[0] == ["Brot", "Käse", "Zöpf"]
    with tarfile.open(tmp_path / "a.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
        add(archive, "Käse/1.jpg")
        add(archive, "Brot/1.jpg")
    assert class_names(tmp_path, tmp_path / "a.tar")[0] == ["Brot", "Käse"]


def test_backslashes_are_separators_and_inner_links_and_archives_are_named(tmp_path):
    link = special("Soup/3.jpg", stat.S_IFLNK)
    zipped(tmp_path / "a.zip", ("Bread\\1.jpg", b"x"), ("Soup/1.jpg", b"x"), (link, "1.jpg"), ("more.tar.gz", b"x"))
    classes, notes = class_names(tmp_path, tmp_path / "a.zip")
    assert classes == ["Bread", "Soup"]
    assert notes == ["left out: Soup/3.jpg, a link; more.tar.gz, an archive"]


def test_other_layouts_in_an_archive_are_read(tmp_path, source):
    for split in ("training", "validation", "evaluation"):
        names = sorted(os.listdir(source / split))
        shutil.copytree(source / split, tmp_path / "lists" / "photos" / split)
        lines = "".join(f"photos/{split}/{name} {name[0]}\n" for name in names)
        (tmp_path / "lists" / f"{split}.txt").write_text(lines)
    shutil.copy(source / "classes.txt", tmp_path / "lists")
    for folder in (source, tmp_path / "lists"):
        prepare(pack(folder, tmp_path / f"{folder.name}.zip"), tmp_path / f"of-{folder.name}")
    assert len(photos(tmp_path / "of-source")) == 12
    assert photos(tmp_path / "of-lists") == photos(tmp_path / "of-source")


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_reads_and_the_marker_names_the_archive(flowers, tmp_path):
    archive = pack(flowers.parent, tmp_path / "flowers.zip")
    (flowers / "Bread" / "0.jpg").write_text("broken")
    pack(flowers.parent, archive)
    out = runner(tmp_path, "--source", archive)().out
    assert f"{archive} holds class folders; validation and evaluation drawn by" in out
    assert "  flowers/Bread/0.jpg: not an image\n" in out
    assert archives.INNER not in out
    assert f'"source": "{archive}"' in (tmp_path / "dataset" / "prepared.json").read_text()
    error = runner(tmp_path, "--source", archive)("--strict", "--overwrite", status=2).err
    assert f"{archive} has a file that cannot be used" in error


def test_ctrl_c_and_a_kill_while_it_unpacks_leave_nothing_or_what_the_next_run_removes(flowers, tmp_path):
    archive = tmp_path / "flowers.zip"
    content = os.urandom(200_000)
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(1000):
            file.writestr(f"ab/{'ab'[number % 2]}/{number}.jpg", content)
    place = tmp_path / "dataset.unpacked"
    command = [sys.executable, SCRIPT, "--source", archive, "--dest", tmp_path / "dataset"]
    for number in (signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and not list(place.rglob("*.jpg"))[3:]:
            time.sleep(0.005)
        process.send_signal(number)
        _, error = process.communicate(timeout=20)
        assert place.exists() == (number == signal.SIGKILL)
        assert (process.returncode, error) == {signal.SIGINT: (130, b"\ninterrupted\n")}.get(number, (-9, b""))
    (place / "mine.txt").write_text("mine")
    assert "is not this script's; move it away" in runner(tmp_path, "--source", archive)(status=2).err
    (place / "mine.txt").rename(tmp_path / "mine.txt")
    pack(flowers, archive)
    runner(tmp_path, "--source", archive)()
    assert sorted(os.listdir(tmp_path)) == ["around", "dataset", "flowers.zip", "mine.txt"]
