"""Which encoders are scored: all that were asked for, or what the design names and can be had."""

from types import SimpleNamespace

import pytest

from cytoimagenet_hf.errors import EncoderError
from cytoimagenet_hf.evaluation import lineup

ABSENT = ("imagenet", "cytoimagenet")


@pytest.fixture
def loads(monkeypatch):
    """Replace loading by names alone, of which two are out of reach; return what was loaded."""
    done = []

    def load(spec, *, seed, device, say):
        done.append((spec, seed))
        if spec in ABSENT:
            raise EncoderError(f"the weights of {spec} can't be had")
        return SimpleNamespace(name=spec.rpartition("/")[2], seed=seed)

    monkeypatch.setattr(lineup, "load_encoder", load)
    return done


def names(found):
    return [(entry.column, entry.seed) for entry in found.entries]


def test_rows_of_the_design_are_those_that_can_be_had(loads):
    """Offline intensity and five seeds of random remain; the others are left out with a reason."""
    found = lineup.assemble(())
    assert names(found) == [("intensity", None), *(("random", seed) for seed in range(5))]
    assert found.left_out == {
        "imagenet": "the weights of imagenet can't be had",
        "cytoimagenet": "the weights of cytoimagenet can't be had",
        "cytoimagenet+imagenet": "it needs cytoimagenet.",
        "imagenet+random": "it needs imagenet.",
    }
    assert [spec for spec, _ in loads if spec in ABSENT] == list(ABSENT)


def test_what_was_asked_for_is_never_left_out(loads):
    """An encoder that somebody named and that can't be had is an error."""
    with pytest.raises(EncoderError, match="weights of imagenet"):
        lineup.assemble(("intensity", "imagenet+random"))


def test_each_encoder_is_loaded_once(loads):
    """Fusions share the weights of their parts, seed by seed."""
    found = lineup.assemble(("dino", "random", "dino+random", "dino+dino"), seeds=2)
    assert sorted(loads) == [("dino", 0), ("random", 0), ("random", 1)]
    assert names(found) == [
        ("dino", None), ("dino+dino", None),
        ("random", 0), ("dino+random", 0), ("random", 1), ("dino+random", 1),
    ]  # fmt: skip
    assert found.entries[3].parts == (("dino", None), ("random", 0))


def test_random_networks_of_any_name_have_seeds(loads):
    """`random:resnet18` is as random as `random`; a model called randomized isn't."""
    found = lineup.assemble(("random:resnet18", "randomized"), seeds=2)
    assert names(found) == [("randomized", None), ("random:resnet18", 0), ("random:resnet18", 1)]


def test_two_encoders_of_one_column_are_refused(loads):
    """Folders that end alike couldn't be told apart in a table."""
    with pytest.raises(ValueError, match="'local-dir:/a/model' and 'local-dir:/b/model'"):
        lineup.assemble(("local-dir:/a/model", "local-dir:/b/model"))
    with pytest.raises(ValueError, match="column 'dino'"):
        lineup.assemble(("dino", "dino"))


def test_no_seed_is_no_score(loads):
    """Random weights without a seed would silently be no row at all."""
    with pytest.raises(ValueError, match="at least one seed"):
        lineup.assemble((), seeds=0)
