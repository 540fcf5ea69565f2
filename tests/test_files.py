"""Whole files or none, one run at a time, and listings in a fixed order."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from cytoimagenet_hf import files
from cytoimagenet_hf.errors import BuildError, DiskError


def listed(folder):
    """The relative paths that `walk` yields."""
    return [path for path, _ in files.walk(folder)]


def touch(folder, *paths):
    """Make small files."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)


def link(path, target, *, folder=False):
    """Make a symbolic link, or skip the test where the system allows none."""
    try:
        path.symlink_to(target, target_is_directory=folder)
    except OSError:
        pytest.skip("no symbolic links here")


def child(code, *arguments):
    """Start Python code in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )


# Replacing.


def test_a_finished_block_replaces_the_file(tmp_path):
    """The new bytes stand under the name, nothing else in the folder, which was made."""
    path = tmp_path / "new" / "plan.txt"
    for text in ("old", "new"):
        with files.replacing(path) as aside:
            assert aside.parent == path.parent
            aside.write_text(text)
        assert path.read_text() == text
    assert listed(tmp_path) == ["new/plan.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("begun", [True, False])
def test_a_block_that_raises_changes_nothing(tmp_path, error, begun):
    """The old file stays, the half-written one goes, the error comes through."""
    path = tmp_path / "plan.txt"
    path.write_text("old")
    with pytest.raises(error), files.replacing(path) as aside:  # noqa: PT012
        if begun:
            aside.write_text("half")
        raise error
    assert os.listdir(tmp_path) == ["plan.txt"]
    assert path.read_text() == "old"


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    """A forgotten write can't leave an empty file behind, nor remove the old one."""
    path = tmp_path / "plan.txt"
    path.write_text("old")
    with pytest.raises(DiskError), files.replacing(path):
        pass
    assert path.read_text() == "old"


def test_a_file_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    """Renamed first, a file could be empty after a power cut."""
    steps = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append("sync"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda old, new: (steps.append("name"), rename(old, new)))
    files.write_text(tmp_path / "a.txt", "x")
    assert steps[:2] == ["sync", "name"]
    assert steps[2:] == ([] if os.name == "nt" else ["sync"])


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, step):
    """An error of the system while syncing or renaming is raised, and nothing is left over."""
    path = tmp_path / "plan.txt"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(DiskError, match="No space left on device") as caught:
        files.write_text(path, "new")
    assert str(path) in str(caught.value)
    assert os.listdir(tmp_path) == ["plan.txt"]
    assert path.read_text() == "old"


@pytest.mark.slow
@pytest.mark.parametrize("end", ["os._exit(3)", "print('ready', flush=True); time.sleep(60)"])
def test_a_killed_process_leaves_the_old_file(tmp_path, end):
    """Ended without warning while writing, by itself or from outside, it changes nothing."""
    path = tmp_path / "plan.txt"
    path.write_text("old")
    code = f"""
        import os, sys, time
        from pathlib import Path
        from cytoimagenet_hf import files
        with files.replacing(Path(sys.argv[1])) as aside:
            aside.write_text("half")
            {end}
    """
    process = child(code, path)
    if "ready" in end:
        assert process.stdout.readline() == "ready\n"
        process.kill()
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert path.read_text() == "old"
    files.write_text(path, "new")
    assert path.read_text() == "new"


def test_text_is_the_same_on_every_system(tmp_path):
    """Line feeds stay bare and letters are UTF-8."""
    files.write_text(tmp_path / "a.txt", "µm\nx\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc2\xb5m\nx\n"


def test_json_is_sorted_and_comes_back(tmp_path):
    """Equal values give equal bytes, whatever the order in which they were put together."""
    files.write_json(tmp_path / "a.json", {"b": [1, None], "a": "µ"})
    files.write_json(tmp_path / "b.json", {"a": "µ", "b": [1, None]})
    data = (tmp_path / "a.json").read_bytes()
    assert data == (tmp_path / "b.json").read_bytes()
    assert data.endswith(b"}\n")
    assert files.read_json(tmp_path / "a.json") == {"a": "µ", "b": [1, None]}


def test_names_that_are_no_utf8_can_be_written(tmp_path):
    """Python gives the foreign byte of a folder's name as a lone surrogate; it comes back so."""
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    files.write_json(tmp_path / "a.json", {"root": name})
    assert rb"caf\udce9" in (tmp_path / "a.json").read_bytes()
    assert files.read_json(tmp_path / "a.json") == {"root": name}


@pytest.mark.parametrize("data", [b"", b'{"a": 1', b"\0" * 50, b"\xff\xfe{}", b"\xc3"])
def test_an_unfinished_json_file_is_none(tmp_path, data):
    """Cut short, zeroed or overwritten with other bytes, a note of ours counts as not there."""
    path = tmp_path / "a.json"
    path.write_bytes(data)
    assert files.read_json(path) is None
    assert files.read_json(tmp_path / "absent.json") is None


def test_an_error_of_the_disk_names_the_file_and_the_next_step(tmp_path):
    """Where a folder is a file, nothing can be written; the message says where and what to do."""
    touch(tmp_path, "taken")
    with pytest.raises(DiskError, match="run the same command again") as caught:
        files.write_text(tmp_path / "taken" / "plan.txt", "x")
    assert str(tmp_path / "taken") in str(caught.value)


def test_sweeping_removes_half_written_files_only(tmp_path):
    """What a killed run left goes, at any depth; finished files stay, and `.part` of others."""
    touch(tmp_path, "a.arrow", "a.arrow.77.part", "deep/er/b.77.part", "part", "part.txt")
    touch(tmp_path, "film.mkv.part", "folder.5.part/inside")
    files.sweep(tmp_path)
    assert listed(tmp_path) == [
        "a.arrow", "film.mkv.part", "folder.5.part/inside", "part", "part.txt",
    ]  # fmt: skip


def test_a_killed_runs_leftovers_are_swept(tmp_path):
    """The name under which a file is written is one that `sweep` knows."""
    with files.replacing(tmp_path / "a.arrow") as aside:
        aside.write_text("half")
        files.sweep(tmp_path)
        assert not aside.exists()
        aside.write_text("whole")
    assert listed(tmp_path) == ["a.arrow"]


def test_a_forgotten_file_is_gone(tmp_path):
    """Forgetting twice is no error."""
    touch(tmp_path, "done.json")
    files.forget(tmp_path / "done.json")
    files.forget(tmp_path / "done.json")
    assert listed(tmp_path) == []


# Walking.


def test_listings_are_sorted_by_the_whole_path(tmp_path):
    """a-b comes before a/c, as `-` comes before `/`, whatever the folders' order."""
    touch(tmp_path, "b/x", "a/c", "a-b", "a/B", "B", "a/b/deep/er")
    assert listed(tmp_path) == ["B", "a-b", "a/B", "a/b/deep/er", "a/c", "b/x"]


def test_listings_tell_sizes(tmp_path):
    """The second part of each entry is its stat."""
    touch(tmp_path, "a/four")
    ((path, stat),) = files.walk(tmp_path)
    assert (path, stat.st_size) == ("a/four", 6)


def test_hidden_names_are_passed_over(tmp_path):
    """`.DS_Store` and what lies in `.git` are no data; a name with a dot inside is."""
    touch(tmp_path, ".DS_Store", "a/.htaccess", ".git/x", "a/b.tif", "x.d/y")
    assert listed(tmp_path) == ["a/b.tif", "x.d/y"]


def test_links_are_followed(tmp_path):
    """A link to a file counts with the file's size, one to a folder with what is in it."""
    touch(tmp_path, "far/plate/a.tif", "far/b.tif")
    root = tmp_path / "root"
    root.mkdir()
    link(root / "z.tif", tmp_path / "far" / "b.tif")
    link(root / "plate", tmp_path / "far" / "plate", folder=True)
    assert listed(root) == ["plate/a.tif", "z.tif"]
    assert {path: stat.st_size for path, stat in files.walk(root)} == {
        "plate/a.tif": len("far/plate/a.tif"),
        "z.tif": len("far/b.tif"),
    }


def test_two_links_to_one_folder_are_two_folders(tmp_path):
    """Its files are there under both names, and under its own."""
    touch(tmp_path, "pg/a.tif")
    (tmp_path / "ln").mkdir()
    for name in ("plate1", "plate2"):
        link(tmp_path / "ln" / name, "../pg", folder=True)
    assert listed(tmp_path / "ln") == ["plate1/a.tif", "plate2/a.tif"]
    assert listed(tmp_path) == ["ln/plate1/a.tif", "ln/plate2/a.tif", "pg/a.tif"]


def test_loops_of_links_end(tmp_path):
    """No path passes a folder twice: links to the root, to its parent and to each other end."""
    touch(tmp_path, "root/a/x", "root/b/y")
    root = tmp_path / "root"
    link(root / "a" / "up", root, folder=True)
    link(root / "a" / "over", root / "b", folder=True)
    link(root / "b" / "back", root / "a", folder=True)
    link(root / "b" / "far", tmp_path, folder=True)
    assert listed(root) == ["a/over/y", "a/x", "b/back/x", "b/y"]


def test_folders_full_of_links_to_each_other_are_listed_soon(tmp_path):
    """Ten such folders have ten million paths; each is there by its name and over any one link."""
    names = [f"f{at}" for at in range(10)]
    touch(tmp_path, *(f"{name}/x" for name in names))
    for name in names:
        for other in names:
            link(tmp_path / name / f"to_{other}", tmp_path / other, folder=True)
    found = listed(tmp_path)
    assert {f"{name}/x" for name in names} < set(found)
    assert {f"{a}/to_{b}/x" for a in names for b in names if a != b} < set(found)
    assert len(found) == 10 + 90 + 10 * files._DETOURS


def test_links_that_lead_nowhere_are_passed_over(tmp_path):
    """A link to itself, to nothing, or two links to each other are no files."""
    touch(tmp_path, "x")
    link(tmp_path / "self", "self")
    link(tmp_path / "absent", "nothing")
    link(tmp_path / "one", "two")
    link(tmp_path / "two", "one")
    assert listed(tmp_path) == ["x"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipes_are_no_files(tmp_path):
    """Reading a pipe would wait for ever."""
    touch(tmp_path, "x")
    os.mkfifo(tmp_path / "pipe")
    assert listed(tmp_path) == ["x"]


def test_a_folder_that_is_absent_is_an_error(tmp_path):
    """No folder is not an empty folder."""
    with pytest.raises(FileNotFoundError):
        listed(tmp_path / "absent")


# Locking.


def test_a_second_holder_is_told_who_is_first(tmp_path):
    """The error names the folder, the process and what to do; afterwards the lock is free."""
    path = tmp_path / "work" / "plan.lock"
    with files.exclusive_lock(path):
        with pytest.raises(BuildError, match=f"process {os.getpid()}") as caught:  # noqa: SIM117
            with files.exclusive_lock(path):
                pytest.fail("two runs hold one lock")
        assert str(path.parent) in str(caught.value)
        assert "--work" in str(caught.value)
    with files.exclusive_lock(path):
        pass


def test_an_error_frees_the_lock(tmp_path):
    """A run that fails doesn't keep the next one out."""
    path = tmp_path / "plan.lock"
    with pytest.raises(ValueError, match="broken"), files.exclusive_lock(path):
        raise ValueError("broken")
    with files.exclusive_lock(path):
        pass


def test_different_locks_are_independent(tmp_path):
    """Parts of a build lock their own chunks only."""
    with files.exclusive_lock(tmp_path / "a.lock"), files.exclusive_lock(tmp_path / "b.lock"):
        pass


def test_a_holder_without_a_name_is_another_process(tmp_path):
    """Between locking and writing its name a holder can't be named; that is no error."""
    path = tmp_path / "plan.lock"
    with files.exclusive_lock(path):
        path.with_suffix(".holder").unlink()
        with pytest.raises(BuildError, match="another process"), files.exclusive_lock(path):
            pytest.fail("two runs hold one lock")


@pytest.mark.slow
def test_a_killed_holder_is_named_while_it_lives_and_frees_the_lock(tmp_path):
    """The error names the other process; killed without warning, it leaves the lock free."""
    path = tmp_path / "plan.lock"
    code = """
        import sys, time
        from pathlib import Path
        from cytoimagenet_hf import files
        with files.exclusive_lock(Path(sys.argv[1])):
            print("held", flush=True)
            time.sleep(60)
    """
    process = child(code, path)
    assert process.stdout.readline() == "held\n"
    try:
        with (
            pytest.raises(BuildError, match=f"process {process.pid}[.]"),
            files.exclusive_lock(path),
        ):
            pytest.fail("two runs hold one lock")
    finally:
        process.kill()
        process.communicate(timeout=60)
    with files.exclusive_lock(path):
        assert f"{os.getpid()}" in path.with_suffix(".holder").read_text()
