"""What happens when the disk is full, broken or closed: an error that says so, and no false end."""

import contextlib
import errno
import hashlib
import os
import sys
from pathlib import Path

import pytest

from cytoimagenet_hf import cli, files, hashing
from cytoimagenet_hf.curation import pipeline, rendering
from cytoimagenet_hf.curation.pipeline import build
from cytoimagenet_hf.errors import DiskError
from tests.curation.builds import raw_data, tree
from tests.curation.killing import (
    CALLS,
    PROSE,
    SOURCES,
    keep,
    leftovers,
    made,
    restore,
    watched,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="moments are named through /proc"),
]

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with raw data, in which all builds of this module happen."""
    place = tmp_path_factory.mktemp("faults").resolve()
    raw_data(place / "raw", SOURCES, fields=9)
    return place


@pytest.fixture(scope="module")
def older(folder, tmp_path_factory) -> Path:
    """A copy of a finished build after another plan, whose card holds prose by hand."""
    restore(folder)
    build(made(folder, "old"))
    with (folder / "out" / "README.md").open("a") as card:
        card.write(PROSE)
    return keep(folder, tmp_path_factory.mktemp("older"))


class Fault:
    """Fails the n-th change of the disk, and where it lasts all later ones but removals."""

    def __init__(self, number: int = -1, code: int = 0, *, lasts: bool = False) -> None:
        self.number, self.code, self.lasts = number, code, lasts
        self.moments: list[str] = []

    def __call__(self, name: str) -> None:
        """Note a change before it happens, and fail it where asked to."""
        self.moments.append(name)
        at = len(self.moments) - 1
        later = self.lasts and at > self.number and not name.startswith(("unlink", "rmdir"))
        if self.number >= 0 and (at == self.number or later):
            raise OSError(self.code, os.strerror(self.code), name.partition(" ")[2])

    @contextlib.contextmanager
    def injected(self, folder: Path):
        """Watch the functions of os inside of the block."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("mkdir", *CALLS):
                patch.setattr(os, name, watched(getattr(os, name), name, folder, self))
            yield


def built(folder: Path) -> str:
    """Build; return the message of the DiskError, empty where there was none."""
    try:
        build(made(folder))
    except DiskError as error:
        return str(error)
    return ""


def check(folder: Path, before: dict[str, bytes], expected: dict[str, bytes], fault: Fault) -> None:
    """Build with a fault, look at what is left, and build again."""
    name = f"{fault.number} {os.strerror(fault.code)} {fault.lasts}"
    with fault.injected(folder):
        message = built(folder)
    if message:
        assert os.strerror(fault.code) in message, name
        assert "\n" not in message
    else:
        assert tree(folder / "out") == expected, name
    moment = fault.moments[fault.number]
    is_removal = moment.startswith(("unlink", "rmdir"))
    is_final = moment.startswith("rename") and fault.lasts  # the old one can't be put back either
    if not is_removal and not is_final:
        assert leftovers(folder) == [], f"{name}: {moment}"
        assert tree(folder / "out") in (before, expected), f"{name}: {moment}"
    claimed = files.read_json(folder / "out.work" / "summary.json")
    if claimed and not is_removal and not is_final:
        told, sums = claimed["summary"]["manifest_sha256"], folder / "out" / "SHA256SUMS"
        before_sums = hashlib.sha256(before.get("SHA256SUMS", b"")).hexdigest()
        assert told in (hashing.sha256_file(sums), before_sums), f"{name}: {moment}"
    build(made(folder))
    assert tree(folder / "out") == expected, f"{name}: {moment}"
    assert leftovers(folder) == [], f"{name}: {moment}"


@pytest.mark.parametrize("start", ["nothing", "older"])
def test_each_failing_change_is_a_typed_error(folder, older, start):
    """A fault at any change gives a DiskError with the system's words, and the next run is right.

    The folder is absent, as it was or complete; nothing claims otherwise, nothing half is left.
    """
    kept = older if start == "older" else None
    restore(folder, kept)
    before, plain = tree(folder / "out"), Fault()
    with plain.injected(folder):
        build(made(folder))
    expected = tree(folder / "out")
    assert before != expected
    assert {moment.partition(" ")[0] for moment in plain.moments} >= {"mkdir", "fsync", "replace"}
    for number, moment in enumerate(plain.moments):
        if "/data/" in moment and (start == "older" or "/default/" not in moment):
            continue  # the same code as for the others
        restore(folder, kept)
        check(folder, before, expected, Fault(number, ERRORS[number % 3], lasts=number % 2 == 0))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_each_write_to_a_full_disk_is_a_typed_error(folder, monkeypatch):
    """Each file is once written to a full device: Parquet, Arrow, PNG, JSON, HTML and text."""
    restore(folder)
    build(made(folder))
    expected, replacing = tree(folder / "out"), files.replacing
    for number in range(1000):
        restore(folder)
        opened: list[Path] = []

        @contextlib.contextmanager
        def to_full(path: Path, number=number, opened=opened):
            with replacing(path) as aside:
                if len(opened) == number:
                    aside.symlink_to("/dev/full")
                opened.append(path)
                yield aside

        monkeypatch.setattr(files, "replacing", to_full)
        message = built(folder)
        if not message:
            assert len(opened) == number > 20  # beyond the last file
            break
        assert os.strerror(errno.ENOSPC) in message, opened[-1]
        assert str(opened[-1]) in message
        assert leftovers(folder) == [], opened[-1]
        assert not (folder / "out.work" / "run.json").exists()
        monkeypatch.setattr(files, "replacing", replacing)
        build(made(folder))
        assert tree(folder / "out") == expected, opened[-1]


def full_disk(job, guard=None, *, rehash=False):
    """Render a chunk in a worker whose disk is full."""
    fsync = os.fsync

    def full(_handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    os.fsync = full
    try:
        return rendering.render_chunk(job, guard, rehash=rehash)
    finally:
        os.fsync = fsync


def test_full_disk_of_a_worker(folder, monkeypatch):
    """A worker's error reaches the parent as it is, and its half-written file is gone."""
    restore(folder)
    monkeypatch.setattr(pipeline, "render_chunk", full_disk)
    with pytest.raises(DiskError, match="No space left on device"):
        build(made(folder, workers=2))
    assert leftovers(folder) == []
    assert list((folder / "out.work" / "rendered").iterdir()) == []


def test_command_line_tells_of_a_full_disk(folder, monkeypatch, capsys):
    """One line on stderr, no traceback, exit status 1."""
    restore(folder)
    fault = Fault(40, errno.ENOSPC, lasts=True)
    arguments = ["--data-root", str(folder / "raw"), "--output", str(folder / "out")]
    with fault.injected(folder), pytest.raises(SystemExit) as ended:
        cli.main(["build", *arguments, "--min-fields", "4", "--workers", "0"])
    assert ended.value.code == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("cytoimagenet: Can't write")
    assert "No space left on device" in line


def test_a_fault_does_not_hide_behind_a_failing_removal(tmp_path, monkeypatch):
    """Where even the half-written file can't be removed, the first error is what is told."""

    def refuse(*_what, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    def fail(_handle):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(DiskError, match="Input/output error"):
        files.write_json(tmp_path / "some.json", {})
    assert not (tmp_path / "some.json").exists()
