"""How simulated files are written."""

import re

from cytoimagenet_hf.simulation import _writing


def test_guids_have_the_form_of_the_real_ones():
    """Eight, three times four, and twelve hex digits; equal for equal names only."""
    one = _writing.guid(0, "a", 1)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", one)
    assert one == _writing.guid(0, "a", 1) != _writing.guid(0, "a", 2)


def test_wells_are_those_of_a_384_well_plate():
    """16 rows of 24."""
    assert len(_writing.WELLS) == 384
    assert (_writing.WELLS[0], _writing.WELLS[24], _writing.WELLS[-1]) == ("A01", "B01", "P24")


def test_tables_keep_ragged_rows(tmp_path):
    """Rows are written as they are, with bare line feeds; commas in cells are quoted."""
    _writing.write_table(tmp_path / "t.csv", ("a", "b"), [("1",), ("2", "x,y", 3)])
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\n1\n2,"x,y",3\n'
