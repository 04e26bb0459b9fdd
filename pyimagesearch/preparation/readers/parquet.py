"""Parquet files as source, as the Hugging Face hub serves data sets: the bytes of a photo and a label per row."""

import io
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from pyimagesearch import config
from pyimagesearch.data.decoding import EXTENSIONS
from pyimagesearch.preparation.readers.archives import Place
from pyimagesearch.preparation.readers.class_names import check_class_names
from pyimagesearch.preparation.source import Kind, Source, Split, Unusable, look_at
from pyimagesearch.runtime import terminal
from pyimagesearch.runtime.errors import UserError, one_line

KIND = Kind(
    "parquet files",
    "parquet files, train-00000-of-00002.parquet and so on, with a column of photos and one of labels",
    "add rows",
    walked=False,
)
NUMBERED = re.compile(r"(.*?)-(\d+)-of-(\d+)")  # the name of a shard
BATCH = 64  # rows in memory at a time


def read(path: str, files: list[str], place: Place, label_column: str | None = None) -> Source:
    """Write the photos in the parquet `files` at `path` to `place`, as <shard>/<row>.jpg, and list them."""
    terminal.info(f"unpacking {one_line(path)}...")
    shards = _split_of_each(path, files)
    image, label, names = _columns(path, [*shards], label_column)
    values = [value for shard in shards for (value,) in _rows(shard, label)]
    name_of = names or _names_of({value for value in values if value is not None})
    classes, label_of = [*name_of.values()], {value: label for label, value in enumerate(name_of)}
    check_class_names(classes, path)
    splits = {name: Split(name, place.folder) for name in config.SPLIT_NAMES if name in shards.values()}
    root = path if os.path.isdir(path) else os.path.dirname(path)
    for shard, split_name in shards.items():
        split, stem = splits[split_name], os.path.basename(shard).partition(".parquet")[0]
        folder = os.path.join(place.folder, os.path.relpath(shard, root))
        for row, (photo, value) in enumerate(_rows(shard, image, label)):
            split.found += 1
            given = photo if isinstance(photo, dict) else {"bytes": photo}
            suffix = os.path.splitext(given.get("path") or "")[1].lower()
            name = f"{row:06}{suffix if suffix in EXTENSIONS else '.jpg'}"
            file = os.path.join(folder, name)
            with split.rejecting(file):
                if value not in name_of:
                    raise Unusable(f"the label is {value!r}, which is no class")
                if not given.get("bytes"):
                    raise Unusable("the row has no bytes of a photo")
                place.grow(len(given["bytes"]))
                place.write(file, io.BytesIO(given["bytes"]), os.path.getmtime(shard))
                target = os.path.join(*name_of[value].split("/"), f"{stem}-{name}")
                split.photos.append(look_at(file, target, label_of[value]))
    return Source(place.folder, classes, [*splits.values()], KIND)


def _split_of_each(path: str, files: list[str]) -> dict[str, str]:
    """The split of each shard, by the first word of its name or by its folder; without such names all is training."""
    if files == [path]:
        return {path: "training"}
    words = {name: split for split, names in config.SPLIT_NAMES.items() for name in names}
    split_of, numbers = {}, defaultdict(set)
    for shard in files:
        folder, name = os.path.split(shard)
        first = re.split("[-_.]", name.lower())[0]
        split_of[shard] = words.get(first) or words.get(os.path.basename(os.path.relpath(folder, path)).lower(), "")
        if match := NUMBERED.match(name):
            numbers[folder, match[1], int(match[3])].add(int(match[2]))
    for (folder, name, count), there in numbers.items():
        if missing := sorted({*range(count)} - there):
            raise UserError(f"{folder} lacks {len(missing)} of {count} shards of {name}, the first is {missing[0]:05}")
    if len(set(split_of.values())) > 1 and "" in split_of.values():
        other = next(shard for shard, split in split_of.items() if not split)
        raise UserError(f"{other} is of no split, but other files are; rename it, for example to train.parquet")
    return {shard: split or "training" for shard, split in split_of.items()}


def _columns(path: str, shards: list[str], label: str | None) -> tuple[str, str, dict[Any, str] | None]:
    """The columns of the photos and of the labels, and the class names in the metadata of the hub, by number."""
    schema = _opened(shards[0]).schema_arrow
    if odd := next((shard for shard in shards if not _opened(shard).schema_arrow.equals(schema)), None):
        raise UserError(f"{odd} has other columns than {shards[0]}; name one of them with --source")
    kinds = {field.name: str(field.type) for field in schema}
    images = [name for name, kind in kinds.items() if re.match("(large_)?binary|struct<.*bytes: binary", kind)]
    usable = [name for name, kind in kinds.items() if re.match("u?int|(large_)?string|dictionary<values=string", kind)]
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        named = [name for name in usable if "names" in features[name]]
        names = {name: dict(enumerate(map(str, features[name]["names"]))) for name in named}
    except (TypeError, KeyError, ValueError):
        names = {}
    labels = [name for name in usable if name == (label or "label")] or ([] if label else [*names] or usable)
    if len(images) != 1 or len(labels) != 1:
        seen = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise UserError(
            f"{path} has the columns {seen}; expected one of photos as bytes, and one of labels, numbers or text: name "
            "it with --label-column"
        )
    return images[0], labels[0], names.get(labels[0])


def _names_of(values: set) -> dict[Any, str]:
    """Class names where there is no list of them: the texts, or the numbers with leading zeros, so that they sort."""
    width = max((len(str(value)) for value in values), default=0)
    return {value: f"{value:0{width}}" if isinstance(value, int) else value for value in sorted(values)}


def _opened(shard: str) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UserError("reading parquet files needs pyarrow: pip install pyarrow") from None
    try:
        return ParquetFile(shard)
    except (OSError, ValueError) as error:  # as pyarrow's errors are
        raise UserError(f"{shard} is no parquet file, or not a whole one ({error})") from error


def _rows(shard: str, *columns: str) -> Iterator[tuple]:
    """The values of each row in some columns; few rows are in memory at a time."""
    try:
        for batch in _opened(shard).iter_batches(BATCH, columns=[*columns]):
            yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {shard}: {error}") from error
