"""`cytoimagenet pull`: what it prints works when it is pasted."""

import re

import pytest

from tests.hub_server import run_client
from tests.publishing import OPEN, build_data

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("to", ["link", "."])
def test_printed_lines_load_what_was_pulled(hub_server, tmp_path, to):
    """Also where the folder was named by a link or a dot."""
    hub_server.put_folder("datasets", "lab/cells", build_data(tmp_path / "built", OPEN))
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    code = f"""
import os
import cytoimagenet_hf, datasets
from cytoimagenet_hf import cli
os.chdir({str(real if to == "." else tmp_path)!r})
try:
    cli.main(["pull", "lab/cells", "--to", {to!r}])
except SystemExit as end:
    assert not end.code
"""
    output = run_client(hub_server, code).output
    lines = re.findall(r"(?:datasets|cytoimagenet_hf)\.load_dataset\([^)]+\)", output)
    assert len(lines) == 2
    counts = ", ".join(f"len({one}['train'])" for one in lines)
    ask = f"import datasets, cytoimagenet_hf\nanswer = [{counts}]"
    first, second = run_client(hub_server, ask, HF_HUB_OFFLINE="1").answer
    assert first == second > 0
