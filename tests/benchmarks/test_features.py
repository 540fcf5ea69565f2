"""benchmarks/speed/features.py asserts what it claims before it times anything."""

import numpy as np
import pytest

from tests.benchmarks.test_speed import load, run

__all__ = ["load"]  # a fixture

pytest.importorskip("timm")


def test_features_other_than_the_network_gives_are_caught(load, monkeypatch):
    """A hundredth off is no rounding."""
    script = load("features")
    compute = script.compute

    def off(*args, **options):
        made = compute(*args, **options)
        made.values[...] *= np.float32(1.01)
        return made

    monkeypatch.setattr(script, "compute", off)
    with pytest.raises(AssertionError, match="other features than the bare pass"):
        run(script, monkeypatch)


def test_a_run_that_differs_is_caught(load, monkeypatch):
    """A last bit that changes from run to run is enough."""
    script = load("features")
    compute, runs = script.compute, iter(range(100))

    def off(*args, **options):
        made = compute(*args, **options)
        if next(runs) % 2:
            made.values[0, 0] = np.nextafter(made.values[0, 0], np.float32(1))
        return made

    monkeypatch.setattr(script, "compute", off)
    with pytest.raises(AssertionError, match="gives other bytes"):
        run(script, monkeypatch)
