"""The package's public names."""

import subprocess
import sys
from pathlib import Path

import pytest

import cytoimagenet_hf
from cytoimagenet_hf import sources
from cytoimagenet_hf.hub import loading

ROOT = Path(__file__).resolve().parents[1]


def test_public_names_are_the_functions_themselves():
    """Each lazy name gives the object of the module that defines it."""
    assert cytoimagenet_hf.load_dataset is loading.load_dataset
    assert cytoimagenet_hf.list_sources is sources.names


def test_dir_shows_what_all_names():
    """Completion in a shell finds the names before they are used."""
    assert set(cytoimagenet_hf.__all__) <= set(dir(cytoimagenet_hf))
    assert all(hasattr(cytoimagenet_hf, name) for name in cytoimagenet_hf.__all__)


def test_unknown_name_is_an_attribute_error():
    """`hasattr` and `from ... import` behave as with any module."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cytoimagenet_hf.nothing


def test_import_brings_no_library():
    """Importing the package, and looking at its names, loads none of the heavy libraries."""
    code = "import sys, cytoimagenet_hf; dir(cytoimagenet_hf); print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "cytoimagenet_hf" in loaded
    assert not loaded & {"torch", "datasets", "pyarrow", "numpy", "huggingface_hub", "yaml"}
