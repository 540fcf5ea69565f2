"""Tests of the one spelling of each value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytoimagenet_hf.schema import CATEGORIES
from cytoimagenet_hf.sources._vocabulary import CONTROLS, SYNONYMS, canonical

words = st.text(st.characters(exclude_characters="|", exclude_categories=["Cs"]), max_size=60)


@given(st.sampled_from(CATEGORIES), words)
def test_a_canonical_value_is_its_own_spelling(category, text):
    """Applying the rule twice changes nothing more and gives no reason."""
    once = canonical(category, text)
    if once.value is not None:
        assert canonical(category, once.value) == (once.value, "")


@given(st.sampled_from(CATEGORIES), words)
def test_each_change_and_each_drop_has_a_reason(category, text):
    """The reason is blank if and only if the text stays as it was."""
    value, reason = canonical(category, text)
    assert (reason == "") == (value == text)


@pytest.mark.parametrize(
    ("category", "text", "value"),
    [
        ("compound", "  NIFLUMIC \n ACID ", "niflumic acid"),
        ("compound", "cafe\u0301", "caf\u00e9"),
        ("compound", "tax\u200bol\ufeff", "taxol"),
        ("cell_type", "U-2 OS", "u2os"),
        ("cell_type", "White blood cell (monocyte)", "white blood cell"),
        ("cell_type", "Neutrophil", "white blood cell"),
        ("cell_visible", "Nuclei", "nucleus"),
        ("organism", "Homo sapiens", "human"),
        ("gene", "TP53", "tp53 targeted"),
        ("gene", "tp53 Targeted", "tp53 targeted"),
        ("cell_visible", "RAB5", "rab5"),
    ],
)
def test_spellings_are_merged(category, text, value):
    """Case, white space, Unicode form, invisible characters and synonyms make no second label."""
    assert canonical(category, text).value == value


@pytest.mark.parametrize("text", ["EMPTY", " blank ", "Untreated", "mock", "UNK", "", " \t", "NaN"])
@pytest.mark.parametrize("category", CATEGORIES)
def test_controls_are_labels_in_no_category(category, text):
    """Nothing added, or nothing known, is no label; the reason says which."""
    value, reason = canonical(category, text)
    assert value is None
    assert reason


def test_dmso_is_a_compound_and_never_a_phenotype():
    """The same text is kept in one category and dropped in the other."""
    assert canonical("compound", "Dimethyl sulfoxide").value == "dmso"
    assert canonical("phenotype", "DMSO") == (None, "DMSO is a compound, never a phenotype")


@pytest.mark.parametrize("text", ["shLuc", "shLamin", "PGK-GFP", "EMPTY", "empty targeted"])
def test_control_hairpins_are_no_genes(text):
    """BBBC017's controls stay out, also where the suffix was added already."""
    assert canonical("gene", text).value is None


def test_whole_values_are_compared_and_never_parts():
    """A value that contains a control or a synonym is left alone."""
    assert canonical("compound", "mock turtle").value == "mock turtle"
    assert canonical("cell_visible", "nuclei pores").value == "nuclei pores"
    assert canonical("gene", "retargeted").value == "retargeted targeted"


def test_synonyms_lead_to_values_that_stay():
    """No synonym leads to a control or to a second synonym, and each names its reason."""
    for category, entries in SYNONYMS.items():
        for text, (value, reason) in entries.items():
            assert canonical(category, text) == (value, reason)
            assert canonical(category, value) == (value, "")
            assert value not in CONTROLS


@pytest.mark.parametrize(
    ("category", "text", "message"),
    [
        ("organism", "human|mouse", "split it first"),
        ("species", "human", "Unknown category 'species'.*organism"),
        ("compound", "x" * 301, "has 301 characters"),
    ],
)
def test_what_is_no_single_value_is_an_error(category, text, message):
    """Joined values, a category that there isn't, and a whole text in a cell are refused."""
    with pytest.raises(ValueError, match=message):
        canonical(category, text)


def test_a_value_of_the_longest_kind_is_kept():
    """The bound of 300 characters is inclusive."""
    assert canonical("compound", "x" * 300).value == "x" * 300
