"""Fetching files of a data set from the Hub: a whole folder, or what one config needs; checked.

Every file is compared with SHA256SUMS, which stands beside it, so that a transfer that lied is
found before a row is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
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
from cytoimagenet_hf.hub._generated import keep_prose, prose_sha256
from cytoimagenet_hf.hub.places import REPO_ID, CacheOpener, Place, on_hub

CARD, SUMS = "README.md", "SHA256SUMS"
MARKER = ".cytoimagenet-pull.json"  # in a folder while it is half pulled: says from which id


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


def checked(place: Place, config: str, *, streaming: bool, also: Sequence[str] = ()) -> Place:
    """Hash the files of a config, which are fetched first where they stand on the Hub.

    Args:
        place: where it stands.
        config: its name.
        streaming: reads files in part.
        also: further configs that will be read (`metadata`, to find the rows of a source).

    Raises:
        ValueError: streaming reads files in part, so there is nothing to hash; or unknown config.
        DatasetNotAvailableError: a file is absent or other than SHA256SUMS tells, or there are no
            such sums.
    """
    if streaming:
        raise ValueError("verify hashes whole files, and streaming reads parts: leave one of them.")
    folder = Path(place.where)
    if place.kind == "hub":
        folder = _fetch(place, [CARD, SUMS])
    configs, sums = read_configs(folder), read_sums(folder / SUMS)
    if config not in configs:
        raise ValueError(f"BuilderConfig {config!r} not found. Available: {sorted(configs)}")
    wanted = [configs[one] for one in (config, *also) if one in configs]
    paths = sorted({path for splits in wanted for own in splits.values() for path in own})
    if place.kind == "hub":
        folder = _fetch(place, [CARD, SUMS, *paths])
        detail = f"{place.where}, commit {place.commit}, fetched and compared with {SUMS}"
        place = replace(place, kind="cache", where=folder.absolute().as_posix(), detail=detail)
    if not sums:
        raise DatasetNotAvailableError(_no_sums(place))
    if place.kind == "cache":
        for path in paths:
            CacheOpener(folder)(path).close()  # tells what was never fetched
    _compare(folder, {path: sums.get(path, "") for path in paths})
    return place


def fetch_release(name: str) -> Path:
    """Find a release by name: a folder, OWNER/NAME[@TAG], or a tag of the data set's own id.

    OWNER/NAME alone stands for its main branch. From the Hub all of its files are brought into the
    Hub's cache, and compared with SHA256SUMS.

    Raises:
        DatasetNotAvailableError: it is nowhere, or not whole.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    place = _release_on_hub(name)
    folder = _fetch(place, [CARD, SUMS])
    sums = read_sums(folder / SUMS)
    folder = _fetch(place, [*sums, CARD, SUMS])
    _compare(folder, sums)
    return folder


def pull(place: Place, to: Path, *, progress: Progress) -> Pulled:
    """Fetch a data set from the Hub into a folder, without a second copy in the Hub's cache.

    A pull that was broken off goes on where it was: files that are there whole aren't sent again.
    Prose that was written into the folder's card stays.

    Args:
        place: on the Hub.
        to: an empty folder, or one of a former pull or build of the same data set.
        progress: is told of each file.

    Returns:
        What was done.

    Raises:
        BuildError: `to` holds something else, or a card whose marks are broken.
        DatasetNotAvailableError: the Hub can't be reached, or sent other bytes than promised.
    """
    card = _fetch(place, [CARD, SUMS])
    sums = read_sums(card / SUMS)
    _check_sums(place, sums)
    _check_target(place, to, sums)
    edited = _edited_card(to, (card / CARD).read_text(encoding="utf-8"))
    # Until here nothing in the folder was touched.
    progress.start("pull", len(sums), "file")
    files.write_json(to / MARKER, {"repo": place.where, "edited": edited})
    files.forget(to / CARD)  # comes last again: a folder without card isn't served
    sent = 0
    for path, sum_ in sorted(sums.items()):
        size = _bring(place, path, sum_, to)
        sent += size
        progress.step(1, path if size else f"{path}: there")
    for path in (SUMS, CARD):
        _fetch_file(place, path, to)
    if edited:
        card_now = (to / CARD).read_text(encoding="utf-8")
        files.write_text(to / CARD, keep_prose(edited, card_now))
        progress.say(
            f"kept: prose in {CARD} that {place.where} doesn't have (to take theirs, remove "
            f"{to / CARD} and pull again)"
        )
    if extra := _foreign(to, sums):
        progress.say(
            f"left alone: {len(extra)} files that {place.where} doesn't have ({extra[0]} ...)"
        )
    check_folder(to)
    files.forget(to / MARKER)
    remember_folder(to)
    total = sum((to / path).stat().st_size for path in (*sums, CARD, SUMS))
    return Pulled(files=len(sums) + 2, bytes=total, sent_bytes=sent)


def _release_on_hub(name: str) -> Place:
    """Tell id, revision and path apart in the name of a release that is no folder."""
    repo, at, revision = name.rpartition("@")
    if not at and "/" in name:
        repo, revision = name, ""
    is_path = Path(name).exists() or "\\" in name or name.startswith((".", "~"))
    if is_path or (repo and not REPO_ID.fullmatch(repo)):
        raise DatasetNotAvailableError(
            f"{name} is neither a folder nor of the form OWNER/NAME, OWNER/NAME@TAG or TAG. Name "
            f"the folder of a release, or a release on the Hub."
        )
    try:
        return on_hub(repo, revision)
    except DatasetNotAvailableError as error:
        raise DatasetNotAvailableError(f"There is no folder {name}, and {error}") from None


def _no_sums(place: Place) -> str:
    if place.kind == "cache":
        return (
            f"{SUMS} was never fetched, so nothing in the local cache of the Hub ({place.where}) "
            f"can be verified. Load with verify=True while the Hub can be reached, or leave verify "
            f"out."
        )
    return f"{place.where} has no {SUMS}, so nothing in it can be verified. Build or pull it again."


def _check_sums(place: Place, sums: Mapping[str, str]) -> None:
    """Refuse a data set that isn't ours, or whose files would stand outside of the folder."""
    if not sums:
        raise DatasetNotAvailableError(
            f"{place.where} has no {SUMS}, so nothing says what is whole. It was not published "
            f"by this package; load it with datasets.load_dataset."
        )
    if outside := [path for path in sorted(sums) if not _is_inside(path)]:
        raise DatasetNotAvailableError(
            f"{SUMS} of {place.where}: {outside[0]!r} leaves the folder or is hidden, which no "
            f"build writes. Nothing was changed; tell the owner of {place.where}."
        )


def _check_target(place: Place, to: Path, sums: Mapping[str, str]) -> None:
    """Refuse a folder that holds anything but this data set, half pulled or an older release.

    Raises:
        BuildError: says what it holds.
    """
    if not to.exists() or (to.is_dir() and not any(to.iterdir())):
        return
    if not to.is_dir():
        raise BuildError(f"{to} is a file. Name another folder: --to.")
    marker = files.read_json(to / MARKER)
    repo = marker.get("repo") if isinstance(marker, dict) else None
    if repo == place.where and not (to / CARD).exists():
        return  # a card comes last: with one a build may have written here since
    own = {path: one for path, one in read_sums(to / SUMS).items() if _is_shard(path)}
    is_built = (to / "build.json").is_file()
    if own and (is_built or repo == place.where) and own.items() <= sums.items():
        return
    if repo and repo != place.where:
        holds = f"a half pull of {repo}"
    elif is_built:
        holds = f"another data set than {place.where}, or a release with shards that it lacks"
    else:
        holds = f"files that no build or pull wrote ({min(one.name for one in to.iterdir())} ...)"
    raise BuildError(f"{to} holds {holds}. Nothing was changed. Name another folder: --to.")


def _edited_card(to: Path, new: str) -> str:
    """Return the card of a folder if it has prose that neither its build nor the new card has.

    That of a pull that was broken off is in the marker.

    Raises:
        BuildError: marks are broken, so that its prose can't be told from the rest.
    """
    marker, build = (files.read_json(to / name) for name in (MARKER, "build.json"))
    if not (to / CARD).is_file():
        return str(marker.get("edited", "")) if isinstance(marker, dict) else ""
    old = (to / CARD).read_text(encoding="utf-8")
    known = build.get("prose_sha256") if isinstance(build, dict) else None
    try:
        prose = prose_sha256(old)
        if prose == known or prose == prose_sha256(new):
            return ""
        keep_prose(old, new)
    except ValueError as error:
        raise BuildError(
            f"{to / CARD} was edited by hand, and its prose can't be joined with the card on the "
            f"Hub: {error} Nothing was changed. Move the file away and pull again."
        ) from None
    return old


def _bring(place: Place, path: str, sum_: str, to: Path) -> int:
    """Have one file whole in a folder; returns the bytes of it if it was sent, else 0."""
    target = to / path
    if target.is_file() and hashing.sha256_file(target) == sum_:
        return 0
    target.unlink(missing_ok=True)
    _fetch_file(place, path, to)
    _compare(to, {path: sum_})
    return target.stat().st_size


def _fetch(place: Place, paths: Sequence[str]) -> Path:
    """Bring files of a commit into the cache of the Hub; returns the folder they are in.

    The card is asked for by revision: only then does the cache note which commit the revision
    stands for, without which it isn't found there when the Hub can't be reached.

    Raises:
        DatasetNotAvailableError: not fetched; or the revision moved on from the place's commit.
    """
    import huggingface_hub

    folder = Path()
    for path in paths:
        revision = (place.revision or "main") if path == CARD else place.commit
        with _telling(place, path), quiet():
            found = huggingface_hub.hf_hub_download(
                place.where, path, repo_type="dataset", revision=revision
            )
        folder = Path(found.removesuffix(path))
        if folder.name != place.commit:
            raise DatasetNotAvailableError(
                f"{place.where} at {revision} moved from commit {place.commit} to {folder.name} "
                f"meanwhile. Try again: run the same command or call once more."
            )
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


def _is_inside(path: str) -> bool:
    """Say whether a path stays in its folder on every system, and has no hidden part."""
    parts = PurePosixPath(path)
    return (
        not parts.is_absolute()
        and not PureWindowsPath(path).drive
        and "\\" not in path
        and not any(part.startswith(".") for part in parts.parts)
    )


def _is_shard(path: str) -> bool:
    return path.startswith("data/") and path.endswith(".parquet")


def _foreign(folder: Path, sums: Mapping[str, str]) -> list[str]:
    return [path for path, _ in files.walk(folder) if path not in (*sums, CARD, SUMS)]
