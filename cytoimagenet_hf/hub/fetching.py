"""Fetching files of a data set from the Hub: a whole folder, or what one config needs; checked.

Every file is compared with SHA256SUMS, which stands beside it, so that a transfer that lied is
found before a row is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.errors import BuildError, DatasetNotAvailableError
from cytoimagenet_hf.hub._client import quiet, without_token
from cytoimagenet_hf.hub._folders import (
    check_folder,
    read_configs,
    read_sums,
    remember_folder,
)
from cytoimagenet_hf.hub.places import Place, on_hub

CARD, SUMS = "README.md", "SHA256SUMS"


class Progress(Protocol):
    """Is told how far a transfer is; curation/progress.py and console.py have such."""

    def start(self, stage: str, total: int, unit: str) -> None:
        """Begin."""
        ...

    def step(self, done: int, note: str = "") -> None:
        """Count."""
        ...

    def say(self, text: str) -> None:
        """Tell in one line."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What a pull came to."""

    files: int
    bytes: int
    sent_bytes: int  # transferred now


def fetch_card(place: Place) -> Path:
    """Fetch README.md of a data set on the Hub; returns the folder it is in."""
    return _fetch(place, [CARD])


def checked(place: Place, config: str, *, streaming: bool) -> Place:
    """Hash the files of a config, which are fetched first where they stand on the Hub.

    Raises:
        ValueError: streaming reads files in part, so there is nothing to hash; or unknown config.
        DatasetNotAvailableError: a file is absent or other than SHA256SUMS tells.
    """
    if streaming:
        raise ValueError("verify hashes whole files, and streaming reads parts: leave one of them.")
    folder = Path(place.where)
    if place.kind == "hub":
        folder = _fetch(place, [CARD, SUMS])
    configs, sums = read_configs(folder), read_sums(folder / SUMS)
    if config not in configs:
        raise ValueError(f"BuilderConfig {config!r} not found. Available: {sorted(configs)}")
    paths = sorted({path for own in configs[config].values() for path in own})
    if place.kind == "hub":
        folder = _fetch(place, [CARD, SUMS, *paths])
        detail = f"{place.where}, commit {place.commit}, fetched and compared with {SUMS}"
        place = replace(place, kind="cache", where=folder.absolute().as_posix(), detail=detail)
    _compare(folder, {path: sums.get(path, "") for path in paths})
    return place


def fetch_release(name: str) -> Path:
    """Find a release by name: a folder, OWNER/NAME@TAG, or a tag of the data set's own id.

    From the Hub all of its files are brought into the Hub's cache, and compared with SHA256SUMS.

    Raises:
        DatasetNotAvailableError: it is nowhere, or not whole.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    repo, _, tag = name.rpartition("@")
    place = on_hub(repo, tag)
    folder = _fetch(place, [CARD, SUMS])
    sums = read_sums(folder / SUMS)
    folder = _fetch(place, [*sums, CARD, SUMS])
    _compare(folder, sums)
    return folder


def pull(place: Place, to: Path, *, progress: Progress) -> Pulled:
    """Fetch a data set from the Hub into a folder, without a second copy in the Hub's cache.

    A pull that was broken off goes on where it was: files that are there whole aren't sent again.

    Args:
        place: on the Hub.
        to: an empty folder, or one of a former pull or build of the same data set.
        progress: is told of each file.

    Returns:
        What was done.

    Raises:
        BuildError: `to` holds something else.
        DatasetNotAvailableError: the Hub can't be reached, or sent other bytes than promised.
    """
    if to.is_file() or (to.is_dir() and any(to.iterdir()) and not _is_ours(to)):
        raise BuildError(f"{to} holds files that no build or pull wrote. Name another folder.")
    card = _fetch(place, [CARD, SUMS])
    sums = read_sums(card / SUMS)
    if not sums:
        raise DatasetNotAvailableError(
            f"{place.where} has no {SUMS}, so nothing says what is whole. It was not published "
            f"by this package; load it with datasets.load_dataset."
        )
    progress.start("pull", len(sums), "file")
    to.mkdir(parents=True, exist_ok=True)
    (to / CARD).unlink(missing_ok=True)  # comes last again: a folder without card isn't served
    sent = 0
    for path, sum_ in sorted(sums.items()):
        if not _is_inside(path):
            raise DatasetNotAvailableError(f"{SUMS} of {place.where}: {path!r} leaves the folder.")
        target = to / path
        if target.is_file() and hashing.sha256_file(target) == sum_:
            progress.step(1, f"{path}: there")
            continue
        target.unlink(missing_ok=True)
        _fetch_file(place, path, to)
        _compare(to, {path: sum_})
        sent += target.stat().st_size
        progress.step(1, path)
    for path in (SUMS, CARD):
        _fetch_file(place, path, to)
    if extra := _foreign(to, sums):
        progress.say(
            f"left alone: {len(extra)} files that {place.where} doesn't have ({extra[0]} ...)"
        )
    check_folder(to)
    remember_folder(to)
    size = sum((to / path).stat().st_size for path in (*sums, CARD, SUMS))
    return Pulled(files=len(sums) + 2, bytes=size, sent_bytes=sent)


def _fetch(place: Place, paths: Sequence[str]) -> Path:
    """Bring files of a commit into the cache of the Hub; returns the folder they are in."""
    import huggingface_hub

    folder = Path()
    for path in paths:
        with _telling(place, path), quiet():
            found = huggingface_hub.hf_hub_download(
                place.where, path, repo_type="dataset", revision=place.commit
            )
        folder = Path(found.removesuffix(path))
    return folder


def _fetch_file(place: Place, path: str, to: Path) -> None:
    """Bring one file into a folder; what a broken transfer left there is gone on with."""
    import huggingface_hub

    with _telling(place, path), quiet():
        huggingface_hub.hf_hub_download(
            place.where, path, repo_type="dataset", revision=place.commit, local_dir=to
        )


@contextlib.contextmanager
def _telling(place: Place, path: str) -> Iterator[None]:
    """Tell in one line what the client of the Hub raises, without the token."""
    try:
        yield
    except Exception as error:  # the transports of huggingface_hub raise errors of many kinds
        told = without_token(str(error).strip().partition("\n")[0])
        raise DatasetNotAvailableError(
            f"{path} of {place.where} can't be fetched ({type(error).__name__}: {told}). Run the "
            f"same command again: what is there whole is kept."
        ) from None


def _compare(folder: Path, sums: Mapping[str, str]) -> None:
    """Hash files, and refuse those that aren't what SHA256SUMS tells."""
    for path, expected in sums.items():
        found = hashing.sha256_file(folder / path) if (folder / path).is_file() else "none"
        if found != expected:
            raise DatasetNotAvailableError(
                f"{folder / path} has the sha256 {found}, and {SUMS} tells "
                f"{expected or 'none'}: it is damaged or of another build. Fetch, build or repair "
                f"it again."
            )


def _is_ours(folder: Path) -> bool:
    return (folder / "build.json").exists() or (folder / ".cache" / "huggingface").is_dir()


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts and "\\" not in path


def _foreign(folder: Path, sums: Mapping[str, str]) -> list[str]:
    return [path for path, _ in files.walk(folder) if path not in (*sums, CARD, SUMS)]
