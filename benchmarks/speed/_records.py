"""A catalog of simulated records: seven categories, Zipf's law, mostly empty cells."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cytoimagenet_hf import hashing
from cytoimagenet_hf.curation.catalog import SCHEMA
from cytoimagenet_hf.schema import CATEGORIES, JOINT

SOURCES = ("screen-a", "screen-b", "screen-c")
_ROWS_A_VALUE = {  # the vocabularies of screens grow with them, those of biology do not
    "compound": 300,
    "sirna": 170,
    "gene": 900,
}
_VALUES = {"phenotype": 60, "cell_visible": 40, "cell_type": 30, "organism": 6}
_FILLED = {
    "compound": 0.5,
    "sirna": 0.25,
    "gene": 0.07,
    "phenotype": 0.1,
    "cell_visible": 0.6,
    "cell_type": 0.9,
    "organism": 1.0,
}
_WELLS = 384
_SITES = 4


def simulated(rows: int, *, seed: int = 0) -> pa.Table:
    """Make a catalog of single-plane records, each of its own field, in order of ids."""
    random = np.random.default_rng(seed)
    number = np.arange(rows)
    plate = _words("p", number // (_WELLS * _SITES) % 10_000_000)
    well = _words("w", number // _SITES % _WELLS)
    site = _words("s", number % _SITES)
    source = pa.DictionaryArray.from_arrays(
        pa.array(number * len(SOURCES) // max(1, rows), pa.int32()), pa.array(SOURCES)
    )
    parts = [column.cast(pa.string()) for column in (source, plate, well, site)]
    ids = pc.binary_join_element_wise(*parts, "/")
    columns = {
        "id": ids,
        "field": ids,
        "field_hash": pa.array(hashing.mix(number.astype(np.uint64))),
        "source": source,
        "group": pc.binary_join_element_wise(*parts[:3], "/"),
        "plate": plate,
        "well": well,
        "site": site,
        "planes": _planes(ids),
        **{category: _cells(category, rows, random) for category in CATEGORIES},
    }
    empty = {field.name: pa.nulls(rows, field.type) for field in SCHEMA}
    table = pa.table({**empty, **columns}).select(SCHEMA.names).cast(SCHEMA)
    return table.take(pa.array(pc.sort_indices(table["id"])))


def write(rows: int, folder: Path) -> list[str]:
    """Write the catalog as a build keeps it, a file a source; return the sources."""
    table = simulated(rows)
    for source in SOURCES:
        own = table.filter(pc.equal(table["source"].cast(pa.string()), source))
        pq.write_table(own, folder / f"{source}.parquet", compression="zstd")
    return list(SOURCES)


def _words(prefix: str, codes: np.ndarray) -> pa.DictionaryArray:
    distinct, at = np.unique(codes, return_inverse=True)
    words = pa.array([f"{prefix}{code:05d}" for code in distinct.tolist()])
    return pa.DictionaryArray.from_arrays(pa.array(at.astype(np.int32)), words)


def _cells(category: str, rows: int, random: np.random.Generator) -> pa.DictionaryArray:
    """Draw values by Zipf's law; one to five of them where cells are looked at, else one."""
    share = _ROWS_A_VALUE.get(category)
    count = max(4, rows // share) if share else _VALUES[category]
    weights = 1 / np.arange(1, count + 1) ** 0.9
    words = [f"{category} {number:05d}" for number in range(count)]
    if category in ("cell_visible", "compound"):
        most = 5 if category == "cell_visible" else 2
        sets = random.choice(count, size=(4 * count, most), p=weights / weights.sum())
        sizes = random.integers(1, most + 1, len(sets))
        joined = {
            JOINT.join(sorted({words[at] for at in one[:size]}))
            for one, size in zip(sets.tolist(), sizes.tolist(), strict=True)
        }
        words = sorted(joined)
        weights = 1 / np.arange(1, len(words) + 1) ** 0.9
    codes = random.choice(len(words), size=rows, p=weights / weights.sum()).astype(np.int32)
    absent = random.random(rows) >= _FILLED[category]
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=absent), pa.array(words))


def _planes(ids: pa.Array) -> pa.ListArray:
    rows = len(ids)
    one = pa.StructArray.from_arrays(
        [
            pc.binary_join_element_wise(ids, "w1.tif", "_"),
            pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), ["dna"]).cast(
                "string"
            ),
            *(pa.array(np.zeros(rows, np.int32)) for _ in range(2)),
            pa.nulls(rows, pa.list_(pa.int32())),
        ],
        names=["path", "stain", "page", "series", "box"],
    )
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32)), one)
