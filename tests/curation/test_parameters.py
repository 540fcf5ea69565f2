"""Tests of the parameters: presets, tiers, what is refused, and how settings are read."""

import json
import math

import pytest

from cytoimagenet_hf.curation.parameters import Parameters, of_paper, parse, preset


def test_defaults_are_those_of_the_paper_where_it_says() -> None:
    """287 fields make a label, 1,000 fill it, 10 % are held out, 0.1 and 99.9 % stretch."""
    ours = preset("standard")
    assert ours == Parameters()
    assert (ours.min_fields, ours.max_fields, ours.presample) == (287, 1000, 10_000)
    assert (ours.validation_share, ours.percents) == (0.1, (0.1, 99.9))
    assert (ours.allocation, ours.min_crops) == ("equal", 0)


def test_preset_paper_differs_in_three_parameters() -> None:
    """Proportional places, labels from 500 crops on, no judgement of contrast."""
    ours, theirs = preset("standard").as_dict(), preset("paper").as_dict()
    assert {name: value for name, value in theirs.items() if value != ours[name]} == {
        "allocation": "proportional",
        "min_crops": 500,
        "min_contrast": 0.0,
    }


def test_what_the_paper_has_is_told_apart() -> None:
    """Its values are those of its preset; sides, shards and seed are ours alone."""
    theirs = of_paper()
    assert theirs.items() <= preset("paper").as_dict().items()
    assert (theirs["min_fields"], theirs["min_crop_side"], theirs["min_crops"]) == (287, 70, 500)
    ours = {"seed", "min_side", "max_pixels", "small_side", "tiny_side", "shard_bytes"}
    assert not ours & theirs.keys()


def test_preset_takes_changes() -> None:
    """A single value given wins over the preset's."""
    assert preset("paper", min_crops=7, seed=3).min_crops == 7


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [("papers", {}, "standard, paper"), ("paper", {"minfields": 1}, "min_fields")],
)
def test_preset_names_what_there_is(name, changes, message) -> None:
    """An unknown preset or parameter is an error that lists the known ones."""
    with pytest.raises(ValueError, match=message):
        preset(name, **changes)


@pytest.mark.parametrize(
    ("fields", "crops"),
    [(1000, 1), (5000, 1), (999, 2), (550, 2), (549, 3), (400, 3), (399, 4), (1, 4)],
)
def test_crops_wanted_by_fields(fields, crops) -> None:
    """1,000 fields give one crop each, from 550 two, from 400 three, fewer four."""
    assert Parameters().crops_wanted(fields) == crops


@pytest.mark.parametrize(
    "changes",
    [
        {"min_fields": 0},
        {"max_fields": 0},
        {"presample": 0},
        {"max_crops": 0},
        {"chunk_fields": 0},
        {"min_fields": 11, "max_fields": 10},
        {"presample": 999},
        {"allocation": "even"},
        {"validation_share": 0.0},
        {"validation_share": 1.0},
        {"validation_share": math.nan},
        {"percents": (99.9, 0.1)},
        {"percents": (-1.0, 99.0)},
        {"percents": (1.0, 101.0)},
        {"percents": (1.0,)},
        {"percents": ("1", "99")},
        {"min_crops": -1},
        {"min_contrast": math.nan},
        {"min_contrast": -1.0},
        {"min_side": 0},
        {"min_crop_side": 0},
        {"max_pixels": 0},
        {"small_side": 0},
        {"tiny_side": 0},
        {"tiny_labels": 0},
        {"tiny_crops": 0},
        {"shard_bytes": 0},
        {"group_rows": 0},
        {"group_bytes": 0},
        {"crops_by_fields": ((1000, 1), (400, 3))},
        {"crops_by_fields": ((0, 4), (1000, 1))},
        {"crops_by_fields": ((0, 5),)},
        {"crops_by_fields": ((0, 0),)},
        {"crops_by_fields": ()},
        {"crops_by_fields": ("0",)},
    ],
    ids=str,
)
def test_values_that_no_build_can_be_made_with_are_refused(changes) -> None:
    """The message names the parameter."""
    with pytest.raises(ValueError, match=next(iter(changes))):
        Parameters(**changes)


def test_settings_are_read_with_their_types() -> None:
    """Numbers, words and lists become the parameter's type; a whole number serves as a float."""
    read = parse(
        ["seed=-3", "min_contrast=4", "allocation=proportional", "crops_by_fields=[[5,1],[0,2]]"]
    )
    assert read == {
        "seed": -3,
        "min_contrast": 4.0,
        "allocation": "proportional",
        "crops_by_fields": ((5, 1), (0, 2)),
    }
    assert type(read["min_contrast"]) is float
    assert preset("standard", **read).crops_wanted(4) == 2


@pytest.mark.parametrize(
    "setting",
    ["seed", "seeds=1", "seed=1.0", "seed=true", "seed=one", "seed=", "allocation=1",
     "percents=5", "min_contrast=low", "min_contrast=true", "=3"],
)  # fmt: skip
def test_settings_of_another_type_are_refused(setting) -> None:
    """The message names the parameter, or says which there are."""
    with pytest.raises(ValueError, match=r"^(seed|allocation|percents|min_contrast|--set) "):
        parse([setting])


def test_a_parameter_is_given_once() -> None:
    """By its flag or by --set; one of two values would be left out silently."""
    assert parse(["seed=2"], seed=None, min_fields=4) == {"seed": 2, "min_fields": 4}
    with pytest.raises(ValueError, match=r"^seed is given twice: 0 and --set seed=2"):
        parse(["seed=2"], seed=0)
    with pytest.raises(ValueError, match=r"^min_side is given twice"):
        parse(["min_side=40", "min_side=50"])


def test_parameters_survive_json() -> None:
    """What build.json keeps makes the same parameters again."""
    ours = preset("paper", seed=9, percents=(1.0, 99.0))
    read = json.loads(json.dumps(ours.as_dict()))
    settings = [f"{name}={json.dumps(value)}" for name, value in read.items()]
    assert preset("standard", **parse(settings)) == ours
