"""Raw images → data set on the Hub → a model trained on it → its scores, by commands alone."""

import json
import os
import subprocess
import sys

import pytest

from cytoimagenet_hf import load_encoder
from tests.hub_server import READ_TOKEN, ROOT, TOKEN
from tests.publishing import build_data

pytest.importorskip("timm")
pytestmark = pytest.mark.slow


@pytest.fixture
def run(hub_server, tmp_path):
    """Run a command that talks to the Hub on loopback, and return all that it said."""
    base = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}

    def start(*command, token=TOKEN):
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            env={**base, **hub_server.environment(token), "PYTHONPATH": str(ROOT),
                 "OMP_NUM_THREADS": "1"},
            cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=300, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert TOKEN not in said
        assert READ_TOKEN not in said
        assert done.returncode == 0, said
        return said

    return start


def test_from_raw_images_to_scores(hub_server, run, tmp_path):
    """Each step takes what the one before left on the Hub, and nothing else."""
    folder = build_data(tmp_path, ("bbbc038",), fields=24)
    cli = ("-m", "cytoimagenet_hf.cli")
    run("-m", "builders.publish", folder, "lab/cells", "--tag", "v1.0", "--workers", "0")
    run(ROOT / "training" / "train.py", "--dataset", "lab/cells", "--name", "small",
        "--revision", "v1.0", "--streaming", "--model", "test_efficientnet", "--no-pretrained",
        "--image-size", "32", "--batch-size", "8", "--epochs", "1", "--workers", "0", "--cpu",
        "--output-dir", "run", "--push-to-hub", "--hub-model-id", "lab/net")  # fmt: skip
    run(*cli, "simulate", "cyclops", "--to", "benchmarks/cyclops")
    run(ROOT / "benchmarks" / "run_all.py", "--data-root", "benchmarks", "--tasks", "cyclops",
        "--encoders", "hf-hub:lab/net", "intensity", "hf-hub:lab/net+intensity",
        "--output", "scores", token=None)  # fmt: skip
    scores = [json.loads(path.read_text()) for path in (tmp_path / "scores/scores").glob("*.json")]
    assert {one["encoder"] for one in scores} == {
        "hf-hub:lab/net", "intensity", "hf-hub:lab/net+intensity"
    }  # fmt: skip
    assert all(one["simulated"] for one in scores)
    (ours,) = [one for one in scores if one["encoder"] == "hf-hub:lab/net"]
    trained = load_encoder(f"local-dir:{tmp_path / 'run' / 'model'}")
    assert ours["parts"][0]["revision"] == trained.revision
    model = hub_server.files("models", "lab/net")
    assert "lab/cells" in model["README.md"].decode()
