"""What a build reads, from what a user names: data roots, source files, tables."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from cytoimagenet_hf import sources
from cytoimagenet_hf.curation.catalog import SourceInput
from cytoimagenet_hf.errors import SourceNotFoundError, TableError
from cytoimagenet_hf.sources import Source
from cytoimagenet_hf.sources._door import table_source


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
        SourceNotFoundError: no such file, or it defines no `SOURCE`.
    """
    if not path.is_file():
        raise SourceNotFoundError(f"No source file {path}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SourceNotFoundError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    source = getattr(module, "SOURCE", None)
    if not isinstance(source, Source):
        raise SourceNotFoundError(
            f"{path} defines no SOURCE of type cytoimagenet_hf.sources.Source"
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
        ValueError: a column mapping without "=".
    """
    if not table.is_file():
        raise TableError(f"No table {table}: it is absent, or not a file.")
    if images is not None and not images.is_dir():
        raise SourceNotFoundError(f"No folder of images {images} (--images).")
    mapped = {}
    for pair in columns:
        ours, sign, theirs = pair.partition("=")
        if not sign:
            raise ValueError(f"--map takes COLUMN=NAME, our column and the table's, not {pair!r}")
        mapped[ours] = theirs
    return SourceInput(
        table_source(table, name=name, columns=mapped, box=box),
        images or table.parent,
        inputs=(table,),
        options=f"{name} {sorted(mapped.items())} {box}",
    )


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
