"""Intervals and tests against SciPy, enumeration, the paper's table, and their own promises."""

import csv
import itertools
import math

import numpy as np
import pytest

from cytoimagenet_hf.evaluation import statistics as ours
from tests.conftest import SHARED


def by_id(values):
    """Give rows ids, as comparisons want them."""
    return {f"id{at:05}": bool(value) for at, value in enumerate(values)}


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (5, 10), (89, 103), (0, 40), (40, 40)])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_is_that_of_scipy(correct, n, level):
    """The interval equals scipy.stats.binomtest's."""
    binomtest = pytest.importorskip("scipy.stats").binomtest
    expected = binomtest(correct, n).proportion_ci(level, method="wilson")
    assert ours.wilson(correct, n, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_half_by_hand():
    """5 of 10: 0.5 +- z sqrt(1/40 + z^2/400) / (1 + z^2/10), with z = 1.96."""
    half = 1.96 * math.sqrt(1 / 40 + 1.96**2 / 400) / (1 + 1.96**2 / 10)
    assert ours.wilson(5, 10) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-5)


@pytest.mark.parametrize(("correct", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_counts_that_make_no_share_are_refused(correct, n):
    """There is no interval of 6 right of 5."""
    with pytest.raises(ValueError, match=f"{correct} right of {n}"):
        ours.wilson(correct, n)


def test_every_interval_of_the_papers_table_reproduces():
    """All 24 intervals of Table 2 are 1.96 sqrt(p (1 - p) / n), to the two digits it prints."""
    path = SHARED / "data" / "release" / "paper_table2.csv"
    if not path.is_file():
        pytest.skip(f"no table at {path} (set CYTOIMAGENET_SHARED)")
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 6
    for row in rows:
        for column in ("random", "imagenet", "cytoimagenet", "fusion"):
            low, high = ours.normal_interval(float(row[column]) / 100, int(row["n"]))
            assert 50 * (high - low) == pytest.approx(float(row[f"{column}_ci95"]), abs=0.0051)


def test_bootstrap_of_three_clusters_by_enumeration():
    """With rows 0/3, 1/2 and 3/4 right, 1 of 27 draws is the worst cluster three times: 0..0.75."""
    correct = [0, 0, 0, 1, 0, 1, 1, 1, 0]
    clusters = ["a"] * 3 + ["b"] * 2 + ["c"] * 4
    assert ours.cluster_bootstrap(correct, clusters) == (0.0, 0.75)


def enumerated(sums, sizes):
    """All equally likely pooled means of drawing clusters with replacement."""
    draws = np.array(list(itertools.product(range(len(sums)), repeat=len(sums))))
    return np.asarray(sums)[draws].sum(1) / np.asarray(sizes)[draws].sum(1)


def test_bootstrap_is_near_the_enumerated_distribution():
    """For six clusters the interval is that of all 46,656 draws, to a percentage point."""
    sizes, sums = [3, 5, 2, 7, 4, 6], [1, 4, 0, 6, 3, 2]
    clusters = [str(at) for at, size in enumerate(sizes) for _ in range(size)]
    correct = [at < right for right, size in zip(sums, sizes, strict=True) for at in range(size)]
    expected = np.quantile(enumerated(sums, sizes), [0.025, 0.975])
    assert ours.cluster_bootstrap(correct, clusters) == pytest.approx(expected, abs=0.01)


def test_bootstrap_heeds_neither_order_nor_names_of_clusters():
    """Rows in another order and clusters of other names give the same interval to the bit."""
    random = np.random.default_rng(5)
    correct = random.random(200) < 0.6
    clusters = random.integers(0, 20, 200)
    order = random.permutation(200)
    expected = ours.cluster_bootstrap(correct, [f"c{one}" for one in clusters])
    moved = ours.cluster_bootstrap(correct[order], [f"x{99 - one}" for one in clusters[order]])
    assert moved == expected
    other = ours.cluster_bootstrap(correct, [f"c{one}" for one in clusters], seed=1)
    assert other != expected


def test_one_cluster_has_no_interval():
    """Nothing is known of the spread of a single cluster, so nothing is claimed."""
    assert ours.cluster_bootstrap([True, False], ["a", "a"]) is None
    found = ours.interval([True, False], ["a", "a"])
    assert (found.low, found.high, found.clusters) == (None, None, 1)
    assert "one cluster" in found.method


@pytest.mark.parametrize("clusters", [["", "", ""], ["a", "b", "c"]])
def test_interval_without_clusters_of_several_rows_is_wilsons(clusters):
    """Rows that stand alone are independent trials."""
    found = ours.interval([True, True, False], clusters)
    assert (found.low, found.high) == ours.wilson(2, 3)
    assert found.method == "wilson"


def test_all_right_is_not_sure():
    """40 right rows of 4 wells are 4 trials, not a certainty, which a bootstrap would say."""
    clusters = [f"well{at // 10}" for at in range(40)]
    assert ours.cluster_bootstrap([True] * 40, clusters) == (1.0, 1.0)
    found = ours.interval([True] * 40, clusters)
    assert (found.low, found.high) == ours.wilson(4, 4)
    none = ours.interval([False] * 40, clusters)
    assert (none.low, none.high) == ours.wilson(0, 4)


def test_rows_without_a_cluster_stand_alone():
    """Two rows with "" are two clusters, not one."""
    found = ours.interval([True, False, True, False], ["a", "a", "", ""])
    assert found.clusters == 3


def correlated(random, clusters=40, cells=25, mean=0.7):
    """Cells of a cluster share their own chance of being right."""
    chances = random.beta(3 * mean, 3 * (1 - mean), clusters)
    return (random.random((clusters, cells)) < chances[:, None]).ravel()


def test_bootstrap_covers_where_wilson_does_not():
    """Of 300 times, cells correlated, it holds the truth in 90 to 98 %, Wilson's in under 70 %."""
    random = np.random.default_rng(11)
    names = [f"c{at // 25}" for at in range(40 * 25)]
    covered = {"bootstrap": 0, "wilson": 0}
    for trial in range(300):
        correct = correlated(random)
        low, high = ours.cluster_bootstrap(correct, names, draws=400, seed=trial)
        covered["bootstrap"] += low <= 0.7 <= high
        low, high = ours.wilson(int(correct.sum()), len(correct))
        covered["wilson"] += low <= 0.7 <= high
    assert 0.90 <= covered["bootstrap"] / 300 <= 0.98
    assert covered["wilson"] / 300 < 0.70


def test_paired_bootstrap_keeps_its_level_where_mcnemar_does_not():
    """Of 300 pairs that don't differ about 5 % are called different, with McNemar over 20 %."""
    random = np.random.default_rng(3)
    clusters = {f"id{at:05}": f"c{at // 25}" for at in range(30 * 25)}
    called = {"bootstrap": 0, "mcnemar": 0}
    for trial in range(300):
        a, b = (by_id(correlated(random, clusters=30)) for _ in range(2))
        called["bootstrap"] += ours.paired(a, b, clusters, draws=400, seed=trial).p < 0.05
        called["mcnemar"] += ours.paired(a, b).p < 0.05
    assert called["bootstrap"] / 300 < 0.09
    assert called["mcnemar"] / 300 > 0.20


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (5, 5), (8, 1), (3, 17), (90, 60)])
def test_mcnemar_is_the_binomial_test_of_scipy(won, lost):
    """Its p is that of scipy.stats.binomtest over the ids that differ."""
    binomtest = pytest.importorskip("scipy.stats").binomtest
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert ours.mcnemar(won, lost) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_by_hand():
    """Five heads of five are 2 / 32."""
    assert ours.mcnemar(5, 0) == 2 / 32
    assert ours.mcnemar(0, 5) == 2 / 32


def test_mcnemar_is_exact_for_many_ids():
    """With 30,000 ids that differ nothing overflows, and p is that of the normal law nearly."""
    z = (200 - 1) / math.sqrt(30_000)  # won - lost = 200, with continuity
    assert ours.mcnemar(15_100, 14_900) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)
    assert ours.mcnemar(30_000, 0) == 0.0


def test_paired_without_clusters():
    """First right in 6 of 10, second in 2, never the second alone: difference 0.4, p = 2 / 16."""
    first, second = by_id([1] * 6 + [0] * 4), by_id([1] * 2 + [0] * 8)
    found = ours.paired(first, second)
    assert (found.difference, found.p, found.method) == (0.4, 2 / 16, "mcnemar exact")
    half = ours._quantile(0.95) * math.sqrt((5 / 12 - (4 / 12) ** 2) / 12)  # Agresti, Min 2005
    assert (found.low, found.high) == pytest.approx((4 / 12 - half, 4 / 12 + half))


def test_paired_p_is_that_of_all_draws():
    """For six clusters p is the share of all 46,656 draws as far from d as 0 is, to 0.01."""
    gains, sizes = [2, 1, -1, 2, 1, -1], [4, 3, 2, 3, 4, 2]
    rows = [
        (gain > at, -gain > at, f"c{number}")
        for number, (gain, size) in enumerate(zip(gains, sizes, strict=True))
        for at in range(size)
    ]
    first, second = (by_id(row[side] for row in rows) for side in (0, 1))
    clusters = {one: row[2] for one, row in zip(first, rows, strict=True)}
    found = ours.paired(first, second, clusters)
    d = 4 / 18
    everything = enumerated(gains, sizes)
    assert found.difference == pytest.approx(d)
    assert found.p == pytest.approx(np.mean(np.abs(everything - d) >= d - 1e-9), abs=0.01)
    bounds = np.quantile(everything, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(bounds, abs=0.01)


def test_equal_encoders_do_not_differ():
    """An encoder against itself: difference 0, p 1, with clusters or without."""
    one = by_id(np.random.default_rng(0).random(60) < 0.5)
    clusters = {name: f"c{at // 6}" for at, name in enumerate(one)}
    for found in (ours.paired(one, one), ours.paired(one, one, clusters)):
        assert (found.difference, found.p) == (0.0, 1.0)


def test_few_clusters_prove_little():
    """Two clusters that agree can't give less than p = 1/2; one gives 1 and -1..1."""
    ids = by_id([1] * 40)
    none = by_id([0] * 40)
    two = {name: f"c{at // 20}" for at, name in enumerate(ids)}
    assert ours.paired(ids, none, two).p == 0.5
    one = ours.paired(ids, none, dict.fromkeys(ids, "c"))
    assert (one.p, one.low, one.high) == (1.0, -1.0, 1.0)


def test_pairs_are_joined_by_id_never_by_position():
    """The second encoder's rows in another order change nothing."""
    random = np.random.default_rng(8)
    first, second = by_id(random.random(50) < 0.7), by_id(random.random(50) < 0.5)
    clusters = {name: f"c{at // 5}" for at, name in enumerate(first)}
    turned = dict(reversed(second.items()))
    assert ours.paired(first, turned, clusters) == ours.paired(first, second, clusters)


def test_other_ids_are_refused():
    """An id on one side only is an error that names it."""
    with pytest.raises(ValueError, match=r"1 are on one side only.*'z'"):
        ours.paired({"a": True, "z": True}, {"a": True})
    with pytest.raises(ValueError, match="no ids"):
        ours.paired({}, {})


def test_holm_by_hand():
    """0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, never falling; order is kept."""
    assert ours.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert ours.holm([0.7, 0.9]) == [1.0, 1.0]
    assert ours.holm([]) == []
    with pytest.raises(ValueError, match="no p-value"):
        ours.holm([float("nan")])


def test_confusion_and_classes_are_those_of_scikit_learn():
    """Matrix, recall and precision agree with the library."""
    reference = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(2)
    labels = ["a", "b", "<c>", "d"]
    truth, predicted = ([labels[one] for one in random.integers(0, 3, 100)] for _ in range(2))
    matrix = ours.confusion(truth, predicted, labels)
    assert (matrix == reference.confusion_matrix(truth, predicted, labels=labels)).all()
    table = ours.per_class(truth, predicted)
    assert list(table) == ["<c>", "a", "b"]
    recall = reference.recall_score(truth, predicted, labels=list(table), average=None)
    precision = reference.precision_score(truth, predicted, labels=list(table), average=None)
    assert [right / true for true, _, right in table.values()] == pytest.approx(recall)
    assert [right / given for _, given, right in table.values()] == pytest.approx(precision)


def test_class_that_is_never_true_or_never_given_is_counted():
    """Labels of either side appear, with zeros where they are missing."""
    assert ours.per_class(["a", "a"], ["a", "b"]) == {"a": (2, 1, 1), "b": (0, 1, 0)}


def test_unknown_labels_are_refused():
    """A prediction outside of the labels would be lost from the matrix."""
    with pytest.raises(ValueError, match="'x'"):
        ours.confusion(["a"], ["x"], ["a"])
    with pytest.raises(ValueError, match="2 true labels, but 1"):
        ours.confusion(["a", "a"], ["a"], ["a"])
