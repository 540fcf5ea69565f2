"""Which part of a curated folder may be published: all of it, or all but what its terms forbid.

The rule is that of hub/licenses.py. It is the same for a private repository: a copy on the Hub is a
copy in other hands, and who may see it is one click away from everybody.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cytoimagenet_hf.curation.findings import Findings
from cytoimagenet_hf.curation.papers import BUILD, SUMS, Papers, read_papers
from cytoimagenet_hf.curation.pictures import PICTURES
from cytoimagenet_hf.curation.shardcheck import NAME
from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.hub._embeddings import embeddings_of, may_be_shown
from cytoimagenet_hf.hub._folders import check_folder
from cytoimagenet_hf.hub.croissant import CROISSANT
from cytoimagenet_hf.hub.licenses import terms_of

_COLUMNS = ("image_id", "label", "dir_name", "license", "terms")
SECRET = "in-house"  # what licenses.py calls data that not even a permission makes publishable
_SHOWN = 6  # sources in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """Crops of one source and license that stay here, or those of a config of embeddings."""

    source: str  # or the config
    license: str
    crops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """What of a folder is published."""

    folder: Path
    papers: Papers
    rows: (
        pa.Table
    )  # of config metadata, all terms: image_id, label, dir_name, license, terms, build
    shards: Mapping[str, str]  # path -> sha256 of those that are published, sorted by path
    withheld_terms: frozenset[str]
    withheld: Sequence[Withheld]
    secret: frozenset[str]  # sources with in-house records, of which not even a name is told
    without: frozenset[str] = frozenset()  # configs of embeddings that are left out

    @property
    def is_whole(self) -> bool:
        """Say whether all crops of the folder are published."""
        return not self.withheld_terms and not self.secret


def choose_edition(
    folder: Path, *, only_publishable: bool = False, private: bool = False
) -> Edition:
    """Choose what of a folder is published, from its names and small tables.

    Args:
        folder: of a build.
        only_publishable: leave out what may not be published, rather than refuse.
        private: into a repository that others don't see. Crops that may not be published may not
            go there either, but embeddings may, as the weights that made them may.

    Raises:
        DatasetNotAvailableError: the folder is not whole, or no build wrote it.
        ValueError: it holds crops or embeddings that may not be published, or nothing else.
    """
    papers = _read(folder)
    rows = _read_rows(folder, papers)
    forbidden = {one for one in rows["license"].unique().to_pylist() if not _may(one)}
    withheld = _count_withheld(rows, forbidden)
    if withheld and not only_publishable:
        raise ValueError(_refusal(folder, withheld))
    closed = [] if private else _closed_embeddings(papers.build)
    if closed and not only_publishable:
        raise ValueError(_refusal_of_embeddings(folder, closed))
    terms = {
        "local",
        *(row["terms"] for row in _pairs(rows, "license", "terms") if row["license"] in forbidden),
    }
    shards = {path: papers.sums[path] for path in sorted(papers.sums) if NAME.fullmatch(path)}
    without = frozenset(one.source for one in closed)
    kept = {
        path: one
        for path, one in shards.items()
        if _terms(path) not in terms and path.split("/")[1] not in without
    }
    if not any(path.startswith("data/default/") for path in kept):
        raise ValueError(f"Nothing may be published of {folder}. {_refusal(folder, withheld)}")
    edition = Edition(
        folder=folder,
        papers=papers,
        rows=rows,
        shards=kept,
        withheld_terms=frozenset(map(_terms, shards)) & terms,
        withheld=[*withheld, *closed],
        secret=_secret_sources(papers.build),
        without=without,
    )
    _check_classes(edition, forbidden)
    return edition


def other_files(edition: Edition) -> list[str]:
    """Files of the folder that are neither shards nor documents; none where crops are withheld."""
    if not edition.is_whole:
        return []
    documents = {BUILD, SUMS, "labels.parquet", "exclusions.parquet", CROISSANT, *PICTURES}
    return [
        path
        for path in sorted(edition.papers.sums)
        if path not in documents and not NAME.fullmatch(path)
    ]


def crops_by(edition: Edition, *names: str) -> Counter[tuple[Any, ...]]:
    """Count the published crops by columns of `rows`."""
    found: Counter[tuple[Any, ...]] = Counter()
    for row in _pairs(edition.rows, *names, "terms"):
        if row["terms"] not in edition.withheld_terms:
            found[tuple(row[name] for name in names)] += row["count_all"]
    return found


def _read(folder: Path) -> Papers:
    check_folder(folder)
    papers = read_papers(folder, findings := Findings(""))
    if findings.kept or not papers.build:
        raise DatasetNotAvailableError(
            f"{folder} can't be published: {findings.kept[0] if findings.kept else BUILD}. "
            f"`cytoimagenet verify` tells all that is wrong."
        )
    if not {"sources", "label_fields", "lineage"} <= papers.build.keys():
        raise DatasetNotAvailableError(
            f"{folder / BUILD} doesn't say which sources went in: an older version wrote it. Run "
            f"the same build again into another --output; rendered crops are reused with --work."
        )
    return papers


def _read_rows(folder: Path, papers: Papers) -> pa.Table:
    tables = []
    for path in sorted(papers.sums):
        if (name := NAME.fullmatch(path)) and name["config"] == "metadata":
            table = pq.read_table(folder / path, columns=list(_COLUMNS))
            tables.append(table.append_column("build", pa.array([name["build"]] * len(table))))
    if not tables:
        raise DatasetNotAvailableError(
            f"{folder} has no config metadata, so its terms are unknown."
        )
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables])


def _may(license: str) -> bool:
    return terms_of(license).publishable


def _terms(path: str) -> str:
    name = NAME.fullmatch(path)
    return name["terms"] if name else ""


def _pairs(rows: pa.Table, *names: str) -> Iterator[dict[str, Any]]:
    counted: list[dict[str, Any]] = (
        rows.group_by(list(dict.fromkeys(names))).aggregate([([], "count_all")]).to_pylist()
    )
    yield from counted


def _count_withheld(rows: pa.Table, forbidden: set[str]) -> list[Withheld]:
    return sorted(
        (
            Withheld(source=one["dir_name"], license=one["license"], crops=one["count_all"])
            for one in _pairs(rows, "dir_name", "license")
            if one["license"] in forbidden
        ),
        key=lambda one: (one.source, one.license),
    )


def _refusal(folder: Path, withheld: Sequence[Withheld]) -> str:
    told = [f"{one.source} ({one.license}: {one.crops:,} crops)" for one in withheld[:_SHOWN]]
    told += [f"{len(withheld) - _SHOWN} more"] if len(withheld) > _SHOWN else []
    return (
        f"{folder} holds crops whose license doesn't allow others to have them, so they go to no "
        f"repository, not even a private one: {', '.join(told)}. Publish the rest with "
        f"--only-publishable, or build without these sources (--sources)."
    )


def _closed_embeddings(build: Mapping[str, Any]) -> list[Withheld]:
    """Embeddings by weights that may not be shown to all, so neither may they (design 8)."""
    return [
        Withheld(
            source=config,
            license=one.license,
            crops=sum(
                count["rows"]
                for key, count in build["counts"].items()
                if key.startswith(f"{config}/")
            ),
        )
        for config, one in embeddings_of(build).items()
        if not may_be_shown(one.license)
    ]


def _refusal_of_embeddings(folder: Path, closed: Sequence[Withheld]) -> str:
    told = ", ".join(f"{one.source} (license of the weights: {one.license})" for one in closed)
    return (
        f"{folder} holds embeddings by weights that may not be shown to all, or nobody knows "
        f"whether they may: {told}. Publish the rest with --only-publishable, or all of it for "
        f"nobody else with --private."
    )


def _secret_sources(build: Mapping[str, Any]) -> frozenset[str]:
    """Sources with in-house records, whether or not a crop of them was left."""
    return frozenset(
        name for name, known in build["inputs"].items() if SECRET in known.get("licenses", ())
    )


def _check_classes(edition: Edition, forbidden: set[str]) -> None:
    """Refuse to name classes that only in-house data has; every shard names all classes."""
    licenses: dict[int, set[str]] = defaultdict(set)
    for one in _pairs(edition.rows, "label", "license"):
        licenses[one["label"]].add(one["license"])
    only = [label for label, found in sorted(licenses.items()) if found == {SECRET}]
    if only:
        names = ", ".join(edition.papers.classes[label].text for label in only[:_SHOWN])
        raise ValueError(
            f"{len(only)} classes of {edition.folder} come from in-house data alone ({names}), and "
            f"each shard names all classes. Build without {', '.join(sorted(edition.secret))} "
            f"(--sources) and publish that."
        )
