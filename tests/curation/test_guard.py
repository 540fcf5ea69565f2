"""Tests of what happens when a decoder crashes, hangs, or eats the memory."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile

from cytoimagenet_hf.curation import pipeline, records, rendering
from cytoimagenet_hf.curation.engine import CRASHED, TIMEOUT
from cytoimagenet_hf.curation.pipeline import build
from tests.curation.builds import config, raw_data

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of CPU time"),
]


def hostile(job, guard=None, *, rehash=False):
    """Render a chunk with a decoder that kills or hangs its process on files that ask for it."""
    rendering._FIELD_SECONDS = 1.0
    rendering._PIXELS_A_SECOND = 1 << 30
    decode = records.read_plane

    def read_plane(path: Path, **options):
        asked = path.read_bytes()[-8:]
        if asked == b"--KILL--":
            os.kill(os.getpid(), signal.SIGKILL)
        if asked == b"--SEGV--":
            os.kill(os.getpid(), signal.SIGSEGV)
        while asked == b"--HANG--":
            pass
        if asked == b"--SLOW--":
            _burn(1.8)
        return decode(path, **options)

    records.read_plane = read_plane
    try:
        return rendering.render_chunk(job, guard, rehash=rehash)
    finally:
        records.read_plane = decode


def _burn(seconds: float) -> None:
    import time

    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.mark.parametrize("workers", [1, 2])
def test_crashes_and_hangs_are_refused_alone(tmp_path, monkeypatch, workers):
    """Files at which the decoder dies are refused by name; everything else is as without them."""
    raw = raw_data(tmp_path / "raw", ("bbbc006",))
    images = sorted((raw / "bbbc006").rglob("*_z_16/*_w1*.tif"))
    for path, end in zip(
        images, (b"--KILL--", b"--SEGV--", b"--HANG--", b"--SLOW--"), strict=False
    ):
        with path.open("ab") as stream:
            stream.write(end)
    monkeypatch.setattr(pipeline, "render_chunk", hostile)
    made = config(raw, tmp_path / "hostile", names=("bbbc006",), workers=workers)
    summary = build(made)
    assert summary.excluded[f"rendering: {CRASHED}"] == 2
    assert summary.excluded[f"rendering: {TIMEOUT}"] == 1  # the slow one had its second chance
    assert summary.failed == 3
    monkeypatch.undo()
    for path in images[:3]:
        tifffile.imwrite(path, np.full((520, 696), 7, np.uint16))
    calm = config(raw, tmp_path / "calm", names=("bbbc006",))
    assert build(calm).failed == 0
    rows = [
        pq.read_table(one.output / "data" / "metadata", columns=["image_id", "pixel_sha256"])
        for one in (made, calm)
    ]
    assert sorted(rows[0].to_pylist(), key=str) == sorted(rows[1].to_pylist(), key=str)


def test_without_a_guard_a_crash_ends_the_run(tmp_path):
    """The same file ends a process that renders without workers: the guard is what helps."""
    import subprocess

    raw = raw_data(tmp_path / "raw", ("bbbc006",))
    image = sorted((raw / "bbbc006").rglob("*_z_16/*_w1*.tif"))[0]
    with image.open("ab") as stream:
        stream.write(b"--SEGV--")
    code = (
        "import sys; from pathlib import Path; from tests.curation import builds, test_guard; "
        "from cytoimagenet_hf.curation import pipeline; "
        "pipeline.render_chunk = test_guard.hostile; "
        "pipeline.build(builds.config(Path(sys.argv[1]), Path(sys.argv[2]), names=('bbbc006',)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(raw), str(tmp_path / "out")],
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == -signal.SIGSEGV
