"""What a build reads, from what a user names: data roots, source files, tables."""

import importlib.util
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from cytoimagenet_hf import sources
from cytoimagenet_hf.curation.catalog import SourceInput
from cytoimagenet_hf.errors import SourceNotFoundError, TableError
from cytoimagenet_hf.sources import Source
from cytoimagenet_hf.sources._door import table_source

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SHOWN = 5  # names in a note


def from_roots(
    roots: Sequence[str],
    names: Sequence[str],
    *,
    tables: Path | None = None,
    others: Sequence[SourceInput] = (),
) -> list[SourceInput]:
    """Find the raw folders of sources.

    Args:
        roots: folders that hold a folder for each source, or NAME=FOLDER.
        names: sources wanted; none: all that the roots hold.
        tables: a folder where further tables of sources lie, in a folder each.
        others: inputs that are given otherwise, so that finding nothing is no error; those of
            source files have their roots among `roots`.

    Raises:
        SourceNotFoundError: an unknown name, a root that is absent, nothing found, or two folders
            of one source.
    """
    places = _places(roots)
    taken = [(one.source.name, one.root) for one in others]
    for own, folder in places:
        if own and (own, folder) not in taken:
            sources.get(own)  # a name that nobody has would be passed over silently
    wanted = list(names) or [name for name in sources.names() if _find(name, places)]
    if not wanted and not others:
        where = ", ".join(roots) or "no --data-root was given"
        raise SourceNotFoundError(
            f"No source was found ({where}). A data root holds a folder named like each source "
            f"({', '.join(sources.names())}); or give --data-root NAME=FOLDER."
        )
    return [_input(sources.get(name), places, tables) for name in wanted]


def unmatched(roots: Sequence[str], used: Iterable[Path]) -> list[str]:
    """Tell of folders under the data roots that are named like no source; none: no note.

    Args:
        roots: as `from_roots` takes them.
        used: folders and files that are something else of this build.
    """
    known, others = sources.names(), [path.resolve() for path in used]
    found = {
        folder.resolve(): folder.name
        for own, root in _places(roots)
        if not own
        for folder in root.iterdir()
        if folder.is_dir() and folder.name not in known and not folder.name.startswith(".")
    }
    left = sorted(
        name
        for folder, name in found.items()
        if not any(folder == one or folder in one.parents for one in others)
    )
    if not left:
        return []
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    return [
        f"not used, as no source has such a name: {', '.join(left[:_SHOWN])}{more} (folders under "
        f"--data-root; names count letter by letter)"
    ]


def from_file(path: Path, roots: Sequence[str], *, tables: Path | None = None) -> SourceInput:
    """Run a Python file that defines `SOURCE`, and find its raw folder.

    This runs the file's code: use files that you trust.

    Raises:
        SourceNotFoundError: no such file, it can't be run, or it defines no usable `SOURCE`.
    """
    if not path.is_file():
        raise SourceNotFoundError(f"No source file {path}.")
    source = getattr(_run(path), "SOURCE", None)
    if not isinstance(source, Source):
        raise SourceNotFoundError(
            f"{path} defines no SOURCE of type cytoimagenet_hf.sources.Source"
        )
    if not _NAME.fullmatch(source.name):  # it becomes a file's name and the start of ids
        raise SourceNotFoundError(
            f"{path}: the source can't have the name {source.name!r}; a name has small letters, "
            f"digits and _, and begins with a letter."
        )
    return _input(source, _places(roots), tables)


def from_table(
    table: Path, images: Path | None, columns: Sequence[str], *, box: str = "zero", name: str = ""
) -> SourceInput:
    """Take a user's table of images as a source.

    Args:
        table: CSV or TSV.
        images: folder that its paths start from; default: the table's folder.
        columns: OURS=THEIRS for columns that are named otherwise.
        box: zero (0-based, end-exclusive) or voc (1-based, inclusive).
        name: of the source; default: the table's.

    Raises:
        TableError: the table can't be used.
        ValueError: a column mapping without "=", or two of one column.
    """
    if not table.is_file():
        raise TableError(f"No table {table}: it is absent, or not a file.")
    if images is not None and not images.is_dir():
        raise SourceNotFoundError(f"No folder of images {images} (--images).")
    mapped: dict[str, str] = {}
    for pair in columns:
        ours, sign, theirs = pair.partition("=")
        if not sign:
            raise ValueError(f"--map takes COLUMN=NAME, our column and the table's, not {pair!r}")
        if ours in mapped:
            raise ValueError(f"--map names {ours!r} twice: {mapped[ours]!r} and {theirs!r}")
        mapped[ours] = theirs
    return SourceInput(
        table_source(table, name=name, columns=mapped, box=box),
        images or table.parent,
        inputs=(table,),
        options=f"{name} {sorted(mapped.items())} {box}",
    )


def _run(path: Path) -> ModuleType:
    """Run a Python file as a module that no other one can be mistaken for."""
    spec = importlib.util.spec_from_file_location(f"_source_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise SourceNotFoundError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise SourceNotFoundError(
            f"{path} can't be run: {type(error).__name__}: {error}. Correct the file."
        ) from error
    return module


def _places(roots: Sequence[str]) -> list[tuple[str, Path]]:
    """Split NAME=FOLDER; a folder that exists as written is one, whatever its name holds."""
    places = []
    for root in roots:
        name, sign, folder = root.partition("=")
        place = ("", Path(root)) if not sign or Path(root).is_dir() else (name, Path(folder))
        if not place[1].is_dir():
            raise SourceNotFoundError(f"No data root {place[1]}: it is not a folder.")
        places.append(place)
    return places


def _find(name: str, places: Sequence[tuple[str, Path]]) -> Path | None:
    """Find the raw folder of a source; one that is named wins over those under other roots."""
    named = [folder for own, folder in places if own == name]
    under = [folder / name for own, folder in places if not own and (folder / name).is_dir()]
    found = {folder.resolve(): folder for folder in named or under}
    if len(found) > 1:
        where = " and ".join(str(folder) for folder in found.values())
        raise SourceNotFoundError(
            f"{name} lies in {where}; name one with --data-root {name}=DIR, or put all of its "
            f"files into one folder."
        )
    return next(iter(found.values()), None)


def _input(source: Source, places: Sequence[tuple[str, Path]], tables: Path | None) -> SourceInput:
    root = _find(source.name, places)
    further = (tables / source.name,) if tables else ()
    if root is None and not any(folder.is_dir() for folder in further):
        looked = ", ".join(str(folder / source.name) for own, folder in places if not own)
        raise SourceNotFoundError(
            f"{source.name}: no raw folder (looked at {looked or 'nothing'}). Give "
            f"--data-root {source.name}=FOLDER."
        )
    return SourceInput(source, root or Path(source.name), tables=further)
