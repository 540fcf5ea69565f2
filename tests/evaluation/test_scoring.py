"""From features and a protocol to predictions."""

import csv
import lzma
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoimagenet_hf.errors import FeaturesError, NotScorableError, TaskNotFoundError
from cytoimagenet_hf.evaluation.records import Features, Images, Protocol
from cytoimagenet_hf.evaluation.scoring import NO_LABEL, TOO_FEW, score

NEAREST = Protocol(name="nearest", k=1, metric="euclidean", standardize="none")


def no_pixels(row):
    """Scoring never reads an image."""
    raise AssertionError(row)


def images_of(labels, splits=None, **keys):
    """Make images i00, i01 ... with these labels and keys."""
    ids = tuple(f"i{at:02}" for at in range(len(labels)))
    splits = tuple(splits or [""] * len(labels))
    return Images(ids, tuple(labels), splits, {n: tuple(key) for n, key in keys.items()}, no_pixels)


def features_of(values, failed=None, ids=None):
    """Make features of i00, i01 ... without those that failed."""
    values = np.asarray(values, np.float32)
    if values.ndim == 1:
        values = values[:, None]
    ids = ids or [f"i{at:02}" for at in range(len(values))]
    kept = [at for at, name in enumerate(ids) if name not in (failed or {})]
    return Features(tuple(ids[at] for at in kept), values[kept], {}, failed or {})


def test_each_image_gets_the_label_of_its_nearest_other():
    """On a line: a at 0 and 1, b at 3 and 9; only b at 3 has an a nearer than its fellow."""
    outcome = score(images_of("aabb"), [features_of([0, 1, 3, 9])], NEAREST)
    assert outcome.predicted == ("a", "a", "a", "b")
    assert outcome.truth == ("a", "a", "b", "b")
    assert outcome.correct.tolist() == [True, True, False, True]
    assert (outcome.bank_size, outcome.unscorable, outcome.left_out) == (4, {}, {})


def test_never_a_neighbor_of_the_same_compound():
    """By itself image 0 finds 1 of its compound; without it the label of 2."""
    images = images_of("aabb", compound=["x", "x", "y", "z"])
    protocol = replace(NEAREST, exclude=("compound",), cluster="compound")
    outcome = score(images, [features_of([0, 1, 2, 4])], protocol)
    assert outcome.ids == ("i02", "i03")  # compounds y and z share label b
    assert outcome.predicted == ("a", "b")
    assert outcome.clusters == ("y", "z")
    assert outcome.unscorable == {"i00": NO_LABEL, "i01": NO_LABEL}


def test_the_bank_is_one_split_and_queries_another():
    """Test images find training images only; a class that only the test set has is named."""
    images = images_of("abac", ["train", "train", "test", "test"])
    protocol = replace(NEAREST, bank="train", query="test")
    outcome = score(images, [features_of([0, 10, 9, 9.5])], protocol)
    assert (outcome.ids, outcome.predicted, outcome.bank_size) == (("i02",), ("b",), 2)
    assert outcome.unscorable == {"i03": NO_LABEL}


def test_a_bank_smaller_than_k_scores_nothing():
    """Three images leave each other two neighbors; five are wanted."""
    outcome = score(images_of("aaa"), [features_of([1, 2, 3])], replace(NEAREST, k=5))
    assert outcome.ids == ()
    assert outcome.unscorable == dict.fromkeys(["i00", "i01", "i02"], TOO_FEW)


def test_failed_images_and_those_without_a_label_are_named():
    """They are in neither bank nor queries, and never silently so."""
    features = features_of([0, 0.1, 1, 5, 6], failed={"i01": "constant channel"})
    outcome = score(images_of(["a", "b", "", "a", "b"]), [features], NEAREST)
    assert outcome.left_out == {"i01": "no features: constant channel", "i02": "no label"}
    assert outcome.bank_size == 3
    assert outcome.ids == ("i00", "i03")
    assert outcome.predicted == ("a", "b")
    assert outcome.unscorable == {"i04": NO_LABEL}


def test_an_image_that_failed_in_one_part_is_in_no_part():
    """A fusion needs all parts of an image."""
    parts = [features_of([0, 1, 2]), features_of([0, 1, 2], failed={"i02": "too small"})]
    outcome = score(images_of("aaa"), parts, NEAREST)
    assert outcome.ids == ("i00", "i01")
    assert outcome.left_out == {"i02": "no features: too small"}


def test_statistics_come_from_the_rows_that_the_protocol_says():
    """Fitted on the bank, the second feature is constant there, so that it counts nothing."""
    images = images_of("abab", ["train", "train", "test", "test"])
    values = np.array([[0, 0], [1, 0], [0.9, -9], [0.2, 9]])
    protocol = replace(NEAREST, bank="train", query="test", standardize="bank")
    assert score(images, [features_of(values)], protocol).predicted == ("b", "a")
    values[1, 1] = 1e-3
    assert score(images, [features_of(values)], protocol).predicted == ("a", "b")
    everything = replace(protocol, standardize="all")
    assert score(images, [features_of(values)], everything).predicted == ("b", "a")


def test_standardized_before_averaged():
    """Fields scatter by 10 in the second feature, so that u, 3 off in it, is nearer to s than t.

    Standardized after averaging, t would be nearer: there is no scatter left.
    """
    images = images_of("aabbaabb", treatment=list("ssttuuvv"))
    first, second = np.repeat([0, 1, 0, 2], 2), np.repeat([0, 0, 3, 0], 2) + np.tile([-10, 10], 4)
    protocol = replace(NEAREST, aggregate="treatment", standardize="all")
    outcome = score(images, [features_of(np.stack([first, second], axis=1))], protocol)
    assert outcome.ids == ("s", "t", "u", "v")
    assert outcome.predicted[0] == "a"
    assert outcome.bank_size == 4


def test_groups_exclude_by_all_values_of_their_images():
    """Treatment s lies in batches 1 and 2, t in 2, u in 3: s and t exclude each other."""
    images = images_of(
        "aaaab", treatment=["s", "s", "t", "u", "v"], batch=["1", "2", "2", "3", "4"]
    )
    protocol = replace(NEAREST, aggregate="treatment", exclude=("batch",), cluster="batch")
    outcome = score(images, [features_of([0, 0, 1, 9, 2])], protocol)
    assert dict(zip(outcome.ids, outcome.predicted, strict=True)) == {"s": "b", "t": "b", "u": "b"}
    assert outcome.clusters == ("1|2", "2", "3")
    equal = replace(protocol, exclude=(), exclude_equal=("batch",))
    outcome = score(images, [features_of([0, 0, 1, 9, 2])], equal)
    assert dict(zip(outcome.ids, outcome.predicted, strict=True)) == {"s": "a", "t": "a", "u": "b"}


def test_a_group_with_two_labels_is_refused():
    """The group and both images are named."""
    images = images_of("ab", treatment=["s", "s"])
    with pytest.raises(ValueError, match=r"'s' have different labels: 'i00' is 'a', but 'i01'"):
        score(images, [features_of([0, 1])], replace(NEAREST, aggregate="treatment"))


@pytest.mark.parametrize("value", ["", frozenset("st")])
def test_an_image_in_no_group_or_two_is_refused(value):
    """Averaging needs one value."""
    images = images_of("ab", treatment=["s", value])
    with pytest.raises(ValueError, match="'i01' has"):
        score(images, [features_of([0, 1])], replace(NEAREST, aggregate="treatment"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"exclude": ("plate",)}, "no key 'plate'; there are 'compound'"),
        ({"cluster": "well"}, "no key 'well'"),
    ],
)
def test_what_the_images_do_not_have_is_named(change, words):
    """With what there is."""
    images = images_of("aa", compound=["x", "y"])
    with pytest.raises(TaskNotFoundError, match=words):
        score(images, [features_of([0, 1])], replace(NEAREST, **change))


def test_a_split_without_images_is_a_missing_part():
    """Not wrong input: a download may lack one of several test sets."""
    with pytest.raises(TaskNotFoundError, match="no image is in split 'test9'; there are ''"):
        score(images_of("aa"), [features_of([0, 1])], replace(NEAREST, query="test9"))


def test_features_of_other_images_are_refused():
    """An image without features and without a reason: joined by id or not at all."""
    with pytest.raises(FeaturesError, match="1 of 2 images have no features"):
        score(images_of("aa"), [features_of([0, 1], ids=["i00", "j01"])], NEAREST)


def test_features_that_are_no_numbers_are_named_by_id():
    """Not by row."""
    with pytest.raises(FeaturesError, match="i01"):
        score(images_of("aa"), [features_of([0, np.nan])], NEAREST)


def test_nothing_left_is_an_error():
    """All images failed, or there are no features at all."""
    with pytest.raises(NotScorableError, match="none of the 1 images"):
        score(images_of("a"), [features_of([0], failed={"i00": "broken"})], NEAREST)
    with pytest.raises(ValueError, match="no features"):
        score(images_of("a"), [], NEAREST)


TABLES = st.integers(2, 4).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(-2, 2), min_size=width, max_size=width), min_size=4, max_size=14
    )
)
PROTOCOLS = st.builds(
    Protocol,
    name=st.just("any"),
    k=st.integers(1, 5),
    metric=st.sampled_from(["cosine", "euclidean"]),
    standardize=st.sampled_from(["none", "all"]),
    ties=st.sampled_from(["distance", "label"]),
    weighted=st.booleans(),
    aggregate=st.sampled_from(["", "treatment"]),
)


@settings(max_examples=200, deadline=None)
@given(values=TABLES, protocol=PROTOCOLS, seed=st.integers(0, 99))
def test_an_encoder_fused_with_itself_scores_as_alone(values, protocol, seed):
    """imagenet+imagenet equals imagenet: all ties stay ties, whatever metric and vote."""
    rng = np.random.default_rng(seed)
    treatments = rng.integers(0, 4, len(values))
    images = images_of(
        [f"{one % 2}" for one in treatments], treatment=[f"t{n}" for n in treatments]
    )
    features = features_of(values)
    assert score(images, [features] * 2, protocol) == score(images, [features], protocol)


@settings(max_examples=50, deadline=None)
@given(values=TABLES, protocol=PROTOCOLS, seed=st.integers(0, 99))
def test_features_in_any_order_score_the_same(values, protocol, seed):
    """Both parts of a fusion are joined by id (protocols.md 6.1): shuffling one changes nothing."""
    rng = np.random.default_rng(seed)
    treatments = rng.integers(0, 3, len(values))
    images = images_of(
        [f"{one % 2}" for one in treatments], treatment=[f"t{n}" for n in treatments]
    )
    first, second = features_of(values), features_of(rng.integers(-2, 3, (len(values), 2)))
    turn = rng.permutation(len(values))
    shuffled = Features(tuple(second.ids[at] for at in turn), second.values[turn], {})
    assert score(images, [first, shuffled], protocol) == score(images, [first, second], protocol)


@pytest.fixture(scope="module")
def bbbc021(real_tables):
    """The 2,528 fields of the real tables, with made-up features; no images are needed."""
    folder = real_tables / "bbbc021"
    with (folder / "BBBC021_v1_moa.csv").open(encoding="utf-8") as stream:
        actions = {
            (row["compound"], float(row["concentration"])): row["moa"]
            for row in csv.DictReader(stream)
        }
    fields = []
    with lzma.open(folder / "BBBC021_v1_image.csv.xz", "rt", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            compound = row["Image_Metadata_Compound"]
            dose = float(row["Image_Metadata_Concentration"])
            if compound != "DMSO" and (compound, dose) in actions:
                plate = row["Image_Metadata_Plate_DAPI"]
                name = f"{plate}/{row['Image_FileName_DAPI']}"
                treatment = f"{compound}-{dose:g}"
                batch = plate.split("_")[0]
                fields.append((name, actions[compound, dose], compound, treatment, batch))
    ids, labels, compounds, treatments, batches = zip(*sorted(fields), strict=True)
    keys = {"compound": compounds, "treatment": treatments, "batch": batches}
    values = np.random.default_rng(0).normal(size=(len(ids), 8)).astype(np.float32)
    return Images(ids, labels, ("",) * len(ids), keys, no_pixels), Features(ids, values, {})


NSC = Protocol(
    name="nsc",
    k=1,
    metric="cosine",
    aggregate="treatment",
    exclude=("compound",),
    cluster="compound",
)


def label_counts(images, names):
    """Count treatments of each label among some."""
    label_of = dict(zip(images.keys["treatment"], images.labels, strict=True))
    counts = {}
    for name in names:
        counts[label_of[name]] = counts.get(label_of[name], 0) + 1
    return counts


def test_all_103_treatments_of_bbbc021_are_scorable_without_their_compound(bbbc021):
    """2,528 fields, 103 treatments, 38 compounds, 12 mechanisms."""
    images, features = bbbc021
    outcome = score(images, [features], NSC)
    assert (len(images), len(outcome.ids), outcome.bank_size) == (2528, 103, 103)
    assert (len(set(outcome.clusters)), len(set(outcome.truth))) == (38, 12)
    assert outcome.unscorable == {}


def test_91_are_scorable_where_any_shared_batch_excludes(bbbc021):
    """Two mechanisms lie in a single batch each; taxol 0.3 lies in all ten, so excludes all."""
    images, features = bbbc021
    protocol = replace(NSC, exclude=("compound", "batch"))
    outcome = score(images, [features], protocol)
    assert (len(outcome.ids), outcome.bank_size) == (91, 103)
    assert set(outcome.unscorable.values()) == {NO_LABEL}
    assert label_counts(images, outcome.unscorable) == {
        "Cholesterol-lowering": 6,
        "Kinase inhibitors": 5,
        "Microtubule stabilizers": 1,
    }
    assert "taxol-0.3" in outcome.unscorable


def test_92_are_scorable_where_sets_of_batches_are_compared(bbbc021):
    """The published count: taxol 0.3, in ten batches, equals no other, though it shares theirs."""
    images, features = bbbc021
    outcome = score(images, [features], replace(NSC, exclude_equal=("batch",)))
    assert len(outcome.ids) == 92
    assert label_counts(images, outcome.unscorable) == {
        "Cholesterol-lowering": 6,
        "Kinase inhibitors": 5,
    }
    batches = {
        batch
        for batch, name in zip(images.keys["batch"], images.keys["treatment"], strict=True)
        if name == "taxol-0.3"
    }
    assert len(batches) == 10
