"""Which names classes can have, and where they are listed."""

import pytest

from pyimagesearch.preparation.readers import class_names
from pyimagesearch.runtime.errors import UserError


def test_without_a_class_list_there_are_no_names(tmp_path):
    assert class_names.read_classes(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"Bread\nNoodles/Pasta\nRice\n",
        b"\xef\xbb\xbfBread\r\nNoodles/Pasta\r\nRice",
        b"\n  Bread \n\n\tNoodles/Pasta\n \nRice\n\n",
    ],
)
def test_a_class_list_may_have_a_byte_order_mark_any_line_ends_and_blanks(tmp_path, content):
    (tmp_path / "classes.txt").write_bytes(content)
    assert class_names.read_classes(tmp_path) == ["Bread", "Noodles/Pasta", "Rice"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "names no class"),
        (b"Rice\nRice\n", "share one folder"),
        (b"Rice\nrice\n", "share one folder"),
        (b"Noodles/Pasta\nNoodles/Rice\n", "share one folder"),
        (b"Noodles\nNOODLES/Rice\n", "share one folder"),
        ("Caf\u00e9\nCafe\u0301\n".encode(), "share one folder"),
        (b"../Rice\n", "dot"),
        (b"Rice/../../x\n", "dot"),
        (b".hidden\n", "dot"),
        (b"Rice.\n", "ends with a dot"),
        (b"/etc\n", "absolute"),
        (b"C:Rice\n", "absolute"),
        (b"a\\b\n", "backslash"),
        (b"a//b\n", "empty"),
        (b"a/\n", "empty"),
        (b"a/ b\n", "blank"),
        (b"a\x00b\n", "control character"),
        (b"a" * 256, "longer than 255"),
        (("\u00e9" * 128).encode(), "longer than 255"),
        (b"caf\xe9\n", "not UTF-8"),
        ("Rice\n".encode("utf-16"), "not UTF-8"),
    ],
)  # fmt: skip
def test_a_class_list_that_could_escape_merge_or_fail_is_refused(tmp_path, content, said):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(UserError, match=said):
        class_names.read_classes(tmp_path)


def test_a_class_list_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / "classes.txt").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*classes\.txt"):
        class_names.read_classes(tmp_path)
