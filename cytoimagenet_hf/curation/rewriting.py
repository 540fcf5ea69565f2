"""Row groups read with their checksums, and files written once more from their rows.

The writer gives the same bytes for the same rows and library versions, so rows that can be read
show what a file must look like: where else it was damaged, and how to repair it.
"""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cytoimagenet_hf import hashing
from cytoimagenet_hf.curation import shards

_GROUP_BYTES = 1 << 30  # decoded, of a row group
_GROUP_ROWS = 1 << 20
_MAGIC = 4  # bytes of PAR1 at both ends


def open_checked(path: Path) -> pq.ParquetFile:
    """Open a Parquet file so that the checksum of every page that is read is compared."""
    return pq.ParquetFile(path, page_checksum_verification=True)


def read_group(
    file: pq.ParquetFile, group: int, columns: list[str] | None = None
) -> list[dict[str, Any]]:
    """Read the rows of one row group, unless it asks for too much; all columns by default.

    Raises:
        One of UNREADABLE: a page is damaged.
    """
    about = file.metadata.row_group(group)
    size = sum(about.column(at).total_uncompressed_size for at in range(about.num_columns))
    if about.num_rows > _GROUP_ROWS or size > _GROUP_BYTES or about.num_rows < 0:
        raise ValueError(f"{about.num_rows} rows of {size} bytes are more than a build writes")
    rows: list[dict[str, Any]] = file.read_row_group(group, columns).to_pylist()
    return rows


def rewrite(path: Path, schema: pa.Schema, to: Path) -> None:
    """Write the rows of a file once more.

    Raises:
        One of UNREADABLE: not all of them can be read.
    """
    with open_checked(path) as file, shards.open_writer(to, schema) as writer:
        for group in range(file.num_row_groups):
            shards.write_group(writer, read_group(file, group), schema)


def framing_damage(path: Path, schema: pa.Schema, sha256: str) -> list[int | None]:
    """Find damage that hurts no row, by writing all rows once more.

    Args:
        path: a file whose rows can all be read.
        schema: of its config.
        sha256: that the whole file had.

    Returns:
        The row groups with damaged page headers, and None for the rest of the file. Nothing where
        the rows don't give the whole file again (other rows, or other library versions).
    """
    with tempfile.TemporaryDirectory() as aside:
        copy = Path(aside) / "copy.parquet"
        rewrite(path, schema, copy)
        return _differing(path, copy) if hashing.sha256_file(copy) == sha256 else []


def group_bounds(path: Path) -> list[tuple[int, int]]:
    """Return the first byte of each row group of a whole file, and the one after its last."""
    about = pq.read_metadata(path)
    ends = [_MAGIC]
    for group in range(about.num_row_groups):
        columns = [about.row_group(group).column(at) for at in range(about.num_columns)]
        ends.append(max(_start(one) + one.total_compressed_size for one in columns))
    return list(itertools.pairwise(ends))


def _differing(damaged: Path, whole: Path) -> list[int | None]:
    found: list[int | None] = []
    with damaged.open("rb") as left, whole.open("rb") as right:
        is_framed = left.read(_MAGIC) == right.read(_MAGIC)
        for group, (low, high) in enumerate(group_bounds(whole)):
            if left.read(high - low) != right.read(high - low):
                found.append(group)
        if left.read() != right.read() or not is_framed:
            found.append(None)
    return found


def _start(column: Any) -> int:  # noqa: ANN401 - pyarrow is untyped
    first = column.dictionary_page_offset or column.data_page_offset
    return int(min(first, column.data_page_offset))
