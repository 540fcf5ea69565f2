"""Adding embeddings to a curated folder: a config beside the images, for whoever has no GPU.

The new folder is made aside, of links to the old one's files, and takes its place when it is
complete: a reader sees the data set with all of the embeddings or without any. What makes vectors
of pixels is passed in, so that nothing here knows of networks.
"""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.curation import shards
from cytoimagenet_hf.curation.assembly import aside_of, settle, swap, work_of
from cytoimagenet_hf.curation.edition_papers import Standing, write_papers
from cytoimagenet_hf.curation.editions import Edition
from cytoimagenet_hf.curation.findings import Findings
from cytoimagenet_hf.curation.outputs import entries
from cytoimagenet_hf.curation.papers import BUILD, Papers, lineage_of, read_papers
from cytoimagenet_hf.curation.progress import Progress, Silent
from cytoimagenet_hf.curation.shardcheck import NAME
from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.hub._embeddings import CONFIG, SOURCES, embeddings_of
from cytoimagenet_hf.hub._folders import check_folder
from cytoimagenet_hf.hub.cards import EmbeddingFacts
from cytoimagenet_hf.imaging import png
from cytoimagenet_hf.schema import EMBEDDING_TYPES, EMBEDDINGS, embedding_features

_BATCH_BYTES = 64 << 20  # of PNG; so many images are in memory at a time
_BATCH_ROWS = 4096  # and so many rows make a row group

Pixels = npt.NDArray[np.uint8]  # (height, width)
Embed = Callable[[Sequence[str], Sequence[Pixels]], npt.NDArray[np.float32]]  # ids -> (n, dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What was added."""

    config: str
    rows: int
    bytes: int  # of its new shards
    dim: int
    builds: Sequence[str]  # whose crops were embedded now
    manifest_sha256: str


def add_embeddings(
    folder: Path,
    name: str,
    about: EmbeddingFacts,
    embed: Embed,
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> Added:
    """Add a config of embeddings to a curated folder, or the crops that one lacks.

    Args:
        folder: of a build. Nothing of it is changed before all is computed.
        name: of the config, behind `embeddings-`.
        about: what is computed; `dim` 0 where the first vectors tell, `builds` is filled in.
        embed: makes vectors of some images of one shard, whose ids are given in their order.
        replace: compute anew what is there under this name.
        progress: is told of each image.

    Raises:
        BuildError: a build, or another run of this, holds the folder.
        DatasetNotAvailableError: the folder isn't whole.
        ValueError: bad name, type or config; other embeddings stand there under this name; pixels
            aren't those that the row tells; or vectors don't fit the type.
    """
    folder, config = folder.resolve(), f"{EMBEDDINGS}{name}"
    _check(config, about)
    with _held(folder):
        return _add(folder, config, about, embed, replace, progress or Silent())


def cache_of(folder: Path, name: str) -> Path:
    """Where the vectors of a run that was broken off wait for the next one; gone when it is done.

    Args:
        folder: that gets the embeddings.
        name: of the config, behind `embeddings-`.
    """
    return work_of(folder.resolve()) / "embeddings" / name


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep builds and other runs of this out, by the lock that a build of the folder takes."""
    if not folder.exists() and not aside_of(folder).exists():
        check_folder(folder)  # tells what is wrong; a lock beside a misspelled name is litter
    with files.exclusive_lock(work_of(folder) / "lock"):
        settle(folder)  # a former run may have been killed
        yield


def _add(
    folder: Path,
    config: str,
    about: EmbeddingFacts,
    embed: Embed,
    replace: bool,
    progress: Progress,
) -> Added:
    papers = _read(folder)
    builds = [one["build"] for one in lineage_of(papers.build)]
    missing = builds if replace else _missing(folder, papers, config, about)
    kept = [path for path in papers.sums if not (replace and path.startswith(f"data/{config}/"))]
    aside = aside_of(folder)
    try:
        _link(folder, aside, [*kept, *_unlisted(folder, papers, config)])
        writer = _Writer(aside, papers, config, about, embed)
        sources = writer.sources(missing)
        rows = sum(pq.read_metadata(aside / path).num_rows for path in sources)
        progress.start("embed", rows, "image")
        written = [writer.write(path, progress) for path in sources]
        told = dataclasses.replace(about, dim=writer.dim, builds=tuple(builds))
        manifest = _finish(aside, papers, {config: told}, kept, written)
        swap(aside, folder)
        shutil.rmtree(cache_of(folder, config.removeprefix(EMBEDDINGS)), ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Added(
        config=config,
        rows=rows,
        bytes=sum((folder / path).stat().st_size for path in written),
        dim=writer.dim,
        builds=missing,
        manifest_sha256=manifest,
    )


def _read(folder: Path) -> Papers:
    check_folder(folder)
    papers = read_papers(folder, findings := Findings(""))
    if findings.kept or not papers.build or not {"sources", "lineage"} <= papers.build.keys():
        raise DatasetNotAvailableError(
            f"{folder} can't get embeddings: {findings.kept[0] if findings.kept else BUILD}. "
            f"`cytoimagenet verify` tells all that is wrong."
        )
    return papers


def _check(config: str, about: EmbeddingFacts) -> None:
    if not CONFIG.fullmatch(config):
        raise ValueError(
            f"{config!r} is no name of a config: lower-case letters and digits, . and - between."
        )
    if about.dtype not in EMBEDDING_TYPES:
        raise ValueError(f"dtype is one of {', '.join(EMBEDDING_TYPES)}, not {about.dtype!r}.")
    if about.config not in SOURCES:
        raise ValueError(f"config is one of {', '.join(SOURCES)}, not {about.config!r}.")


def _missing(folder: Path, papers: Papers, config: str, about: EmbeddingFacts) -> list[str]:
    """The builds whose crops have no embeddings yet; refuses to mix two kinds of them."""
    builds = [one["build"] for one in lineage_of(papers.build)]
    before = embeddings_of(papers.build).get(config)
    if before is None:
        return builds
    asked = dataclasses.replace(about, dim=about.dim or before.dim, builds=before.builds)
    if asked != before:
        raise ValueError(
            f"{folder} has other embeddings under {config} (revision {before.revision[:12]}, "
            f"{before.dim} {before.dtype} of {before.config}). Name these otherwise (--name), or "
            f"--replace those."
        )
    missing = [one for one in builds if one not in before.builds]
    if not missing:
        raise ValueError(f"{folder} has {config} of all its crops already; --replace redoes it.")
    return missing


def _unlisted(folder: Path, papers: Papers, config: str) -> list[str]:
    """Files of no build, as LICENSE or .gitattributes, and the card; none among the new shards."""
    listed = {*papers.sums, "SHA256SUMS"}
    new = f"data/{config}/"
    return sorted(
        path
        for path in entries(folder)
        if path not in listed and not path.startswith(new) and not path.endswith("/")
    )


def _link(folder: Path, aside: Path, paths: Sequence[str]) -> None:
    """Make a folder of the same files: as links where the disk allows it."""
    for path in paths:
        target = aside / path
        with files.disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            origin = (folder / path).resolve()
            if not origin.is_file():  # a link to a folder or to nothing stays one
                shutil.copyfile(folder / path, target, follow_symlinks=False)
                continue
            try:
                os.link(origin, target)
            except OSError:  # a file system without links
                shutil.copyfile(origin, target)


class _Writer:
    """Writes a shard of embeddings for each shard of images."""

    def __init__(
        self, folder: Path, papers: Papers, config: str, about: EmbeddingFacts, embed: Embed
    ) -> None:
        self._folder, self._papers = folder, papers
        self._config, self._about, self._embed = config, about, embed
        self.dim = about.dim

    def sources(self, builds: Sequence[str]) -> list[str]:
        """Shards of images of some builds."""
        names = [name for path in self._papers.sums if (name := NAME.fullmatch(path))]
        return sorted(
            one[0]
            for one in names
            if one["config"] == self._about.config and one["build"] in builds
        )

    def write(self, path: str, progress: Progress) -> str:
        """Write the embeddings of one shard, in the order of its rows; returns their path."""
        name = NAME.fullmatch(path)
        build = name["build"] if name else ""
        labels = [one.text for one in self._papers.classes_of(build)]
        to = path.replace(f"data/{self._about.config}/", f"data/{self._config}/", 1)
        (self._folder / to).parent.mkdir(parents=True, exist_ok=True)
        batches = list(_batches(self._folder / path))
        first = self._vectors(path, batches[0])
        schema = embedding_features(labels, self.dim, self._about.dtype).arrow_schema
        with shards.open_writer(self._folder / to, schema) as writer:
            for number, groups in enumerate(batches):
                rows, values = first if number == 0 else self._vectors(path, groups)
                writer.write_table(_table(rows, values, schema), row_group_size=len(rows))
                progress.step(len(rows), to)
        return to

    def _vectors(
        self, path: str, groups: Sequence[int]
    ) -> tuple[list[dict[str, Any]], npt.NDArray[Any]]:
        """Read some row groups and embed their images."""
        columns = ["image_id", "label", "pixel_sha256", "image"]
        with pq.ParquetFile(self._folder / path, page_checksum_verification=True) as file:
            rows = file.read_row_groups(list(groups), columns).to_pylist()
        pixels = [png.decode(row.pop("image")["bytes"]) for row in rows]
        for row, one in zip(rows, pixels, strict=True):
            if hashing.pixel_sha256(one) != row["pixel_sha256"]:
                raise ValueError(f"{path}: {row['image_id']} has other pixels than it tells.")
        values = np.asarray(self._embed([row["image_id"] for row in rows], pixels), np.float32)
        self.dim = self.dim or (values.shape[1] if values.ndim == 2 else 0)
        if values.shape != (len(rows), self.dim) or not self.dim:
            raise ValueError(f"{path}: vectors of {values.shape}, not {(len(rows), self.dim)}.")
        with np.errstate(over="ignore"):
            stored = values.astype(self._about.dtype)
        finite = np.isfinite(stored).all(axis=1)
        if not finite.all():
            row = rows[int(np.argmin(finite))]
            raise ValueError(
                f"{row['image_id']}: {self._about.dtype} can't hold its vector (largest value "
                f"{np.abs(values[int(np.argmin(finite))]).max():g}). Use --dtype float32."
            )
        return rows, stored


def _batches(path: Path) -> Iterator[list[int]]:
    """Gather row groups so that their images are in memory together."""
    about = pq.read_metadata(path)
    batch: list[int] = []
    rows = size = 0
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        if batch and (
            rows + group.num_rows > _BATCH_ROWS or size + group.total_byte_size > _BATCH_BYTES
        ):
            yield batch
            batch, rows, size = [], 0, 0
        batch.append(number)
        rows, size = rows + group.num_rows, size + group.total_byte_size
    yield batch


def _table(
    rows: Sequence[Mapping[str, Any]], values: npt.NDArray[Any], schema: pa.Schema
) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    columns = {
        name: pa.array([row[name] for row in rows], schema.field(name).type)
        for name in ("image_id", "label", "pixel_sha256")
    }
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _finish(
    aside: Path,
    papers: Papers,
    told: Mapping[str, EmbeddingFacts],
    kept: Sequence[str],
    written: Sequence[str],
) -> str:
    """Write the documents anew; returns the hash of the sums."""
    sums = {path: papers.sums[path] for path in kept}
    sums |= {path: hashing.sha256_file(aside / path) for path in written}
    build = dict(papers.build)
    build["counts"] = _counts(build["counts"], aside, sums, next(iter(told)))
    known = {**build.get("embeddings", {}), **{name: _entry(one) for name, one in told.items()}}
    build["embeddings"] = known
    edition = Edition(
        folder=aside,
        papers=dataclasses.replace(papers, build=build, sums=sums),
        rows=pa.table({}),
        shards={path: sums[path] for path in sorted(sums) if NAME.fullmatch(path)},
        withheld_terms=frozenset(),
        withheld=(),
        secret=frozenset(),
    )
    write_papers(edition, aside, hub_id="", standing=Standing())
    return hashing.sha256_file(aside / "SHA256SUMS")


def _entry(one: EmbeddingFacts) -> dict[str, Any]:
    return {**dataclasses.asdict(one), "builds": list(one.builds)}


def _counts(
    counts: Mapping[str, Any], aside: Path, sums: Mapping[str, str], config: str
) -> dict[str, Any]:
    """The counts of build.json, those of one config made anew."""
    found = {key: one for key, one in counts.items() if not key.startswith(f"{config}/")}
    for path in sorted(sums):
        name = NAME.fullmatch(path)
        if name and name["config"] == config:
            one = found.setdefault(
                f"{config}/{name['split']}/{name['terms']}", {"rows": 0, "bytes": 0}
            )
            one["rows"] += pq.read_metadata(aside / path).num_rows
            one["bytes"] += (aside / path).stat().st_size
    return found
