"""Tests of the split into train and validation: groups, shares, and what falls short."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoimagenet_hf.curation.splits import split_groups
from tests.curation import oracles

_rows = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 14).map("g{}".format)), min_size=1, max_size=60
)
_quick = settings(max_examples=150, deadline=None, derandomize=True)


def groups_by_label(rows) -> dict[int, set[str]]:
    """Collect the groups of each label."""
    found = defaultdict(set)
    for label, group in rows:
        found[label].add(group)
    return found


@_quick
@given(
    rows=_rows,
    share=st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.9]),
    seed=st.integers(0, 3),
    published=st.sets(st.integers(0, 14).map("g{}".format), max_size=3),
)
def test_split_equals_a_slow_oracle(rows, share, seed, published) -> None:
    """Groups held out and labels that fall short are those that the plain rule gives."""
    split = split_groups(rows, share=share, seed=seed, held_out=published)
    out, short = oracles.held_out(rows, share, seed, published)
    assert split.validation == out
    assert dict(split.short) == short


@_quick
@given(rows=_rows, share=st.sampled_from([0.1, 0.5, 0.9]))
def test_each_label_keeps_train_and_reaches_its_share_or_is_reported(rows, share) -> None:
    """No label is without train; it has its wanted number of groups held out, or is in `short`."""
    split = split_groups(rows, share=share, seed=0)
    for label, groups in groups_by_label(rows).items():
        outside = groups - split.validation
        inside = len(groups & split.validation)
        assert outside
        if len(groups) == 1:
            assert inside == 0
            assert label not in split.short
            continue
        wanted = max(1, round(share * len(groups)))
        assert (inside >= wanted) == (label not in split.short)
        assert split.short.get(label, (inside, wanted)) == (inside, wanted)


@_quick
@given(rows=_rows, data=st.data())
def test_split_knows_no_order_of_rows(rows, data) -> None:
    """Rows in another order, and rows that come twice, give the same split."""
    other = data.draw(st.permutations(rows)) + rows[:3]
    assert split_groups(other, share=0.3, seed=0) == split_groups(rows, share=0.3, seed=0)


def test_shares_by_hand() -> None:
    """Of 20 groups two are held out, of nine one, of two one, of one none."""
    rows = [
        (label, f"{label}-{number}")
        for label, groups in enumerate((20, 9, 2, 1))
        for number in range(groups)
    ]
    split = split_groups(rows, share=0.1, seed=0)
    counts = [len(groups & split.validation) for groups in groups_by_label(rows).values()]
    assert counts == [2, 1, 1, 0]
    assert split.short == {}


def test_labels_with_fewest_groups_choose_first() -> None:
    """The label with two groups holds one out, and that one counts for the label with three."""
    rows = [(0, "a"), (0, "b"), (0, "c"), (1, "a"), (1, "b")]
    split = split_groups(rows, share=0.1, seed=0)
    assert len(split.validation) == 1
    assert split.validation < {"a", "b"}


def test_one_group_of_a_label_binds_the_other_labels_in_it() -> None:
    """A label with a single group keeps it in train, so the other label is reported as short."""
    rows = [(0, "a"), (1, "a"), (1, "b"), (2, "b")]
    split = split_groups(rows, share=0.5, seed=0)
    assert split.validation == frozenset()
    assert split.short == {1: (0, 1)}


def test_held_out_groups_stay_held_out_and_count() -> None:
    """A published group is not given back, even when it is a label's only one."""
    rows = [(0, "a"), *((1, f"b{number}") for number in range(10))]
    split = split_groups(rows, share=0.1, seed=0, held_out=["a", "b3", "gone"])
    assert split.validation == {"a", "b3"}


def test_a_published_group_blocks_the_last_one_of_its_label() -> None:
    """With one of two groups published in validation, the other one stays in train."""
    rows = [(0, "a"), (0, "b")]
    split = split_groups(rows, share=0.9, seed=0, held_out=["a"])
    assert split.validation == {"a"}
    assert split.short == {0: (1, 2)}


def test_published_training_groups_stay_in_train() -> None:
    """Of three groups the one that is not published is held out, whatever the seed."""
    rows = [(0, "a"), (0, "b"), (0, "c")]
    for seed in range(10):
        split = split_groups(rows, share=0.3, seed=seed, trained=["a", "c"])
        assert split.validation == {"b"}


def test_seed_changes_groups_and_not_their_number() -> None:
    """Ten of a hundred groups are held out, other ones under another seed."""
    rows = [(0, f"g{number}") for number in range(100)]
    first, second = (split_groups(rows, share=0.1, seed=seed).validation for seed in (0, 1))
    assert len(first) == len(second) == 10
    assert first != second


@pytest.mark.parametrize(("groups", "expected"), [(2, 1), (14, 1), (16, 2), (94, 9), (96, 10)])
def test_share_is_rounded(groups, expected) -> None:
    """A tenth is rounded to the nearest whole number of groups, and is at least one."""
    rows = [(0, f"g{number}") for number in range(groups)]
    assert len(split_groups(rows, share=0.1, seed=5).validation) == expected
