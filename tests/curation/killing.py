"""Builds that kill themselves at a moment of choice; run as a program, which forks them.

`python -m tests.curation.killing FOLDER` reads numbers from its input. For each one it builds in a
child process that kills itself at that moment (-1: never), and prints the moments that passed as
JSON. A program of its own, as a process that has started threads can't be forked safely.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from cytoimagenet_hf.curation import pipeline
from cytoimagenet_hf.curation.parameters import preset
from tests.curation.builds import config

SOURCES = ("bbbc038", "bbbc048")
LEAST = {"old": 8, "new": 4}  # fields that make a label, by plan; one and two labels
FOLDERS = ("out", "out.work", ".out.part", ".out.old")  # of a build
PROSE = "\n## By hand\n\nWritten by a person.\n"
CALLS = ("fsync", "replace", "rename", "unlink", "rmdir")  # of os; fsync ends each write


def made(folder: Path, plan: str = "new", *, workers: int = 0) -> pipeline.BuildConfig:
    """A build of 6 chunks, from FOLDER/raw to FOLDER/out."""
    return config(
        folder / "raw",
        folder / "out",
        names=SOURCES,
        parameters=preset("standard", min_fields=LEAST[plan], chunk_fields=3),
        workers=workers,
    )


def restore(folder: Path, kept: Path | None = None) -> None:
    """Put all folders of the build back as they were kept, or away."""
    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
        if kept and (kept / name).exists():
            shutil.copytree(kept / name, folder / name)


def keep(folder: Path, to: Path) -> Path:
    """Keep a copy of all folders of the build."""
    for name in FOLDERS:
        if (folder / name).exists():
            shutil.copytree(folder / name, to / name)
    return to


def leftovers(folder: Path) -> list[str]:
    """Half-written files, and folders that should have gone."""
    found = [*folder.rglob("*.part"), *folder.rglob("*.old"), *folder.rglob("*.holder")]
    return [path.relative_to(folder).as_posix() for path in found]


def watch(folder: Path, moment: Callable[[str], None]) -> None:
    """Have `moment` called with the name of each change under `folder` before it happens."""
    for name in CALLS:
        setattr(os, name, watched(getattr(os, name), name, folder, moment))


def watched(call, name: str, folder: Path, moment: Callable[[str], None]):
    """Wrap one function of os."""

    def wrapped(what, *rest, **options):
        place = _place(what, options.get("dir_fd"))
        if place.is_relative_to(folder):
            short = place.relative_to(folder).as_posix().replace(f".{os.getpid()}.", ".PID.")
            moment(f"{name} {short}")
        return call(what, *rest, **options)

    return wrapped


def _place(what, folder: int | None) -> Path:
    """The path that a call is about, which may be given by an open file or from an open folder."""
    if isinstance(what, int):
        return Path(f"/proc/self/fd/{what}").resolve()
    return Path(f"/proc/self/fd/{folder}").resolve() / what if folder else Path(what).absolute()


def build_and_die(folder: Path, number: int, log: Path) -> None:
    """Build and die at a moment; at an fsync half of what was written is cut off before."""
    passed = 0
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def moment(name: str) -> None:
        nonlocal passed
        if passed == number:
            if name.startswith("fsync") and name.endswith(".part"):
                part = folder / name.removeprefix("fsync ").replace(".PID.", f".{os.getpid()}.")
                os.truncate(part, part.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1
        os.write(handle, f"{name}\n".encode())

    watch(folder, moment)
    pipeline.build(made(folder))


def main() -> None:
    """Serve until the input ends."""
    folder = Path(sys.argv[1])
    log = folder / "moments.txt"
    for line in sys.stdin:
        child = os.fork()
        if not child:
            build_and_die(folder, int(line), log)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        answer = {
            "status": os.waitstatus_to_exitcode(status),
            "passed": log.read_text().splitlines(),
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
