"""A build that is killed with SIGKILL at any moment: the next run ends as if nothing had been."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.curation.engine import Pool
from cytoimagenet_hf.curation.pipeline import build
from cytoimagenet_hf.errors import BuildError
from tests.curation.builds import raw_data, tree
from tests.curation.killing import PROSE, SOURCES, keep, leftovers, made, restore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="moments are named through /proc"),
]

ROOT = Path(__file__).parents[2]


class Victim:
    """A program that builds and kills itself on demand, and what an unbroken build gives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.curation.killing", str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, moment: int = -1) -> list[str]:
        """Build until a moment; return the moments that passed before it."""
        self._process.stdin.write(f"{moment}\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert answer["status"] == (-signal.SIGKILL if moment >= 0 else 0), answer
        return answer["passed"]

    def stop(self) -> None:
        """End the program."""
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    """One program and one folder with raw data, for all kills."""
    folder = tmp_path_factory.mktemp("kills").resolve()
    raw_data(folder / "raw", SOURCES, fields=9)
    program = Victim(folder)
    yield program
    program.stop()


def records(folder: Path) -> dict[str, int]:
    """Planned records of each chunk."""
    plan = pq.read_table(folder / "out.work" / "plan.parquet", columns=["chunk", "label"])
    counts: dict[str, int] = {}
    for row in plan.to_pylist():
        counts[row["chunk"]] = counts.get(row["chunk"], 0) + (row["label"] >= 0)
    return counts


def telling(moments: list[str]) -> list[tuple[int, str]]:
    """All moments but the fsyncs of folders, before which the disk is as before the next write."""
    return [
        (number, moment)
        for number, moment in enumerate(moments)
        if not moment.startswith("fsync") or moment.endswith(".part")
    ]


def test_killed_at_each_moment_the_next_run_ends_with_the_same_bytes(victim):
    """After a kill at any write or rename nothing is missing, half, or rendered twice."""
    folder = victim.folder
    restore(folder)
    moments = victim.run()
    expected, of_chunk = tree(folder / "out"), records(folder)
    assert len(of_chunk) == 6
    for number, moment in telling(moments):
        restore(folder)
        passed = victim.run(number)
        assert passed == moments[:number]
        done = {one for one in of_chunk if any(_replaces(moment, one) for moment in passed)}
        summary = build(made(folder))
        assert summary.rendered == sum(of_chunk.values()) - sum(of_chunk[one] for one in done)
        run = json.loads((folder / "out.work" / "run.json").read_text())
        assert (run["rendered"], run["reused"]) == (summary.rendered, summary.reused)
        assert tree(folder / "out") == expected, moment
        assert leftovers(folder) == [], moment


def _replaces(moment: str, chunk: str) -> bool:
    return moment.startswith(f"replace out.work/rendered/{chunk}.arrow")


@pytest.fixture(scope="module")
def older(victim, tmp_path_factory) -> Path:
    """A copy of a finished build after another plan, whose card holds prose by hand."""
    folder = victim.folder
    restore(folder)
    build(made(folder, "old"))
    with (folder / "out" / "README.md").open("a") as card:
        card.write(PROSE)
    return keep(folder, tmp_path_factory.mktemp("older"))


@pytest.mark.parametrize("then", ["new", "old"])
def test_killed_while_replacing_a_build(victim, older, then):
    """A kill on the way to a new plan harms neither the way on nor the way back, nor the prose."""
    folder = victim.folder
    restore(folder, older)
    before = tree(folder / "out")
    moments = victim.run()
    after = tree(folder / "out")
    expected = after if then == "new" else before
    assert before.keys() != after.keys()
    assert any(moment == "rename .out.part" for moment in moments)
    for number, moment in telling(moments):
        if "/data/" in moment and not moment.startswith("rmdir"):
            continue  # files of a folder that isn't in its place; killed at above
        restore(folder, older)
        victim.run(number)
        build(made(folder, then))
        assert tree(folder / "out") == expected, moment
        assert PROSE.encode() in expected["README.md"]
        assert leftovers(folder) == [], moment


def test_a_kill_between_two_renames_is_healed_when_nothing_else_changed(victim, older):
    """The old folder comes back as it was; the run has nothing to do and makes no new one."""
    folder = victim.folder
    restore(folder, older)
    moments = victim.run()
    restore(folder, older)
    victim.run(moments.index("rename .out.part"))
    assert not (folder / "out").exists()
    summary = build(made(folder, "old"))
    assert (summary.is_new, summary.rendered) == (False, 0)
    assert tree(folder / "out") == tree(older / "out")
    assert leftovers(folder) == []


def kill_at_random(victim: Victim, kills: int) -> None:
    """Kill builds of two workers from outside, each at another moment, and run them again."""
    folder = victim.folder
    restore(folder)
    start = time.monotonic()
    started(folder).wait()
    longest = time.monotonic() - start
    expected, of_chunk = tree(folder / "out"), records(folder)
    for number in range(kills):
        restore(folder)
        process = started(folder)
        time.sleep(longest * (0.3 + 0.7 * hashing.rank(0, "kill", number) / 2**64))
        process.kill()
        process.wait()
        time.sleep(0.2)  # for its workers to end
        done = [path.stem for path in (folder / "out.work").glob("rendered/*.arrow")]
        summary = build(made(folder))
        assert summary.rendered == sum(of_chunk.values()) - sum(of_chunk[one] for one in done)
        assert tree(folder / "out") == expected, number
        assert leftovers(folder) == [], number


def started(folder: Path) -> subprocess.Popen:
    """A build of two workers in a program of its own."""
    code = (
        "import sys; from pathlib import Path; from tests.curation.killing import made; "
        "from cytoimagenet_hf.curation.pipeline import build; "
        "build(made(Path(sys.argv[1]), workers=2))"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT)


def test_killed_at_random_moments(victim):
    """Killed from outside with two workers at five moments, the next run ends with the same bytes.

    What was rendered when it was killed is not rendered again.
    """
    kill_at_random(victim, 5)


def tell_and_burn(path: str, guard) -> None:
    """Write this worker's process number to a file, and never end."""
    guard("forever", 60)
    Path(path).write_text(str(os.getpid()))
    while True:
        pass


def pool_of_one(path: str) -> None:
    """Wait for a worker that never ends."""
    from collections import deque

    with Pool(tell_and_burn, 1) as pool:
        list(pool.run(deque([path])))


def test_workers_end_with_their_parent(tmp_path):
    """A worker whose parent is killed ends at once, so that it can't write under the next run."""
    code = "import sys; from tests.curation.test_kills import pool_of_one; pool_of_one(sys.argv[1])"
    told = tmp_path / "process"
    parent = subprocess.Popen([sys.executable, "-c", code, str(told)], cwd=ROOT)
    _wait(lambda: told.exists() and told.read_text())
    worker = int(told.read_text())
    assert _lives(worker)
    parent.kill()
    parent.wait()
    _wait(lambda: not _lives(worker))


def _lives(process: int) -> bool:
    """Whether a process runs; one that has ended may wait for its new parent to notice."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def _wait(reached, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_another_work_folder_does_not_make_the_output_free(victim):
    """A run with a work folder of its own says who holds the output folder that both write."""
    own = replace(made(victim.folder), work=victim.folder / "own.work")
    with (
        files.exclusive_lock(victim.folder / "out.work" / "lock"),
        pytest.raises(BuildError, match=r"out\.work is held by process"),
    ):
        build(own)
