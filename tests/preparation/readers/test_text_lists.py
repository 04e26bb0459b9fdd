"""Which photos text lists name, where they go, and why lines are rejected."""

import random

import pytest
from helpers.sources import draw

from pyimagesearch.data.decoding import EXTENSIONS
from pyimagesearch.preparation.readers import text_lists
from pyimagesearch.preparation.source import not_read
from pyimagesearch.runtime.errors import UserError


@pytest.fixture
def read(tmp_path):
    """read("a.jpg 0\\n", val="b.jpg 1\\n") writes the lists and reads them as a source."""

    def read(train, root=None, **others):
        (tmp_path / "lists").mkdir(exist_ok=True)
        for name, text in {"train": train, **others}.items():
            text = text.encode() if isinstance(text, str) else text
            (tmp_path / "lists" / f"{name}.txt").write_bytes(text)
        return text_lists.read(tmp_path / "lists", root)

    return read


def targets(split):
    return [photo.target for photo in split.photos]


def reasons(source, split=0):
    return {source.relative(path): reason for path, reason in source.splits[split].rejected}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("a.jpg 1", "a.jpg"),
        ("a.jpg\t1", "a.jpg"),
        ("a.jpg,1", "a.jpg"),
        ("  a.jpg ,\t 1  ", "a.jpg"),
        ("a.JPG;1.png,1", "a.JPG;1.png"),
        ("my photo.jpg 1", "my photo.jpg"),
        ("one, two.jpg,1", "one, two.jpg"),
        ("a.jpg b.jpg 1", "a.jpg b.jpg"),
        ("it's.jpg 1", "it's.jpg"),
        ('"my, photo.jpg",1', "my, photo.jpg"),
        ("'my photo.jpg' 1", "my photo.jpg"),
        ('"say ""a"".jpg"\t"1"', 'say "a".jpg'),
        ("deep/er/a.webp 1", "deep/er/a.webp"),
        ("./deep/../a.jpg 1", "a.jpg"),
        ("\u00fcn\u00efcode \u732b.jpg 1", "\u00fcn\u00efcode \u732b.jpg"),
    ],
)
def test_path_and_class_are_separated_by_commas_tabs_or_blanks(tmp_path, read, line, name):
    draw(tmp_path / "lists", name, "zero.jpg", "deep/x.jpg")
    source = read(f"{line}\nzero.jpg 0\n")
    assert reasons(source) == {}
    assert [(photo.label, photo.target) for photo in source.splits[0].photos] == [
        (1, f"1/{name.rpartition('/')[2]}"),
        (0, "0/zero.jpg"),
    ]


def test_marks_line_ends_blank_lines_and_comments_do_not_matter(tmp_path, read):
    draw(tmp_path / "lists", "a.jpg", "b.jpg")
    source = read(b"\xef\xbb\xbf# photos of cats\r\na.jpg 0\r\n\r\n   # and dogs\r\n \t \r\nb.jpg 1")
    assert (source.splits[0].found, targets(source.splits[0])) == (2, ["0/a.jpg", "1/b.jpg"])
    assert reasons(source) == {}


def test_classes_are_the_numbers_that_occur_padded_so_that_they_sort_as_numbers(tmp_path, read):
    draw(tmp_path / "lists", *(f"{number}.jpg" for number in range(13)))
    source = read("".join(f"{number}.jpg {number}\n" for number in range(12, -1, -1) if number != 5))
    assert source.classes == [f"{number:02}" for number in range(13) if number != 5] == sorted(source.classes)
    assert targets(source.splits[0])[0] == "12/12.jpg"
    assert targets(source.splits[0])[-1] == "00/0.jpg"


def test_classes_are_the_names_in_their_order(tmp_path, read):
    draw(tmp_path / "lists", "a.jpg", "b.jpg", "c.jpg")
    source = read("a.jpg Rice\nb.jpg,Fried food\n", test="c.jpg 'Noodles/Pasta'\n")
    assert source.classes == ["Fried food", "Noodles/Pasta", "Rice"]
    assert [targets(split) for split in source.splits] == [["Rice/a.jpg", "Fried food/b.jpg"], ["Noodles/Pasta/c.jpg"]]


def test_a_class_list_gives_the_names_of_numbers_and_knows_the_names(tmp_path, read):
    draw(tmp_path / "lists", *(f"{number}.jpg" for number in range(6)))
    (tmp_path / "lists" / "classes.txt").write_text("Rice\nBread\n")
    source = read("0.jpg 0\n1.jpg 1\n2.jpg Bread\n3.jpg 2\n4.jpg -1\n5.jpg bread\n")
    assert source.classes == ["Rice", "Bread"]
    assert targets(source.splits[0]) == ["Rice/0.jpg", "Bread/1.jpg", "Bread/2.jpg"]
    neither = "neither one of the names in classes.txt nor a number from 0 to 1"
    assert reasons(source) == {
        "train.txt:4": f"3.jpg: the class '2' is {neither}",
        "train.txt:5": f"4.jpg: the class '-1' is {neither}",
        "train.txt:6": f"5.jpg: the class 'bread' is {neither}",
    }


def test_unusable_lines_are_rejected_with_the_reason(tmp_path, read):
    draw(tmp_path / "lists", "a.jpg", "b.jpg", "c.jpg", ".d.jpg", "e.jpg")
    (tmp_path / "lists" / "empty.jpg").touch()
    text = """path,label
        a.jpg 0
        b.jpg
        my photo.jpg
        "b.jpg",
        b.jpg -1
        gone.jpg 1
        empty.jpg 1
        ./a.jpg 0
        c.jpg 0
        c.jpg 1
        .d.jpg 1
        e.jpg 0 1 1
        e.jpg 1.0
        phone.heic 1
        e\0.jpg 1
        e.jpg 1
        e.jpg cat
        "" 1"""
    source = read(text, val="b.jpg 2\n", test="c.jpg 0\ne.jpg 2\n")
    assert reasons(source) == {
        "train.txt:1": f"path: {not_read(EXTENSIONS)}",
        "train.txt:3": "no class after the path: b.jpg",
        "train.txt:4": "no class after the path: my photo.jpg",
        "train.txt:5": 'no class after the path: "b.jpg",',
        "train.txt:6": "b.jpg: the class '-1' is not a whole number from 0 on, as most are",
        "train.txt:7": "gone.jpg: cannot be read: No such file or directory",
        "train.txt:8": "empty.jpg: empty",
        "train.txt:9": "./a.jpg: line 2 has it too",
        "train.txt:10": "c.jpg: it has several classes, 0 in train.txt:10 and 1 in train.txt:11",
        "train.txt:11": "c.jpg: it has several classes, 0 in train.txt:10 and 1 in train.txt:11",
        "train.txt:12": ".d.jpg: begins with a dot, as hidden files do",
        "train.txt:13": "e.jpg: several classes, 0 1 1; expected one",
        "train.txt:14": "e.jpg: the class '1.0' is not a whole number from 0 on, as most are",
        "train.txt:15": "phone.heic: cannot be read: No such file or directory",
        "train.txt:16": "e\\x00.jpg: no file has such a name",
        "train.txt:17": "e.jpg: it has several classes, 1 in train.txt:17 and 2 in test.txt:2",
        "train.txt:18": "e.jpg: the class 'cat' is not a whole number from 0 on, as most are",
        "train.txt:19": f": {not_read(EXTENSIONS)}",
    }
    assert list(reasons(source)) == sorted(reasons(source), key=lambda place: int(place.split(":")[1]))
    assert [targets(split) for split in source.splits] == [["0/a.jpg"], ["2/b.jpg"], []]
    assert source.splits[0].found == 19
    assert reasons(source, 2).keys() == {"test.txt:1", "test.txt:2"}


def test_random_lines_are_rejected_without_an_exception(tmp_path, read):
    draw(tmp_path / "lists", "a.jpg")
    chance = random.Random(0)
    pieces = ["a", ".jpg", ".PNG", "0", "-1", " ", "\t", ",", '"', "'", "/", "..", "\\", "\0", "\u2028", "\x1b"]
    lines = ["".join(chance.choices(pieces, k=chance.randint(1, 8))).strip() for _ in range(3000)]
    source = read("a.jpg Rice\n" + "\n".join(lines))
    assert targets(source.splits[0]) == ["Rice/a.jpg"]
    assert len(reasons(source)) == sum(map(bool, lines)) > 2000


@pytest.mark.parametrize("label", ["../x", ".hidden", "/etc", "a\\b", "a//b", "x" * 256])
def test_a_class_name_that_could_lead_out_of_the_dataset_is_rejected(tmp_path, read, label):
    draw(tmp_path / "lists", "a.jpg", "b.jpg")
    source = read(f"a.jpg {label}\nb.jpg Rice\n")
    assert source.classes == ["Rice"]
    assert "a name that no class folder can have" in reasons(source)["train.txt:1"]


def test_paths_may_lead_anywhere_and_the_photo_still_lands_in_its_class(tmp_path, read):
    draw(tmp_path, "out/a.jpg", "b.jpg")
    source = read(f"../out/a.jpg 0\n{tmp_path}/b.jpg 0\n")
    assert targets(source.splits[0]) == ["0/a.jpg", "0/b.jpg"]


def test_paths_begin_in_root_where_one_is_given(tmp_path, read):
    draw(tmp_path / "photos", "x/a.jpg")
    assert "No such file" in reasons(read("x/a.jpg 0\n"))["train.txt:1"]
    assert targets(read("x/a.jpg 0\n", root=tmp_path / "photos").splits[0]) == ["0/a.jpg"]


def test_photos_with_the_same_name_get_different_ones_that_stay_when_lines_are_added(tmp_path, read):
    draw(tmp_path / "lists", "x/a.jpg", "y/a.jpg", "z/a.jpg", "w/a.jpg")
    first = read("x/a.jpg 0\ny/a.jpg 0\nz/a.jpg 1\n", val="y/a.jpg 0\n")
    training, validation = map(targets, first.splits)
    assert training[0::2] == ["0/a.jpg", "1/a.jpg"]  # the first of its class keeps its name
    assert training[1].startswith("0/a-") and training[1].endswith(".jpg") and training[1] != "0/a.jpg"
    assert validation == ["0/a.jpg"]
    again = read("x/a.jpg 0\n# more\ny/a.jpg 0\nz/a.jpg 1\nw/a.jpg 0\n")
    assert targets(again.splits[0])[:3] == training
    assert len(set(targets(again.splits[0]))) == 4


def test_a_line_whose_photo_is_missing_reserves_its_name(tmp_path, read):
    draw(tmp_path / "lists", "y/a.jpg")
    before = targets(read("x/a.jpg 0\ny/a.jpg 0\n").splits[0])
    draw(tmp_path / "lists", "x/a.jpg")
    assert targets(read("x/a.jpg 0\ny/a.jpg 0\n").splits[0]) == ["0/a.jpg", *before]


def test_the_longest_names_are_cut_to_be_made_unique(tmp_path, read):
    name = "\u00e9" * 125 + ".jpg"  # 254 bytes
    draw(tmp_path / "lists", f"x/{name}", f"y/{name}")
    one, two = targets(read(f"x/{name} 0\ny/{name} 0\n").splits[0])
    assert one != two
    assert len(two.encode()) <= 255 + len("0/")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "train.txt has no line with a path and a class"),
        (b"# nothing\n", "has no line with a path"),
        (b"caf\xe9.jpg 0\n", r"train.txt is not UTF-8 text \(byte 3\)"),
        ("a.jpg 0\n".encode("utf-16"), "not UTF-8"),
        (b"a.jpg Rice\nb.jpg rice\n", "share one folder"),
    ],
)
def test_a_list_without_a_usable_line_is_refused(read, text, said):
    with pytest.raises(UserError, match=said):
        read(text)


def test_a_missing_list_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the list .*mine\.txt: No such file"):
        text_lists.read_lists({"training": str(tmp_path / "mine.txt")})
