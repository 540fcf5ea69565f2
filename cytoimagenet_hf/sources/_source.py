"""What a source is, what it yields, and the folder of raw files that it reads names from.

A source sees names and tables only, never pixels. It yields records in sorted order; what it could
not use it does not drop silently: `SourceFolder` keeps the two-way report of files that matched
nothing, names that the tables promise but the disk lacks, and channels that were never downloaded.
"""

import functools
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cytoimagenet_hf.errors import SourceNotFoundError
from cytoimagenet_hf.files import walk
from cytoimagenet_hf.schema import SIMULATED_MARK

Box = tuple[int, int, int, int]  # x_min, y_min, x_max, y_max; 0-based, end-exclusive
EXAMPLES = 3  # names shown for each line of a report


@dataclass(frozen=True, slots=True)
class Plane:
    """One channel of a record: where its pixels stand and what they show."""

    path: str  # relative to the source's root, with "/"
    stain: str  # what the channel shows: "nucleus", "actin", "brightfield"
    page: int = 0
    series: int = 0
    box: Box | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldOfView:
    """One record: one modality of one position imaged once (design 3)."""

    source: str
    key: str  # from the source's own names, "/" between levels; see `make_key`
    modality: str  # one of schema.MODALITIES, or "" where nobody knows
    planes: tuple[Plane, ...]
    annotations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    field_key: str = ""  # the position; equal for all its modalities. Default: key
    group: str = ""  # never split between train and validation. Default: well on plate, or field
    plate: str = ""
    well: str = ""
    site: str = ""
    license: str = ""  # where it differs from the source's
    refusal: tuple[str, str] | None = None  # (reason, detail): can't be rendered, must be counted

    @property
    def id(self) -> str:
        """`<source>/<key>`, unique over everything."""
        return f"{self.source}/{self.key}"

    @property
    def field_id(self) -> str:
        """`<source>/<field key>`: what label thresholds count."""
        return f"{self.source}/{self.field_key or self.key}"

    @property
    def group_id(self) -> str:
        """What must stay on one side of the split: the group, else well on plate, else field."""
        if self.group:
            return f"{self.source}/{self.group}"
        if self.well:
            return f"{self.source}/{make_key(self.plate, self.well)}"
        return self.field_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One file to fetch for a source."""

    url: str
    what: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """All that the project knows of a data set; one file in `sources/` holds one `SOURCE`."""

    name: str  # the module's name
    title: str
    database: str
    accession: str
    page: str
    license: str  # as the page words it; "unknown" where it was not found
    citation: str
    modality: tuple[str, ...]
    expected_fields: int | None  # in the complete download
    layout: str  # a real relative path, to show what a folder must look like
    downloads: tuple[Download, ...] = ()
    notes: tuple[str, ...] = ()  # traps and decisions that a user must know
    fields: Callable[["SourceFolder"], Iterator[FieldOfView]]
    rows: Callable[["SourceFolder"], Iterator[FieldOfView]] | None = None  # from tables, no planes


def make_key(*parts: str) -> str:
    """Join names into a key: Unicode NFC, `%`, `#` and control characters percent-encoded.

    Empty parts are left out. "#" is kept free because `image_id` is `<idx>#<window>`.
    """
    joined = "/".join(part for part in parts if part)
    return re.sub(
        r"[%#\x00-\x1f\x7f]",
        lambda hit: f"%{ord(hit[0]):02X}",
        unicodedata.normalize("NFC", joined),
    )


class SourceFolder:
    """The raw files of one source, and the report of what was used of them.

    Args:
        root: `DATA_ROOT/<name>`.
        name: the source's name, for messages.
        tables: further folders where tables may lie (`--tables DIR/<name>`).

    Raises:
        SourceNotFoundError: `root` is not a folder (unless tables alone are asked for).
    """

    def __init__(self, root: Path, name: str, *, tables: Iterable[Path] = ()) -> None:
        self.root, self.name = root, name
        self.table_folders = (root, *tables)
        self.notes: list[str] = []
        self.absent: dict[str, list[str]] = defaultdict(list)  # what -> names the disk lacks
        self._used: set[str] = set()

    @property
    def paths(self) -> list[str]:
        """Relative paths of all files under the root, sorted; the disk is read once.

        Names that are no UTF-8 are in the report only: neither ids nor tables can hold them.
        """
        return list(self._listing)

    @property
    def is_simulated(self) -> bool:
        """Say whether a mark of simulated data lies in the folder, below it, or in one around it.

        A download may lie deeper than its root, and a root may be a part of what was simulated, or
        be made of links to it: links count as lying where they lead.
        """
        places = {self.root.resolve(), *self._linked_from()}
        around = {folder for place in places for folder in (place, *place.parents)}
        return any((folder / SIMULATED_MARK).is_file() for folder in around) or any(
            map(_is_mark, self._files)
        )

    def _linked_from(self) -> Iterator[Path]:
        """Yield the real folder around whatever a link below the root leads to."""
        folders = {""}
        for path in self._files:
            while (path := path.rpartition("/")[0]) not in folders:
                folders.add(path)
        for folder in folders:
            with os.scandir(self.root / folder) as entries:
                yield from (Path(one).resolve().parent for one in entries if one.is_symlink())

    @functools.cached_property
    def _files(self) -> list[str]:
        if not self.root.is_dir():
            raise SourceNotFoundError(
                f"{self.name}: no folder {self.root}. Put the unpacked download there, or name "
                f"its place with --data-root {self.name}=PATH."
            )
        return [path for path, _ in walk(self.root)]

    @functools.cached_property
    def _listing(self) -> dict[str, None]:
        return dict.fromkeys(
            path for path in self._files if not _is_mark(path) and _shown(path) == path
        )

    def match(self, pattern: str) -> list[re.Match[str]]:
        """Match whole relative paths against `pattern`, in path order; the hits count as used."""
        compiled = re.compile(pattern)
        hits = [hit for path in self.paths if (hit := compiled.fullmatch(path))]
        self._used.update(hit.string for hit in hits)
        return hits

    def use(self, path: str) -> bool:
        """Say whether the file is there, and count it as used; a hidden one must be named so."""
        there = path in self._listing or self._is_hidden(path)
        if there:
            self._used.add(path)
        return there

    def _is_hidden(self, path: str) -> bool:
        """Say whether a file that no listing shows lies in the root, links followed."""
        parts = path.split("/")
        if ".." in parts or not any(part.startswith(".") for part in parts):
            return False
        real = (self.root / path).resolve()
        return real.is_file() and real.is_relative_to(self.root.resolve())

    def table(self, name: str) -> Path | None:
        """Find a table by its name (also `.gz`, `.xz`, also in `--tables`); None if it is absent.

        Tables may lie in any folder below; the root comes first, then the shallowest wins.
        """
        wanted = {name, f"{name}.gz", f"{name}.xz"}
        for folder in self.table_folders:
            if not folder.is_dir():
                continue
            paths = self.paths if folder == self.root else [path for path, _ in walk(folder)]
            hits = [path for path in paths if path.rpartition("/")[2] in wanted]
            if hits:
                best = min(hits, key=lambda path: (path.count("/"), path))
                if folder == self.root:
                    self._used.add(best)
                return folder / best
        return None

    def required_table(self, *names: str) -> Path:
        """Find the first of some tables that is there.

        Raises:
            SourceNotFoundError: none of them is; says where was looked.
        """
        for name in names:
            if (path := self.table(name)) is not None:
                return path
        raise SourceNotFoundError(
            f"{self.name}: no table {' or '.join(names)} (plain, .gz or .xz) under "
            f"{' or '.join(str(folder) for folder in self.table_folders)}. Download it there, or "
            f"name its folder with --tables."
        )

    def note(self, text: str) -> None:
        """Add a line to the report (a plane chosen, an archive that was never downloaded)."""
        self.notes.append(text)

    def miss(self, what: str, name: str) -> None:
        """Report a name that a table promises and the disk lacks."""
        self.absent[what].append(name)

    def report(self) -> dict[str, object]:
        """Count files used and unused (by folder and ending, with examples), and absent names."""
        unused: dict[str, list[str]] = defaultdict(list)
        for path in self._files if self.root.is_dir() else ():
            if _shown(path) != path:
                unused["names that are not UTF-8 (rename them)"].append(path)
            elif path in self._listing and path not in self._used:
                parent, _, leaf = path.rpartition("/")
                unused[f"{parent.split('/')[0] or '.'}/*{Path(leaf).suffix}"].append(path)
        return {
            "used": len(self._used),
            "unused": {
                kind: {"count": len(paths), "examples": list(map(_shown, paths[:EXAMPLES]))}
                for kind, paths in sorted(unused.items())
            },
            "absent": {
                what: {"count": len(names), "examples": list(map(_shown, names[:EXAMPLES]))}
                for what, names in sorted(self.absent.items())
            },
            "notes": list(map(_shown, self.notes)),
        }

    def nothing_matched(self, layout: str) -> SourceNotFoundError:
        """Build the error for a folder in which no file is named as the source names its files."""
        first = self.paths[0] if self.paths else "the folder is empty"
        return SourceNotFoundError(
            f"{self.name}: none of the {len(self.paths)} files under {self.root} is named like "
            f"{layout} (first one seen: {first}). Unpack the source's archives there, or pass "
            f"another --data-root."
        )


def _shown(name: str) -> str:
    """Write a name as text that a report can hold; bytes that are no UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _is_mark(path: str) -> bool:
    return path.rpartition("/")[2] == SIMULATED_MARK


@dataclass(frozen=True, slots=True)
class ChannelSet:
    """The channel files of one position, by channel."""

    at: Mapping[str, str]  # the named parts of the file name that say where
    paths: Mapping[str, str]  # channel -> relative path
    missing: tuple[str, ...]  # channels other fields of this root have and this one lacks


def group_channels(
    folder: SourceFolder, hits: Iterable[re.Match[str]], *, channel: str, expected: Iterable[str]
) -> Iterator[ChannelSet]:
    """Bring the channel files of each position together.

    Two files of one position and channel can't both be right: the first by name is taken and the
    other is reported. A channel that no position has is an archive that was never downloaded: it
    is noted once; one that single positions lack is given as `missing` (design 4).

    Args:
        folder: gets the notes.
        hits: matches with a named group `channel`; all other named groups say where.
        channel: name of that group; a group `guid` is passed over (it differs by channel).
        expected: the channels of the complete download.

    Yields:
        One set a position, sorted by the named groups in the pattern's order.
    """
    found: dict[tuple[tuple[str, str], ...], dict[str, str]] = defaultdict(dict)
    for hit in hits:
        at = {name: text for name, text in hit.groupdict().items() if text is not None}
        which = at.pop(channel)
        at.pop("guid", None)
        have = found[tuple(at.items())]
        if which in have:
            folder.miss("second file of one channel, not used", hit.string)
            continue
        have[which] = hit.string
    counts = Counter(which for have in found.values() for which in have)
    for which in expected:
        if found and not counts[which]:
            folder.note(
                f"channel {which} is absent from all {len(found)} fields: its archive was not "
                f"downloaded; records have the other channels"
            )
    for position in sorted(found):
        have = found[position]
        missing = tuple(which for which in sorted(counts) if which not in have)
        yield ChannelSet(dict(position), dict(sorted(have.items())), missing)
