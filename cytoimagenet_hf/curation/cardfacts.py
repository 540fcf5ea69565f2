"""The facts of a build's card, from what the build was made of and came to."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from cytoimagenet_hf.curation.configs import data_files
from cytoimagenet_hf.curation.material import Material
from cytoimagenet_hf.curation.parameters import of_paper
from cytoimagenet_hf.curation.selection import Crop
from cytoimagenet_hf.curation.shards import Shard
from cytoimagenet_hf.hub import cards
from cytoimagenet_hf.hub._embeddings import embeddings_of
from cytoimagenet_hf.hub.licenses import terms_of

if TYPE_CHECKING:
    from cytoimagenet_hf.curation.documents import Contents


def card_facts(
    material: Material, contents: Contents, folder: Path, *, fingerprint: str
) -> cards.CardFacts:
    """Gather the facts of the card.

    Args:
        material: what the build was made from.
        contents: what it came to.
        folder: where its shards are.
        fingerprint: over the shards' sums.
    """
    parameters = material.parameters
    field_of = dict(
        zip(material.catalog["id"].to_pylist(), material.catalog["field"].to_pylist(), strict=True)
    )
    return cards.CardFacts(
        labels=label_facts(contents),
        sources=_source_facts(material, contents.crops, field_of),
        sizes=shard_sizes(contents.written),
        data_files=data_files(contents.written),
        fingerprint=fingerprint,
        parameters=parameters.as_dict(),
        paper=of_paper(),
        seed=parameters.seed,
        exclusions=contents.exclusions.counts(),
        simulated=material.simulated,
        appended=material.base is not None,
        embeddings=embeddings_of(material.base.build) if material.base else {},
        transfers=transfers(folder, [one.path for one in contents.written]),
    )


def label_facts(contents: Contents) -> list[cards.LabelFacts]:
    """The published classes in the order of their integers."""
    return [
        cards.LabelFacts(
            label=text,
            category=contents.labels[number].category,
            fields=contents.labels[number].assigned,
            crops=contents.labels[number].crops,
        )
        for number, text in contents.names.items()
    ]


def transfers(folder: Path, paths: Iterable[str]) -> dict[tuple[str, str], int]:
    """Sum up the bytes that travel when one source is loaded alone: the row groups that hold it.

    Args:
        folder: where the shards are.
        paths: of all shards; those of `metadata` tell where each crop of `default` is.

    Returns:
        Bytes of row groups of config `default`, by source and license.
    """
    sizes = functools.cache(lambda path: _group_sizes(folder / path))
    found: Counter[tuple[str, str]] = Counter()
    for path in sorted(path for path in paths if path.startswith("data/metadata/")):
        columns = ["dir_name", "license", "shard", "row_group"]
        table = pq.read_table(folder / path, columns=columns)
        for row in table.group_by(columns).aggregate([]).to_pylist():
            found[row["dir_name"], row["license"]] += sizes(row["shard"])[row["row_group"]]
    return dict(found)


def _group_sizes(path: Path) -> list[int]:
    about = pq.read_metadata(path)
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    return [
        sum(one.column(number).total_compressed_size for number in range(one.num_columns))
        for one in groups
    ]


def _source_facts(
    material: Material, crops: Sequence[Crop], field_of: Mapping[str, str]
) -> list[cards.SourceFacts]:
    license_of = dict(
        zip(
            material.catalog["id"].to_pylist(), material.catalog["license"].to_pylist(), strict=True
        )
    )
    parts: dict[tuple[str, str], list[Crop]] = defaultdict(list)
    for crop in crops:
        if not crop.is_published:
            parts[crop.source, license_of[crop.idx]].append(crop)
    facts = []
    for (name, license), own in sorted(parts.items()):
        source, terms = material.sources[name], terms_of(license)
        facts.append(
            cards.SourceFacts(
                name=name,
                title=source.title,
                database=source.database,
                page=source.page,
                license=terms.license,
                terms=terms.terms,
                citation=source.citation,
                fields=len({field_of[crop.idx] for crop in own}),
                crops=len(own),
            )
        )
    return _with_published(facts, material)


def _with_published(
    facts: Sequence[cards.SourceFacts], material: Material
) -> list[cards.SourceFacts]:
    """Add what the base tells of its sources; one that gave crops to both is summed up."""
    before = material.base.build["sources"] if material.base else []
    known = {(one["name"], one["license"]): cards.SourceFacts(**one) for one in before}
    for one in facts:
        former = known.get((one.name, one.license))
        known[one.name, one.license] = (
            dataclasses.replace(
                one, fields=one.fields + former.fields, crops=one.crops + former.crops
            )
            if former
            else one
        )
    return [known[key] for key in sorted(known)]


def shard_sizes(written: Sequence[Shard]) -> list[cards.SizeFacts]:
    """Rows and bytes of each config, split and terms class; commercial configs included."""
    rows: Counter[tuple[str, str, str]] = Counter()
    size: Counter[tuple[str, str, str]] = Counter()
    by_path = {shard.path: shard for shard in written}
    for config, splits in data_files(written).items():
        for split, listed in splits.items():
            for shard in (by_path[path] for path in listed):
                rows[config, split, shard.terms] += shard.rows
                size[config, split, shard.terms] += shard.bytes
    return [
        cards.SizeFacts(
            config=config, split=split, terms=terms, rows=count, bytes=size[config, split, terms]
        )
        for (config, split, terms), count in rows.items()
    ]
