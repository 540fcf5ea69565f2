"""Where a data set stands: a folder, one that was built or pulled here, the Hub, or its cache.

Bare `datasets.load_dataset("cytoimagenet")` works beside the folder. Elsewhere it waits half a
minute for the Hub and then may serve rows of a folder that is long gone from its cache; here a
place is decided first, in less than two seconds, and only that place is read.
"""

from __future__ import annotations

import os
import queue
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.hub._folders import (
    check_folder,
    missing_files,
    read_configs,
    recorded_folder,
)

NAME = "cytoimagenet"
DEFAULT_REPO = "cytoimagenet/cytoimagenet"  # on the Hub; environment CYTOIMAGENET_REPO overrides
DEFAULT_MODEL = (
    "cytoimagenet/cytoimagenet-efficientnet-b0"  # environment CYTOIMAGENET_MODEL overrides
)
PROBE_SECONDS = 1.5  # for one small request; who waits longer is told what else to do

_BAD_TOKEN = (
    "HTTP 401: it doesn't know the token; unset HF_TOKEN, or log in again with `hf auth login`"
)
_SHOWN = 3  # names of missing files in a message
REPO_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_WAYS_FORWARD = """Ways forward:
  - build it from raw images:           cytoimagenet build --data-root RAW --output cytoimagenet
  - try everything on simulated images: cytoimagenet demo
  - fetch it from the Hub:              cytoimagenet pull OWNER/NAME
  - name another Hub id:                load_dataset("OWNER/NAME"), or set CYTOIMAGENET_REPO
  - name a folder that was built:       load_dataset("path/to/cytoimagenet")"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a data set will be read from.

    Attributes:
        kind: `folder` the caller named, folder `recorded` by a build or pull on this machine,
            `hub`, or what the local `cache` of the Hub holds.
        where: the folder's absolute path (also for `cache`), or the id on the Hub.
        detail: why this one, in words.
        named: the caller named this very place, so that no warning is due.
        commit: of the Hub, or of its cache; empty for folders.
        revision: branch, tag or commit that was asked for; empty: main, or a folder.
    """

    kind: Literal["folder", "recorded", "hub", "cache"]
    where: str
    detail: str
    named: bool
    commit: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the Hub said of an id, in time or not."""

    state: Literal["there", "absent", "refused", "unreachable"]
    detail: str  # the commit, or what went wrong


@dataclass(frozen=True, slots=True)
class CacheOpener:
    """Reads a snapshot in the cache of the Hub, which holds only what was fetched once."""

    folder: Path

    def __call__(self, path: str) -> BinaryIO:
        """Open a file.

        Raises:
            DatasetNotAvailableError: it was never fetched; names its config's missing files.
        """
        if (self.folder / path).is_file():
            return (self.folder / path).open("rb")
        paths_of = {
            config: [one for own in splits.values() for one in own]
            for config, splits in read_configs(self.folder).items()
        }
        config = next(one for one, paths in paths_of.items() if path in paths)
        missing = missing_files(self.folder, paths_of[config])
        shown = ", ".join(missing[:_SHOWN]) + (" ..." if len(missing) > _SHOWN else "")
        raise DatasetNotAvailableError(
            f"Config {config} is not whole in the local cache of the Hub ({self.folder}): "
            f"{len(missing)} of {len(paths_of[config])} files are missing ({shown}). While the Hub "
            f'can be reached, fetch them: load_dataset("OWNER/NAME", "{config}", verify=True).'
        )


Probe = Callable[[str, str | None], Answer]


def locate(
    path: str | os.PathLike[str] = NAME, *, revision: str | None = None, probe: Probe | None = None
) -> Place:
    """Decide where a data set is read from; nothing but names and two small files is read.

    In this order: `path` as a folder; a folder of that name which a build or pull recorded on this
    machine (unless a revision is asked for); the Hub, `path` with a slash being an id and the name
    "cytoimagenet" standing for CYTOIMAGENET_REPO or the default id; where the Hub can't be reached,
    its local cache, if that holds the id and revision. A cache of `datasets` itself is never taken.

    Args:
        path: folder, name or id.
        revision: branch, tag or commit on the Hub.
        probe: asks the Hub for an id and revision; `probe_hub` unless another is passed.

    Raises:
        DatasetNotAvailableError: it is nowhere; the message says where it was looked for and how
            to go on. Or the folder found is not whole.
        ValueError: a revision was asked of a folder.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ValueError(
                f"{folder} is a folder and has no revisions. Leave out revision={revision!r}, or "
                f"name an id on the Hub."
            )
        check_folder(folder)
        return Place(kind="folder", where=_full(folder), detail="the folder named", named=True)
    ask = probe or probe_hub
    if isinstance(path, str) and not path.startswith((".", "~")):
        if not {"/", "\\"} & set(path):
            return _by_name(path, revision, ask)
        if REPO_ID.fullmatch(path):
            looked = [f"folder {_full(folder)}: absent"]
            return _on_hub(path, revision, ask, looked=looked, named=True)
    raise DatasetNotAvailableError(f"There is no folder {_full(folder)}.\n{_WAYS_FORWARD}")


def on_hub(repo: str = "", revision: str | None = None) -> Place:
    """Find a data set on the Hub and nowhere else.

    Args:
        repo: "owner/name"; empty: CYTOIMAGENET_REPO or the default id.
        revision: branch, tag or commit.

    Raises:
        DatasetNotAvailableError: it isn't there, or the Hub can't be reached.
        ValueError: no such form of an id.
    """
    chosen = repo or os.environ.get("CYTOIMAGENET_REPO") or DEFAULT_REPO
    if not REPO_ID.fullmatch(chosen):
        raise ValueError(f"{chosen!r} is no id on the Hub: it has the form OWNER/NAME.")
    place = _on_hub(chosen, revision or None, probe_hub, looked=[], named=True)
    if place.kind != "hub":
        raise _nowhere(chosen, [f"Hub: there is only {place.detail}"])
    return place


def probe_hub(repo: str, revision: str | None) -> Answer:
    """Ask the Hub once whether an id and revision exist; never takes longer than PROBE_SECONDS."""
    import huggingface_hub
    from huggingface_hub.errors import (
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api = huggingface_hub.HfApi(library_name="cytoimagenet-hf")

    def ask() -> Answer:
        try:
            found = api.dataset_info(repo, revision=revision, timeout=PROBE_SECONDS, expand=["sha"])
        except RepositoryNotFoundError:
            return Answer("absent", "no such data set there, or none that your token may see")
        except RevisionNotFoundError:
            return Answer("absent", f"no revision {revision} there")
        except HFValidationError as error:
            return Answer("absent", str(error))
        except Exception as error:  # whatever the transport raises: it could not be asked
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status == 401:
                return Answer("refused", _BAD_TOKEN)
            kind = type(error).__name__
            return Answer("unreachable", f"HTTP {status}, {kind}" if status else kind)
        return Answer("there", str(found.sha))

    # A thread, because looking up a host's name has no timeout of its own.
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(ask()), daemon=True).start()
    try:
        return answers.get(timeout=PROBE_SECONDS)
    except queue.Empty:
        return Answer("unreachable", f"no answer within {PROBE_SECONDS} s")


def _by_name(name: str, revision: str | None, probe: Probe) -> Place:
    looked = [f"folder {_full(Path(name))}: absent"]
    recorded, note = recorded_folder(name), ""
    if recorded is None:
        looked.append(f"folder {name} recorded by a build or pull on this machine: none")
    elif not recorded.is_dir():
        note = f"folder {recorded}, recorded by a build or pull on this machine: gone"
        looked.append(note)
    elif revision is None:
        check_folder(recorded)
        detail = "the folder of that name that a build or pull on this machine recorded"
        return Place(kind="recorded", where=_full(recorded), detail=detail, named=False)
    if name != NAME:
        raise _nowhere(name, looked)
    chosen = os.environ.get("CYTOIMAGENET_REPO")
    place = _on_hub(chosen or DEFAULT_REPO, revision, probe, looked=looked, named=bool(chosen))
    return replace(place, detail=f"{place.detail} ({note})", named=False) if note else place


def _on_hub(
    repo: str, revision: str | None, probe: Probe, *, looked: list[str], named: bool
) -> Place:
    answer = probe(repo, revision)
    if answer.state == "there":
        detail = f"on the Hub, commit {answer.detail}"
        place = Place(kind="hub", where=repo, detail=detail, named=named, commit=answer.detail)
        return replace(place, revision=revision or "")
    if answer.state != "absent" and (snapshot := _snapshot(repo, revision)):
        detail = (
            f"{repo}, commit {snapshot.name}, from the local cache of the Hub, which could not be "
            f"{'asked' if answer.state == 'refused' else 'reached'}: {answer.detail}"
        )
        where, commit = _full(snapshot), snapshot.name
        return Place(kind="cache", where=where, detail=detail, named=False, commit=commit)
    at = f"{repo} at {revision}" if revision else repo
    looked.append(f"Hub id {at}: {answer.state} ({answer.detail})")
    if answer.state != "absent":
        looked.append(f"local cache of the Hub: {at} is not in it")
    raise _nowhere(repo, looked)


def _snapshot(repo: str, revision: str | None) -> Path | None:
    """Return the cached snapshot of an id and revision, if its README.md is in it."""
    import huggingface_hub

    readme = huggingface_hub.try_to_load_from_cache(
        repo, "README.md", revision=revision, repo_type="dataset"
    )
    return Path(readme).parent if isinstance(readme, str) else None


def _nowhere(what: str, looked: list[str]) -> DatasetNotAvailableError:
    places = "\n".join(f"  - {one}" for one in looked)
    return DatasetNotAvailableError(f"{what} was not found. Looked at:\n{places}\n{_WAYS_FORWARD}")


def _full(folder: Path) -> str:
    return folder.absolute().as_posix()
