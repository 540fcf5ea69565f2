"""Loading a part of the data set: single sources, or what terms allow; only that part travels.

Config `metadata` has the rows of `default` in their order, a file for each split, terms class and
build, and `small` has them in the same order (design 4). So the rows of a source are found in its
small columns, and of the shards just the row groups that hold some of them are read.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.hub._folders import build_of, declared_features, read_configs
from cytoimagenet_hf.hub.licenses import commercial_terms
from cytoimagenet_hf.schema import SPLITS, TERMS

USES = {"commercial": commercial_terms(), "sharing": TERMS[:-1]}  # use -> terms that allow it

_SHARD = re.compile(
    rf"data/(?P<config>[\w.-]+)/(?P<split>{'|'.join(SPLITS)})-(?P<terms>{'|'.join(TERMS)})"
    r"-(?P<build>[0-9a-f]{8})-\d+\.parquet"
)
_WHOLE = ("default", "small")  # configs with the rows of `metadata`


class Opener(Protocol):
    """A place that files are read from."""

    def __call__(self, path: str) -> Any:  # noqa: ANN401 - a binary file
        """Open a file by its path in the data set."""
        ...


@dataclass(frozen=True, slots=True)
class FolderOpener:
    """Reads a folder."""

    folder: Path

    def __call__(self, path: str) -> Any:  # noqa: ANN401
        """Open a file."""
        return (self.folder / path).open("rb")


@dataclass(frozen=True, slots=True)
class HubOpener:
    """Reads a commit on the Hub, by ranges."""

    repo: str
    commit: str

    def __call__(self, path: str) -> Any:  # noqa: ANN401
        """Open a file."""
        import huggingface_hub

        system = huggingface_hub.HfFileSystem()
        name = f"datasets/{self.repo}@{self.commit}/{path}"
        return system.open(name, "rb", cache_type="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Rows of one row group that are wanted."""

    path: str
    group: int
    rows: tuple[int, ...]  # in the row group, ascending
    ids: tuple[str, ...]  # image_id of each; empty: every row of the group is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What of a data set is wanted."""

    name: str  # config
    sources: tuple[str, ...] = ()  # none: all
    use: str = ""  # one of USES; empty: any
    split: str | Sequence[str] | None = None  # None: both, by name
    streaming: bool = False  # read while iterating; else rows are copied into datasets' cache


def load_selected(opener: Opener, card: Path, choice: Choice) -> Any:  # noqa: ANN401 - of datasets
    """Load the rows of some sources, or those that a use is allowed for.

    Args:
        opener: where the files are.
        card: folder with the README.md of those files.
        choice: what is wanted.

    Returns:
        A Dataset or IterableDataset; a list of them where `split` is one, and a dictionary by
        split where it is None.

    Raises:
        ValueError: unknown config, split, use or source.
        DatasetNotAvailableError: `metadata` and the shards are of different builds.
    """
    import datasets

    configs, name, split = read_configs(card), choice.name, choice.split
    if choice.use and choice.use not in USES:
        raise ValueError(f"use is one of {', '.join(USES)}, not {choice.use!r}.")
    if name not in configs:
        raise ValueError(f"BuilderConfig {name!r} not found. Available: {sorted(configs)}")
    one_split = not isinstance(split, list | tuple)
    asked = [str(one) for one in ([split] if one_split else split)] if split else []
    if unknown := [one for one in asked if one not in configs[name]]:
        raise ValueError(
            f"Unknown split {unknown[0]!r}. With use or sources, split is "
            f"{', '.join(configs[name])}, a list of them, or None."
        )
    splits = asked or list(configs[name])
    allowed = set(USES.get(choice.use, TERMS))
    paths_of = configs[name]
    kept = {one: [path for path in paths_of[one] if _terms(path) in allowed] for one in splits}
    wanted = _Wanted(opener, configs, frozenset(choice.sources))
    features = declared_features(card, name) or _features(
        opener, next(iter(configs[name].values()))[0]
    )
    made: dict[Any, Any] = {}
    for one, paths in kept.items():
        pieces = list(wanted.pieces(name, one, paths))
        # The build names the cache of datasets: a rebuild in place keeps names of shards.
        work = {"opener": opener, "pieces": pieces, "build": build_of(card)}
        made[one] = _dataset(work, features, one, streaming=choice.streaming)
    if asked:
        return made[asked[0]] if one_split else [made[one] for one in asked]
    return (datasets.IterableDatasetDict if choice.streaming else datasets.DatasetDict)(made)


def _dataset(
    work: dict[str, Any],
    features: Any,  # noqa: ANN401
    split: str,
    *,
    streaming: bool,
) -> Any:  # noqa: ANN401
    import datasets

    pieces, named = work["pieces"], datasets.NamedSplit(split)
    if not pieces and not streaming:  # a generator without rows is an error to datasets
        empty: dict[str, list[Any]] = {one: [] for one in features}
        return datasets.Dataset.from_dict(empty, features=features, split=named)
    kind = datasets.IterableDataset if streaming else datasets.Dataset
    # Workers share a list among them, file by file, and can't share an empty one.
    of_file = [tuple(own) for _, own in itertools.groupby(pieces, key=lambda piece: piece.path)]
    given = work | {"pieces": of_file or ()}
    return kind.from_generator(_rows, features=features, gen_kwargs=given, split=named)


class _Wanted:
    """Finds the wanted rows of shards."""

    def __init__(
        self, opener: Opener, configs: dict[str, dict[str, list[str]]], sources: frozenset[str]
    ) -> None:
        self._opener, self._sources = opener, sources
        self._about = {_part(path): path for path in _of(configs, "metadata")}
        if sources:
            self._check(sorted(self._about.values()))

    def pieces(self, config: str, split: str, paths: Sequence[str]) -> Iterator[Piece]:
        """Yield the wanted rows of one split, in the order of its shards."""
        of_part = itertools.groupby(sorted(paths), key=_part)
        for part, group in of_part:
            own = list(group)
            if not self._sources:
                for path in own:
                    yield from self._all(path)
            elif config in _WHOLE or config.startswith("embeddings-"):
                yield from self._by_rank(part, own)
            else:
                for path in own:
                    yield from self._by_column(path)

    def _all(self, path: str) -> Iterator[Piece]:
        for group, size in enumerate(self._groups(path)):
            yield Piece(path=path, group=group, rows=tuple(range(size)), ids=())

    def _by_column(self, path: str) -> Iterator[Piece]:
        """Look into the shard itself: `metadata`, `tiny`, and the commercial configs."""
        with self._opener(path) as stream:
            table = _parquet(stream).read(["dir_name", "image_id"])
        yield from self._cut(path, 0, table)

    def _by_rank(self, part: tuple[str, str, str], paths: Sequence[str]) -> Iterator[Piece]:
        """Take the rows from `metadata`, which has them in the order of the shards."""
        with self._opener(self._about[part]) as stream:
            table = _parquet(stream).read(["dir_name", "image_id"])
        if not self._sources & set(table["dir_name"].unique().to_pylist()):
            return  # not even the footers of these shards are asked for
        start = 0
        for path in paths:
            sizes = self._groups(path)
            yield from self._cut(path, start, table, sizes)
            start += sum(sizes)
        if start != len(table):
            raise DatasetNotAvailableError(
                f"{self._about[part]} tells of {len(table)} rows and the shards beside it hold "
                f"{start}: they are of different builds. Build or pull the data set again."
            )

    def _cut(
        self,
        path: str,
        start: int,
        table: Any,  # noqa: ANN401
        sizes: list[int] | None = None,
    ) -> Iterator[Piece]:
        """Cut the wanted rows of one shard into pieces, by row group."""
        for group, size in enumerate(self._groups(path) if sizes is None else sizes):
            here = table.slice(start, size)
            wanted = [
                (row, image_id)
                for row, (source, image_id) in enumerate(
                    zip(*(here[name].to_pylist() for name in ("dir_name", "image_id")), strict=True)
                )
                if source in self._sources
            ]
            if wanted:
                rows, ids = zip(*wanted, strict=True)
                yield Piece(path=path, group=group, rows=rows, ids=ids)
            start += size

    def _groups(self, path: str) -> list[int]:
        with self._opener(path) as stream:
            about = _parquet(stream).metadata
        return [about.row_group(group).num_rows for group in range(about.num_row_groups)]

    def _check(self, paths: Sequence[str]) -> None:
        known: set[str] = set()
        for path in paths:
            with self._opener(path) as stream:
                known |= set(_parquet(stream).read(["dir_name"])["dir_name"].to_pylist())
        if unknown := sorted(self._sources - known):
            raise ValueError(
                f"There is no source {unknown[0]!r} in this data set; there are "
                f"{', '.join(sorted(known)) or 'none'}."
            )


def _rows(
    opener: Opener, pieces: Sequence[Sequence[Piece]], build: str
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the pieces of each file; `build` only tells one build from another."""
    for own in pieces:
        with opener(own[0].path) as stream:
            file = _parquet(stream)
            for piece in own:
                table = file.read_row_group(piece.group).take(list(piece.rows))
                if piece.ids and tuple(table["image_id"].to_pylist()) != piece.ids:
                    raise DatasetNotAvailableError(
                        f"{piece.path}: row group {piece.group} holds other crops than config "
                        f"metadata tells. Build or pull the data set again."
                    )
                yield from table.to_pylist()


def _parquet(stream: Any) -> Any:  # noqa: ANN401 - pyarrow is untyped
    import pyarrow.parquet as pq

    return pq.ParquetFile(stream, pre_buffer=True, page_checksum_verification=True)


def _features(opener: Opener, path: str) -> Any:  # noqa: ANN401
    import datasets

    with opener(path) as stream:
        return datasets.Features.from_arrow_schema(_parquet(stream).schema_arrow)


def _of(configs: dict[str, dict[str, list[str]]], name: str) -> Iterator[str]:
    yield from itertools.chain.from_iterable(configs.get(name, {}).values())


def _part(path: str) -> tuple[str, str, str]:
    name = _SHARD.fullmatch(path)
    if name is None:
        raise DatasetNotAvailableError(f"{path} is not the name of a shard that a build writes.")
    return name["split"], name["terms"], name["build"]


def _terms(path: str) -> str:
    return _part(path)[1]
