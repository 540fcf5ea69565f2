"""Opening a data set of shards against a folder of images, one row, the first, and all of them."""

import json
import os
import statistics
import subprocess
import sys
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
THUMBNAIL = 64  # pixels; where the number of rows matters and not their size

# What a user waits for behind `import datasets`, and what memory a whole epoch takes. In a process
# of its own, whose folder of caches is empty at first.
CHILD = """
import json, re, sys, time
import datasets
datasets.disable_progress_bars()
def timed(call):
    start = time.perf_counter()
    found = call()
    return found, time.perf_counter() - start
def anonymous():
    with open("/proc/self/status") as status:
        return int(re.search(r"RssAnon:\\s+(\\d+)", status.read())[1]) / 1024
folder = sys.argv[1]
def stream():
    rows = datasets.load_dataset(folder, split="train", streaming=True)
    return rows, next(iter(rows))["image"]
(rows, image), first = timed(stream)
datasets.load_dataset(folder, split="train")  # makes the cache
found, again = timed(lambda: datasets.load_dataset(folder, split="train"))
half, seen, halves = len(found) // 2, 0, []
high = 0.0
for row in rows.decode(False):
    seen += 1
    if seen % 500 == 0:
        high = max(high, anonymous())
    if seen == half:
        halves.append(high)
        high = 0.0
print(json.dumps([first, again, halves[0], high, seen]))
"""


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


def shard(path: Path, rows: int, group_rows: int, side: int = SIDE) -> None:
    """Write rows of random crops in row groups of a size, with the writer's own options."""
    schema = features(LABELS).arrow_schema
    crops = [png.encode(_noise(number, side)) for number in range(16)] if side else [b""]
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


def _noise(seed: int, side: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)


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
            shard(path, rows // files, Parameters().group_rows, side=0)
        table = data / "metadata.parquet"
        about(table, rows)
        assert footers(paths) == footers([table]) == len(image_folder(tree)) == rows
        ways = {
            "config metadata": (lambda: footers([table]), 30, 40, "one footer"),
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
        yield from _first_and_all(Path(temporary, "loaded"), rows, options)


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
            must=20,
            aim=30,
            images=len(wanted),
            note=f"open files; row groups of {large:,} rows against {small}; 30 KB of noise a row",
        )


def _first_and_all(folder: Path, rows: int, options: Options) -> Iterator[Figure]:
    """Load a folder as its users do: the first row, again from the cache, and an epoch."""
    for number in range(10):
        path = folder / "data" / "default" / f"train-open-00000000-{number:05d}.parquet"
        shard(path, rows // 10, Parameters().group_rows, THUMBNAIL)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n"
        "    path: data/default/*.parquet\n---\n"
    )
    runs = [_child(folder, folder.with_name(f"home{at}")) for at in range(min(options.rounds, 3))]
    assert all(one[4] == rows for one in runs)
    first, again, before, after = (statistics.median(one[at] for one in runs) for at in range(4))
    note = f"{rows:,} rows of 64 px; median of {len(runs)} processes, caches empty at first"
    lower = {"more_is_better": False, "images": rows}
    yield Figure("first streamed image after import", first, "s", 3, 1, note=note, **lower)
    yield Figure("reopening from the cache", again, "s", 1, 0.5, **lower)
    told = f"{before:.0f} and {after:.0f} MB of anonymous memory"
    yield Figure(
        "epoch: memory, second half / first", after / before, "", 1.15, 1, note=told, **lower
    )


def _child(folder: Path, home: Path) -> list[float]:
    given = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    told = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)], env=given, check=True, capture_output=True
    ).stdout
    found: list[float] = json.loads(told.splitlines()[-1])
    return found


if __name__ == "__main__":
    run(measure, __doc__)
