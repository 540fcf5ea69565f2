"""Features as files: our Parquet with provenance, and plain tables of others.

Parquet holds `id`, `embedding` (a fixed-size list of float32) and `pixel_sha256`; provenance and
images without features stand as JSON in the schema's metadata. Also read are Parquet with any list
of numbers as `embedding`, and CSV with an `id` and only numbers beside it. Everything read is
bounded and checked: ids are unique, values are finite.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.errors import FeaturesError
from cytoimagenet_hf.evaluation.records import Features

MOST_ROWS = 20_000_000
MOST_DIMENSIONS = 1 << 16
MOST_BYTES = 16 << 30  # of the values in memory, and of a file
_MOST_TEXT = 64 << 20  # of JSON in a file
_LONGEST_ID = 4096  # characters
_KEY = b"cytoimagenet_features"
_ROWS_A_GROUP = 4096


def write_features(features: Features, path: Path) -> None:
    """Write features to Parquet, whole or not at all.

    Args:
        features: rows in any order; kept.
        path: the file.

    Raises:
        DiskError: it can't be written.
    """
    dim = features.values.shape[1]
    about = {"provenance": dict(features.provenance), "failed": dict(features.failed)}
    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), dim), nullable=False),
            pa.field("pixel_sha256", pa.string()),
        ],
        metadata={_KEY: json.dumps(about, sort_keys=True).encode()},
    )
    flat = pa.array(np.ascontiguousarray(features.values, np.float32).reshape(-1))
    pixels = features.pixels or [None] * len(features.ids)
    columns = [
        pa.array(features.ids, pa.string()),
        pa.FixedSizeListArray.from_arrays(flat, dim),
        pa.array(pixels, pa.string()),
    ]
    table = pa.table(columns, schema=schema)
    with files.replacing(path) as aside, pq.ParquetWriter(
        aside, schema, compression="none", use_dictionary=False, write_page_checksum=True
    ) as writer:  # fmt: skip
        writer.write_table(table, row_group_size=_ROWS_A_GROUP)


def read_features(path: Path) -> Features:
    """Read features from Parquet or CSV.

    Args:
        path: a file of ours, or of others (see the module's text); the ending says which kind.

    Returns:
        The features, in the file's order. Of others' files provenance names the file and its hash.

    Raises:
        FeaturesError: the file is absent, damaged, too large, or doesn't hold features.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise FeaturesError(f"{path} is larger than {MOST_BYTES >> 30} GiB.")
        read = _csv if path.suffix.lower() == ".csv" else _parquet
        ids, values, pixels, about = read(path)
    except (OSError, pa.ArrowException, ValueError, RecursionError) as error:
        raise FeaturesError(f"{path} can't be read as features: {error}") from error
    provenance = about.get("provenance") or {
        "encoder": path.name,
        "revision": hashing.sha256_file(path),
        "dim": values.shape[1],
    }
    failed = about.get("failed", {})
    if not isinstance(provenance, dict) or not isinstance(failed, dict):
        raise FeaturesError(f"{path}: its provenance is no table of names and values.")
    _check(path, ids, values)
    return Features(ids, values, provenance, failed, pixels)


_Table = tuple[tuple[str, ...], npt.NDArray[np.float32], tuple[str, ...], Mapping[str, Any]]


def _parquet(path: Path) -> _Table:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        missing = {"id", "embedding"} - set(schema.names)
        if missing:
            raise FeaturesError(f"{path} has no column {sorted(missing)[0]!r}: {schema.names}.")
        text = (schema.metadata or {}).get(_KEY, b"{}")
        _bound(path, rows, 1)
        if (numbers := _numbers_in(file.metadata)) * 4 > MOST_BYTES:
            raise FeaturesError(f"{path} holds {numbers} numbers, which is too much.")
        if len(text) > _MOST_TEXT:
            raise FeaturesError(f"{path}: its provenance has {len(text)} bytes.")
        about = json.loads(text)
        wanted = [name for name in ("id", "embedding", "pixel_sha256") if name in schema.names]
        table = file.read(wanted, use_threads=False)
    values = _matrix(path, table["embedding"].combine_chunks())
    pixels: tuple[str, ...] = ()
    if "pixel_sha256" in wanted and not table["pixel_sha256"].null_count:
        pixels = tuple(map(str, table["pixel_sha256"].to_pylist()))
    return _texts(path, table["id"]), values, pixels, about if isinstance(about, dict) else {}


def _numbers_in(metadata: Any) -> int:  # noqa: ANN401 - no types there
    """Count the numbers of all embeddings from the file's footer, before any is read."""
    columns = (
        metadata.row_group(group).column(at)
        for group in range(metadata.num_row_groups)
        for at in range(metadata.num_columns)
    )
    return sum(one.num_values for one in columns if one.path_in_schema.startswith("embedding"))


def _matrix(path: Path, column: Any) -> npt.NDArray[np.float32]:  # noqa: ANN401 - no types there
    """Make (n, dim) of a column of lists of one length."""
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (is_list or pa.types.is_fixed_size_list(kind)) or not _is_number(kind.value_type):
        raise FeaturesError(f"{path}: `embedding` must hold lists of numbers, not {kind}.")
    if column.null_count:
        raise FeaturesError(f"{path}: {column.null_count} rows have no embedding.")
    if is_list:
        lengths = np.unique(column.value_lengths().to_numpy(zero_copy_only=False))
        if len(lengths) > 1:
            raise FeaturesError(f"{path}: embeddings have lengths {lengths[0]} to {lengths[-1]}.")
        dim = int(lengths[0]) if len(lengths) else 0
    else:
        dim = kind.list_size
    _bound(path, len(column), dim)
    flat = column.flatten()
    if flat.null_count:
        raise FeaturesError(f"{path}: embeddings hold {flat.null_count} empty values.")
    with np.errstate(over="ignore"):  # what float32 can't hold is refused as infinite later
        values = np.asarray(flat.to_numpy(zero_copy_only=False), np.float32)
    return values.reshape(len(column), dim)


def _is_number(kind: Any) -> bool:  # noqa: ANN401 - no types there
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _csv(path: Path) -> _Table:
    read = pyarrow.csv.ReadOptions(use_threads=False)
    ids_as_text = pyarrow.csv.ConvertOptions(column_types={"id": pa.string()})
    table = pyarrow.csv.read_csv(path, read_options=read, convert_options=ids_as_text)
    if table.column_names.count("id") != 1:
        raise FeaturesError(f"{path} must have one column `id`, and only numbers beside it.")
    rest = table.drop_columns(["id"])
    _bound(path, table.num_rows, rest.num_columns)
    for name, column in zip(rest.column_names, rest.columns, strict=True):
        if not _is_number(column.type) or column.null_count:
            raise FeaturesError(
                f"{path}: column {name!r} holds {column.type}, {column.null_count} empty or NaN; "
                f"there must be only numbers beside `id`."
            )
    values = np.empty((table.num_rows, rest.num_columns), np.float32)
    with np.errstate(over="ignore"):
        for at, column in enumerate(rest.columns):
            values[:, at] = column.to_numpy()
    return _texts(path, table["id"]), values, (), {}


def _texts(path: Path, column: Any) -> tuple[str, ...]:  # noqa: ANN401 - no types there
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_whole(kind)):
        raise FeaturesError(f"{path}: ids must be text, not {kind}.")
    if column.null_count:
        raise FeaturesError(f"{path}: {column.null_count} rows have no id.")
    return tuple(map(str, column.to_pylist()))


def _is_whole(kind: Any) -> bool:  # noqa: ANN401 - no types there
    return bool(pa.types.is_integer(kind))


def _bound(path: Path, rows: int, dim: int) -> None:
    if rows > MOST_ROWS or dim > MOST_DIMENSIONS or rows * dim * 4 > MOST_BYTES:
        raise FeaturesError(f"{path} holds {rows} rows of {dim} numbers, which is too much.")
    if rows == 0 or dim == 0:
        raise FeaturesError(f"{path} holds no features.")


def _check(path: Path, ids: tuple[str, ...], values: npt.NDArray[np.float32]) -> None:
    seen: set[str] = set()
    for name in ids:
        if not name or len(name) > _LONGEST_ID:
            raise FeaturesError(f"{path}: an id has {len(name)} characters.")
        if name in seen:
            raise FeaturesError(f"{path}: the id {name!r} occurs twice.")
        seen.add(name)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise FeaturesError(
            f"{path}: {len(bad)} of {len(ids)} rows hold NaN or infinite values (first: "
            f"{ids[bad[0]]!r}). Leave such rows out."
        )
