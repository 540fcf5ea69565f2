"""What a loopback Hub keeps: repositories, commits that never change, and the bytes of files.

Standard library only and nothing of ours, so that a fault of ours can't hide on both sides.
"""

import hashlib
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path


class Refusal(Exception):
    """An answer other than success."""

    def __init__(self, status: int, code: str = "", message: str = "", **body):
        super().__init__(message or code)
        self.status, self.code, self.message, self.body = status, code, message or code, body


@dataclass(frozen=True)
class Blob:
    """A file's content. `oid` is git's sha1, or for LFS the sha256."""

    oid: str
    size: int
    lfs: bool
    path: Path

    def read(self) -> bytes:
        """All bytes."""
        return self.path.read_bytes()


@dataclass(frozen=True)
class Commit:
    """A state of a repository."""

    sha: str
    parent: str
    title: str
    message: str
    date: str
    files: dict[str, Blob]


@dataclass
class Repo:
    """Branches and tags name commits."""

    kind: str  # models | datasets
    id: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit:
        """The commit of a branch, tag or sha (whole, or 7 digits and more)."""
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        found = [one for one in self.commits if one == sha or (len(sha) >= 7 and one[:40] == sha)]
        if not found:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[found[0]]

    def log(self, revision: str) -> list[Commit]:
        """The commits of a revision, newest first."""
        found = [self.at(revision)]
        while found[-1].parent:
            found.append(self.commits[found[-1].parent])
        return found


class Store:
    """All repositories, with file contents in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.RLock()
        self.age = timedelta(0)  # of commits that are made
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs: dict[str, Blob] = {}
        (folder / "blobs").mkdir(parents=True, exist_ok=True)

    def repo(self, kind: str, id: str) -> Repo:
        """A repository that is there."""
        if found := self.repos.get((kind, id)):
            return found
        raise Refusal(404, "RepoNotFound", "Repository not found")

    def create(self, kind: str, id: str, private: bool = False) -> Repo:
        """A repository with one commit, as the Hub makes it."""
        if (kind, id) in self.repos:
            raise Refusal(409, message="You already created this repo")
        repo = self.repos[kind, id] = Repo(kind, id, private)
        self._add(repo, "main", "initial commit", "", {".gitattributes": self.blob(b"*.bin lfs\n")})
        return repo

    def blob(self, content: bytes) -> Blob:
        """A file that lies in git itself."""
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        path = self.folder / "blobs" / oid
        path.write_bytes(content)
        return Blob(oid, len(content), False, path)

    def keep_lfs(self, oid: str, received: Path) -> None:
        """Take over an upload if it is what its name says."""
        state = hashlib.sha256()
        with received.open("rb") as stream:
            while part := stream.read(1 << 20):
                state.update(part)
        if state.hexdigest() != oid:
            received.unlink()
            raise Refusal(400, message="The content doesn't have the sha256 that was announced")
        path = self.folder / "blobs" / oid
        received.replace(path)
        self.lfs[oid] = Blob(oid, path.stat().st_size, True, path)

    def commit(
        self, repo: Repo, branch: str, header: dict, changes: list[tuple[str, str, Blob | None]]
    ) -> Commit:
        """Apply ("put" | "file" | "folder", path, blob) to the newest commit of a branch."""
        with self.lock:
            if branch not in repo.branches:
                raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {branch}")
            head = repo.branches[branch]
            if header.get("parentCommit", head) != head:
                message = "A commit has happened since. Please refresh and try again."
                raise Refusal(412, message=message)
            files = dict(repo.commits[head].files)
            for what, path, blob in changes:
                if blob is not None:
                    _check_path(path, files)
                    files[path] = blob
                elif what == "folder":
                    files = {
                        p: b for p, b in files.items() if not p.startswith(path.rstrip("/") + "/")
                    }
                elif files.pop(path, None) is None:
                    raise Refusal(400, message=f"A file to delete doesn't exist: {path}")
            return self._add(repo, branch, header["summary"], header.get("description", ""), files)

    def _add(self, repo, branch, title, message, files) -> Commit:
        parent = repo.branches.get(branch, "")
        listing = "".join(f"{path} {files[path].oid}\n" for path in sorted(files))
        number = len(repo.commits)
        text = f"{repo.kind} {repo.id} {number} {parent} {title} {message}\n{listing}"
        date = f"{datetime.now(UTC) - self.age:%Y-%m-%dT%H:%M:%S.000Z}"
        sha = hashlib.sha1(text.encode()).hexdigest()
        commit = Commit(sha, parent, title, message, date, dict(files))
        repo.commits[sha] = commit
        repo.branches[branch] = sha
        return commit

    def lfs_blob(self, oid: str, size: int | None) -> Blob:
        """An uploaded file that a commit names; one that is copied has no size."""
        found = self.lfs.get(oid)
        if found is None or size not in (None, found.size):
            raise Refusal(400, message=f"LFS pointer {oid} points to a file that doesn't exist")
        return replace(found)


def _check_path(path: str, files: dict[str, Blob]) -> None:
    parts = path.split("/")
    if not path or path.startswith("/") or {"", ".", "..", ".git"} & set(parts):
        raise Refusal(400, message=f"Invalid path in repository: {path}")
    above = {"/".join(parts[:n]) for n in range(1, len(parts))}
    if above & files.keys() or any(p.startswith(path + "/") for p in files):
        raise Refusal(400, message=f"A file stands where a folder should: {path}")
