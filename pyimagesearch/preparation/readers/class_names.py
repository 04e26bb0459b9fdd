"""The names of classes: where they are listed, and which can be folders of the dataset."""

import ntpath
import os
import unicodedata
from collections.abc import Sequence, Set

from pyimagesearch.preparation.source import CLASS_LIST, folded
from pyimagesearch.runtime.errors import UserError

NAME_LIMIT = 255  # bytes of one folder name on common file systems


def read_classes(folder: str | os.PathLike) -> list[str] | None:
    """The class names in classes.txt of `folder`, one per line; None without that file."""
    path = os.path.join(folder, CLASS_LIST)
    if not os.path.lexists(path):
        return None
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = [unicodedata.normalize("NFC", line.strip()) for line in file.read().split("\n")]
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); expected one class name per line") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; expected one class name per line") from None
    names = [name for name in names if name]
    check_class_names(names, path)
    return names


def check_numbering(numbers: Set[int], classes: Sequence[str], folder: str) -> None:
    """Raise UserError if the class numbers of a source seem to begin at 1, where those of `classes` begin at 0."""
    if 0 not in numbers and {number for number in numbers if not 0 <= number < len(classes)} == {len(classes)}:
        raise UserError(
            f"{folder} has photos of class {len(classes)} and none of class 0, but the {len(classes)} names of the "
            f"classes are those of 0 to {len(classes) - 1}; if the numbers begin at 1, put a line for class 0, such as "
            f"'unused', before the names in {os.path.join(folder, CLASS_LIST)}"
        )


def check_class_names(names: Sequence[str], origin: str) -> None:
    """Raise UserError, naming `origin`, unless each of `names` can be a class folder of its own in the dataset.

    "Noodles/Pasta" makes nested folders, and ImageFolder takes the top one for the class. So the top folders must
    differ, and by more than case, which some file systems ignore.
    """
    if not names:
        raise UserError(f"{origin} names no class; expected one name per line")
    tops: dict[str, str] = {}
    for name in names:
        if fault := fault_of_class(name):
            raise UserError(f"{origin}: the class name {name!r} cannot be used: {fault}")
        top = folded(name.split("/")[0])
        if top in tops:
            raise UserError(
                f"{origin} has {tops[top]!r} and {name!r}, which would share one folder in the dataset; rename one, so "
                "that the parts before any '/' differ by more than case"
            )
        tops[top] = name


def fault_of_class(name: str) -> str | None:
    """Why `name` cannot be a class folder; None if it can."""
    parts = name.split("/")
    faults = {
        "it has a backslash": "\\" in name,
        "it is an absolute path": name.startswith("/") or ntpath.splitdrive(name)[0],
        "a part of it is empty": any(not part.strip() for part in parts),
        "a part of it begins with a dot, as hidden folders and '..' do": any(part.startswith(".") for part in parts),
        "a part of it begins or ends with a blank or ends with a dot": any(
            part != part.strip() or part.endswith(".") for part in parts
        ),
        "it has a control character": any(unicodedata.category(character) in ("Cc", "Cs") for character in name),
        f"a part of it is longer than {NAME_LIMIT} bytes": any(
            len(part.encode("utf-8", "surrogatepass")) > NAME_LIMIT for part in parts
        ),
    }
    return next((fault for fault, present in faults.items() if present), None)
