"""Whatever a folder or a photo holds, nothing is lost and nothing crashes.

The same few hundred inputs in every run of the suite; `pytest tests/test_fuzz.py --fuzz-minutes 30` draws new ones, for
half of the time in each test.
"""

import contextlib
import csv
import io
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.sources import tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import prepare_dataset
from pyimagesearch import config
from pyimagesearch.data import decoding
from pyimagesearch.preparation.copying import why_unreadable
from pyimagesearch.runtime import errors

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
TESTS = 2  # that share --fuzz-minutes


@pytest.fixture
def fuzz(request):
    """fuzz(check, examples, **strategies) calls `check` with what the strategies draw."""
    minutes = request.config.getoption("--fuzz-minutes")

    def run(check, examples: int, **strategies) -> None:
        quiet = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
        end = time.monotonic() + 60 * minutes / TESTS
        while True:
            # hypothesis wants a function that it has not seen
            settings(max_examples=examples, derandomize=not minutes, **quiet)(
                given(**strategies)(lambda **drawn: check(**drawn))
            )()
            if time.monotonic() >= end:
                return

    return run


def encode(mode: str, kind: str, size: tuple[int, int], seed: int) -> bytes:
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = (
        np.random.default_rng(seed)
        .integers(0, 256, (size[1], size[0], channels), np.uint8)
        .squeeze(2 if channels == 1 else ())
    )
    content = io.BytesIO()
    if mode in ("1", "P", "LA", "CMYK"):
        source = Image.fromarray(pixels[..., :3] if channels > 3 else pixels.reshape(size[1], size[0], -1)[..., 0])
        image = source.convert("RGBA").convert(mode) if mode == "LA" else source.convert(mode)
    elif mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(pixels)
    image.save(content, kind)
    return content.getvalue()


# --- trees of files ---------------------------------------------------------------------------------------------------

GOOD = encode("RGB", "JPEG", (24, 16), 0)
CONTENTS = {"photo": GOOD, "grey": encode("L", "PNG", (9, 9), 1), "cut": GOOD[:300], "empty": b"", "text": b"text"}
KINDS = (*CONTENTS, *CONTENTS, "folder", "link", "loop", "out", "pipe")

odd_text = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
label = st.sampled_from([*"0101010101", "2", "00", "99"])
number = st.integers(0, 12).map(str)
ending = st.sampled_from([".jpg", ".jpg", ".JPG", ".jpeg", ".png", ".gif", ".webp", ".txt", ".jpg.part", ""])
photo_name = st.builds("{}_{}{}".format, label, number, ending)
any_name = st.one_of(photo_name, photo_name, photo_name, st.builds("{}{}".format, odd_text, ending))
folder_name = st.one_of(*[st.sampled_from(["Rice", "Soup", "Soup", ".hidden", "0_1.jpg"])] * 3, odd_text)
split_name = st.sampled_from([*config.SPLITS * 20, "more", "train"])
place = st.tuples(st.lists(folder_name, max_size=2), any_name)
entry = st.tuples(split_name, place, st.sampled_from(KINDS))
usual_list = st.sampled_from([None, None, "A\r\nB\n\n C ", "Noodles/Pasta\nSoup"])
class_list = st.one_of(*[usual_list] * 6, st.text(max_size=40))
layout = st.sampled_from(["raw", "raw", "raw", "folders", "folders", None])


def make_tree(source: Path, entries, classes: str | None, whole: str | None) -> None:
    """The drawn files; `whole` adds photos of two classes in each split, "raw" or in class "folders"."""
    source.mkdir()
    for split in config.SPLITS if whole else ():
        for label, name in enumerate(("Rice", "Soup")):
            folders = [] if whole == "raw" else [name]
            entries = [*entries, *((split, (folders, f"{label}_{n}.jpg"), "photo") for n in (998, 999))]
    if whole == "folders":
        entries = [(split, (folders or ["Rice"], name), kind) for split, (folders, name), kind in entries]
    for split, (folders, name), kind in entries:
        path = source.joinpath(split, *folders, name)
        if any(part in (".", "..") for part in path.parts) or not path.is_relative_to(source):
            continue
        with contextlib.suppress(OSError):  # it is there already, or what should be its folder is a file
            path.parent.mkdir(parents=True, exist_ok=True)
            make_file(path, kind)
    if classes is not None:
        (source / "classes.txt").write_text(classes, encoding="utf-8")


def make_file(path: Path, kind: str) -> None:
    if kind in CONTENTS:
        with open(path, "xb") as file:
            file.write(CONTENTS[kind])
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"link": "0_999.jpg", "loop": ".", "out": "/etc/hostname"}[kind])


def prepare(folder: Path) -> tuple[int, str, str]:
    """The status of prepare_dataset.py, run in this process, and what it wrote."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace") for _ in range(2))
    arguments = ["prepare_dataset.py", "--source", str(folder / "source"), "--dest", str(folder / "dataset")]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", [*arguments, "--workers", "2"])
        with pytest.raises(SystemExit) as caught:
            errors.run(prepare_dataset.main)
    texts = [stream.seek(0) or stream.read() for stream in (out, err)]
    return caught.value.code or 0, *texts


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def accounted_for(source: Path, dataset: Path) -> None:
    """Every photo of `source` is in `dataset`, byte for byte, or in rejected.csv."""
    with open(dataset / "rejected.csv", encoding="utf-8", newline="") as file:
        told = {row["path"] for row in csv.DictReader(file)}
    copied = {(os.path.basename(name), content) for name, content in contents(dataset).items()}
    for split in config.SPLITS:
        for parent, _, names in os.walk(source / split):
            below = os.path.relpath(parent, source).split(os.sep)
            for name in names:
                kept = not any(part.startswith(".") for part in (*below, name))
                if kept and name.lower().endswith((".jpg", ".jpeg", ".png")):
                    path = Path(parent, name)
                    there = path.is_file() and (name, path.read_bytes()) in copied
                    assert there or "/".join((*below, name)) in told, path


def check_tree(entries, classes, whole):
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        source, dataset = folder / "source", folder / "dataset"
        make_tree(source, entries, classes, whole)
        before = tree(source)
        status, out, error = prepare(folder)
        assert tree(source) == before
        assert status in (0, 2)
        if status == 2:
            assert os.listdir(folder) == ["source"]
            assert error.startswith("error: ") and error.count("\n") == 1
            assert error[:-1].isprintable()
            return
        assert sorted(os.listdir(folder)) == ["dataset", "source"]
        assert error == "" and "[INFO] next: " in out
        accounted_for(source, dataset)
        after = tree(dataset)
        status, out, _ = prepare(folder)
        assert (status, "nothing new" in out) == (0, True)
        assert tree(dataset) == after


def test_of_any_tree_of_files_nothing_is_lost_and_nothing_lands_elsewhere(fuzz):
    fuzz(check_tree, 400, entries=st.lists(entry, max_size=12), classes=class_list, whole=layout)


# --- photos -----------------------------------------------------------------------------------------------------------

FORMATS = {
    "JPEG": ("L", "RGB", "CMYK"),
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "RGB", "RGBA", "CMYK", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "P", "RGB"),
    "BMP": ("1", "L", "P", "RGB"),
}
mode_of_format = st.sampled_from([(kind, mode) for kind, modes in FORMATS.items() for mode in modes])
size = st.tuples(st.integers(1, 40), st.integers(1, 40))
# where, as a share of the file, and what happens there; most of what is interesting stands at its beginning
change = st.tuples(
    st.one_of(st.floats(0.01, 1), st.floats(0.01, 0.2)),
    st.sampled_from(["flip", "set", "cut", "insert"]),
    st.integers(0, 255),
)


def damage(content: bytes, changes) -> bytes:
    for share, what, value in changes:
        at = int(share * max(len(content) - 1, 0))
        if what == "flip":
            content = content[:at] + bytes([content[at] ^ (1 << value % 8)]) + content[at + 1 :] if content else content
        elif what == "set":
            content = content[:at] + bytes([value]) + content[at + 1 :]
        elif what == "cut":
            content = content[:at]
        else:
            content = content[:at] + bytes([value]) * 4 + content[at:]
    return content


def check_photo(kind, size, seed, changes):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "photo.jpg")
        Path(path).write_bytes(damage(encode(kind[1], kind[0], size, seed), changes))
        began = time.monotonic()
        fault = why_unreadable(path)
        if fault is None:
            photo = decoding.read_photo(path)
            assert photo.mode == "RGB"
            assert photo.size == decoding.photo_size(path)
            assert decoding.read_pixels(path).shape == (photo.height, photo.width, 3)
            if not changes:
                assert photo.size == size
        else:
            assert changes, "an undamaged photo is refused"
            assert fault and fault.isprintable()
            with pytest.raises(Exception) as caught:
                decoding.read_photo(path)
            assert decoding.describe_fault(caught.value) == fault
        assert time.monotonic() - began < 20


def test_of_any_damage_to_a_photo_the_decoders_say_the_same(fuzz, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 10**6)  # or a flipped bit of a size makes an example last a second
    fuzz(
        check_photo, 2500, kind=mode_of_format, size=size, seed=st.integers(0, 9),
        changes=st.lists(change, max_size=2),
    )  # fmt: skip
