"""The benchmark of publishing runs on a few crops and tells what it promises."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "publishing.py"


@pytest.mark.slow
def test_a_small_publication_is_measured():
    """Every crop is sent once, within the bound of memory."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--crops", "1200", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["crops"] == 1200
    assert 0 < found["peak_mb"] < 1500
    assert found["sent_mb"] > 1
