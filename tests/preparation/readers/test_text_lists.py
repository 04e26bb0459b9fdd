"""Which photos text lists name, where they go, and why lines are rejected."""

import random

import pytest
from helpers.sources import draw

from pyimagesearch.data.decoding import EXTENSIONS, find_splits
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
        return text_lists.read_lists(find_splits(tmp_path / "lists", ".txt"), root)

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
        ("a.jpg;1", "a.jpg"),
        ("a.jpg 1.0", "a.jpg"),
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


def test_one_name_in_two_unicode_forms_is_one_class(tmp_path, read):
    draw(tmp_path / "lists", "a.jpg", "b.jpg")
    assert read("a.jpg \u00c9clair\nb.jpg E\u0301clair\n").classes == ["\u00c9clair"]


def test_a_class_list_gives_the_names_of_numbers_and_knows_the_names(tmp_path, read):
    draw(tmp_path / "lists", *(f"{number}.jpg" for number in range(6)))
    (tmp_path / "lists" / "classes.txt").write_text("Rice\nBread\n")
    source = read("0.jpg 0\n1.jpg 1\n2.jpg Bread\n3.jpg 2\n4.jpg -1\n5.jpg bread\n")
    assert source.classes == ["Rice", "Bread"]
    assert targets(source.splits[0]) == ["Rice/0.jpg", "Bread/1.jpg", "Bread/2.jpg"]
    neither = "neither one of the 2 names of classes nor a number from 0 to 1"
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
        b.jpg 1.5
        gone.jpg 1
        empty.jpg 1
        ./a.jpg 0
        c.jpg 0
        c.jpg 1
        .d.jpg 1
        e.jpg 0 1 1
        e.jpg x
        phone.heic 1
        e\0.jpg 1
        e.jpg 1
        e.jpg cat
        "" 1"""
    source = read(text, val="b.jpg 2\n", test="c.jpg 0\ne.jpg 2\n")
    assert reasons(source) == {
        "train.txt:3": "no class after the path: b.jpg",
        "train.txt:4": "no class after the path: my photo.jpg",
        "train.txt:5": 'no class after the path: "b.jpg",',
        "train.txt:6": "b.jpg: the class '1.5' is not a whole number, as most are",
        "train.txt:7": "gone.jpg: cannot be read: No such file or directory",
        "train.txt:8": "empty.jpg: empty",
        "train.txt:9": "./a.jpg: train.txt:2 has it too",
        "train.txt:10": "c.jpg: it has several classes, 0 in train.txt:10 and 1 in train.txt:11",
        "train.txt:11": "c.jpg: it has several classes, 0 in train.txt:10 and 1 in train.txt:11",
        "train.txt:12": ".d.jpg: begins with a dot, as hidden files do",
        "train.txt:13": "e.jpg: 4 columns, where most lines have 2",
        "train.txt:14": "e.jpg: the class 'x' is not a whole number, as most are",
        "train.txt:15": "phone.heic: cannot be read: No such file or directory",
        "train.txt:16": "e\\x00.jpg: no file has such a name",
        "train.txt:17": "e.jpg: it has several classes, 1 in train.txt:17 and 2 in test.txt:2",
        "train.txt:18": "e.jpg: the class 'cat' is not a whole number, as most are",
        "train.txt:19": f": {not_read(EXTENSIONS)}",
    }
    assert list(reasons(source)) == sorted(reasons(source), key=lambda place: int(place.split(":")[1]))
    assert [targets(split) for split in source.splits] == [["0/a.jpg"], ["2/b.jpg"], []]
    assert source.splits[0].found == 18
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


# --- further columns --------------------------------------------------------------------------------------------------


@pytest.fixture
def columns(tmp_path):
    """columns(text, flag) reads train.txt beside 0.jpg to 3.jpg; returns the classes of these photos."""
    draw(tmp_path / "lists", *(f"{number}.jpg" for number in range(4)))

    def columns(text, flag=None, **lists):
        for name, content in {"train": text, **lists}.items():
            (tmp_path / "lists" / f"{name}.txt").write_text(content)
        columns.source = text_lists.read_lists(find_splits(tmp_path / "lists", ".txt"), None, flag)
        return [columns.source.classes[photo.label] for photo in columns.source.splits[0].photos]

    return columns


@pytest.mark.parametrize(
    ("text", "flag", "classes"),
    [
        ("path,label\n0.jpg,a\n1.jpg,b\n", None, ["a", "b"]),
        ("image name;class name\n0.jpg;a\n1.jpg;b\n", None, ["a", "b"]),
        ("path fine coarse\n0.jpg 3 1\n1.jpg 4 1\n", "fine", ["3", "4"]),
        ("path fine coarse\n0.jpg 3 1\n1.jpg 4 0\n", "3", ["1", "0"]),
        ("0.jpg,3,a b\n1.jpg,4,c\n", "3", ["a b", "c"]),
        ('0.jpg\t3\t"a, b"\n1.jpg\t4\tc\n', "3", ["a, b", "c"]),
        ("0.jpg cat 1\n1.jpg dog 2\n", "2", ["cat", "dog"]),
        ('0.jpg,"a, b"\n1.jpg,c\n', None, ["a, b", "c"]),
        ("0.jpg,Fried food\n1.jpg Big dog\n", None, ["Fried food", "Big dog"]),
    ],
)
def test_a_header_names_the_columns_and_the_flag_picks_that_of_the_class(columns, text, flag, classes):
    assert columns(text, flag) == classes
    assert columns.source.rejected == []


FINE = "path,fine,coarse\n0.jpg,3,1\n1.jpg,4,1\n"


@pytest.mark.parametrize(
    ("text", "flag", "said"),
    [
        ("0.jpg,apple,train\n1.jpg,pear,val\n", None, r"3 columns: '1' \(0.jpg or 1.jpg\), '2' \(apple or pear\)"),
        ("0.jpg 3 1\n1.jpg 4 1\n", None, "has 3 columns.*name the column of the class with --label-column"),
        (FINE, None, r"'path' \(0.jpg or 1.jpg\), 'fine' \(3 or 4\), 'coarse'"),
        (FINE, "superclass", "3 columns: 'path'"),
        (FINE, "4", "has 3 columns"),
        (FINE, "1", "has 3 columns"),
        ("0.jpg,348,apple,1,2,3\n0.jpg,348,pear,1,2,3\n", None, "it looks like a table of boxes, several rows per"),
    ],
)
def test_a_list_with_more_columns_is_refused_without_the_flag_and_they_are_named(columns, text, flag, said):
    with pytest.raises(UserError, match=rf"train.txt .*{said}"):
        columns(text, flag)


def test_a_column_of_split_names_in_the_only_list_gives_the_splits(columns):
    text = "0.jpg,a,train\n1.jpg,a,test\n2.jpg,b,train\n3.jpg,b,test\n"
    assert columns(text, "2") == ["a", "b"]
    assert [(split.name, len(split.photos)) for split in columns.source.splits] == [("training", 2), ("evaluation", 2)]
    assert columns(text, "2", test="1.jpg,a,test\n3.jpg,b,test\n") == ["a", "a", "b", "b"]


def test_a_line_with_another_number_of_columns_than_most_is_rejected(columns):
    assert columns("0.jpg,a\n1.jpg,b,train\n2.jpg,b\n") == ["a", "b"]
    assert reasons(columns.source) == {"train.txt:2": "1.jpg: 3 columns, where most lines have 2"}


def test_negative_numbers_are_classes_as_they_are(columns):
    assert columns("0.jpg -1\n1.jpg 1\n2.jpg -1\n") == ["-1", "1", "-1"]


def test_numbers_that_may_begin_at_1_where_the_class_list_begins_at_0_are_asked_for(columns, tmp_path):
    (tmp_path / "lists" / "classes.txt").write_text("apple\npear\n")
    text = "0.jpg 1\n1.jpg 2\n2.jpg 1\n"
    with pytest.raises(UserError, match=r"class 2 and none of class 0.* put a line for class 0, such as .*classes.txt"):
        columns(text)
    assert columns(text + "3.jpg 0\n") == ["pear", "pear", "apple"]
    (tmp_path / "lists" / "classes.txt").write_text("unused\napple\npear\n")
    assert columns(text) == ["apple", "pear", "apple"]


def test_the_commonest_reason_for_rejected_lines_is_shown_and_not_the_header(columns):
    columns("path label\n0.jpg\n" + "".join(f"images/{number}.jpg a\n" for number in range(9)))
    with pytest.raises(UserError, match=r"10 left out \(9 of them like train.txt:3: images/0.jpg: cannot be read: No"):
        columns.source.check_complete()
