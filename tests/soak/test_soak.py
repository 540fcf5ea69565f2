"""The long versions of tests that are short elsewhere: more kills, more faults, more mutants."""

import errno
import sys

import pytest

from cytoimagenet_hf.curation.pipeline import build
from tests.curation.builds import tree
from tests.curation.killing import made, restore
from tests.curation.test_faults import ERRORS, Fault, check, folder, older
from tests.curation.test_kills import kill_at_random, victim
from tests.imaging.test_hostile import REASONS, mutants, originals

__all__ = ["folder", "older", "originals", "victim"]  # fixtures

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(sys.platform != "linux", reason="moments are named through /proc"),
]

MUTANTS, AT_ONCE = 10_000, 500


def test_killed_at_twenty_random_moments(victim):
    """Killed from outside with two workers, the next run ends with the same bytes, twenty times."""
    kill_at_random(victim, 20)


@pytest.mark.parametrize("lasts", [False, True])
@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.__getitem__)
def test_each_fault_at_each_change(folder, older, code, lasts):
    """Each error at each change on the way to a new plan is typed, and the next run is right."""
    restore(folder, older)
    before, plain = tree(folder / "out"), Fault()
    with plain.injected(folder):
        build(made(folder))
    expected = tree(folder / "out")
    for number in range(len(plain.moments)):
        restore(folder, older)
        check(folder, before, expected, Fault(number, code, lasts=lasts))


@pytest.mark.parametrize("first", range(0, MUTANTS, AT_ONCE))
def test_ten_thousand_mutants(originals, tmp_path, first):
    """10,000 spoiled files: no crash, none over 5 s or 1.5 GB, each row with a known reason."""
    found = mutants(originals, range(first, first + AT_ONCE), tmp_path)
    assert {"kept", "unreadable"} <= found <= REASONS
