"""The door of the simulations: names, guards, and equal bytes for equal seeds."""

import hashlib
from pathlib import Path

import pytest

from cytoimagenet_hf import simulation


def digests(root: Path) -> dict[str, str]:
    """The sha256 of every file of a folder, hidden ones too."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_helpers_are_no_simulations():
    """Modules that start with `_` hold the microscope, not a source."""
    assert "bbbc006" in simulation.names()
    assert not [name for name in simulation.names() if name.startswith("_")]


def test_an_unknown_name_is_answered_with_near_ones():
    """A slip of one digit gets a suggestion."""
    with pytest.raises(ValueError, match=r"Did you mean .*bbbc006"):
        simulation.get("bbbc0006")


@pytest.mark.parametrize("fields", [0, -1, 769])
def test_the_number_of_fields_is_bounded(tmp_path, fields):
    """BBBC006 has 768 fields, so there are no names for more."""
    with pytest.raises(ValueError, match=r"within 1\.\.768"):
        simulation.simulate("bbbc006", tmp_path, fields=fields)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", simulation.names())
def test_equal_seeds_give_equal_bytes(written, tmp_path, name):
    """Two runs differ in no byte of no file, and return the same truth."""
    first = written(name)
    assert simulation.simulate(name, tmp_path, fields=8) == first.truth
    assert digests(tmp_path / name) == digests(first.root)


@pytest.mark.parametrize("name", simulation.names())
def test_another_seed_gives_other_pictures(written, tmp_path, name):
    """No picture of seed 0 comes back with seed 1."""
    old = written(name)
    new = simulation.simulate(name, tmp_path, fields=8, seed=1)
    seen = {digests(old.root)[path] for path in old.truth}
    assert seen.isdisjoint({digests(tmp_path / name)[path] for path in new})


def test_more_fields_leave_the_first_ones_alone(written):
    """The pixels of a field depend on its name, not on how many are made."""
    few, many = written("bbbc048", 8), written("bbbc048", 60)
    assert set(few.truth) < set(many.truth)
    for path in few.truth:
        assert (few.root / path).read_bytes() == (many.root / path).read_bytes()


def test_real_files_are_never_mixed_with_simulated_ones(tmp_path):
    """A folder that holds a file of someone else's is refused and left as it is."""
    mine = tmp_path / "bbbc048" / "CellCycle" / "G1" / "1_Ch3.ome.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"real")
    with pytest.raises(ValueError, match="files that are not simulated"):
        simulation.simulate("bbbc048", tmp_path, fields=4)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]
    assert mine.read_bytes() == b"real"


def test_two_simulations_are_never_mixed(tmp_path):
    """Another seed wants another folder; the same one may be written again."""
    simulation.simulate("bbbc048", tmp_path, fields=4)
    simulation.simulate("bbbc048", tmp_path, fields=4)
    with pytest.raises(ValueError, match="another simulation"):
        simulation.simulate("bbbc048", tmp_path, fields=4, seed=1)


@pytest.mark.parametrize("name", simulation.names())
def test_each_folder_says_that_it_is_simulated(written, name):
    """SIMULATED.txt lies in the root and names source, fields and seed."""
    text = (written(name).root / "SIMULATED.txt").read_text(encoding="utf-8")
    assert "show no real cells" in text
    assert f"{name}, 8 fields, seed 0" in text
