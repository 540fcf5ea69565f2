"""The catalog: one row a record, from the names and tables of a source, in order of ids.

`catalog/<source>.parquet` holds the records, `catalog/<source>.json` what the source could not use
and what became of its values. Nothing here opens an image.
"""

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cytoimagenet_hf import __version__, files, hashing
from cytoimagenet_hf.curation.labels import Cells, Fields
from cytoimagenet_hf.errors import CatalogError
from cytoimagenet_hf.schema import CATEGORIES, JOINT
from cytoimagenet_hf.sources import FieldOfView, Source, SourceFolder
from cytoimagenet_hf.sources._vocabulary import canonical

_TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".lst", ".gz", ".xz", ".xls", ".xlsx", ".json")
_NO_KEY = re.compile(r"[#\x00-\x1f\x7f]")  # what make_key() encodes
_MAX_TABLE = 1 << 28  # bytes; larger files are told apart by time and size alone

_TEXT = pa.string()
_WORD = pa.dictionary(pa.int32(), pa.string())
PLANES = pa.list_(
    pa.struct(
        [
            ("path", _TEXT),
            ("stain", _TEXT),
            ("page", pa.int32()),
            ("series", pa.int32()),
            ("box", pa.list_(pa.int32())),
        ]
    )
)
SCHEMA = pa.schema(
    [
        ("id", _TEXT),
        ("field", _TEXT),
        ("field_hash", pa.uint64()),
        ("source", _WORD),
        ("modality", _WORD),
        ("group", _TEXT),
        ("plate", _WORD),
        ("well", _WORD),
        ("site", _WORD),
        ("license", _WORD),
        *((category, _WORD) for category in CATEGORIES),  # values joined by "|"; null: none
        ("planes", PLANES),
        ("refusal", _WORD),  # null: can be rendered
        ("detail", _TEXT),
    ]
)


@dataclass(frozen=True, slots=True)
class SourceInput:
    """A source and where its raw files and tables lie."""

    source: Source
    root: Path
    tables: tuple[Path, ...] = ()  # further folders where its tables may lie
    inputs: tuple[Path, ...] = ()  # further files that its catalog depends on (a user's table)
    options: str = ""  # how they are read

    def folder(self) -> SourceFolder:
        """Open the raw folder, with a fresh report."""
        return SourceFolder(self.root, self.source.name, tables=self.tables)


def build_catalog(entry: SourceInput, to: Path, *, from_tables: bool = False) -> bool:
    """Write the catalog of one source unless its inputs are unchanged.

    Args:
        entry: the source and its folders.
        to: folder for `<source>.parquet` and `<source>.json`.
        from_tables: take `rows` of the source instead of `fields`: no raw files are needed, and
            nothing can be rendered.

    Returns:
        True if it was written, False if the one there was still right.

    Raises:
        CatalogError: two records with one id, or a record that contradicts another of its field.
        SourceNotFoundError, TableError: from the source.
    """
    name = entry.source.name
    path, sidecar = to / f"{name}.parquet", to / f"{name}.json"
    signature = _signature(entry, from_tables=from_tables)
    known = files.read_json(sidecar)
    if known and known["signature"] == signature and path.exists():
        return False
    folder = entry.folder()
    records = _records(entry.source, folder, from_tables=from_tables)
    rows, vocabulary = _rows(records, entry.source)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    files.forget(sidecar)
    with files.replacing(path) as aside:
        pq.write_table(table, aside, compression="zstd")
    files.write_json(
        sidecar,
        {
            "signature": signature,
            "records": len(rows),
            "fields": len({row["field"] for row in rows}),
            "files": folder.report(),
            **vocabulary.report(),
        },
    )
    return True


def read_catalog(folder: Path, names: Iterable[str]) -> pa.Table:
    """Read the catalogs of some sources as one table, in order of source and id."""
    tables = [pq.read_table(folder / f"{name}.parquet") for name in sorted(names)]
    table = pa.concat_tables(tables).unify_dictionaries()  # combining chunks would double memory
    pa.default_memory_pool().release_unused()
    return table


def planned_fields(catalog: pa.Table) -> tuple[Fields, np.ndarray]:
    """Bring the records of each field together for the planner.

    A field has the values of all its records. Records that can't be rendered count nothing.

    Args:
        catalog: as `read_catalog` gives it.

    Returns:
        The fields in order of their ids, and for each usable record the number of its field.
    """
    usable = usable_records(catalog, ["field", "field_hash", "source", *CATEGORIES])
    first, of_row = _numbered(usable["field"])
    sources = usable["source"].combine_chunks()
    cells = {
        category: _cells(usable[category].combine_chunks(), first, of_row)
        for category in CATEGORIES
    }
    fields = Fields(
        hashes=usable["field_hash"].to_numpy()[first],
        sources=sources.indices.to_numpy()[first].astype(np.int32),
        source_names=sources.dictionary.to_pylist(),
        cells=cells,
    )
    return fields, of_row


def usable_records(catalog: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Select columns of the records that can be rendered."""
    refusal = catalog["refusal"]
    chosen = catalog.select(list(columns))
    return chosen if refusal.null_count == len(refusal) else chosen.filter(refusal.is_null())


def _numbered(ids: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Number distinct ids in their order: the first row of each, and the number of each row.

    Catalogs come in order, so looking at neighbors is enough; else all are sorted.
    """
    before, after = ids.slice(0, max(0, len(ids) - 1)), ids.slice(1)
    if not pc.all(pc.less_equal(before, after)).as_py():
        _, first, of_row = np.unique(
            ids.to_numpy(zero_copy_only=False), return_index=True, return_inverse=True
        )
        return first, of_row
    is_new = np.ones(len(ids), np.bool_)
    is_new[1:] = pc.not_equal(before, after).to_numpy()
    return np.flatnonzero(is_new), np.cumsum(is_new, dtype=np.int32) - 1


def split_cell(text: str | None) -> tuple[str, ...]:
    """Take a cell of the catalog apart into its values."""
    return tuple(text.split(JOINT)) if text else ()


def _cells(column: pa.DictionaryArray, first: np.ndarray, of_row: np.ndarray) -> Cells:
    """Code one category a field; the values of several records are united."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    texts = column.dictionary.to_pylist()
    codes = column.indices.fill_null(-1).to_numpy().astype(np.int32, copy=False)
    per_field = codes[first]
    differing = np.unique(of_row[codes != per_field[of_row]])
    united: dict[int, set[str]] = {int(field): set() for field in differing}
    for row in np.flatnonzero(np.isin(of_row, differing)):
        if codes[row] >= 0:
            united[int(of_row[row])].update(split_cell(texts[codes[row]]))
    code_of = {text: code for code, text in enumerate(texts)}
    for field, values in united.items():
        text = JOINT.join(sorted(values))
        per_field[field] = code_of.setdefault(text, len(code_of))
    return Cells(per_field, list(code_of))


def _records(source: Source, folder: SourceFolder, *, from_tables: bool) -> Iterator[FieldOfView]:
    if not from_tables:
        return source.fields(folder)
    if source.rows is None:
        raise CatalogError(
            f"{source.name} has no tables that a plan could be made from; it needs its raw files."
        )
    return source.rows(folder)


class _Vocabulary:
    """What became of the raw values of one source."""

    def __init__(self) -> None:
        self._spellings: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._dropped: Counter[tuple[str, str, str]] = Counter()
        self._canonical = functools.cache(canonical)

    def cell(self, category: str, values: Sequence[str]) -> str | None:
        """Join the canonical values of one cell, sorted; None if none is left."""
        kept = set()
        for raw in values:
            value, reason = self._canonical(category, raw)
            if value is None:
                self._dropped[category, raw, reason] += 1
                continue
            self._spellings[category, value].add(raw)
            kept.add(value)
        return JOINT.join(sorted(kept)) or None

    def report(self) -> dict[str, object]:
        """Values that are spelled otherwise, and values dropped with their reason."""
        return {
            "spellings": [
                {"category": category, "value": value, "spellings": sorted(spellings)}
                for (category, value), spellings in sorted(self._spellings.items())
                if spellings != {value}
            ],
            "dropped": [
                {"category": category, "value": value, "reason": reason, "records": count}
                for (category, value, reason), count in sorted(self._dropped.items())
            ],
        }


def _rows(
    records: Iterable[FieldOfView], source: Source
) -> tuple[list[dict[str, object]], _Vocabulary]:
    """Turn records into catalog rows, in order of field and id, and check them together."""
    vocabulary = _Vocabulary()
    rows: dict[str, dict[str, object]] = {}
    groups: dict[str, str] = {}
    for record in records:
        _check(record, source.name)
        if record.id in rows:
            raise CatalogError(
                f"{source.name}: two records have the id {record.id!r} "
                f"({_where(rows[record.id])} and {_first_path(record)}). Ids must be unique: "
                f"remove one of the files, or correct the id column."
            )
        if groups.setdefault(record.field_id, record.group_id) != record.group_id:
            raise CatalogError(
                f"{source.name}: records of the field {record.field_id!r} have the groups "
                f"{groups[record.field_id]!r} and {record.group_id!r}; a field has one group."
            )
        rows[record.id] = _row(record, source, vocabulary)
    ordered = sorted(rows.values(), key=lambda row: (str(row["field"]), str(row["id"])))
    return ordered, vocabulary


def _row(record: FieldOfView, source: Source, vocabulary: _Vocabulary) -> dict[str, object]:
    reason, detail = record.refusal or (None, None)
    return {
        "id": record.id,
        "field": record.field_id,
        "field_hash": hashing.rank(0, "field", record.field_id),
        "source": record.source,
        "modality": record.modality,
        "group": record.group_id,
        "plate": record.plate,
        "well": record.well,
        "site": record.site,
        "license": record.license or source.license,
        **_cells_of(record, vocabulary),
        "planes": [
            {
                "path": plane.path,
                "stain": plane.stain,
                "page": plane.page,
                "series": plane.series,
                "box": plane.box,
            }
            for plane in record.planes
        ],
        "refusal": reason,
        "detail": detail,
    }


def _cells_of(record: FieldOfView, vocabulary: _Vocabulary) -> dict[str, str | None]:
    try:
        return {
            category: vocabulary.cell(category, record.annotations.get(category, ()))
            for category in CATEGORIES
        }
    except ValueError as error:
        raise CatalogError(f"{record.id}: {error}") from None


def _check(record: FieldOfView, source: str) -> None:
    """Refuse a record that would be lost or mixed up further on; source files of users err."""
    if record.source != source:
        raise CatalogError(
            f"{source}: the record {record.id!r} is of another source; correct its `source`."
        )
    if not record.key or _NO_KEY.search(record.key):
        raise CatalogError(
            f"{record.id!r}: the key is empty, or holds # or control characters; use make_key()."
        )
    for category, values in record.annotations.items():
        if category not in CATEGORIES:
            raise CatalogError(
                f"{record.id}: there is no category {category!r}, only {', '.join(CATEGORIES)}."
            )
        if isinstance(values, str):
            raise CatalogError(
                f"{record.id}: {category} is the text {values!r}; it must be a tuple of values."
            )
    for plane in record.planes:
        _check_inside(plane.path, source)


def _check_inside(path: str, source: str) -> None:
    """Refuse a path that would leave the data root on some system."""
    parts = PurePosixPath(path).parts
    strange = "\\" in path or "\0" in path
    if strange or not parts or path.startswith("/") or ".." in parts or ":" in parts[0]:
        raise CatalogError(
            f"{source}: the path {path!r} leaves the data root. Paths are relative to it, with '/'."
        )


def _where(row: Mapping[str, object]) -> str:
    planes = row["planes"]
    return str(planes[0]["path"]) if isinstance(planes, list) and planes else "no file"


def _first_path(record: FieldOfView) -> str:
    return record.planes[0].path if record.planes else "no file"


def _signature(entry: SourceInput, *, from_tables: bool) -> str:
    """Tell whether anything that a catalog is made of has changed.

    Images by path, size and time of change, tables by their bytes, the code by the package's
    version and the bytes of the source's module.
    """
    parts = [__version__, str(from_tables), entry.options, _code_hash(entry.source.fields)]
    parts += [f"{path.name} {hashing.sha256_file(path)}" for path in entry.inputs]
    for number, root in enumerate((entry.root, *entry.tables)):
        if not root.is_dir():
            continue
        for path, stat in files.walk(root):
            identity = f"{stat.st_size} {stat.st_mtime_ns}"
            if path.lower().endswith(_TABLE_ENDINGS) and stat.st_size <= _MAX_TABLE:
                identity = hashing.sha256_file(root / path)
            parts.append(f"{number} {path} {identity}")
    return hashing.fingerprint(parts)


def _code_hash(function: Callable[..., object]) -> str:
    while isinstance(function, functools.partial):  # that of a table; its arguments are `options`
        function = function.func
    code = getattr(function, "__code__", None)
    path = Path(code.co_filename) if code else None
    return hashing.sha256_file(path) if path and path.exists() else repr(function)
