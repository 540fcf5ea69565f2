"""A data set's repository on the Hub: what stands there, compared with files on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cytoimagenet_hf import hashing
from cytoimagenet_hf.errors import PushError
from cytoimagenet_hf.hub._client import (
    asking,
    check_id,
    open_api,
    open_repo,
    quiet,
    who_asks,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SMALL_BYTES = 16 << 20  # of a text file that is read back


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that shall stand on the Hub."""

    path: str  # there
    at: Path  # here
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that stands on the Hub."""

    sha256: str  # "" where it lies in git itself
    git_sha1: str  # of the blob; of a file under LFS that of its pointer
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A repository and what its main branch holds."""

    repo_id: str
    url: str
    head: str  # commit of main; "" where the repository is not there yet (only in a dry run)
    files: Mapping[str, Stored]
    tags: Mapping[str, str]  # -> commit


def open_target(repo_id: str, *, private: bool = False, dry_run: bool = False) -> Target:
    """Make the repository or find it, and look what it holds; nothing in it is changed.

    Args:
        repo_id: "owner/name".
        private: make it private; an existing public one is refused then.
        dry_run: make nothing; ask for no right.

    Raises:
        ValueError: bad id.
        PushError: no token, no right, no Hub; the repository is public and shall not be; or it is
            none of a data set.
    """
    check_id(repo_id)
    api = open_api()
    spaces = who_asks(api, repo_id)
    if not _is_there(api, repo_id, "dataset"):
        _check_kind(api, repo_id)
        if dry_run:
            return _to_be_made(api, repo_id, spaces)
    if not dry_run:
        open_repo(api, repo_id, "dataset", private=private)
    return look(api, repo_id)


def missing(target: Target, uploads: Iterable[Upload]) -> list[Upload]:
    """Return those files that main doesn't hold."""
    return [one for one in uploads if not is_stored(one, target.files.get(one.path))]


def read_small(target: Target, path: str) -> str:
    """Read a small text file of main; "" where it is absent.

    Raises:
        PushError: the Hub refuses, or the file is no small text.
    """
    if path not in target.files:
        return ""
    if target.files[path].size > SMALL_BYTES:
        raise PushError(f"{path} at {target.url} is larger than {SMALL_BYTES >> 20} MB.")
    api = open_api()
    with quiet():
        at = asking(
            target.repo_id,
            lambda: api.hf_hub_download(
                target.repo_id, path, repo_type="dataset", revision=target.head
            ),
        )
    try:
        return Path(at).read_bytes().decode()
    except UnicodeDecodeError:
        raise PushError(f"{path} at {target.url} is no text in UTF-8.") from None


def look(api: HfApi, repo_id: str) -> Target:
    """Read what stands on main; all of it of one commit."""
    info = asking(repo_id, lambda: api.repo_info(repo_id, repo_type="dataset"))
    refs = asking(repo_id, lambda: api.list_repo_refs(repo_id, repo_type="dataset"))
    head = str(info.sha)
    return Target(
        repo_id=repo_id,
        url=f"{api.endpoint}/datasets/{repo_id}",
        head=head,
        files=list_files(api, repo_id, head),
        tags={one.name: one.target_commit for one in refs.tags},
    )


def list_files(api: HfApi, repo_id: str, revision: str) -> dict[str, Stored]:
    """List all files of a branch, tag or commit."""
    from huggingface_hub import RepoFile

    def listing() -> dict[str, Stored]:
        found = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type="dataset")
        return {
            one.path: Stored(one.lfs.sha256 if one.lfs else "", one.blob_id, one.size)
            for one in found
            if isinstance(one, RepoFile)
        }

    return asking(repo_id, listing)


def _to_be_made(api: HfApi, repo_id: str, namespaces: list[str]) -> Target:
    """An empty repository, which this token could make for all that is known."""
    if repo_id.partition("/")[0] not in namespaces:
        raise PushError(
            f"{repo_id} isn't there, and the token may make repositories of "
            f"{', '.join(namespaces)} only."
        )
    url = f"{api.endpoint}/datasets/{repo_id}"
    return Target(repo_id=repo_id, url=url, head="", files={}, tags={})


def _check_kind(api: HfApi, repo_id: str) -> None:
    """Refuse the id of a model or space, which is a slip of the pen as a rule."""
    for kind in ("model", "space"):
        if _is_there(api, repo_id, kind):
            raise PushError(
                f"{repo_id} is a {kind} on the Hub; a data set of the same id would be taken for "
                f"it. Name another id."
            )


def _is_there(api: HfApi, repo_id: str, kind: str) -> bool:
    return asking(repo_id, lambda: api.repo_exists(repo_id, repo_type=kind))


def is_stored(upload: Upload, stored: Stored | None) -> bool:
    """Say whether a file stands there with the same bytes."""
    if stored is None or stored.size != upload.size:
        return False
    if stored.sha256:
        return stored.sha256 == upload.sha256
    # Small, or it would be under LFS. Named as git names it: by its length and bytes.
    content = upload.at.read_bytes()
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest() == stored.git_sha1


def upload_of(path: str, at: Path) -> Upload:
    """Describe a file of this machine."""
    return Upload(path, at, hashing.sha256_file(at), at.stat().st_size)
