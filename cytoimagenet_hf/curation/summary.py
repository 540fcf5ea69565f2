"""What a build tells at its end: counts, refusals by reason, and notes that people should read."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from cytoimagenet_hf import files
from cytoimagenet_hf.curation.assembly import Assembled
from cytoimagenet_hf.curation.catalog import split_cell
from cytoimagenet_hf.curation.engine import CRASHED, TIMEOUT
from cytoimagenet_hf.curation.estimate import Estimate
from cytoimagenet_hf.curation.jobs import ChunkJob, ChunkResult
from cytoimagenet_hf.curation.planning import LabelPlan
from cytoimagenet_hf.schema import SPLITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a build came to; kept as summary.json in the work folder."""

    output: str
    sources: int
    fields: int
    records: int
    labels: int  # published; of a dry run: planned
    crops: int  # published; of a dry run: wanted
    splits: Mapping[str, int] = field(default_factory=dict)  # crops
    terms: Mapping[str, int] = field(default_factory=dict)  # crops
    excluded: Mapping[str, int] = field(default_factory=dict)  # "stage: reason" -> records, windows
    rendered: int = 0  # records
    reused: int = 0
    dropped: int = 0
    estimated_bytes: int = 0
    build: str = ""
    manifest_sha256: str = ""
    notes: Sequence[str] = ()
    is_new: bool = True  # False: the folder was there already and nothing had changed

    @property
    def failed(self) -> int:
        """Records at which a decoder crashed or hung, also when it was tried alone."""
        return sum(self.excluded.get(f"rendering: {reason}", 0) for reason in (CRASHED, TIMEOUT))


def published(output: Path, table: pa.Table, assembled: Assembled, notes: Sequence[str]) -> Summary:
    """Tell of a folder that was written."""
    contents = assembled.contents
    splits = Counter(assembled.split_of[crop.group] for crop in contents.crops)
    terms = Counter(crop.terms for crop in contents.crops)
    return Summary(
        output=str(output),
        sources=len(set(table["source"].to_pylist())),
        fields=len(set(table["field"].to_pylist())),
        records=len(table),
        labels=len(contents.names),
        crops=len(contents.crops),
        splits={name: splits[name] for name in SPLITS},
        terms=dict(sorted(terms.items())),
        excluded={
            f"{stage}: {reason}": count
            for (stage, reason), count in sorted(contents.exclusions.counts().items())
        },
        build=contents.build,
        manifest_sha256=assembled.manifest_sha256,
        notes=list(notes),
    )


def planned(
    output: Path,
    table: pa.Table,
    plan: LabelPlan,
    needed: Estimate,
    notes: Sequence[str],
) -> Summary:
    """Tell what a dry run would build."""
    return Summary(
        output=str(output),
        sources=len(set(table["source"].to_pylist())),
        fields=len(set(table["field"].to_pylist())),
        records=len(table),
        labels=sum(1 for label in plan.labels if label.assigned),
        crops=needed.crops,
        estimated_bytes=needed.bytes,
        notes=list(notes),
    )


def with_counts(
    summary: Summary,
    jobs: Sequence[ChunkJob],
    waiting: Sequence[ChunkJob],
    done: Sequence[ChunkResult],
    needed: Estimate,
) -> Summary:
    """Add what this run did; the rest of the summary tells of the folder."""
    untouched = sum(len(job.records) for job in jobs) - sum(len(job.records) for job in waiting)
    return Summary(
        **{
            **asdict(summary),
            "rendered": sum(result.rendered for result in done),
            "reused": untouched + sum(result.reused for result in done),
            "dropped": sum(result.dropped for result in done),
            "estimated_bytes": needed.bytes,
        }
    )


def source_notes(names: Sequence[str], catalogs: Path) -> list[str]:
    """What the sources have to say, and the values that are controls."""
    notes = []
    for name in names:
        report: Mapping[str, Any] = files.read_json(catalogs / f"{name}.json")
        found = report["files"]
        notes += [f"{name}: {note}" for note in found["notes"]]
        notes += [
            f"{name}: {one['count']} files not used: {kind} (e.g. {one['examples'][0]})"
            for kind, one in found["unused"].items()
        ]
        notes += [
            f"{name}: {what}: {one['count']} (e.g. {one['examples'][0]})"
            for what, one in found["absent"].items()
        ]
        notes += [
            f"{name}: {one['category']} {one['value']!r} of {one['records']} records is no label: "
            f"{one['reason']}"
            for one in report["dropped"]
        ]
    return notes


def merge_notes(names: Sequence[str], catalogs: Path, table: pa.Table) -> list[str]:
    """Values that were merged from several spellings, within a source or between sources."""
    spellings: dict[tuple[str, str], set[str]] = defaultdict(set)
    elsewhere: dict[tuple[str, str], set[str]] = defaultdict(set)  # sources that spell otherwise
    for name in names:
        for one in files.read_json(catalogs / f"{name}.json")["spellings"]:
            spellings[one["category"], one["value"]].update(one["spellings"])
            elsewhere[one["category"], one["value"]].add(name)
    for category in {category for category, _ in spellings}:
        pairs = pa.table({"source": table["source"], "cell": table[category]})
        for row in pairs.group_by(["source", "cell"]).aggregate([]).to_pylist():
            for value in split_cell(row["cell"]):
                key = category, value
                if key in spellings and row["source"] not in elsewhere[key]:
                    spellings[key].add(value)
    return [
        f"{category} {value!r} is spelled in {len(found)} ways: {', '.join(sorted(found))}"
        for (category, value), found in sorted(
            (key, set(map(repr, texts))) for key, texts in spellings.items()
        )
        if len(found) > 1
    ]


def split_notes(assembled: Assembled) -> list[str]:
    """Labels with fewer groups in validation than wanted."""
    names = assembled.contents.names
    return [
        f"label {names[label]!r} has {inside} of {wanted} groups in validation: the others would "
        f"leave a label without groups in train"
        for label, (inside, wanted) in sorted(assembled.split.short.items())
    ]
