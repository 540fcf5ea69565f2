"""The small files of a curated folder, read as untrusted input: sums, build.json, labels, card."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cytoimagenet_hf import hashing
from cytoimagenet_hf.curation.documents import LABELS
from cytoimagenet_hf.curation.findings import UNREADABLE, Findings, inside, told
from cytoimagenet_hf.curation.labels import label_texts
from cytoimagenet_hf.curation.selection import EXCLUSIONS
from cytoimagenet_hf.hub import cards
from cytoimagenet_hf.hub._folders import build_of, read_configs
from cytoimagenet_hf.hub.croissant import CROISSANT, described_files
from cytoimagenet_hf.schema import CATEGORIES

SUMS = "SHA256SUMS"
CARD = "README.md"
BUILD = "build.json"
LABEL_REPORT = "labels.parquet"
EXCLUSION_REPORT = "exclusions.parquet"
_TEXT_BYTES = 64 << 20  # of a text file; the sums of 100,000 shards have 14 MB
_REPORT_BYTES = 1 << 30
_REPORT_ROWS = 50_000_000
_SUM = re.compile(r"(?P<sum>[0-9a-f]{64})  (?P<path>\S.*)")


@dataclass(frozen=True, slots=True)
class Class:
    """A published label."""

    text: str
    category: int
    value: str
    crops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """What the small files say; what can't be read is empty and has a finding."""

    sums: Mapping[str, str]  # path -> sha256
    manifest_sha256: str
    build: Mapping[str, Any]
    classes: tuple[Class, ...]
    configs: Mapping[str, Mapping[str, list[str]]]  # of the card
    card_build: str  # fingerprint that the card names
    card_sha256: str  # of its generated parts
    described: Mapping[
        str, str
    ]  # shards in croissant.json: path -> sha256; empty where it's absent
    excluded: frozenset[tuple[str, str]]  # (source, value) of labels that lost records

    def classes_of(self, build: str) -> tuple[Class, ...]:
        """Classes as the shards of one build name them: a later build appends some."""
        for one in lineage_of(self.build):
            if one["build"] == build:
                return self.classes[: one["classes"]]
        return self.classes


def read_papers(folder: Path, findings: Findings) -> Papers:
    """Read the small files; whatever is wrong with one of them becomes a finding."""
    sums, manifest = _sums(folder, findings)
    build = _build(folder, findings)
    configs, card_build, card_sha256 = _card(folder, findings)
    return Papers(
        sums=sums,
        manifest_sha256=manifest,
        build=build,
        classes=_classes(folder, build, findings),
        configs=configs,
        card_build=card_build,
        card_sha256=card_sha256,
        described=_described(folder, findings),
        excluded=_excluded(folder, build, findings),
    )


def lineage_of(build: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The builds that a folder is made of, oldest first; none where build.json is broken."""
    found = build.get("lineage")
    if not isinstance(found, list):
        return []
    return [
        one
        for one in found
        if isinstance(one, dict) and {"build", "classes"} <= one.keys() and _is_count(one)
    ]


def class_ends(lineage: Sequence[Mapping[str, Any]]) -> list[int]:
    """How many classes there were after each build, those included that have no shard here."""
    return [end for one in lineage for end in (*one.get("classes_before", ()), one["classes"])]


def _is_count(one: Mapping[str, Any]) -> bool:
    return type(one["classes"]) is int and one["classes"] >= 0


def _text(path: Path) -> str:
    if path.stat().st_size > _TEXT_BYTES:
        raise ValueError(f"{path.stat().st_size} bytes are more than {_TEXT_BYTES}")
    return path.read_bytes().decode()


def _sums(folder: Path, findings: Findings) -> tuple[dict[str, str], str]:
    try:
        lines = _text(folder / SUMS).split("\n")
        manifest = hashing.sha256_file(folder / SUMS)
    except UNREADABLE as error:
        findings.add("unreadable", "a list of sums", told(error), path=SUMS)
        return {}, ""
    sums: dict[str, str] = {}
    if lines.pop() != "":
        findings.add("broken line", "a line feed at the end", path=SUMS)
    for number, line in enumerate(lines, 1):
        hit = _SUM.fullmatch(line)
        if hit is None or hit["path"] in sums or not inside(hit["path"]):
            findings.add("broken line", "sum, two blanks, path", f"{number}: {line}", path=SUMS)
        else:
            sums[hit["path"]] = hit["sum"]
    if not sums:
        findings.add("empty", "a sum for each file", path=SUMS)
    return sums, manifest


def _build(folder: Path, findings: Findings) -> dict[str, Any]:
    try:
        found = json.loads(_text(folder / BUILD))
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
    except UNREADABLE as error:
        findings.add("unreadable", "what a build writes", told(error), path=BUILD)
        return {}
    return found


def _described(folder: Path, findings: Findings) -> dict[str, str]:
    if not (folder / CROISSANT).exists():
        return {}  # the sums tell whether it ought to be there
    try:
        return described_files(_text(folder / CROISSANT))
    except UNREADABLE as error:
        findings.add("unreadable", "a description of the shards", told(error), path=CROISSANT)
        return {}


def _card(folder: Path, findings: Findings) -> tuple[dict[str, dict[str, list[str]]], str, str]:
    try:
        parts = cards.generated_sha256(_text(folder / CARD))
        return read_configs(folder), build_of(folder), parts
    except UNREADABLE as error:
        findings.add("unreadable", "a card that a build wrote", told(error), path=CARD)
        return {}, "", ""


def _classes(folder: Path, build: Mapping[str, Any], findings: Findings) -> tuple[Class, ...]:
    """Read the published labels, in the order of their integers.

    One whose crops may all not be published keeps its integer and has none.
    """
    try:
        rows = _report(folder / LABEL_REPORT, LABELS)
        classes = tuple(
            Class(row["label"], CATEGORIES.index(row["category"]), row["value"], row["crops"])
            for row in rows
            if not row["dropped_reason"]
        )
        expected = _in_order(classes, class_ends(lineage_of(build)))
    except UNREADABLE as error:
        findings.add("unreadable", "a label report", told(error), path=LABEL_REPORT)
        return ()
    for one, text in zip(classes, expected, strict=True):
        if one.text != text:
            findings.add("name of a label", text, one.text, path=LABEL_REPORT)
    return classes


def _in_order(classes: tuple[Class, ...], ends: list[int]) -> list[str]:
    """Name classes by the rule: each build sorts those that it adds, behind those before."""
    texts: list[str] = []
    for end in [*ends[:-1], len(classes)]:
        added = sorted((one.category, one.value) for one in classes[len(texts) : end])
        labels = [(CATEGORIES[category], value) for category, value in added]
        texts += label_texts(labels, published=texts)
    return texts


def _excluded(
    folder: Path, build: Mapping[str, Any], findings: Findings
) -> frozenset[tuple[str, str]]:
    try:
        rows = _report(folder / EXCLUSION_REPORT, EXCLUSIONS)
    except UNREADABLE as error:
        findings.add("unreadable", "a list of exclusions", told(error), path=EXCLUSION_REPORT)
        return frozenset()
    counts = Counter(f"{row['stage']}: {row['reason']}" for row in rows)
    if build and build.get("exclusions") != dict(counts):
        findings.add(
            "number of exclusions", build.get("exclusions"), dict(counts), path=EXCLUSION_REPORT
        )
    return frozenset((row["source"], row["label"]) for row in rows if row["label"])


def _report(path: Path, schema: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - pyarrow is untyped
    """Read a small table of ours."""
    if path.stat().st_size > _REPORT_BYTES:
        raise ValueError(f"{path.stat().st_size} bytes are more than {_REPORT_BYTES}")
    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows > _REPORT_ROWS:
            raise ValueError(f"{file.metadata.num_rows} rows are more than {_REPORT_ROWS}")
        if not file.schema_arrow.equals(schema):
            raise ValueError("its columns are others")
        rows: list[dict[str, Any]] = file.read().to_pylist()
    return rows
