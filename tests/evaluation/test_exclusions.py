"""Bank rows that are no neighbors of a query, by keys."""

import pytest

from cytoimagenet_hf.evaluation.exclusions import exclusions

SETS = (frozenset("ab"), frozenset("b"), frozenset("bc"), frozenset(), "b")


def rows(excluded):
    """List excluded rows of each query."""
    return [excluded.rows(at).tolist() for at in range(len(excluded))]


def test_equal_text_excludes():
    """Query x: rows 0 and 2; query z occurs nowhere."""
    assert rows(exclusions([("x", "z")], [("x", "y", "x")])) == [[0, 2], []]


def test_any_key_excludes_once():
    """Row 1 shares both keys, row 0 the first, row 2 the second."""
    assert rows(exclusions([("x",), ("p",)], [("x", "x", "y"), ("q", "p", "p")])) == [[0, 1, 2]]


def test_any_shared_value_of_sets_excludes():
    """{a, b} meets {a, b}, {b}, {b, c} and the text b; the empty set meets nothing."""
    assert rows(exclusions([(frozenset("ab"), frozenset())], [SETS])) == [[0, 1, 2, 4], []]


def test_whole_values_are_compared_where_asked():
    """{b} and the text b are equal; {a, b} only overlaps; an empty set equals an empty one."""
    assert rows(exclusions([("b", frozenset())], [SETS], equal=[0])) == [[1, 4], [3]]


def test_the_second_key_only_is_compared_whole():
    """{a} shares a with {a, b} in the first key, and equals nothing in the second."""
    key = (frozenset("a"),)
    assert rows(exclusions([key, key], [(frozenset("ab"), "c"), (frozenset("ab"), "c")], [1])) == [
        [0]
    ]


def test_keys_of_other_lengths_are_refused():
    """A key has a value for each row, and both sides have the same keys."""
    with pytest.raises(ValueError, match=r"different lengths: \[1, 2\]"):
        exclusions([("a",), ("a", "b")], [("a",), ("a",)])
    with pytest.raises(ValueError, match="1 keys of queries, but 0"):
        exclusions([("a",)], [])
