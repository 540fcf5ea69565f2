"""One small build for all tests of this room that only read it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from cytoimagenet_hf.curation.catalog import SourceInput
from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pipeline import build
from tests.curation.builds import config, raw_data

_NAMES = ("bbbc006", "bbbc048")


@dataclass(frozen=True)
class Built:
    """A folder, what it was made from, and the hash that the build printed."""

    folder: Path
    inputs: list[SourceInput]
    manifest_sha256: str


@pytest.fixture(scope="session")
def built_once(tmp_path_factory) -> Built:
    """Eight fields of two sources in four classes; never change this folder."""
    to = tmp_path_factory.mktemp("built")
    raw = raw_data(to / "raw", _NAMES, fields=8)
    # Four fields a label, so that records carry values that are the labels of others.
    parameters = preset("standard", min_fields=3, max_fields=4, group_rows=5)
    chosen = config(raw, to / "cytoimagenet", names=_NAMES, parameters=parameters)
    summary = build(chosen)
    return Built(chosen.output, list(chosen.inputs), summary.manifest_sha256)


@pytest.fixture
def built(built_once, tmp_path) -> Built:
    """A copy of the build that the test may damage."""
    folder = tmp_path / "cytoimagenet"
    shutil.copytree(built_once.folder, folder)
    return Built(folder, built_once.inputs, built_once.manifest_sha256)
