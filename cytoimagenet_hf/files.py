"""Files that are whole or absent, a lock that keeps two runs apart, and listings in fixed order."""

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cytoimagenet_hf.errors import BuildError, DiskError

_PART = ".part"  # ending of half-written files, behind the number of the process that writes
HALF_WRITTEN = re.compile(rf"(?<=[^/])\.\d+{re.escape(_PART)}$")
_DETOURS = 16  # a folder is listed so often over several links


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; fsync and rename it when the block succeeds.

    A reader sees the old file or the whole new one. When the block raises, the half-written file
    is removed and `path` stays as it was.

    Raises:
        DiskError: the file can't be written.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}{_PART}")
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield aside
            with aside.open("rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(aside, path)
            sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong first is what is told
            aside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusals inside of the block into an error that names `path`.

    Raises:
        DiskError: with the system's words.
    """
    try:
        yield
    except OSError as error:
        other = error.filename if isinstance(error.filename, str) else str(path)
        where = "" if other.startswith(str(path)) else f"{other}: "
        raise DiskError(
            f"Can't write {path}: {where}{error.strerror or error}. What is finished is kept: "
            f"make room or give permission, and run the same command again."
        ) from error


def forget(path: Path) -> None:
    """Remove for good a file that vouches for others, before those others change.

    Otherwise a run that ends in between leaves a record that vouches for files of another run.
    """
    with disk_errors(path):
        if path.exists():
            path.unlink()
            sync_folder(path.parent)


def sweep(folder: Path) -> None:
    """Remove what killed runs left half-written; the caller holds the folder's lock.

    Only names that `replacing` gives: other programs write `*.part` too.
    """
    with disk_errors(folder):
        for path in sorted(folder.rglob(f"*{_PART}")):
            if HALF_WRITTEN.search(path.name) and not path.is_dir():
                path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with bare line feeds, whole or not at all.

    Names of files that are no UTF-8 are written as escapes, which json reads as the same names.
    """
    with replacing(path) as aside:
        aside.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - whatever json takes
    """Write sorted, indented json, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever json gives
    """Read a json file of ours; None where it is absent or was never finished."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (path relative to `folder` with `/`, stat) of each regular file, sorted by path.

    Hidden files and folders are passed over (`.htaccess` and `.DS_Store` lie in real archives).
    Links to files are followed, as data roots are often made of them; links to folders too, under
    each of their names, but never into a folder that the path has passed already, so that a loop
    of links ends. Paths over several links lead into one folder `_DETOURS` times at most: folders
    full of links to each other have more paths than anybody could list.
    """
    found = _files(folder, "", (folder.resolve(),), 0, Counter())
    yield from sorted(found, key=lambda one: one[0])


def _files(
    folder: Path, prefix: str, passed: tuple[Path, ...], links: int, detours: Counter[Path]
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield what `walk` does, below a path that has `passed` real folders and so many `links`."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.name.startswith(".") or _leads_nowhere(entry):
                continue
            if entry.is_dir():
                is_link = entry.is_symlink()
                real = Path(entry.path).resolve() if is_link else passed[-1] / entry.name
                over = links + is_link
                if real in passed or (over > 1 and detours[real] == _DETOURS):
                    continue
                detours[real] += over > 1
                path = f"{prefix}{entry.name}/"
                yield from _files(Path(entry.path), path, (*passed, real), over, detours)
            elif entry.is_file():
                yield prefix + entry.name, entry.stat()


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Say whether an entry is a link to nothing, or to itself."""
    if not entry.is_symlink():
        return False
    try:
        entry.stat()
    except OSError:
        return True
    return False


@contextlib.contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold `path` as a lock for the block; another holder is an error that names it.

    Raises:
        BuildError: another living process holds the lock.
    """
    import filelock

    lock = filelock.FileLock(path, timeout=0)
    holder = path.with_suffix(".holder")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise BuildError(
                f"{path.parent} is held by {_name(holder)}. Wait until it ends, or let this run "
                "write to another folder (of a build: --output and --work)."
            ) from None
    try:
        with disk_errors(holder):
            holder.write_text(f"process {os.getpid()}", encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _name(holder: Path) -> str:
    """Return who holds a lock; the file may vanish at any moment."""
    try:
        return holder.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"


def sync_folder(folder: Path) -> None:
    """Make a rename durable; Windows can't open folders and needs none of it."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
