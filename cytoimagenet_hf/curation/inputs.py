"""What a build reads, from what a user names: data roots, source files, tables."""

import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from cytoimagenet_hf import sources
from cytoimagenet_hf.curation.catalog import SourceInput
from cytoimagenet_hf.errors import SourceNotFoundError, TableError
from cytoimagenet_hf.sources import Source
from cytoimagenet_hf.sources._door import table_source

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def from_roots(
    roots: Sequence[str], names: Sequence[str], *, tables: Path | None = None, alone: bool = False
) -> list[SourceInput]:
    """Find the raw folders of sources.

    Args:
        roots: folders that hold a folder for each source, or NAME=FOLDER.
        names: sources wanted; none: all that the roots hold.
        tables: a folder where further tables of sources lie, in a folder each.
        alone: other inputs are given too, so that finding nothing is no error.

    Raises:
        SourceNotFoundError: an unknown name, a root that is absent, or nothing found.
    """
    places = _places(roots)
    for own, _ in places:
        if own and not alone:  # else it may be the root of a source file
            sources.get(own)  # a name that nobody has would be passed over silently
    wanted = list(names) or [name for name in sources.names() if _find(name, places)]
    if not wanted and not alone:
        where = ", ".join(roots) or "no --data-root was given"
        raise SourceNotFoundError(
            f"No source was found ({where}). A data root holds a folder named like each source "
            f"({', '.join(sources.names())}); or give --data-root NAME=FOLDER."
        )
    return [_input(sources.get(name), places, tables) for name in wanted]


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
    named = [folder for own, folder in places if own == name]
    under = [folder / name for own, folder in places if not own and (folder / name).is_dir()]
    return next(iter(named + under), None)


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
