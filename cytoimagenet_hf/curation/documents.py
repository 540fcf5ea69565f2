"""What stands beside the shards: reports, pictures, card, Croissant, build.json, SHA256SUMS."""

import dataclasses
import platform
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cytoimagenet_hf import __version__, files, hashing
from cytoimagenet_hf.curation.cardfacts import card_facts, shard_sizes
from cytoimagenet_hf.curation.labels import LabelRow
from cytoimagenet_hf.curation.material import Material
from cytoimagenet_hf.curation.pictures import write_pictures
from cytoimagenet_hf.curation.selection import Crop, Exclusions
from cytoimagenet_hf.curation.shards import Shard
from cytoimagenet_hf.hub import cards
from cytoimagenet_hf.hub.croissant import CROISSANT, render_croissant
from cytoimagenet_hf.hub.licenses import terms_of
from cytoimagenet_hf.imaging import png
from cytoimagenet_hf.schema import CATEGORIES

_LIBRARIES = ("numpy", "pyarrow", "pillow", "tifffile", "imagecodecs", "datasets")
LABELS = pa.schema(
    [
        ("label", pa.string()),
        ("category", pa.string()),
        ("value", pa.string()),
        ("candidates", pa.int64()),
        ("free", pa.int64()),
        ("assigned", pa.int64()),
        ("crops", pa.int64()),
        ("sources", pa.list_(pa.string())),
        ("strata", pa.int64()),
        ("strata_covered", pa.int64()),
        ("entropy", pa.float64()),
        ("dropped_reason", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What the documents tell of."""

    labels: Sequence[LabelRow]
    names: Mapping[int, str]  # published: index into labels -> text, in order of integers
    crops: Sequence[Crop]
    exclusions: Exclusions
    written: Sequence[Shard]
    build: str


def write_documents(folder: Path, material: Material, contents: Contents, *, prose: str) -> str:
    """Write reports, pictures, card and, last, SHA256SUMS; return the hash of the sums.

    Args:
        folder: where the shards are.
        material: what the build was made from.
        contents: what it came to.
        prose: an earlier card whose hand-written prose is kept; empty: none.
    """
    with files.replacing(folder / "labels.parquet") as aside:
        pq.write_table(label_table(contents.labels, contents.names), aside)
    with files.replacing(folder / "exclusions.parquet") as aside:
        pq.write_table(contents.exclusions.table(), aside, compression="zstd")
    sums = {shard.path: hashing.sha256_file(folder / shard.path) for shard in contents.written}
    facts = card_facts(material, contents, folder, fingerprint=cards.content_fingerprint(sums))
    facts = dataclasses.replace(
        facts, versions=versions(), pictures=_draw(folder, material, contents, facts.labels)
    )
    card = cards.refresh_card(prose, facts) if prose else cards.render_card(facts)
    files.write_text(folder / "README.md", card)
    known = {one.path: (sums[one.path], one.bytes) for one in contents.written}
    files.write_text(folder / CROISSANT, render_croissant(facts, known))
    files.write_json(
        folder / "build.json",
        {
            "build": contents.build,
            "lineage": _lineage(material, contents),
            "versions": versions(),
            "png_engine": png.ENGINE,
            "parameters": material.parameters.as_dict(),
            "inputs": _inputs(material, contents.crops),
            # What the card tells and the shards don't, so that it can be made anew for a part.
            "sources": [dataclasses.asdict(one) for one in facts.sources],
            "label_fields": _label_fields(material, contents),
            "simulated": material.simulated,
            **_carried(material),
            "counts": {
                f"{size.config}/{size.split}/{size.terms}": {"rows": size.rows, "bytes": size.bytes}
                for size in shard_sizes(contents.written)
            },
            "exclusions": {
                f"{stage}: {reason}": count
                for (stage, reason), count in sorted(contents.exclusions.counts().items())
            },
            "card_sha256": cards.generated_sha256(card),
        },
    )
    return _write_sums(folder, sums)


def _carried(material: Material) -> dict[str, Any]:
    """What of a release stays true: its embeddings, and what was withheld of its builds."""
    if material.base is None:
        return {}
    known = {name: material.base.build.get(name) for name in ("embeddings", "withheld")}
    return {name: value for name, value in known.items() if value}


def _draw(
    folder: Path, material: Material, contents: Contents, labels: Sequence[cards.LabelFacts]
) -> tuple[str, ...]:
    """Write the pictures of the card; returns their paths."""
    return write_pictures(
        folder,
        [one.path for one in contents.written if one.config == "small"],
        labels,
        seed=material.parameters.seed,
        simulated=material.simulated,
        to=folder,
    )


def _write_sums(folder: Path, known: Mapping[str, str]) -> str:
    """Write SHA256SUMS over all files but the card and itself; return its own sha256."""
    lines = [
        f"{known.get(path) or hashing.sha256_file(folder / path)}  {path}\n"
        for path, _ in files.walk(folder)
        if path != "README.md"
    ]
    files.write_text(folder / "SHA256SUMS", "".join(lines))
    return hashing.sha256_file(folder / "SHA256SUMS")


def label_table(labels: Sequence[LabelRow], names: Mapping[int, str]) -> pa.Table:
    """The label report: published labels in the order of their integers, then the dropped ones."""
    first = {number: place for place, number in enumerate(names)}
    order = sorted(
        range(len(labels)),
        key=lambda one: (
            first.get(one, len(first)),
            -labels[one].candidates,
            CATEGORIES.index(labels[one].category),
            labels[one].value,
        ),
    )
    rows: list[dict[str, Any]] = [
        {
            "label": names.get(number, labels[number].value),
            **{name: getattr(labels[number], name) for name in LABELS.names if name != "label"},
        }
        for number in order
    ]
    return pa.Table.from_pylist(rows, schema=LABELS)


def versions() -> dict[str, str]:
    """Versions that bytes depend on."""
    return {
        "cytoimagenet-hf": __version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
        **{name: metadata.version(name) for name in _LIBRARIES},
    }


def _inputs(material: Material, crops: Sequence[Crop]) -> dict[str, dict[str, Any]]:
    """Identify what went in by contents: the catalog's bytes, and the raw files of all crops.

    Licenses are those of all records, as a source none of whose crops was left has its too.
    """
    raw: dict[str, set[str]] = defaultdict(set)
    for crop in crops:
        raw[crop.source].add(crop.source_sha256)
    before = material.base.build["inputs"] if material.base else {}
    licenses: dict[str, set[str]] = defaultdict(set)
    for pair in material.catalog.group_by(["source", "license"]).aggregate([]).to_pylist():
        licenses[pair["source"]].add(terms_of(pair["license"]).license)
    now = {
        name: {
            "catalog_sha256": sha256,
            "raw_blake2b": hashing.fingerprint(sorted(raw[name])),
            "licenses": sorted(licenses[name]),
        }
        for name, sha256 in sorted(material.inputs.items())
    }
    return dict(sorted({**before, **now}.items()))


def _lineage(material: Material, contents: Contents) -> list[dict[str, Any]]:
    """The builds that the folder is made of, oldest first, this one last."""
    own: dict[str, Any] = {
        "build": contents.build,
        "classes": len(contents.names),  # as many as its shards name
        "crops": sum(not crop.is_published for crop in contents.crops),
        "versions": versions(),
    }
    if material.base is None:
        return [own]
    return [*material.base.lineage, own | {"base_sha256sums": material.base.manifest_sha256}]


def _label_fields(material: Material, contents: Contents) -> dict[str, dict[str, int]]:
    """Count the fields with crops of each label, by terms."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    published = {crop.field for crop in contents.crops if crop.is_published}
    for crop in contents.crops:
        if not crop.is_published and crop.field not in published:
            found[crop.terms][contents.names[crop.label]].add(crop.field)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for terms, known in material.base.build["label_fields"].items() if material.base else ():
        counts[terms].update(known)
    for terms, labels in found.items():
        counts[terms].update({label: len(fields) for label, fields in labels.items()})
    return {terms: dict(labels) for terms, labels in counts.items()}
