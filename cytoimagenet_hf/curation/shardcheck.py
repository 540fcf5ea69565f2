"""Verification of one Parquet file: pages, schema, every row, every image.

A row group is read at a time. What comparisons between files need is given back as a small table,
so that a data set of any size is verified in bounded memory.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cytoimagenet_hf import hashing
from cytoimagenet_hf.curation import shards
from cytoimagenet_hf.curation.findings import UNREADABLE, Finding, Findings, told
from cytoimagenet_hf.curation.papers import Class
from cytoimagenet_hf.curation.rewriting import framing_damage, open_checked, read_group
from cytoimagenet_hf.hub.licenses import terms_of
from cytoimagenet_hf.imaging import png
from cytoimagenet_hf.imaging.resize import shrink
from cytoimagenet_hf.schema import (
    CATEGORIES,
    EMBEDDINGS,
    POINTER_COLUMNS,
    SPLITS,
    TERMS,
    embedding_features,
    features,
)

NAME = re.compile(
    rf"data/(?P<config>default|small|tiny|metadata|{EMBEDDINGS}[a-z0-9]+(?:[.-][a-z0-9]+)*)/"
    rf"(?P<split>{'|'.join(SPLITS)})-(?P<terms>{'|'.join(TERMS)})-(?P<build>[0-9a-f]{{8}})"
    r"-(?P<number>\d{5,})\.parquet"
)
_OF_CONFIG = ("height", "width", "pixel_sha256")  # columns that differ between configs
_WINDOW = re.compile(r"(?:nw|ne|sw|se)-(?P<scale>2|4|8|16)-\d|whole")

FACTS = pa.schema(
    [
        ("image_id", pa.string()),
        ("idx", pa.string()),
        ("group", pa.string()),
        ("label", pa.int32()),
        ("source_sha256", pa.string()),
        ("pixel_sha256", pa.string()),
        ("small_sha256", pa.string()),  # of the pixels averaged down; config default only
        ("tiny_sha256", pa.string()),
        ("carries", pa.bool_()),  # the label's value is among the row's own
        ("all_columns", pa.uint64()),  # digest of all columns but the image and the pointers
        ("shared_columns", pa.uint64()),  # the same without those that differ between configs
        ("place", pa.string()),  # shard, row group, row; in `metadata` those it points to
        ("row_group", pa.int32()),
        ("row", pa.int32()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """A file to verify."""

    folder: Path
    path: str
    sha256: str  # as SHA256SUMS has it; empty: not listed
    classes: tuple[Class, ...]  # empty: unknown
    sides: tuple[int, int]  # longest sides in `small` and `tiny`; 0: unknown
    vectors: tuple[int, str] = (0, "")  # dim and dtype of embeddings; 0: this is no such file


@dataclass(slots=True, kw_only=True)
class ShardFacts:
    """What a file holds."""

    path: str
    sha256: str = ""
    bytes: int = 0
    rows: int = 0
    images: int = 0
    findings: list[Finding] = field(default_factory=list)
    table: pa.Table = field(default_factory=lambda: pa.Table.from_pylist([], schema=FACTS))


def check_shard(job: ShardJob) -> ShardFacts:
    """Verify one file; nothing that is wrong with it raises."""
    facts, findings = ShardFacts(path=job.path), Findings(job.path)
    try:
        facts.bytes = (job.folder / job.path).stat().st_size
        facts.sha256 = hashing.sha256_file(job.folder / job.path)
        _check_file(job, facts, findings)
    except UNREADABLE as error:
        findings.add("not readable as Parquet", found=told(error))
    if job.sha256 and facts.sha256 != job.sha256:
        findings.add("sha256 of the file", job.sha256, facts.sha256)
        if all(one.row_group is None for one in findings.kept):
            _tell_framing(job, findings)
    facts.findings = findings.all()
    return facts


@functools.lru_cache(2)
def expected_schema(classes: tuple[Class, ...], config: str) -> pa.Schema:
    """The schema of a config's files."""
    is_about = config == "metadata"
    names = [one.text for one in classes]
    return features(names, image=not is_about, pointers=is_about).arrow_schema


@functools.cache
def order_of_columns(config: str) -> tuple[str, ...]:
    """Names of the columns that digests are made of."""
    names = expected_schema((), config).names
    return tuple(name for name in names if name not in ("image", *POINTER_COLUMNS))


def _check_file(job: ShardJob, facts: ShardFacts, findings: Findings) -> None:
    name = NAME.fullmatch(job.path)
    if name is None:
        findings.add("name of the file", "data/CONFIG/SPLIT-TERMS-BUILD-NUMBER.parquet")
        return
    rows: list[dict[str, Any]] = []
    with open_checked(job.folder / job.path) as file:
        facts.rows = file.metadata.num_rows
        if name["config"].startswith(EMBEDDINGS):
            facts.table = _check_vectors(file, job, findings)
            return
        schema = expected_schema(job.classes, name["config"])
        if not file.schema_arrow.equals(schema):
            findings.add("columns", schema.names, file.schema_arrow.names)
            return
        if job.classes and file.schema_arrow.metadata != schema.metadata:
            findings.add("features", "those of labels.parquet", "others")
        tables = []
        for group in range(file.num_row_groups):
            try:
                rows = read_group(file, group)
            except UNREADABLE as error:
                findings.add("unreadable", found=told(error), at=(group, None, ""))
                continue
            checked = list(_check_rows(job, name, group, rows, findings))
            facts.images += len(checked) if name["config"] != "metadata" else 0
            tables.append(pa.Table.from_pylist(checked, schema=FACTS))
    facts.table = pa.concat_tables([facts.table, *tables])


def _check_vectors(file: pq.ParquetFile, job: ShardJob, findings: Findings) -> pa.Table:
    """Check a file of embeddings; whose pixels they are of is compared across files."""
    tables = [FACTS.empty_table()]
    if not job.vectors[0]:
        findings.add("embeddings that build.json doesn't list")
        return tables[0]
    schema = embedding_features([one.text for one in job.classes], *job.vectors).arrow_schema
    if [_kind(one) for one in file.schema_arrow] != [_kind(one) for one in schema]:
        findings.add("columns", schema.names, file.schema_arrow.names)
        return tables[0]
    if job.classes and file.schema_arrow.metadata != schema.metadata:
        findings.add("features", "those of labels.parquet", "others")
    for group in range(file.num_row_groups):
        try:
            rows = read_group(file, group, ["image_id", "label", "pixel_sha256"])
            column = file.read_row_group(group, ["embedding"])["embedding"].combine_chunks()
            values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
        except UNREADABLE as error:
            findings.add("unreadable", found=told(error), at=(group, None, ""))
            continue
        finite = np.isfinite(values).all(axis=1)
        checked = []
        for number, row in enumerate(rows):
            at = (group, number, str(row["image_id"]))
            if _has_null(row):
                findings.add("missing value", at=at)
                continue
            if not finite[number]:
                findings.add("embedding that isn't finite", at=at)
            place = {"place": f"{job.path} {group} {number}", "row_group": group, "row": number}
            checked.append(row | place)
        tables.append(pa.Table.from_pylist(checked, schema=FACTS))
    return pa.concat_tables(tables)


def _kind(field: pa.Field) -> tuple[object, ...]:
    """Name and type of a column; of items of fixed lists Parquet keeps no name."""
    kind = field.type
    if pa.types.is_fixed_size_list(kind):
        return field.name, kind.list_size, kind.value_type
    return field.name, kind


def _check_rows(
    job: ShardJob,
    name: re.Match[str],
    group: int,
    rows: list[dict[str, Any]],
    findings: Findings,
) -> Iterator[dict[str, Any]]:
    """Check the rows of a row group and give what is kept of each."""
    for number, row in enumerate(rows):
        at = (group, number, str(row["image_id"]))
        if _has_null(row):
            findings.add("missing value", at=at)
            continue
        for what, expected, found in row_faults(row, name, job):
            findings.add(what, expected, found, at=at)
        kept = _facts_of(row, name["config"], job.classes)
        if name["config"] == "metadata":
            kept["place"] = "{shard} {row_group} {row}".format_map(row)
        else:
            kept["place"] = f"{job.path} {group} {number}"
            try:
                pixels = png.decode(row["image"]["bytes"])
            except UNREADABLE as error:
                findings.add("image", found=told(error), at=at)
            else:
                for what, expected, found in _pixel_faults(pixels, row):
                    findings.add(what, expected, found, at=at)
                if name["config"] == "default":
                    kept["small_sha256"], kept["tiny_sha256"] = _smaller(pixels, job.sides)
        yield kept | {"row_group": group, "row": number}


def _has_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(_has_null(one) for one in value.values())
    if isinstance(value, list):
        return any(_has_null(one) for one in value)
    return value is None


def row_faults(
    row: dict[str, Any], name: re.Match[str], job: ShardJob
) -> Iterator[tuple[str, object, object]]:
    """Yield (what, expected, found) for whatever in a row contradicts itself or its file."""
    idx, _, window = row["image_id"].partition("#")
    terms = terms_of(row["license"])
    claims = [
        ("terms of the license", terms.terms, row["terms"]),
        ("terms of the file", name["terms"], row["terms"]),
        ("license", terms.license, row["license"]),
        ("idx", idx, row["idx"]),
        ("dir_name", idx.partition("/")[0], row["dir_name"]),
        ("source of the group", row["dir_name"], row["group"].partition("/")[0]),
    ]
    if name["config"] != "metadata":
        claims.append(("image.path", shards.image_path(row["image_id"]), row["image"]["path"]))
    if job.classes:
        claims.append(("label", f"under {len(job.classes)}", row["label"]))
        if 0 <= row["label"] < len(job.classes):
            claims[-1] = ("category", job.classes[row["label"]].category, row["category"])
    yield from ((what, expected, found) for what, expected, found in claims if expected != found)
    yield from _window_faults(row, window, name["config"], job.sides)


def _window_faults(
    row: dict[str, Any], window: str, config: str, sides: tuple[int, int]
) -> Iterator[tuple[str, object, object]]:
    hit = _WINDOW.fullmatch(window)
    if hit is None:
        yield "window", "whole, or QUADRANT-SCALE-DRAW", window
        return
    scale = int(hit["scale"] or 1)
    if row["crop"] != (window != "whole") or row["scaling"] != 1 / scale:
        yield "scaling", (window != "whole", 1 / scale), (row["crop"], row["scaling"])
    box = row["x_min"], row["y_min"], row["x_max"], row["y_max"]
    size = box[3] - box[1], box[2] - box[0]
    if min(box) < 0 or min(size) < 1:
        yield "box", "x_min < x_max, y_min < y_max", box
    longest = {"small": sides[0], "tiny": sides[1]}.get(config, 0)
    if config in ("default", "metadata") and (row["height"], row["width"]) != size:
        yield "size of the box", (row["height"], row["width"]), size
    elif longest and max(row["height"], row["width"]) > longest:
        yield "longest side", f"up to {longest}", (row["height"], row["width"])


def _pixel_faults(pixels: np.ndarray, row: dict[str, Any]) -> Iterator[tuple[str, object, object]]:
    if pixels.shape != (row["height"], row["width"]):
        yield "size of the image", (row["height"], row["width"]), pixels.shape
    found = hashing.pixel_sha256(pixels)
    if found != row["pixel_sha256"]:
        yield "pixel_sha256", row["pixel_sha256"], found


def _smaller(pixels: np.ndarray, sides: tuple[int, int]) -> list[str]:
    """Hash the pixels as they must stand in `small` and `tiny`."""
    return [hashing.pixel_sha256(shrink(pixels, side)) if side else "" for side in sides]


def _facts_of(row: dict[str, Any], config: str, classes: tuple[Class, ...]) -> dict[str, Any]:
    names = order_of_columns(config)
    copied = ("image_id", "idx", "group", "label", "source_sha256", "pixel_sha256")
    own = False
    if 0 <= row["label"] < len(classes):
        label = classes[row["label"]]
        own = label.value in row[CATEGORIES[label.category]]
    return {
        **{name: row[name] for name in copied},
        "small_sha256": "",
        "tiny_sha256": "",
        "carries": own,
        "all_columns": _digest([row[name] for name in names]),
        "shared_columns": _digest([row[name] for name in names if name not in _OF_CONFIG]),
    }


def _digest(values: list[Any]) -> int:
    text = json.dumps(values).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _tell_framing(job: ShardJob, findings: Findings) -> None:
    """Tell of damage that hurts no row: to page headers, footer or page index."""
    name = NAME.fullmatch(job.path)
    if name is None or not job.classes or job.vectors[0]:
        return
    schema = expected_schema(job.classes, name["config"])
    try:
        groups = framing_damage(job.folder / job.path, schema, job.sha256)
    except UNREADABLE:
        return  # it was told already that the file can't be read
    for group in groups:
        what = "footer or page index" if group is None else "page header"
        findings.add(what, "the bytes that the rows give", "others", at=(group, None, ""))
