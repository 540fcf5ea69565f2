"""Whose an output folder is: a build replaces it whole, so nothing else may lie in it."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from cytoimagenet_hf import files
from cytoimagenet_hf.curation.papers import BUILD, CARD, EXCLUSION_REPORT, LABEL_REPORT, SUMS
from cytoimagenet_hf.curation.pictures import PICTURES
from cytoimagenet_hf.curation.shardcheck import NAME
from cytoimagenet_hf.errors import BuildError
from cytoimagenet_hf.hub._folders import read_sums
from cytoimagenet_hf.hub.croissant import CROISSANT
from cytoimagenet_hf.hub.fetching import MARKER

_OURS = {BUILD, CARD, EXCLUSION_REPORT, LABEL_REPORT, SUMS, CROISSANT, MARKER, *PICTURES}
_OF_PULL = ".cache/huggingface/"  # where the Hub's client notes what it fetched
_FOLDERS = ("data/", "pictures/", _OF_PULL)
_LITTER = {".DS_Store", "Thumbs.db"}  # of file managers
_SHOWN = 3  # names in a message


def check_output(output: Path) -> None:
    """Refuse to replace a folder that holds anything which no build wrote.

    Files of ours may be damaged or absent: a build makes them anew.

    Raises:
        BuildError: it is a file or link, or not of a build, or holds foreign files; some are named.
    """
    if output.is_symlink():  # the link, not the folder, would be put aside and replaced
        raise BuildError(f"{output} is a link; give --output {output.resolve()} itself.")
    if output.exists() and not output.is_dir():
        raise BuildError(f"{output} is a file; --output names a folder.")
    if not output.is_dir() or not any(output.iterdir()):
        return
    sums = read_sums(output / SUMS)
    if not _is_built(output, sums):
        _refuse(output, sorted(path.name for path in output.iterdir()))
    if foreign := sorted(path for path in entries(output) if not _is_ours(path, sums)):
        _refuse(output, foreign)


def check_apart(output: Path, work: Path, read: Iterable[Path]) -> None:
    """Refuse folders in which a build would remove what it reads, or its own files.

    Args:
        output: is replaced whole.
        work: holds the files of the stages.
        read: raw folders and tables.

    Raises:
        BuildError: names both paths.
    """
    output, work = output.resolve(), work.resolve()
    if output == work or output in work.parents or work in output.parents:
        raise BuildError(
            f"The work folder {work} and the output {output} lie in each other. Name another "
            f"--work (default: OUTPUT.work)."
        )
    for path in read:
        real = path.resolve()
        for place, flag in ((output, "--output"), (work, "--work")):
            if place == real or place in real.parents:
                raise BuildError(
                    f"{path} is raw data and lies in {flag} {place}, which is for what a build "
                    f"writes. Name another {flag}."
                )


def entries(folder: Path) -> Iterator[str]:
    """Yield the relative path of each file and link in a folder; empty folders end with `/`."""

    def tell(error: OSError) -> NoReturn:
        raise error

    for at, folders, names in os.walk(folder, onerror=tell):
        here = Path(at)
        links = [name for name in folders if (here / name).is_symlink()]
        for name in (*links, *names):
            yield (here / name).relative_to(folder).as_posix()
        if not folders and not names:
            yield f"{here.relative_to(folder).as_posix()}/"


def _is_built(output: Path, sums: Iterable[str]) -> bool:
    """Say whether build.json is ours; where it is damaged, what the sums list tells."""
    try:
        build = json.loads((output / BUILD).read_bytes())
    except (OSError, ValueError):
        return {BUILD, LABEL_REPORT, EXCLUSION_REPORT} <= set(sums)
    return isinstance(build, dict) and {"build", "parameters", "versions"} <= build.keys()


def _is_ours(path: str, sums: Iterable[str]) -> bool:
    path = files.HALF_WRITTEN.sub("", path)
    if path.endswith("/"):  # an empty folder
        return path.startswith(_FOLDERS)
    if path.startswith(_OF_PULL):
        return True
    known = path in sums or path in _OURS or path.rpartition("/")[2] in _LITTER
    return known or NAME.fullmatch(path) is not None


def _refuse(output: Path, foreign: list[str]) -> NoReturn:
    more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
    raise BuildError(
        f"{output} holds files that no build wrote ({', '.join(foreign[:_SHOWN])}{more}), and a "
        f"build replaces the whole folder. Give another --output, or move them away."
    )
