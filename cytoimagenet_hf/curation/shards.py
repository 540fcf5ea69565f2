"""Writing the published Parquet files: rows in hash order, in shards of one split and terms each.

Bytes are the same for the same rows and library versions: rows come in hash order, every row group
is one write of one contiguous table, and file names count rows, not runs (design 4).
"""

import contextlib
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cytoimagenet_hf import files
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.selection import Crop
from cytoimagenet_hf.hashing import fingerprint, pixel_sha256, rank
from cytoimagenet_hf.imaging import png
from cytoimagenet_hf.imaging.resize import shrink

_LEAST_SHARDS = 8  # a split and terms class, so that readers can share them
_ROWS_A_LEAST_SHARD = 100
_METADATA_ROWS = 100_000  # a row group of config `metadata`

Row = dict[str, Any]
Part = tuple[str, str]  # split, terms
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Shard:
    """One written file."""

    config: str
    split: str
    terms: str
    path: str  # relative to the data set's folder
    rows: int
    bytes: int


def build_name(crops: Sequence[Crop]) -> str:
    """Name a build by the crops that it adds: 8 hex digits."""
    rows = sorted((crop.image_id, crop.pixel_sha256) for crop in crops)
    return fingerprint((text for row in rows for text in row), digits=8)


def image_path(image_id: str) -> str:
    """Name an image inside of its row: its id with `/` and `#` replaced, as PNG."""
    return image_id.replace("/", "_").replace("#", "_") + ".png"


def write_config(
    config: str,
    parts: Mapping[Part, Sequence[Crop]],
    row_of: Callable[[Crop], Row],
    target: "Target",
) -> Iterator[tuple[Shard, Sequence[tuple[Crop, Row, int, int]]]]:
    """Write one config with images.

    Args:
        config: its name and folder.
        parts: the crops of each split and terms class.
        row_of: makes the published row of a crop; `image` holds {bytes, path}.
        target: folder, schema and sizes.

    Yields:
        Each shard, when it is written, with its crops, their rows, row groups and places in them.
    """
    for (split, terms), crops in sorted(parts.items()):
        ordered = hash_order(crops, target.parameters.seed)
        sizes = [target.bytes_of(crop) for crop in ordered]
        for number, (start, stop) in enumerate(
            cut_rows(len(sizes), _count(sizes, target.parameters))
        ):
            path = f"data/{config}/{split}-{terms}-{target.build}-{number:05d}.parquet"
            placed = write_shard(path, ordered[start:stop], sizes[start:stop], row_of, target)
            size = (target.folder / path).stat().st_size
            yield Shard(config, split, terms, path, len(placed), size), placed


def write_shard(
    path: str,
    items: Sequence[Item],
    sizes: Sequence[int],
    row_of: Callable[[Item], Row],
    target: "Target",
) -> list[tuple[Item, Row, int, int]]:
    """Write one file of a config with images.

    Args:
        path: relative to the target's folder.
        items: what the rows are made of, in order.
        sizes: of the items' images, in bytes.
        row_of: makes the published row of an item; `image` holds {bytes, path}.
        target: folder, schema and sizes.

    Returns:
        The items with their rows (without images), row groups and places in them.
    """
    placed = []
    with open_writer(target.folder / path, target.schema) as writer:
        for group, (low, high) in enumerate(_groups(sizes, target.parameters)):
            rows = [row_of(item) for item in items[low:high]]
            write_group(writer, rows, target.schema)
            for place, (item, row) in enumerate(zip(items[low:high], rows, strict=True)):
                del row["image"]
                placed.append((item, row, group, place))
    return placed


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how a config is written."""

    folder: Path
    schema: pa.Schema
    build: str
    parameters: Parameters
    bytes_of: Callable[[Crop], int]  # size of a crop's image


def write_metadata(
    part: Part, rows: Sequence[Row], folder: Path, schema: pa.Schema, build: str
) -> Shard:
    """Write config `metadata` of one split and terms class: one file, big row groups."""
    split, terms = part
    path = f"data/metadata/{split}-{terms}-{build}-00000.parquet"
    with open_writer(folder / path, schema) as writer:
        for start in range(0, len(rows), _METADATA_ROWS):
            write_group(writer, rows[start : start + _METADATA_ROWS], schema)
    return Shard("metadata", split, terms, path, len(rows), (folder / path).stat().st_size)


def tiny_crops(
    crops: Sequence[Crop], labels: Mapping[int, str], parameters: Parameters
) -> list[Crop]:
    """Choose the crops of config `tiny`: lowest-hash labels, and of each its lowest-hash crops.

    Args:
        crops: all published crops.
        labels: text of each label.
        parameters: how many.
    """
    seed = parameters.seed
    chosen = sorted(labels, key=lambda label: rank(seed, "tiny label", labels[label]))
    kept = []
    for label in chosen[: parameters.tiny_labels]:
        own = [crop for crop in crops if crop.label == label]
        own.sort(key=lambda crop: rank(seed, "tiny", crop.image_id))
        kept += own[: parameters.tiny_crops]
    return kept


def tiny_image(encoded: bytes, side: int) -> tuple[bytes, int, int, str]:
    """Average a crop down again: PNG, height, width and hash of the pixels."""
    with Image.open(io.BytesIO(encoded), formats=("PNG",)) as image:
        pixels = shrink(np.asarray(image), side)
    return png.encode(pixels), pixels.shape[0], pixels.shape[1], pixel_sha256(pixels)


def hash_order(crops: Sequence[Crop], seed: int) -> list[Crop]:
    """Order crops as they are published: mixed over labels and sources, and always the same."""
    return sorted(crops, key=lambda crop: (rank(seed, "order", crop.image_id), crop.image_id))


def cut_rows(rows: int, shards: int) -> list[tuple[int, int]]:
    """Cut rows into shards of about equal numbers of rows."""
    edges = [number * rows // shards for number in range(shards + 1)]
    return list(itertools.pairwise(edges))


def _count(sizes: Sequence[int], parameters: Parameters) -> int:
    """Number of shards for images of such sizes."""
    least = min(_LEAST_SHARDS, -(-len(sizes) // _ROWS_A_LEAST_SHARD))
    by_bytes = -(-sum(sizes) // parameters.shard_bytes)
    return min(len(sizes), max(least, by_bytes))  # an empty shard can't be loaded


def _groups(sizes: Sequence[int], parameters: Parameters) -> Iterator[tuple[int, int]]:
    """Cut the rows of a shard into row groups by rows and by bytes."""
    low, size = 0, 0
    for at, bytes_here in enumerate(sizes):
        full = at - low == parameters.group_rows or size + bytes_here > parameters.group_bytes
        if at > low and full:
            yield low, at
            low, size = at, 0
        size += bytes_here
    if sizes:
        yield low, len(sizes)


@contextlib.contextmanager
def open_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Open a Parquet writer whose file appears when it is complete."""
    names = _leaves(schema)
    texts = [name for name in names if not name.startswith(("image.", "embedding."))]
    with (
        files.replacing(path) as aside,
        pq.ParquetWriter(
            aside,
            schema,
            # Neither PNG nor embeddings get smaller, and uncompressed bytes stay where they are.
            compression={name: "SNAPPY" if name in texts else "NONE" for name in names},
            use_dictionary=texts,
            write_statistics=texts,  # of images they would be copies of the smallest and largest
            write_page_checksum=True,
            write_page_index=True,
        ) as writer,
    ):
        yield writer


def write_group(writer: pq.ParquetWriter, rows: Sequence[Row], schema: pa.Schema) -> None:
    """Write one row group from one contiguous table, so that bytes depend on nothing else."""
    table = pa.Table.from_pylist(list(rows), schema=schema).combine_chunks()
    writer.write_table(table, row_group_size=max(1, len(rows)))


def _leaves(schema: pa.Schema) -> list[str]:
    """Names of the columns that Parquet stores, as its options name them."""
    sink = io.BytesIO()
    pq.write_metadata(schema, sink)
    stored = pq.read_metadata(io.BytesIO(sink.getvalue())).schema
    return [stored.column(number).path for number in range(len(stored))]
