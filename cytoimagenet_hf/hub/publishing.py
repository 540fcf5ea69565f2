"""Publishing files of a data set: a reader sees the old state or the new one, never half of one.

Shards go to a branch of their own, some at a time, as a commit keeps them for good: the Hub gives
no word on how long it keeps uploads that no commit names. Broken off anywhere, the next run finds
there what has arrived. When all are there, one commit puts them on main with the documents, the
card among them (shards by reference: not a byte travels twice), a tag names it, and the branch
goes; those of others stay, unless they were given up. The Hub can't move main to another branch,
hence the commit of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytoimagenet_hf import hashing
from cytoimagenet_hf.errors import PushError
from cytoimagenet_hf.hub._client import asking, open_api, quiet
from cytoimagenet_hf.hub._repository import (
    Stored,
    Target,
    Upload,
    is_stored,
    list_files,
    look,
    missing,
    open_target,
    read_small,
    upload_of,
)
from cytoimagenet_hf.schema import EMBEDDINGS

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

__all__ = [
    "Stored",
    "Target",
    "Upload",
    "check_target",
    "commit_files",
    "finish",
    "missing",
    "open_target",
    "read_small",
    "removed",
    "send_files",
    "standing",
]

BRANCH = "publishing-"  # what branches of unfinished publications are named, and what they publish
COMMIT_BYTES = 2 << 30  # a commit to the branch holds so much; the Hub allows about 100 an hour
COMMIT_FILES = 50
GIVEN_UP = timedelta(days=7)  # a branch that got no shards for so long is nobody's any more

_BRANCH = re.compile(rf"{BRANCH}[0-9a-f]{{8}}")  # others' branches may begin as ours
_SHARD = re.compile(r"data/.+\.parquet")
_TAG = re.compile(r"\w[\w.-]{0,62}", re.ASCII)
_BARE = {".gitattributes", ".gitignore", "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt"}
_SHOWN = 3
_ADD = "Add shards"  # title of the commits to a branch

Say = Callable[[str], None]
Step = Callable[[int, str], None]


def check_target(target: Target, uploads: Sequence[Upload], *, tag: str, replace: bool) -> None:
    """Refuse what can be refused before anything slow.

    Raises:
        ValueError: the tag is no name of one.
        PushError: no build wrote what stands there, shards would go or change without `replace`, or
            the tag names another state.
    """
    if tag and not _TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} is no name of a tag. Use letters, digits, . - and _, as v1.0.")
    foreign = sorted(target.files.keys() - _BARE)
    if foreign and "build.json" not in target.files:
        raise PushError(
            f"{target.url} holds files that no build wrote ({_some(foreign)}). Name another id."
        )
    if (gone := [*removed(target, uploads), *_changed(target, uploads)]) and not replace:
        size = sum(target.files[path].size for path in gone)
        raise PushError(
            f"{len(gone)} shards ({size / 1e6:,.1f} MB) that stand at {target.url} are not of this "
            f"build ({_some(gone)}). Whoever loads main would get other rows; tags keep theirs. "
            f"Replace them with --replace, or name another id."
        )
    if missing(target, uploads) or target.tags.get(tag, target.head) != target.head:
        _check_tag(target, tag)


def removed(target: Target, uploads: Iterable[Upload]) -> list[str]:
    """Return the shards on main that the new state doesn't have."""
    shards = {path for path in target.files if _SHARD.fullmatch(path)}
    return sorted(shards - {one.path for one in uploads})


def _changed(target: Target, uploads: Iterable[Upload]) -> list[str]:
    """Shards on main that would get other rows under their name; embeddings may be made anew."""
    return sorted(
        one.path
        for one in missing(target, uploads)
        if one.path in target.files
        and _SHARD.fullmatch(one.path)
        and not one.path.startswith(f"data/{EMBEDDINGS}")
    )


def standing(target: Target, uploads: Iterable[Upload]) -> list[Upload]:
    """Return the files whose bytes main holds under their name, whatever size it tells of them."""
    return [
        one
        for one in uploads
        if (stored := target.files.get(one.path))
        and (stored.sha256 == one.sha256 or is_stored(one, stored))
    ]


def send_files(target: Target, uploads: Sequence[Upload], *, step: Step, say: Say) -> list[Upload]:
    """Put what main lacks on the branch of this publication; what is there isn't sent again.

    Args:
        target: where to.
        uploads: all files of the new state but its documents.
        step: told (bytes, path) of each file that is dealt with.
        say: told in one line what happens.

    Returns:
        What was sent.

    Raises:
        PushError: the Hub refuses, or a file isn't any more what was verified.
    """
    wanted, api, branch = missing(target, uploads), open_api(), branch_of(uploads)
    for one in uploads:
        if is_stored(one, target.files.get(one.path)):
            step(one.size, f"{one.path}: there")
    if not wanted:
        return []
    there = _open_branch(api, target, branch)
    left = []
    for one in wanted:
        if is_stored(one, there.get(one.path)):
            step(one.size, f"{one.path}: there")
        else:
            left.append(one)
    if len(left) < len(wanted):
        say(f"going on: branch {branch} holds {len(wanted) - len(left)} of {len(wanted)} files")
    for batch in _batches(left):
        additions = [_send(api, target, branch, one, step) for one in batch]
        with quiet():
            _commit(api, target.repo_id, additions, revision=branch, commit_message=_ADD)
    return left


def commit_files(
    target: Target,
    uploads: Sequence[Upload],
    papers: Mapping[str, Path],
    *,
    tag: str,
) -> str:
    """Put everything on main in one commit; nothing where nothing differs.

    Args:
        target: as it stands now; a commit of somebody else since is an error.
        uploads: all files of the new state but its documents; those that main lacks stand on the
            branch of this publication.
        papers: documents by their path, the card last.
        tag: that the commit will get; empty: none.

    Returns:
        The commit that main stands at.

    Raises:
        PushError: the Hub refuses, somebody else changed main meanwhile, or the tag names another
            state.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

    api = open_api()
    changed = missing(target, [upload_of(path, at) for path, at in papers.items()])
    operations: list[Any] = [
        CommitOperationCopy(one.path, one.path, src_revision=branch_of(uploads))
        for one in missing(target, uploads)
    ]
    operations += [CommitOperationDelete(path) for path in removed(target, uploads)]
    operations += [CommitOperationAdd(one.path, str(one.at)) for one in changed]
    if not operations:
        return target.head
    _check_tag(target, tag)
    try:
        with quiet():
            return _commit(
                api,
                target.repo_id,
                operations,
                commit_message=f"Publish {tag}".strip(),
                parent_commit=target.head,
            )
    except PushError:
        # The commit may have been made and the answer lost; then it only looks like another's.
        now = look(api, target.repo_id)
        if missing(now, [*uploads, *changed]) or removed(now, uploads):
            raise
        return now.head


def finish(target: Target, uploads: Sequence[Upload], commit: str, *, tag: str) -> None:
    """Tag a commit, and remove the branch of this publication and those that were given up.

    Raises:
        PushError: the Hub refuses.
    """
    api, repo_id = open_api(), target.repo_id
    refs = asking(repo_id, lambda: api.list_repo_refs(repo_id, repo_type="dataset"))
    if tag and tag not in {one.name for one in refs.tags}:
        asking(
            repo_id, lambda: api.create_tag(repo_id, tag=tag, revision=commit, repo_type="dataset")
        )
    own = branch_of(uploads)
    for branch in sorted(one.name for one in refs.branches if _BRANCH.fullmatch(one.name)):
        if branch == own or _is_given_up(api, repo_id, branch):
            _delete_branch(api, repo_id, branch)


def _is_given_up(api: HfApi, repo_id: str, branch: str) -> bool:
    """Say whether a branch got its last shards long ago.

    One without any holds nothing, and somebody may just be sending its first.
    """
    from huggingface_hub.errors import RevisionNotFoundError

    def last() -> Any:  # noqa: ANN401 - GitCommitInfo
        try:
            return api.list_repo_commits(repo_id, repo_type="dataset", revision=branch)[0]
        except RevisionNotFoundError:  # its publisher was faster
            return None

    commit = asking(repo_id, last)
    return (
        commit is not None
        and commit.title == _ADD
        and datetime.now(UTC) - commit.created_at > GIVEN_UP
    )


def _delete_branch(api: HfApi, repo_id: str, branch: str) -> None:
    """Remove a branch; another publisher of the same may have done so."""
    from huggingface_hub.errors import HfHubHTTPError

    def delete() -> None:
        try:
            api.delete_branch(repo_id, branch=branch, repo_type="dataset")
        except HfHubHTTPError as error:
            if error.response.status_code != 404:
                raise

    asking(repo_id, delete)


def _check_tag(target: Target, tag: str) -> None:
    if tag in target.tags:
        raise PushError(
            f"Tag {tag} of {target.url} names another state (commit {target.tags[tag]}), and who "
            f"uses it relies on that. Name another tag."
        )


def branch_of(uploads: Iterable[Upload]) -> str:
    """Name the branch on which a publication grows by what it publishes, so that it is found."""
    return BRANCH + hashing.fingerprint(
        (part for one in uploads for part in (one.path, one.sha256)), digits=8
    )


def _open_branch(api: HfApi, target: Target, branch: str) -> dict[str, Stored]:
    """Make the branch or find it; returns what it holds."""
    asking(
        target.repo_id,
        lambda: api.create_branch(
            target.repo_id,
            branch=branch,
            revision=target.head,
            repo_type="dataset",
            exist_ok=True,
        ),
    )
    return list_files(api, target.repo_id, branch)


def _send(api: HfApi, target: Target, branch: str, one: Upload, step: Step) -> CommitOperationAdd:
    """Upload one file; it is seen with a commit only."""
    from huggingface_hub import CommitOperationAdd

    addition = asking(target.repo_id, lambda: CommitOperationAdd(one.path, str(one.at)))
    with quiet():
        asking(
            target.repo_id,
            lambda: api.preupload_lfs_files(
                target.repo_id,
                [addition],
                repo_type="dataset",
                revision=branch,
                free_memory=False,
            ),
        )
    # Read while it was sent: what was verified a while ago may be another file by now.
    if addition.upload_info.sha256.hex() != one.sha256:
        raise PushError(f"{one.at} was changed while it was being published. Verify the folder.")
    step(one.size, f"{one.path}: sent")
    return addition


def _commit(api: HfApi, repo_id: str, operations: list[Any], **options: Any) -> str:  # noqa: ANN401
    done = asking(
        repo_id,
        lambda: api.create_commit(repo_id, operations, repo_type="dataset", **options),
    )
    return str(done.oid)


def _batches(uploads: Sequence[Upload]) -> Iterator[list[Upload]]:
    """Cut files into commits."""
    batch: list[Upload] = []
    for one in uploads:
        size = sum(other.size for other in batch)
        if batch and (size + one.size > COMMIT_BYTES or len(batch) == COMMIT_FILES):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
