"""Folders of empty files with real names: a source reads names and tables only."""

import lzma
from collections.abc import Iterable
from pathlib import Path

from cytoimagenet_hf import sources
from cytoimagenet_hf.sources import FieldOfView, SourceFolder


def folder_of(root: Path, name: str, paths: Iterable[str]) -> SourceFolder:
    """Make `root/<name>` with one empty file a path, and open it."""
    for path in paths:
        file = root / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return SourceFolder(root / name, name)


def records_of(folder: SourceFolder) -> list[FieldOfView]:
    """All records that the source of the folder's name yields."""
    return list(sources.get(folder.name).fields(folder))


def names_in(table: Path) -> list[str]:
    """The lines of a packed list of real file names."""
    return lzma.open(table, "rt", encoding="utf-8").read().split()
