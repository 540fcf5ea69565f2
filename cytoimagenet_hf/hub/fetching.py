"""Fetching files of a data set from the Hub: a whole folder, or what one config needs; checked.

Every file is compared with SHA256SUMS, which stands beside it, so that a transfer that lied is
found before a row is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.errors import BuildError, DatasetNotAvailableError
from cytoimagenet_hf.hub._client import quiet, without_token
from cytoimagenet_hf.hub._folders import (
    check_folder,
    read_configs,
    read_sums,
    remember_folder,
)
from cytoimagenet_hf.hub.places import Place

CARD, SUMS = "README.md", "SHA256SUMS"

Say = Callable[[str], None]
Step = Callable[[int, str], None]


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


def pull(place: Place, to: Path, *, step: Step, say: Say) -> int:
    """Fetch a data set from the Hub into a folder, without a second copy in the Hub's cache.

    A pull that was broken off goes on where it was: files that are there whole aren't sent again.

    Args:
        place: on the Hub.
        to: an empty folder, or one of a former pull or build of the same data set.
        step: told (bytes, path) of each file that is there.
        say: told in one line what happens.

    Returns:
        Bytes that were transferred.

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
    to.mkdir(parents=True, exist_ok=True)
    (to / CARD).unlink(missing_ok=True)  # comes last again: a folder without card isn't served
    sent = 0
    for path, sum_ in sorted(sums.items()):
        if not _is_inside(path):
            raise DatasetNotAvailableError(f"{SUMS} of {place.where}: {path!r} leaves the folder.")
        target = to / path
        if target.is_file() and hashing.sha256_file(target) == sum_:
            step(target.stat().st_size, f"{path}: there")
            continue
        target.unlink(missing_ok=True)
        _fetch_file(place, path, to)
        _compare(to, {path: sum_})
        sent += target.stat().st_size
        step(target.stat().st_size, path)
    for path in (SUMS, CARD):
        _fetch_file(place, path, to)
    if extra := _foreign(to, sums):
        say(f"left alone: {len(extra)} files that {place.where} doesn't have ({extra[0]} ...)")
    check_folder(to)
    remember_folder(to)
    return sent


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
