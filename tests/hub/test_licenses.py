"""The rule from a license text to its terms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytoimagenet_hf.hub.licenses import Clearance, commercial_terms, strictest, terms_of
from cytoimagenet_hf.schema import TERMS


@pytest.mark.parametrize(
    ("text", "name", "terms", "hub_id"),
    [
        ("CC0", "CC0 1.0", "open", "cc0-1.0"),
        ("CC0 1.0 (Anne Carpenter)", "CC0 1.0", "open", "cc0-1.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0 1.0", "open", "cc0-1.0"),
        ("Public Domain", "public domain", "open", None),
        ("CC BY 3.0 (Ilya Ravkin)", "CC BY 3.0", "open", "cc-by-3.0"),
        ("cc-by-4.0", "CC BY 4.0", "open", "cc-by-4.0"),
        ("CC\u2011BY\u20114.0", "CC BY 4.0", "open", "cc-by-4.0"),  # no-break hyphens
        ("CC BY", "CC BY", "open", None),
        ("Creative Commons Attribution 4.0 International", "CC BY 4.0", "open", "cc-by-4.0"),
        ("Creative Commons Attribution 4.0 (CC BY)", "CC BY 4.0", "open", "cc-by-4.0"),
        ("CC-BY-SA", "CC BY-SA", "sharealike", None),
        ("CC BY-NC 4.0", "CC BY-NC 4.0", "noncommercial", "cc-by-nc-4.0"),
        ("CC BY-NC-SA 3.0", "CC BY-NC-SA 3.0", "noncommercial", "cc-by-nc-sa-3.0"),
        (
            "Creative Commons Attribution-NonCommercial-ShareAlike 3.0 Unported License",
            "CC BY-NC-SA 3.0",
            "noncommercial",
            "cc-by-nc-sa-3.0",
        ),
        (
            "https://creativecommons.org/licenses/by-nc-sa/3.0/",
            "CC BY-NC-SA 3.0",
            "noncommercial",
            "cc-by-nc-sa-3.0",
        ),
        ("CC BY-ND 4.0", "CC BY-ND 4.0", "local", "cc-by-nd-4.0"),
        ("CC BY-NC-ND 4.0", "CC BY-NC-ND 4.0", "local", "cc-by-nc-nd-4.0"),
        ("MIT License", "MIT", "open", "mit"),
        ("BSD 3-Clause", "BSD-3-Clause", "open", "bsd-3-clause"),
        ("Apache License, Version 2.0", "Apache-2.0", "open", "apache-2.0"),
        ("GPL-2.0", "GPL-2.0", "local", None),
        ("Kaggle competition rules", "competition rules", "local", None),
        ("In-House", "in-house", "local", None),
        ("unknown", "unknown", "local", None),
        (" ", "unknown", "local", None),
    ],
)
def test_wordings_that_occur(text, name, terms, hub_id):
    """Each wording met on the sources' pages has its name, class and id."""
    found = terms_of(text)
    assert (found.license, found.terms, found.hub_id) == (name, terms, hub_id)


@pytest.mark.parametrize(
    "text",
    [
        "CC BY 3.0 (inferred)",
        "CC BY 3.0 (Inferred)",
        "CC0 1.0 (metadata)",
        "CC0 (Images Only)",
        "CC BY 4.0 (Revoked)",
        "CC BY 4.0 or CC0",
        "CC BY 4.0, except plate 3",
        "CC BY-SA-ND 4.0",
        "CC BY-BY 4.0",
        "CC NC",
        "CC BY 9.0",
        "Creative Commons Attribution 4.0 (CC BY-NC 4.0)",
        "unknown for BBBC051 itself; the derived TissueMNIST is CC BY 4.0",
        "MIT for the code",
        "free for all uses",
    ],
)
def test_remarks_and_contradictions_are_never_guessed_upward(text):
    """A text that isn't recognized whole is local and keeps its own words."""
    found = terms_of(text)
    assert (found.terms, found.publishable, found.commercial) == ("local", False, False)
    assert found.license == text


@given(st.text(max_size=40))
def test_any_text_has_terms_and_unknown_ones_are_local(text):
    """Random text never raises, and only a text that says so is more than local."""
    found = terms_of(text)
    assert found.terms in TERMS
    assert found.publishable == (found.terms != "local")


def test_noncommercial_sharealike_keeps_both_duties():
    """CC BY-NC-SA is in class noncommercial and still share-alike; CC0 asks for nothing."""
    both, none = terms_of("CC BY-NC-SA 4.0"), terms_of("CC0")
    assert (both.commercial, both.share_alike, both.attribution) == (False, True, True)
    assert (none.commercial, none.share_alike, none.attribution) == (True, False, False)


def test_commercial_classes_agree_with_the_rule():
    """A class is commercial exactly if the licenses in it are."""
    classes = {terms_of(text) for text in ("CC BY 4.0", "CC BY-SA 4.0", "CC BY-NC 4.0", "unknown")}
    assert {one.terms for one in classes if one.commercial} == set(commercial_terms())


def clearance(**changes) -> Clearance:
    parts = {
        "statement": "You may publish crops of our images.",
        "address": "https://example.org/terms",
        "date": "2024-02-29",
    }
    return Clearance(**(parts | changes))


def test_bare_permission_makes_local_data_publishable_but_not_commercial():
    """A permission that names no license allows publishing and nothing more."""
    found = terms_of("CC BY-NC-ND 4.0", clearance=clearance())
    assert (found.terms, found.publishable, found.commercial) == ("noncommercial", True, False)
    assert found.license == "CC BY-NC-ND 4.0, by permission"


def test_permission_under_a_license_gives_its_terms():
    """A clearance that grants CC BY makes unknown terms CC BY."""
    assert terms_of("unknown", clearance=clearance(license="CC BY 4.0")) == terms_of("CC BY 4.0")


@pytest.mark.parametrize("text", ["in-house", "CC BY 4.0"])
def test_clearance_where_it_has_no_place_is_an_error(text):
    """In-house data can't be cleared, and open data needs none."""
    with pytest.raises(ValueError, match=r"never published|needs no clearance"):
        terms_of(text, clearance=clearance())


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("statement", " ", "statement"),
        ("address", "the web page", "URL or mail"),
        ("address", "http://", "URL or mail"),
        ("date", "29.2.2024", "YYYY-MM-DD"),
        ("date", "2023-02-29", "day is out of range|day .* must be in range"),
        ("license", "CC BY-ND 4.0", "allows no publishing"),
        ("license", "ask us", "allows no publishing"),
    ],
)
def test_clearance_without_proof_is_refused(part, value, message):
    """A clearance says what was written, where it stands and when it was read."""
    with pytest.raises(ValueError, match=message):
        clearance(**{part: value})


def test_a_mail_address_is_an_address():
    """The holder may have answered by mail."""
    assert clearance(address="holder@example.org").address == "holder@example.org"


def test_strictest_takes_every_duty_and_no_freedom_that_one_part_lacks():
    """CC BY-SA with CC BY-NC is noncommercial, share-alike, and without one id."""
    found = strictest("CC BY-SA 4.0", "CC BY-NC 4.0", terms_of("CC0"))
    assert found.license == "CC BY-NC 4.0 + CC BY-SA 4.0 + CC0 1.0"
    assert (found.terms, found.publishable, found.commercial) == ("noncommercial", True, False)
    assert (found.share_alike, found.attribution, found.hub_id) == (True, True, None)


def test_strictest_with_one_local_part_is_local():
    """One part that may not be published keeps the whole from being published."""
    assert not strictest("CC0", "unknown").publishable


def test_strictest_of_equal_parts_is_that_part():
    """Two sources under CC0 are CC0 together, with its id."""
    assert strictest("CC0", "CC0 1.0") == terms_of("CC0")


def test_strictest_of_nothing_is_an_error():
    """What is made of nothing has no terms; open would be a guess upward."""
    with pytest.raises(ValueError, match="at least one"):
        strictest()
