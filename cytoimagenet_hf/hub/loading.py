"""Loading the data set by its name, from the place where it stands, and saying which that is.

Bare `datasets.load_dataset("cytoimagenet")` works beside the folder. Elsewhere it waits half a
minute for the Hub and then may serve rows of a folder that is long gone from its cache; here a
place is decided first, in less than two seconds, and only that place is read.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.hub._folders import (
    build_of,
    check_folder,
    missing_files,
    read_configs,
    recorded_folder,
    remember_folder,
)

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_REPO",
    "Answer",
    "Place",
    "build_of",
    "check_folder",
    "load_dataset",
    "locate",
    "probe_hub",
    "remember_folder",
]

NAME = "cytoimagenet"
DEFAULT_REPO = "cytoimagenet/cytoimagenet"  # on the Hub; environment CYTOIMAGENET_REPO overrides
DEFAULT_MODEL = "cytoimagenet/efficientnet_b0"  # environment CYTOIMAGENET_MODEL overrides
PROBE_SECONDS = 1.5  # for one small request; who waits longer is told what else to do

logger = logging.getLogger("cytoimagenet_hf")

_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
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
    """

    kind: Literal["folder", "recorded", "hub", "cache"]
    where: str
    detail: str
    named: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What the Hub said of an id, in time or not."""

    state: Literal["there", "absent", "unreachable"]
    detail: str  # the commit, or what went wrong


Probe = Callable[[str, str | None], Answer]


def load_dataset(
    path: str | os.PathLike[str] = NAME,
    name: str | None = None,
    *,
    split: str | None = None,
    streaming: bool = False,
    revision: str | None = None,
    **kwargs: Any,  # noqa: ANN401 - passed on to datasets
) -> Dataset | DatasetDict | IterableDataset | IterableDatasetDict:
    """Load CytoImageNet from a folder, from where it was built or pulled, or from the Hub.

    The logger `cytoimagenet_hf` says which place was taken, as a warning where the caller didn't
    name it. See `locate` for the order.

    Args:
        path: a folder, a name ("cytoimagenet"), or an id on the Hub ("owner/name").
        name: config: default, small, tiny, metadata, commercial, commercial_small.
        split: "train" or "validation"; None for both.
        streaming: read while iterating, without a copy in the cache of `datasets`.
        revision: branch, tag or commit on the Hub.
        **kwargs: passed on to `datasets.load_dataset`.

    Returns:
        What `datasets.load_dataset` returns.

    Raises:
        DatasetNotAvailableError: it is nowhere, or the place found is not whole.
        ValueError: unknown config or split (as `datasets` says it), or a revision of a folder.
    """
    place = locate(path, revision=revision)
    level = logging.INFO if place.named else logging.WARNING
    logger.log(level, "Loading %s: %s", place.where, place.detail)
    import datasets

    given = {"split": split, "streaming": streaming, **kwargs}
    if place.kind == "hub":
        # The prefix keeps datasets from taking a folder of that name in the working folder.
        given |= {"path": f"hf://datasets/{place.where}", "revision": revision}
    elif place.kind == "cache":
        given = {"data_files": _cached_files(Path(place.where), name), **given}
        given["path"] = place.where
    else:
        given["path"] = place.where
    return datasets.load_dataset(name=name, **given)


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
        if _REPO_ID.fullmatch(path):
            looked = [f"folder {_full(folder)}: absent"]
            return _on_hub(path, revision, ask, looked=looked, named=True)
    raise DatasetNotAvailableError(f"There is no folder {_full(folder)}.\n{_WAYS_FORWARD}")


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
            return Answer("unreachable", type(error).__name__)
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
        return Place(kind="hub", where=repo, detail=detail, named=named)
    if answer.state == "unreachable" and (snapshot := _snapshot(repo, revision)):
        detail = (
            f"{repo}, commit {snapshot.name}, from the local cache of the Hub, which could not be "
            f"reached: {answer.detail}"
        )
        return Place(kind="cache", where=_full(snapshot), detail=detail, named=False)
    at = f"{repo} at {revision}" if revision else repo
    looked.append(f"Hub id {at}: {answer.state} ({answer.detail})")
    if answer.state == "unreachable":
        looked.append(f"local cache of the Hub: {at} is not in it")
    raise _nowhere(repo, looked)


def _snapshot(repo: str, revision: str | None) -> Path | None:
    """Return the cached snapshot of an id and revision, if its README.md is in it."""
    import huggingface_hub

    readme = huggingface_hub.try_to_load_from_cache(
        repo, "README.md", revision=revision, repo_type="dataset"
    )
    return Path(readme).parent if isinstance(readme, str) else None


def _cached_files(snapshot: Path, name: str | None) -> dict[str, list[str]]:
    """Return the files of one config in a snapshot, which holds whole only what was loaded once."""
    configs = read_configs(snapshot)
    config = name or "default"
    if config not in configs:
        raise ValueError(f"BuilderConfig {config!r} not found. Available: {list(configs)}")
    files = {
        one: [path for paths in splits.values() for path in paths]
        for one, splits in configs.items()
    }
    if missing := missing_files(snapshot, files[config]):
        whole = [one for one, paths in files.items() if not missing_files(snapshot, paths)]
        raise DatasetNotAvailableError(
            f"Config {config} is not whole in the local cache of the Hub ({snapshot}): "
            f"{len(missing)} of {len(files[config])} files are missing. Whole there: "
            f"{', '.join(whole) or 'none'}. Connect to the Hub to fetch the rest."
        )
    return {
        split: [(snapshot / path).as_posix() for path in paths]
        for split, paths in configs[config].items()
    }


def _nowhere(what: str, looked: list[str]) -> DatasetNotAvailableError:
    places = "\n".join(f"  - {one}" for one in looked)
    return DatasetNotAvailableError(f"{what} was not found. Looked at:\n{places}\n{_WAYS_FORWARD}")


def _full(folder: Path) -> str:
    return folder.absolute().as_posix()
