"""Parquet files as source, as the Hugging Face hub serves data sets: the bytes of a photo and a label per row."""

import io
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pyimagesearch import config
from pyimagesearch.data.decoding import EXTENSIONS
from pyimagesearch.preparation.readers.archives import Place
from pyimagesearch.preparation.readers.text_lists import SPLIT_OF, Line, fill
from pyimagesearch.preparation.source import Kind, Source, Split
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
    """Write the photos in the parquet `files` at `path` to `place`, as <shard>-<row>.jpg, and list them."""
    terminal.info(f"unpacking {one_line(path)}...")
    shards = _split_of_each(path, files)
    image, label, names = _columns(path, [*shards], label_column)
    splits = {name: Split(name, place.folder) for name in config.SPLITS if name in shards.values()}
    root = path if os.path.isdir(path) else os.path.dirname(path)
    lines = []
    for shard, split in shards.items():
        stem = os.path.relpath(shard, root).removesuffix(".parquet")
        for row, (photo, value) in enumerate(_rows(shard, image, label)):
            given = photo if isinstance(photo, dict) else {"bytes": photo}
            suffix = os.path.splitext(given.get("path") or "")[1].lower()
            name = f"{stem}-{row:06}{suffix if suffix in EXTENSIONS else '.jpg'}"
            file, content = os.path.join(place.folder, name), given.get("bytes") or b""
            place.grow(len(content))
            place.write(file, io.BytesIO(content), os.path.getmtime(shard))
            lines.append(Line(split, file, name, file, "" if value is None else str(value)))
    classes = fill(path, splits, lines, KIND, names)
    return Source(place.folder, classes, [*splits.values()], KIND)


def _split_of_each(path: str, files: list[str]) -> dict[str, str]:
    """The split of each shard, by the first word of its name or by its folder; without such names all is training."""
    split_of, numbers = {}, defaultdict(set)
    for shard in files if files != [path] else ():
        folder, name = os.path.split(shard)
        words = re.split("[-_.]", name.lower())[0], os.path.basename(folder).lower()
        split_of[shard] = next((SPLIT_OF[word] for word in words if word in SPLIT_OF), "")
        if match := NUMBERED.match(name):
            numbers[folder, match[1], int(match[3])].add(int(match[2]))
    for (folder, name, count), there in numbers.items():
        if missing := sorted({*range(count)} - there):
            raise UserError(f"{folder} lacks {len(missing)} of {count} shards of {name}, the first is {missing[0]:05}")
    if "" in split_of.values() and any(split_of.values()):
        other = next(shard for shard, split in split_of.items() if not split)
        raise UserError(f"{other} is of no split, but other files are; rename it, for example to train.parquet")
    return {shard: split_of.get(shard) or "training" for shard in files}


def _columns(path: str, shards: list[str], label: str | None) -> tuple[str, str, list[str] | None]:
    """The columns of the photos and of the labels, and the class names in the metadata of the hub."""
    schema = _opened(shards[0]).schema_arrow
    if odd := next((shard for shard in shards if not _opened(shard).schema_arrow.equals(schema)), None):
        raise UserError(f"{odd} has other columns than {shards[0]}; name one of them with --source")
    kinds = {field.name: str(field.type) for field in schema}
    images = [name for name, kind in kinds.items() if re.match("(large_)?binary|struct<.*bytes: binary", kind)]
    usable = [name for name, kind in kinds.items() if re.match("u?int|(large_)?string|dictionary<values=string", kind)]
    features: dict[str, Any] = {}
    with suppress(TypeError, KeyError, ValueError):  # no metadata, or others
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    named = [name for name in usable if "names" in features.get(name, {})]
    labels = [name for name in usable if name == (label or "label")] or ([] if label else named or usable)
    if len(images) != 1 or len(labels) != 1:
        seen = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise UserError(
            f"{path} has the columns {seen}; expected one of photos as bytes, and one of labels, numbers or text: name "
            "it with --label-column"
        )
    return images[0], labels[0], features[labels[0]]["names"] if labels[0] in named else None


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
