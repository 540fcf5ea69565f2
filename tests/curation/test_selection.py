"""Tests of what assembly leaves out: duplicates, conflicts, small labels, surplus."""

import itertools

import pyarrow.parquet as pq
import pytest

from cytoimagenet_hf.curation.selection import (
    Exclusions,
    drop_duplicates,
    drop_small_labels,
    drop_surplus,
)
from cytoimagenet_hf.hashing import rank
from tests.curation.material import Built, build_small, crop


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    """The build that several modules look at."""
    return build_small(tmp_path_factory)


def dropped(out: Exclusions) -> set[tuple[str, str]]:
    """Give image ids and reasons of what was left out."""
    return {(f"{row['id']}#{row['window']}", row["reason"]) for row in out.rows}


def deduplicated(crops) -> tuple[set[str], set[tuple[str, str]]]:
    """Drop duplicates; give ids of what stays and of what goes, with reasons."""
    out = Exclusions(["x", "y", "z"])
    kept = {one.image_id for one in drop_duplicates(crops, out)}
    assert len(kept) + len(out.rows) == len(crops)
    return kept, dropped(out)


def test_records_with_equal_bytes_and_one_label_keep_the_first_by_id() -> None:
    """All windows of the others are duplicates, though none of their pixels are equal."""
    crops = [
        crop(idx, window, source_sha256="same")
        for idx in ("b/2", "a/9", "b/1")
        for window in ("ne-2-0", "sw-4-0")
    ]
    kept, gone = deduplicated(crops)
    assert kept == {"a/9#ne-2-0", "a/9#sw-4-0"}
    assert gone == {
        (f"{idx}#{window}", "duplicate")
        for idx in ("b/1", "b/2")
        for window in ("ne-2-0", "sw-4-0")
    }


def test_freest_terms_stay_before_the_first_id() -> None:
    """Else a twin that nobody may have would keep an open one from being published."""
    crops = [
        crop("a", source_sha256="same", terms="local"),
        crop("b", source_sha256="same", terms="noncommercial"),
        crop("c", source_sha256="same"),
        crop("d", source_sha256="same"),
    ]
    for mixed in itertools.permutations(crops):
        assert deduplicated(mixed)[0] == {"c#whole"}
    published = crop("z", source_sha256="same", terms="local", chunk="")
    assert deduplicated([*crops, published])[0] == {"z#whole"}


def test_records_with_equal_bytes_and_other_labels_are_all_left_out() -> None:
    """Two of three say x and one says y: nobody knows who is right."""
    crops = [
        crop(idx, source_sha256="same", label=label)
        for idx, label in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert deduplicated(crops) == (set(), {(f"{idx}#whole", "conflict") for idx in "abc"})


def test_equal_pixels_of_two_records_are_judged_like_equal_bytes() -> None:
    """One label keeps the crop of the first record, two labels keep none; other windows stay."""
    crops = [
        crop("a", "ne", pixel_sha256="p"),
        crop("a", "sw"),
        crop("b", "ne", pixel_sha256="p"),
        crop("b", "sw", pixel_sha256="q"),
        crop("c", "sw", pixel_sha256="q", label=1),
        crop("c", "ne", label=1),
    ]
    kept, gone = deduplicated(crops)
    assert kept == {"a#ne", "a#sw", "c#ne"}
    assert gone == {("b#ne", "duplicate"), ("b#sw", "conflict"), ("c#sw", "conflict")}


def test_equal_crops_of_one_record_both_stay() -> None:
    """Two windows of one record are never compared, also when a second record has them too."""
    crops = [
        crop("a", "ne", pixel_sha256="p"),
        crop("a", "sw", pixel_sha256="p"),
        crop("b", "ne", pixel_sha256="p"),
    ]
    assert deduplicated(crops) == ({"a#ne", "a#sw"}, {("b#ne", "duplicate")})


def test_a_duplicate_by_bytes_no_longer_competes_by_pixels() -> None:
    """With a = b by bytes and b = c by a window, b goes first, and c keeps what only b had too."""
    crops = [
        crop("a", source_sha256="same"),
        crop("b", source_sha256="same", pixel_sha256="p"),
        crop("c", pixel_sha256="p"),
    ]
    assert deduplicated(crops) == ({"a#whole", "c#whole"}, {("b#whole", "duplicate")})


def test_a_chain_of_equal_pixels_is_judged_window_by_window() -> None:
    """With a = b in one window and b = c in another, each pair keeps the first record's crop."""
    crops = [
        crop("a", "w1", pixel_sha256="p"),
        crop("b", "w1", pixel_sha256="p"),
        crop("b", "w2", pixel_sha256="q"),
        crop("c", "w2", pixel_sha256="q"),
    ]
    kept, gone = deduplicated(crops)
    assert kept == {"a#w1", "b#w2"}
    assert gone == {("b#w1", "duplicate"), ("c#w2", "duplicate")}


def test_records_of_one_field_are_compared_too() -> None:
    """Two modalities with equal files are one image under two names."""
    crops = [
        crop("f/bright", group="f", source_sha256="s"),
        crop("f/dark", group="f", source_sha256="s"),
    ]
    assert deduplicated(crops)[0] == {"f/bright#whole"}


def test_duplicates_don_t_depend_on_the_order_of_crops() -> None:
    """Any order of mixed cases leaves the same crops."""
    crops = [
        crop("a", "w1", source_sha256="s", pixel_sha256="p"),
        crop("b", "w1", source_sha256="s"),
        crop("c", "w1", pixel_sha256="p"),
        crop("d", "w1", pixel_sha256="q", label=1),
        crop("e", "w1", pixel_sha256="q"),
    ]
    outcomes = {
        (frozenset(kept), frozenset(gone))
        for kept, gone in map(deduplicated, itertools.permutations(crops))
    }
    assert len(outcomes) == 1


def test_no_two_records_left_share_bytes_or_pixels() -> None:
    """The detail of each drop names the record that it equals."""
    out = Exclusions(["x"])
    crops = [
        crop(f"r{at}", source_sha256=f"s{at % 5}", pixel_sha256=f"p{at % 3}") for at in range(9)
    ]
    kept = drop_duplicates(crops, out)
    for name in ("source_sha256", "pixel_sha256"):
        assert len({getattr(one, name) for one in kept}) == len(kept)
    assert {row["detail"].rpartition(" ")[2] for row in out.rows} <= {one.idx for one in crops}


@pytest.mark.parametrize(("least", "stay"), [(0, {0, 1}), (2, {0, 1}), (3, {0}), (4, set())])
def test_labels_with_too_few_crops_are_left_out(least, stay) -> None:
    """Three crops of x and two of y: the threshold itself is enough."""
    crops = [crop(f"r{at}", label=label) for at, label in enumerate((0, 0, 0, 1, 1))]
    out = Exclusions(["x", "y"])
    kept, reasons = drop_small_labels(crops, least, out)
    assert {one.label for one in kept} == stay
    assert reasons == {
        label: f"fewer than {least} crops ({count})"
        for label, count in ((0, 3), (1, 2))
        if label not in stay
    }
    assert {row["label"] for row in out.rows} == {"xy"[label] for label in reasons}


def test_first_crops_stay_before_second_ones() -> None:
    """Of 3 records with 3 windows and room for 5, all three first ones stay and two second ones."""
    crops = [
        crop(f"r{record}", f"w{order}", order=order) for order in (2, 1, 0) for record in range(3)
    ]
    out = Exclusions(["x"])
    kept = drop_surplus(crops, 5, 0, out)
    assert sorted(one.order for one in kept) == [0, 0, 0, 1, 1]
    second = sorted(
        (f"r{record}#w1" for record in range(3)), key=lambda idx: rank(0, "surplus", idx)
    )
    assert {one.image_id for one in kept if one.order == 1} == set(second[:2])
    assert {reason for _, reason in dropped(out)} == {"surplus"}
    assert len(out.rows) == 4


def test_surplus_is_counted_by_label() -> None:
    """A label at its limit loses nothing, whatever the others have."""
    crops = [crop(f"r{at}", label=int(at < 3)) for at in range(8)]
    out = Exclusions(["x", "y"])
    kept = drop_surplus(crops, 3, 0, out)
    assert [one.label for one in kept].count(0) == [one.label for one in kept].count(1) == 3
    assert {row["label"] for row in out.rows} == {"x"}


def test_surplus_takes_one_crop_of_each_field_first() -> None:
    """Of fields with three records each, no field gives a second crop before all gave one."""
    crops = [
        crop(f"f{field}/{modality}", field=f"f{field}") for field in range(4) for modality in "abc"
    ]
    for places, most in ((4, 1), (8, 2), (9, 3)):
        kept = drop_surplus(crops, places, 0, Exclusions(["x"]))
        counts = [sum(one.field == f"f{field}" for one in kept) for field in range(4)]
        assert sum(counts) == places
        assert max(counts) == most
        assert max(counts) - min(counts) <= 1


def test_surplus_knows_the_seed_and_not_the_order() -> None:
    """Reversed crops leave the same ones, another seed leaves others."""
    crops = [crop(f"r{at}") for at in range(40)]
    chosen = [
        frozenset(one.idx for one in drop_surplus(some, 20, seed, Exclusions(["x"])))
        for some, seed in ((crops, 0), (crops[::-1], 0), (crops, 1))
    ]
    assert chosen[0] == chosen[1] != chosen[2]


def test_exclusions_are_one_sorted_table() -> None:
    """Rows carry source and label, and come by id, window, stage and reason."""
    out = Exclusions(["x"])
    out.drop([crop("b/1", "w")], "surplus", "over 1")
    out.add("a/2", "", "plan", "no label")
    out.add("a/1", "w", "rendering", "dim", "contrast 3", 0)
    rows = out.table().to_pylist()
    assert [(row["id"], row["window"], row["stage"], row["label"]) for row in rows] == [
        ("a/1", "w", "rendering", "x"),
        ("a/2", "", "plan", ""),
        ("b/1", "w", "assembly", "x"),
    ]
    assert [row["source"] for row in rows] == ["a", "a", "b"]
    assert out.counts()["plan", "no label"] == 1


def test_every_record_and_window_of_a_build_is_accounted_for(built) -> None:
    """Each record of the catalog has a published crop or a line in the exclusions."""
    published = {
        idx
        for path in (built.output / "data/metadata").iterdir()
        for idx in pq.read_table(path)["idx"].to_pylist()
    }
    excluded = set(pq.read_table(built.output / "exclusions.parquet")["id"].to_pylist())
    cataloged = {
        idx
        for path in (built.work / "catalog").glob("*.parquet")
        for idx in pq.read_table(path)["id"].to_pylist()
    }
    assert published | excluded == cataloged
    assert len(published) > 0
