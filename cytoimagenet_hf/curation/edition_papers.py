"""The documents that stand beside the published shards: of just what is published, and where.

Where the whole folder goes out they are those of the build, but for the card, which tells that it
is on the Hub now. Where crops are withheld, card, build.json, sums and reports tell of the rest, so
that `verify` finds the published folder as whole as the one it came from.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.curation.cardfacts import transfers
from cytoimagenet_hf.curation.configs import data_files
from cytoimagenet_hf.curation.documents import LABELS
from cytoimagenet_hf.curation.edition_records import (
    published_counts,
    published_fields,
    published_lineage,
    published_record,
    published_sources,
)
from cytoimagenet_hf.curation.editions import Edition, crops_by, other_files
from cytoimagenet_hf.curation.papers import (
    BUILD,
    CARD,
    EXCLUSION_REPORT,
    LABEL_REPORT,
    SUMS,
    class_ends,
)
from cytoimagenet_hf.curation.parameters import of_paper
from cytoimagenet_hf.curation.pictures import PICTURES, write_pictures
from cytoimagenet_hf.curation.reproduce import parameters_of
from cytoimagenet_hf.curation.selection import EXCLUSIONS
from cytoimagenet_hf.curation.shardcheck import NAME
from cytoimagenet_hf.curation.shards import Shard
from cytoimagenet_hf.hub import cards
from cytoimagenet_hf.hub._embeddings import embeddings_of
from cytoimagenet_hf.hub.croissant import CROISSANT, render_croissant

WITHHELD = ("publishing", "terms")  # stage and reason in the list of exclusions
_UNTOLD = "equal to an image that is not published"  # detail, instead of an in-house id
# Columns of the label report over all fields; without the in-house ones nobody can count them.
_OF_ALL = ("candidates", "free", "strata", "strata_covered", "entropy")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The card that stands on the Hub."""

    card: str = ""  # empty: none
    prose_sha256: str = ""  # of the prose that was published last; empty: not known


def write_papers(edition: Edition, to: Path, *, hub_id: str, standing: Standing) -> dict[str, Path]:
    """Write the documents of an edition.

    Args:
        edition: what is published.
        to: an empty folder.
        hub_id: where it is published.
        standing: the card on the Hub; prose that was edited there is kept.

    Returns:
        Where each document is, by its path in the data set; the card last.

    Raises:
        ValueError: the card on the Hub or in the folder has broken marks.
    """
    papers = {
        LABEL_REPORT: _labels(edition, to / LABEL_REPORT),
        EXCLUSION_REPORT: _exclusions(edition, to / EXCLUSION_REPORT),
    }
    counts = _exclusion_counts(papers[EXCLUSION_REPORT])
    build = published_record(edition, counts)
    labels = pq.read_table(papers[LABEL_REPORT]).to_pylist()
    facts = _facts(edition, build, labels, counts, hub_id)
    pictures = _pictures(edition, facts, to)
    papers |= {path: (edition.folder if edition.is_whole else to) / path for path in pictures}
    facts = dataclasses.replace(facts, pictures=pictures)
    card = _card(edition, facts, standing)
    files.write_json(to / BUILD, build | _hashes(edition, card))
    papers[BUILD] = to / BUILD
    known = {
        path: (sha256, (edition.folder / path).stat().st_size)
        for path, sha256 in edition.shards.items()
    }
    files.write_text(to / CROISSANT, render_croissant(facts, known))
    papers[CROISSANT] = to / CROISSANT
    sums = {
        **edition.shards,
        **{path: edition.papers.sums[path] for path in other_files(edition)},
        **{path: hashing.sha256_file(at) for path, at in papers.items()},
    }
    lines = [f"{sums[path]}  {path}\n" for path in sorted(sums)]
    files.write_text(to / SUMS, "".join(lines))
    files.write_text(to / CARD, card)
    return papers | {SUMS: to / SUMS, CARD: to / CARD}


def _labels(edition: Edition, to: Path) -> Path:
    """The label report, with the crops, fields and sources that are published."""
    path = edition.folder / LABEL_REPORT
    if edition.is_whole:
        return path
    fields = published_fields(edition)
    named = class_ends(published_lineage(edition))[-1]  # no published shard names more classes
    crops: Counter[int] = Counter()
    sources: dict[int, set[str]] = defaultdict(set)
    for (label, source), count in crops_by(edition, "label", "dir_name").items():
        crops[label] += count
        sources[label].add(source)
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(pq.read_table(path).to_pylist()):
        if not row["dropped_reason"]:  # these come first, in the order of their integers
            row |= {"crops": crops[number], "sources": sorted(sources[number])}
            row |= {"assigned": fields[row["label"]]}
            if number >= named:
                row |= {"dropped_reason": "no crop is published"}
        if edition.secret:
            if row["dropped_reason"]:
                continue  # nobody knows which of the values that came to nothing are in-house
            row |= dict.fromkeys(_OF_ALL)
        rows.append(row)
    with files.replacing(to) as aside:
        pq.write_table(pa.Table.from_pylist(rows, schema=LABELS), aside)
    return to


def _exclusions(edition: Edition, to: Path) -> Path:
    """The list of exclusions, with the crops that are withheld; of in-house data nothing."""
    path = edition.folder / EXCLUSION_REPORT
    if edition.is_whole:
        return path
    rows = [row for row in pq.read_table(path).to_pylist() if row["source"] not in edition.secret]
    for row in rows:  # of a duplicate or conflict it names other records
        if any(f"{source}/" in row["detail"] for source in edition.secret):
            row["detail"] = _UNTOLD
    rows += [
        {
            "id": row["image_id"].partition("#")[0],
            "window": row["image_id"].partition("#")[2],
            "stage": WITHHELD[0],
            "reason": WITHHELD[1],
            "detail": row["license"],
            "source": row["dir_name"],
            "label": edition.papers.classes[row["label"]].value,
        }
        for row in edition.rows.to_pylist()
        if row["terms"] in edition.withheld_terms and row["dir_name"] not in edition.secret
    ]
    with files.replacing(to) as aside:
        pq.write_table(pa.Table.from_pylist(rows, schema=EXCLUSIONS), aside, compression="zstd")
    return to


def _pictures(edition: Edition, facts: cards.CardFacts, to: Path) -> tuple[str, ...]:
    """Those of the folder where all of it is published; else drawn of what is."""
    if edition.is_whole:
        return tuple(path for path in PICTURES if path in edition.papers.sums)
    return write_pictures(
        edition.folder,
        [path for path in edition.shards if path.startswith("data/small/")],
        facts.labels,
        seed=facts.seed,
        simulated=facts.simulated,
        to=to,
    )


def _exclusion_counts(path: Path) -> dict[tuple[str, str], int]:
    table = pq.read_table(path, columns=["stage", "reason"])
    counted = table.group_by(["stage", "reason"]).aggregate([([], "count_all")]).to_pylist()
    return {(row["stage"], row["reason"]): row["count_all"] for row in counted}


def _facts(
    edition: Edition,
    build: Mapping[str, Any],
    labels: Sequence[Mapping[str, Any]],
    exclusions: Mapping[tuple[str, str], int],
    hub_id: str,
) -> cards.CardFacts:
    """The facts of a card, read back from the record and the label report that are published."""
    parameters = parameters_of(build, edition.folder)
    return cards.CardFacts(
        labels=[
            cards.LabelFacts(
                label=row["label"],
                category=row["category"],
                fields=row["assigned"],
                crops=row["crops"],
            )
            for row in labels
            if not row["dropped_reason"]
        ],
        sources=[cards.SourceFacts(**one) for one in published_sources(edition)],
        sizes=[_size(key, count) for key, count in published_counts(edition).items()],
        data_files=data_files([_shard(path) for path in edition.shards]),
        fingerprint=cards.content_fingerprint(edition.shards),
        parameters=parameters.as_dict(),
        paper=of_paper(),
        seed=parameters.seed,
        versions=build["versions"],
        exclusions=exclusions,
        appended=len(build["lineage"]) > 1,
        simulated=build["simulated"],
        embeddings=embeddings_of(build),
        transfers=transfers(edition.folder, edition.shards),
        hub_id=hub_id,
    )


def _size(key: str, count: Mapping[str, int]) -> cards.SizeFacts:
    config, split, terms = key.split("/")
    return cards.SizeFacts(
        config=config, split=split, terms=terms, rows=count["rows"], bytes=count["bytes"]
    )


def _shard(path: str) -> Shard:
    name = NAME.fullmatch(path)
    config, split, terms = name.group("config", "split", "terms") if name else ("", "", "")
    return Shard(config, split, terms, path, 0, 0)


def _card(edition: Edition, facts: cards.CardFacts, standing: Standing) -> str:
    """Make the card: generated parts anew, prose from the Hub if it was edited there."""
    own = _own_card(edition)
    if not cards.line_feeds(standing.card).rpartition("---\n")[2].strip():
        # Nothing, or just a YAML block, as the Hub's page for new ones makes.
        return cards.refresh_card(cards.with_added(own, standing.card), facts)
    if not _is_edited(standing):
        return cards.refresh_card(own, facts)
    try:
        return cards.refresh_card(standing.card, facts)
    except ValueError as error:
        raise ValueError(
            f"README.md of {facts.hub_id} on the Hub was edited by hand and can't be kept: {error} "
            f"Put the marks back there, or replace it with --replace."
        ) from None


def _hashes(edition: Edition, card: str) -> dict[str, str]:
    """What build.json keeps of the card.

    The prose is the folder's own, whether or not the Hub's was kept: what differs from it on the
    Hub the next time was written there by hand.
    """
    return {
        "card_sha256": cards.generated_sha256(card),
        "prose_sha256": cards.prose_sha256(_own_card(edition)),
    }


def _own_card(edition: Edition) -> str:
    return (edition.folder / CARD).read_text(encoding="utf-8")


def _is_edited(standing: Standing) -> bool:
    """Say whether the card on the Hub holds prose of somebody other than the last publication."""
    try:
        return cards.prose_sha256(standing.card) != standing.prose_sha256
    except ValueError:
        return True
