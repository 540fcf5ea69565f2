"""Errors say what and where, and survive the way from a worker process."""

import pickle

import pytest

from cytoimagenet_hf import errors


def kinds():
    """All error classes of the package but their base."""
    return [
        kind
        for name, kind in sorted(vars(errors).items())
        if isinstance(kind, type) and kind is not errors.CytoImageNetError
    ]


@pytest.mark.parametrize("kind", kinds())
def test_all_errors_can_be_caught_as_one(kind):
    """`except CytoImageNetError` catches each error that the package raises on purpose."""
    assert issubclass(kind, errors.CytoImageNetError)
    assert kind.__doc__


@pytest.mark.parametrize("kind", kinds())
def test_errors_cross_processes(kind):
    """Pickled and read again, an error has the same class, text and attributes."""
    error = kind("plate.csv, line 3")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert str(back) == str(error) == "plate.csv, line 3"
    assert vars(back) == vars(error)


def test_a_refusal_keeps_its_reason_apart_from_what_was_found():
    """The reason is counted, the detail goes into a table, and the text has both."""
    error = errors.ImageRefusedError("too small", "31 x 80")
    back = pickle.loads(pickle.dumps(error))
    assert (back.reason, back.detail) == ("too small", "31 x 80")
    assert str(back) == "too small: 31 x 80"
    assert str(errors.ImageRefusedError("dim")) == "dim"
