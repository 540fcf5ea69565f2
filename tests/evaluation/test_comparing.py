"""Which encoders differ: rows, columns, pairs, and ties that stay ties."""

import dataclasses

import pytest

from cytoimagenet_hf.evaluation import comparing, statistics
from tests.evaluation.scores import a_score, a_table, a_task


def scored(wrong, **options):
    """Scores of several encoders, each wrong on the rows given for it."""
    return [a_score(name, rows, **options) for name, rows in wrong.items()]


def only(found):
    return [score for score, _ in found]


LARGE = a_table(200, wells=200)


def test_columns_stand_in_the_order_of_the_design():
    """Known encoders come first in their order, others after them by name."""
    names = ["zebra", "cytoimagenet+imagenet", "imagenet", "dino", "intensity", "random"]
    found = comparing.columns(only(scored(dict.fromkeys(names, ()))))
    assert found == [
        "intensity", "random", "imagenet", "cytoimagenet+imagenet", "dino", "zebra",
    ]  # fmt: skip


def test_rows_are_sorted_and_standard_comes_before_paper():
    """Order depends on names alone, not on the order of scores."""
    score, _ = a_score()
    others = [
        dataclasses.replace(score, preset="paper"),
        dataclasses.replace(score, task="a task"),
        dataclasses.replace(score, mode="merge-norm"),
    ]
    rows = list(comparing.tabulate([score, *others]))
    assert rows == list(comparing.tabulate([*reversed(others), score]))
    assert [(row.task, row.preset, row.mode) for row in rows] == [
        ("a task", "standard", "concat-norm"),
        ("made", "standard", "concat-norm"),
        ("made", "standard", "merge-norm"),
        ("made", "paper", "concat-norm"),
    ]


def test_seeds_share_a_cell_and_give_their_mean():
    """Seeds 0 and 1 with 12 and 6 of 12 right are 0.75 on average, lowest seed first."""
    cells = comparing.tabulate(
        only([a_score("random", range(6), seed=1), a_score("random", (), seed=0)])
    )
    ((scores,),) = (row.values() for row in cells.values())
    assert [score.seed for score in scores] == [0, 1]
    assert comparing.mean(scores) == 0.75


def test_two_scores_for_one_place_are_an_error():
    """Scores of older weights are never mixed in silently; both files are named."""
    old, new = a_score()[0], a_score(images=a_table(14))[0]
    with pytest.raises(ValueError, match=old.file) as caught:
        comparing.tabulate([old, new])
    assert new.file in str(caught.value)


def test_pairs_are_compared_as_statistics_says_and_adjusted_over_their_row():
    """Three encoders make three pairs; p is McNemar's, adjusted by Holm over the three."""
    found = scored({"intensity": range(100), "random": range(95), "imagenet": ()}, images=LARGE)
    pairs, notes = comparing.compare(found)
    assert notes == []
    assert [(pair.first, pair.second) for pair in pairs] == [
        ("intensity", "random"), ("intensity", "imagenet"), ("random", "imagenet"),
    ]  # fmt: skip
    plain = [statistics.mcnemar(0, 5), statistics.mcnemar(0, 100), statistics.mcnemar(0, 95)]
    assert [pair.found.p for pair in pairs] == plain
    assert [pair.adjusted for pair in pairs] == statistics.holm(plain)
    assert pairs[0].found.difference == pytest.approx(-5 / 200)


def test_each_row_is_a_family_of_its_own():
    """A second task doesn't change the adjusted p of the first."""
    wrong = {"random": range(9), "imagenet": ()}
    first = scored(wrong, images=LARGE)
    alone, _ = comparing.compare(first)
    both, _ = comparing.compare([*first, *scored(wrong, images=LARGE, task=a_task("other"))])
    assert [pair for pair in both if pair.row.task == "made"] == alone


def test_clusters_of_the_protocol_are_resampled():
    """With four wells nothing can be shown, however many cells there are."""
    wrong = {"random": range(150), "imagenet": ()}
    (pair,), _ = comparing.compare(scored(wrong, images=a_table(200, wells=4)))
    assert pair.found.method == "cluster bootstrap"
    assert pair.found.p >= 2**-3
    assert comparing.compare(scored(wrong, images=LARGE))[0][0].found.p < 1e-9


def test_other_ids_are_told_not_compared():
    """Encoders scored on other images give a note, and no pair."""
    pairs, notes = comparing.compare([a_score("imagenet"), a_score("random", images=a_table(14))])
    assert pairs == []
    assert len(notes) == 1
    assert "random and imagenet aren't compared, as 2 ids" in notes[0]


def test_best_leads_alone_only_where_it_is_shown_to_be_better():
    """The best of 200 by 100 rows leads alone; by 2 rows it is a tie."""
    clear = scored({"random": range(100), "imagenet": ()}, images=LARGE)
    tied = scored({"random": range(102), "imagenet": range(2), "dino": ()}, images=LARGE)
    for found, expected in ((clear, ["imagenet"]), (tied, ["imagenet", "dino"])):
        pairs, _ = comparing.compare(found)
        ((row, cells),) = comparing.tabulate(only(found)).items()
        assert comparing.leaders(cells, row, pairs) == expected


def test_equal_encoders_tie():
    """Equal accuracies are a tie, even if both are perfect."""
    found = scored({"imagenet": (), "imagenet+imagenet": ()}, images=LARGE)
    pairs, _ = comparing.compare(found)
    ((row, cells),) = comparing.tabulate(only(found)).items()
    assert comparing.leaders(cells, row, pairs) == ["imagenet", "imagenet+imagenet"]
    assert comparing.leaders(cells, row, []) == ["imagenet", "imagenet+imagenet"]
    assert comparing.leaders({}, row, []) == []
