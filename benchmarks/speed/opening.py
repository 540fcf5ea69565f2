"""Opening a data set of shards against a folder of images, and one row out of row groups."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _timing import Figure, Options, compare, run

from cytoimagenet_hf.curation import shards
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.imaging import png
from cytoimagenet_hf.schema import POINTER_COLUMNS, features

LABELS = [f"label {number:03d}" for number in range(894)]
SIDE = 170  # pixels; such a crop has about 30 KB, the mean of a real build


def image_folder(root: Path) -> list[tuple[str, int]]:
    """List a folder of classes as torchvision's ImageFolder does."""
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    samples = []
    for number, name in enumerate(classes):
        for folder, _, files in sorted(os.walk(root / name, followlinks=True)):
            for file in sorted(files):
                if file.lower().endswith((".png", ".jpg", ".jpeg", ".tif", ".bmp")):
                    samples.append((os.path.join(folder, file), number))  # noqa: PTH118
    return samples


def footers(paths: Sequence[Path]) -> int:
    """Open files: read their footers, which say how many rows each row group has."""
    return sum(pq.read_metadata(path).num_rows for path in paths)


def places(path: Path) -> pa.Table:
    """Read label and place of every crop, all that a loader of single rows needs."""
    return pq.read_table(path, columns=["label", *POINTER_COLUMNS])


def row(file: pq.ParquetFile, number: int, group_rows: int) -> Mapping[str, object]:
    """Read the image of one row; its row group and place in it are known."""
    group = file.read_row_group(number // group_rows, columns=["image"])
    return group["image"][number % group_rows].as_py()


def shard(path: Path, rows: int, group_rows: int, images: bool = True) -> None:
    """Write rows of random crops in row groups of a size, with the writer's own options."""
    schema = features(LABELS).arrow_schema
    crops = [png.encode(_noise(number)) for number in range(16)] if images else [b""]
    with shards.open_writer(path, schema) as writer:
        for start in range(0, rows, group_rows):
            count = min(group_rows, rows - start)
            numbers = range(start, start + count)
            columns = {
                "image": [
                    {"bytes": crops[at % len(crops)], "path": f"{at:06d}.png"} for at in numbers
                ],
                "label": [at % len(LABELS) for at in numbers],
                "image_id": [f"made/{at:06d}#whole" for at in numbers],
            }
            empty = {one.name: pa.nulls(count, one.type) for one in schema}
            arrays = {
                name: pa.array(some, schema.field(name).type) for name, some in columns.items()
            }
            table = pa.table({**empty, **arrays}, schema=schema)
            writer.write_table(table.combine_chunks(), row_group_size=count)


def _noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), np.uint8)


def about(path: Path, rows: int) -> None:
    """Write config `metadata`: all columns but the image, and where each crop lies."""
    schema = features(LABELS, image=False, pointers=True).arrow_schema
    numbers = range(rows)
    known = {
        "image_id": [f"made/{at:06d}#whole" for at in numbers],
        "label": [at % len(LABELS) for at in numbers],
        "shard": [f"data/default/train-open-00000000-{at // 10_000:05d}.parquet" for at in numbers],
        "row_group": [at % 10_000 // 100 for at in numbers],
        "row": [at % 100 for at in numbers],
    }
    empty = {one.name: pa.nulls(rows, one.type) for one in schema}
    arrays = {name: pa.array(some, schema.field(name).type) for name, some in known.items()}
    with shards.open_writer(path, schema) as writer:
        writer.write_table(pa.table({**empty, **arrays}, schema=schema), row_group_size=100_000)


def measure(options: Options) -> Iterator[Figure]:
    """Open 100,000 rows in three ways, then fetch single rows."""
    rows, files = (2_000, 10) if options.quick else (100_000, 10)
    with tempfile.TemporaryDirectory() as temporary:
        tree, data = Path(temporary, "tree"), Path(temporary, "data")
        for number in range(rows):
            folder = tree / LABELS[number % len(LABELS)]
            if number < len(LABELS):
                folder.mkdir(parents=True)
            (folder / f"{number:06d}.png").touch()
        paths = [data / f"{number:05d}.parquet" for number in range(files)]
        for path in paths:
            shard(path, rows // files, Parameters().group_rows, images=False)
        table = data / "metadata.parquet"
        about(table, rows)
        assert footers(paths) == footers([table]) == len(image_folder(tree)) == rows
        ways = {
            "config metadata": (lambda: footers([table]), 20, 40, "one footer"),
            "label and place of each row": (lambda: places(table), 10, 20, "four columns read"),
            "shards with images": (lambda: footers(paths), 3, 5, f"{files} footers"),
        }
        for name, (ours, must, aim, note) in ways.items():
            yield compare(
                f"opening: {name}",
                lambda: image_folder(tree),
                ours,
                options,
                must=must,
                aim=aim,
                images=rows,
                note=f"{note}; against listing {rows:,} files, all in the page cache",
            )
        yield _random_rows(data, options)


def _random_rows(data: Path, options: Options) -> Figure:
    small = Parameters().group_rows
    large = 400 if options.quick else 4_000
    for group_rows in (small, large):
        shard(data / f"groups-{group_rows}.parquet", large, group_rows)
    with (
        pq.ParquetFile(data / f"groups-{small}.parquet") as ours,
        pq.ParquetFile(data / f"groups-{large}.parquet") as theirs,
    ):
        wanted = np.random.default_rng(0).integers(0, large, 5).tolist()
        for number in wanted:
            assert row(ours, number, small) == row(theirs, number, large)
        return compare(
            "one random row",
            lambda: [row(theirs, number, large) for number in wanted],
            lambda: [row(ours, number, small) for number in wanted],
            options,
            must=15,
            aim=30,
            images=len(wanted),
            note=f"open files; row groups of {large:,} rows against {small}; 30 KB of noise a row",
        )


if __name__ == "__main__":
    run(measure, __doc__)
