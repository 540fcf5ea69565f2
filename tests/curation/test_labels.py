"""Tests of the label plan, against a slow oracle and against tables that can be checked by hand."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytoimagenet_hf.curation.labels import (
    Cells,
    Fields,
    Pins,
    allocate,
    label_texts,
    plan_labels,
)
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.hashing import rank
from cytoimagenet_hf.schema import CATEGORIES
from tests.curation import oracles

_VALUES = ("a", "b", "c", "ab", "a targeted")
_SOURCES = ("s0", "s1", "s2")
_cells = st.dictionaries(
    st.sampled_from(CATEGORIES),
    st.frozensets(st.sampled_from(_VALUES), min_size=1, max_size=3),
    max_size=4,
)
_tables = st.lists(st.tuples(st.sampled_from(_SOURCES), _cells), max_size=40).map(
    lambda rows: [(f"{source}/{at:02d}", source, cells) for at, (source, cells) in enumerate(rows)]
)
_quick = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def fields_of(table, *, shuffle: int | None = None) -> Fields:
    """Code a table of the oracle; `shuffle` permutes codes and adds ones that nothing has."""
    columns = {}
    for category in CATEGORIES:
        texts = ["|".join(sorted(cells.get(category, ()))) for _, _, cells in table]
        known = sorted(set(texts) - {""})
        if shuffle is not None:
            known = [*known, "zz|unused"]
            random.Random(shuffle).shuffle(known)
        codes = [known.index(text) if text else -1 for text in texts]
        columns[category] = Cells(np.array(codes, np.int32), known)
    names = list(_SOURCES if shuffle is None else _SOURCES[::-1])
    return Fields(
        hashes=np.array([rank(0, "field", idx) for idx, _, _ in table], np.uint64),
        sources=np.array([names.index(source) for _, source, _ in table], np.int32),
        source_names=names,
        cells=columns,
    )


def planned(table, parameters, *, shuffle: int | None = None):
    """Plan a table; give the label of each field by its id, and the report."""
    plan = plan_labels(fields_of(table, shuffle=shuffle), parameters)
    labels = [(row.category, row.value) for row in plan.labels]
    given_labels = {
        idx: labels[code]
        for (idx, _, _), code in zip(table, plan.assigned, strict=True)
        if code >= 0
    }
    return given_labels, plan.labels


def made(counts, *, source: str = "s0"):
    """Make a table of `count` fields for each dictionary of cells."""
    rows = [cells for cells, count in counts for _ in range(count)]
    return [
        (f"{source}/{at:03d}", source, {name: frozenset(values) for name, values in cells.items()})
        for at, cells in enumerate(rows)
    ]


@_quick
@given(
    table=_tables,
    least=st.integers(1, 4),
    room=st.integers(0, 4),
    further=st.integers(0, 6),
    seed=st.integers(0, 3),
    how=st.sampled_from(["equal", "proportional"]),
)
def test_plan_equals_a_slow_oracle(table, least, room, further, seed, how) -> None:
    """Labels, order, counts, strata and entropy are those that the plain rules give."""
    parameters = Parameters(
        min_fields=least,
        max_fields=least + room,
        presample=least + room + further,
        seed=seed,
        allocation=how,
    )
    expected, report = oracles.plan(table, parameters)
    found, labels = planned(table, parameters)
    assert found == expected
    assert [(row.category, row.value, row.candidates) for row in labels] == [
        (row["category"], row["value"], row["candidates"]) for row in report
    ]
    for row, want in zip(labels, report, strict=True):
        assert row.free == want.get("free", 0)
        assert row.assigned == want.get("assigned", 0)
        assert row.sources == want.get("sources", ())
        assert bool(row.dropped_reason) == ("dropped" in want)
        if "strata" in want:
            assert (row.strata, row.strata_covered) == (want["strata"], want["strata_covered"])
            assert row.entropy == pytest.approx(want["entropy"], abs=1e-4)


@_quick
@given(table=_tables, shuffle=st.integers(0, 99))
def test_plan_knows_neither_order_nor_codes(table, shuffle) -> None:
    """Shuffled fields under other codes get the same labels and the same report."""
    parameters = Parameters(min_fields=2, max_fields=4, presample=7)
    other = random.Random(shuffle).sample(table, len(table))
    assert planned(other, parameters, shuffle=shuffle) == planned(table, parameters)


def test_plan_by_hand() -> None:
    """Rarest first: g1 takes its two fields, u2os what is left of its four, human the last three.

    Seven fields: 2 of g1 and u2os, 2 of u2os, 3 of nobody but human; "rare" has one field.
    """
    table = made(
        [
            ({"phenotype": ["g1"], "cell_type": ["u2os"], "organism": ["human"]}, 2),
            ({"cell_type": ["u2os"], "organism": ["human"]}, 2),
            ({"organism": ["human"]}, 2),
            ({"organism": ["human"], "gene": ["rare"]}, 1),
        ]
    )
    found, labels = planned(table, Parameters(min_fields=2, max_fields=1000))
    assert list(found.values()) == [
        *[("phenotype", "g1")] * 2,
        *[("cell_type", "u2os")] * 2,
        *[("organism", "human")] * 3,
    ]
    assert [(row.value, row.candidates, row.free, row.assigned) for row in labels] == [
        ("rare", 1, 0, 0),
        ("g1", 2, 2, 2),
        ("u2os", 4, 2, 2),
        ("human", 7, 3, 3),
    ]
    # human: two fields without a gene and one with "rare": shares 2/3 and 1/3
    assert (labels[3].strata, labels[3].strata_covered) == (2, 2)
    assert labels[3].entropy == pytest.approx(math.log2(3) - 2 / 3, abs=1e-4)


def test_published_labels_stay_and_take_only_the_places_left() -> None:
    """Of five fields of "a" two are published; with room for four, two of the others join them.

    "gone" occurs no more and stays a label; the field pinned to it is not free for "a".
    """
    table = made([({"gene": ["a"]}, 6)])
    pins = Pins(
        taken={("gene", "a"): 2, ("gene", "gone"): 1},
        of_field=[(0, ("gene", "a")), (1, ("gene", "a")), (2, ("gene", "gone"))],
    )
    plan = plan_labels(fields_of(table), Parameters(min_fields=4, max_fields=4), pins)
    named = [plan.labels[code].value if code >= 0 else "" for code in plan.assigned]
    assert named[:3] == ["a", "a", "gone"]
    assert sorted(named[3:]) == ["", "a", "a"]
    assert {
        row.value: (row.candidates, row.assigned, row.dropped_reason) for row in plan.labels
    } == {
        "a": (6, 4, ""),
        "gone": (0, 1, ""),
    }


def test_a_published_label_with_no_place_takes_nothing() -> None:
    """Its 1,000 fields are published, none of them is here, and the three here stay free."""
    plan = plan_labels(
        fields_of(made([({"gene": ["a"]}, 3)])), Parameters(), Pins(taken={("gene", "a"): 1000})
    )
    assert plan.assigned.tolist() == [-1, -1, -1]
    assert (plan.labels[0].free, plan.labels[0].assigned) == (3, 1000)


def test_each_dropped_label_says_why() -> None:
    """Too rare, and rare after rarer labels took their fields, are two reasons with numbers."""
    table = made(
        [
            ({"gene": ["one"]}, 1),
            ({"compound": ["a"], "phenotype": ["b"]}, 3),
            ({"phenotype": ["b"]}, 2),
        ]
    )
    found, labels = planned(table, Parameters(min_fields=3))
    assert {row.value: row.dropped_reason for row in labels} == {
        "one": "fewer than 3 fields",
        "a": "",
        "b": "fewer than 3 free fields (3 taken by rarer labels)",
    }
    assert len(found) == 3  # the two left of "b" stay free


def test_fields_of_a_skipped_label_stay_free_for_later_ones() -> None:
    """A label with too few free fields takes none, so that a broader one gets them."""
    table = made(
        [
            ({"compound": ["a"], "phenotype": ["b"], "organism": ["human"]}, 3),
            ({"phenotype": ["b"], "organism": ["human"]}, 2),
            ({"organism": ["human"]}, 1),
        ]
    )
    found, _ = planned(table, Parameters(min_fields=3))
    assert [label for _, label in found.values()] == ["a"] * 3 + ["human"] * 3


def test_values_are_compared_whole() -> None:
    """The label rab5 gets neither rab5a nor rab5 targeted, and dots and brackets mean themselves.

    The authors searched for substrings as regular expressions (curation.md 3).
    """
    table = made(
        [
            ({"cell_visible": ["rab5"]}, 2),
            ({"cell_visible": ["rab5a", "nucleus"]}, 2),
            ({"gene": ["rab5 targeted"]}, 2),
            ({"compound": ["(-)-cotinine"]}, 2),
            ({"compound": ["il.1"]}, 2),
            ({"compound": ["il-1"]}, 2),
        ]
    )
    _, labels = planned(table, Parameters(min_fields=2))
    assert {row.value: row.candidates for row in labels} == dict.fromkeys(
        ("rab5", "rab5a", "nucleus", "rab5 targeted", "(-)-cotinine", "il.1", "il-1"), 2
    )


def test_one_value_in_two_categories_is_two_labels() -> None:
    """Equal counts go by the order of the categories, and each field is given once."""
    table = made([({"compound": ["x"], "gene": ["x"]}, 2), ({"gene": ["x"]}, 0)])
    found, labels = planned(table, Parameters(min_fields=1))
    assert set(found.values()) == {("compound", "x")}
    assert [row.category for row in labels] == ["compound", "gene"]
    assert labels[1].dropped_reason == "fewer than 1 free fields (2 taken by rarer labels)"


def test_seed_changes_choices_and_not_counts() -> None:
    """Another seed takes other fields, as many of each stratum."""
    table = made([({"organism": ["human"], "gene": [str(at % 4)]}, 1) for at in range(80)])
    kept, reports = [], []
    for seed in (0, 1):
        parameters = Parameters(min_fields=40, max_fields=40, seed=seed)
        found, labels = planned(table, parameters)
        kept.append(set(found))
        reports.append(labels[-1])
    assert kept[0] != kept[1]
    assert reports[0] == reports[1]
    assert reports[0].assigned == 40
    assert reports[0].entropy == 2  # four strata with ten each


def test_presampling_looks_at_source_organism_and_cell_type_only() -> None:
    """A flood of compounds doesn't crowd out the second cell type, as they are no coarse strata.

    100 fields of "n" in hela, each with its own compound, and 10 in u2os with one. The label hela
    comes first and takes twelve. Of the 98 left 20 are presampled, ten a cell type; the ten of
    u2os are then one fine stratum of eleven.
    """
    table = made(
        [
            ({"cell_visible": ["n"], "cell_type": ["hela"], "compound": [f"c{at}"]}, 1)
            for at in range(100)
        ]
        + [({"cell_visible": ["n"], "cell_type": ["u2os"], "compound": ["same"]}, 10)]
    )
    parameters = Parameters(min_fields=12, max_fields=12, presample=20)
    found, labels = planned(table, parameters)
    row = next(row for row in labels if row.value == "n")
    assert (row.strata, row.strata_covered, row.assigned) == (89, 11, 12)
    cells = {idx: cells for idx, _, cells in table}
    in_u2os = [
        idx for idx, label in found.items() if label[1] == "n" and "u2os" in cells[idx]["cell_type"]
    ]
    assert len(in_u2os) == 2  # level 1, and one of the hela strata is empty after its one field


def test_own_category_is_no_stratum() -> None:
    """What else a field holds in the label's own category does not spread its places."""
    table = made([({"gene": ["a", str(at)]}, 1) for at in range(6)])
    _, labels = planned(table, Parameters(min_fields=6))
    row = next(row for row in labels if row.value == "a")
    assert (row.strata, row.entropy) == (1, 0)
    assert math.copysign(1, row.entropy) == 1  # no minus before a zero


def test_own_category_is_no_coarse_stratum_either() -> None:
    """Thirty fields with a second organism each don't push out the ten that are human alone."""
    table = made(
        [({"organism": ["human"]}, 10)]
        + [({"organism": ["human", f"o{at}"]}, 1) for at in range(30)]
    )
    parameters = Parameters(min_fields=20, max_fields=20, presample=20)
    found, _ = planned(table, parameters)
    assert found == oracles.plan(table, parameters)[0]
    alone = [idx for idx, _, cells in table if len(cells["organism"]) == 1]
    assert len(set(alone) & set(found)) > 1  # as strata, all of them would be one of 31


def _quotas(sizes, places, how, salt=7):
    strata = np.repeat(np.arange(len(sizes), dtype=np.uint64) * np.uint64(1 << 40), sizes)
    order = np.arange(len(strata), dtype=np.uint64)[::-1].copy()
    chosen = allocate(strata, order, places, np.uint64(salt), how)
    assert len(np.unique(chosen)) == len(chosen) == places
    assert (np.diff(chosen) > 0).all()
    bounds = list(itertools.accumulate(sizes, initial=0))
    counts = [
        int(((chosen >= low) & (chosen < high)).sum()) for low, high in itertools.pairwise(bounds)
    ]
    for (low, high), count in zip(itertools.pairwise(bounds), counts, strict=True):
        inside = chosen[(chosen >= low) & (chosen < high)]
        assert inside.tolist() == list(range(high - count, high))  # lowest order: the last ones
    return counts


_sizes = st.lists(st.integers(1, 12), min_size=1, max_size=15).flatmap(
    lambda sizes: st.tuples(st.just(sizes), st.integers(0, sum(sizes) - 1))
)


@_quick
@given(_sizes)
def test_equal_allocation_fills_to_one_level(case) -> None:
    """Each stratum gets min(size, level) or one more, where it has more; the total is exact."""
    sizes, places = case
    counts = _quotas(sizes, places, "equal")
    full = [count == size for count, size in zip(counts, sizes, strict=True)]
    level = min((count for count, done in zip(counts, full, strict=True) if not done))
    for count, size in zip(counts, sizes, strict=True):
        assert count in (min(size, level), min(size, level + 1))
    if len(sizes) >= places:
        assert max(counts) <= 1


@_quick
@given(_sizes)
def test_proportional_allocation_has_the_largest_remainders(case) -> None:
    """No stratum is a whole place off its share, and who got one more had the larger remainder."""
    sizes, places = case
    counts = _quotas(sizes, places, "proportional")
    total = sum(sizes)
    shares = [divmod(size * places, total) for size in sizes]
    more = [count - whole for count, (whole, _) in zip(counts, shares, strict=True)]
    assert set(more) <= {0, 1}
    raised = [part for plus, (_, part) in zip(more, shares, strict=True) if plus]
    left = [part for plus, (_, part) in zip(more, shares, strict=True) if not plus]
    assert not raised or not left or min(raised) >= max(left)


@pytest.mark.parametrize(
    ("sizes", "places", "how", "expected"),
    [
        ([10, 1, 4], 9, "equal", [4, 1, 4]),
        ([5, 5, 5], 6, "equal", [2, 2, 2]),
        ([100, 2, 2], 10, "equal", [6, 2, 2]),
        ([60, 30, 10], 10, "proportional", [6, 3, 1]),
        ([99, 1], 10, "proportional", [10, 0]),  # 9.9 and 0.1: rare strata may go empty
        ([99, 1], 10, "equal", [9, 1]),
    ],
)
def test_allocation_by_hand(sizes, places, how, expected) -> None:
    """Water filling and largest remainders give the shares that one computes in the head."""
    assert _quotas(sizes, places, how) == expected


def test_more_strata_than_places_are_chosen_by_hash() -> None:
    """With nine strata and three places, the salt of a label decides who gets one."""
    outcomes = {tuple(_quotas([2] * 9, 3, "equal", salt)) for salt in range(6)}
    assert len(outcomes) > 1
    assert all(sorted(one) == [0] * 6 + [1] * 3 for one in outcomes)


def test_label_texts_name_the_category_of_the_later_one() -> None:
    """The first of several labels with one value keeps it bare."""
    labels = [("compound", "x"), ("gene", "x"), ("gene", "y"), ("phenotype", "x")]
    assert label_texts(labels) == ["x", "x (gene)", "y", "x (phenotype)"]


def test_newcomers_get_names_that_no_published_class_has() -> None:
    """A gene "a" that comes after the published compound "a" names its category."""
    assert label_texts([("gene", "a"), ("gene", "b")], published=["a"]) == ["a (gene)", "b"]


def test_label_texts_are_never_equal() -> None:
    """A value that looks like the text of another label does not take its name."""
    texts = label_texts([("compound", "x"), ("gene", "x"), ("phenotype", "x (gene)")])
    assert len(set(texts)) == 3


def test_no_fields_give_an_empty_plan() -> None:
    """A build whose records are all refused has no labels."""
    plan = plan_labels(fields_of([]), Parameters())
    assert plan.labels == ()
    assert len(plan.assigned) == 0
