"""Test of the build command of a checkout."""

import subprocess
import sys
from pathlib import Path

from tests.curation.builds import raw_data


def test_module_takes_the_flags_of_the_command_line(tmp_path):
    """`python -m builders.build` builds what `cytoimagenet build` builds."""
    raw_data(tmp_path / "raw", ("bbbc006",))
    command = [sys.executable, "-m", "builders.build", "--data-root", str(tmp_path / "raw")]
    done = subprocess.run(
        [*command, "--min-fields", "4", "--output", str(tmp_path / "cytoimagenet")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "written" in done.stdout
    assert (tmp_path / "cytoimagenet" / "SHA256SUMS").exists()
