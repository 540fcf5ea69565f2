"""Where no crop is left, the message says what to do about the largest reason."""

import re

import numpy as np
import pytest

from cytoimagenet_hf.curation import inputs
from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pipeline import BuildConfig, build
from cytoimagenet_hf.curation.progress import Silent
from cytoimagenet_hf.errors import BuildError
from cytoimagenet_hf.imaging import png

FIELDS = 4


class Heard(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Keep it."""
        self.said.append(text)


def told(tmp_path, head="path,organism", absent=0, flat=0, **changes) -> tuple[str, list[str]]:
    """Build from a table of four small fields, and return error and notes."""
    noise = np.random.default_rng(0).integers(0, 256, (FIELDS, 64, 64)).astype(np.uint8)
    noise[:flat] = 7
    names = [f"{number}.png" for number in range(FIELDS)]
    for name, pixels in list(zip(names, noise, strict=True))[absent:]:
        (tmp_path / name).write_bytes(png.encode(pixels))
    (tmp_path / "own.csv").write_text("\n".join([head, *(f"{name},human" for name in names)]))
    parameters = preset("standard", **({"min_fields": 1} | changes))
    made = BuildConfig(
        inputs=[inputs.from_table(tmp_path / "own.csv", None, [])],
        output=tmp_path / "out",
        parameters=parameters,
    )
    heard = Heard()
    with pytest.raises(BuildError, match="No crop is left") as caught:
        build(made, heard)
    return str(caught.value), heard.said


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"absent": 4}, "missing file 4. The first absent file is 0.png: .* with --images"),
        ({"min_fields": 5}, "too rare or full 4. Lower --min-fields, or add"),
        ({"min_crops": 50, "min_contrast": 0.0}, r"min_crops 4. Lower --min-crops \(it is 50\)"),
        ({"max_pixels": 99}, r"too large 4. Raise --max-pixels \(it is 99\)"),
        ({"min_side": 70}, r"too small 4. Lower --set min_side"),
        ({"flat": 3, "min_contrast": 1e9}, "constant 3, no contrast 1. The first one left out so"),
    ],
    ids=["absent", "min-fields", "min-crops", "max-pixels", "min-side", "flat"],
)  # fmt: skip
def test_advice_follows_the_largest_reason(tmp_path, given, words):
    """Lower thresholds don't help where files are absent, and so on."""
    error, _ = told(tmp_path, **given)
    assert re.search(words, error), error
    assert ("--min-fields, or" in error) == ("min_fields" in given)


def test_where_nothing_is_annotated_the_columns_are_named(tmp_path):
    """Notes of the sources are shown on failure too: they say which columns weren't used."""
    error, notes = told(tmp_path, head="path,species")
    assert "0 of 0 values" in error
    assert "no annotation 4. " in error
    assert "--map" in error
    assert "note: own: columns of own.csv that are not used: species" in notes
