"""Simulated cells and the stains that show them."""

import numpy as np

from cytoimagenet_hf.simulation import _cells, _optics

SHAPE = (200, 300)


def grown(count=20, **options):
    """Some cells on a small field."""
    return _cells.grow(_optics.generator(0, "cells"), SHAPE, count, **options)


def test_cells_lie_in_the_field_and_keep_their_distance():
    """No two nuclei have their centers within 1.7 radii of 10 pixels."""
    cells = grown(radius=10)
    assert len(cells.y) == 20
    assert ((cells.y >= 0) & (cells.y < 200) & (cells.x >= 0) & (cells.x < 300)).all()
    apart = np.hypot(cells.y[:, None] - cells.y, cells.x[:, None] - cells.x)
    assert apart[~np.eye(20, dtype=bool)].min() > 17


def test_a_crowded_field_takes_what_fits():
    """Asked for 2,000 cells, the field takes fewer and ends."""
    assert 20 < len(grown(2_000).y) < 1000


def test_a_look_changes_the_count():
    """Half the count of 40 is 20."""
    assert len(grown(40, radius=5, look=_cells.Look(count=0.5)).y) == 20


def test_treatments_have_looks_of_their_own():
    """A name always has the same look, others have others, and no name is the plain look."""
    assert _cells.look_of("taxol") == _cells.look_of("taxol")
    assert len({_cells.look_of(name) for name in ("", "taxol", "fccp", "vitexin")}) == 4
    assert _cells.look_of("") == _cells.Look()


def test_each_nucleus_is_bright_at_its_center():
    """Every center is brighter than half of the cell's own brightness, the far field is 0."""
    cells = grown(10, look=_cells.Look(dying=0))
    plane = _cells.nuclei(_optics.generator(1), cells)
    centers = plane[cells.y.astype(int), cells.x.astype(int)]
    assert (centers > 0.5 * cells.bright).all()
    assert np.median(plane) == 0


def test_labels_number_the_nuclei():
    """Each center bears its number or that of a later cell above it."""
    cells = grown(10)
    mask = _cells.label_mask(cells)
    assert mask.max() == 10
    numbers = mask[cells.y.astype(int), cells.x.astype(int)]
    assert (numbers >= np.arange(1, 11)).all()


def test_bodies_surround_nuclei_at_any_shape():
    """Planes have the field's shape, odd sides too, and each center is inside of a body."""
    cells = _cells.grow(_optics.generator(0), (201, 299), 10)
    body = _cells.bodies(_optics.generator(1), cells)
    for plane in (body.inside, body.rim, body.fiber, body.near):
        assert plane.shape == (201, 299)
        assert plane.min() >= 0
    assert (body.inside[cells.y.astype(int), cells.x.astype(int)] > 0.5).all()


def test_spots_are_near_their_cell():
    """Without an offset the only spot of a cell lies at its center."""
    cells = grown(1)
    plane = _cells.spots(_optics.generator(1), cells, each=1, radius=3, offset=0)
    peak = np.unravel_index(plane.argmax(), SHAPE)
    assert np.hypot(peak[0] - cells.y[0], peak[1] - cells.x[0]) < 1


def test_bodies_at_one_border_leave_no_trace_at_the_other():
    """A cell at the top doesn't wrap around: the last row stays dark."""
    cells = grown(30)
    top = cells.y < 60
    few = _cells.Cells(
        shape=SHAPE,
        **{
            name: getattr(cells, name)[top]
            for name in ("y", "x", "angle", "long", "short", "bend", "body", "bright")
        },
    )
    body = _cells.bodies(_optics.generator(1), few)
    assert body.inside[0].max() > 0.5
    assert body.inside[-1].max() == 0
