"""What all tests share: no network, no user cache, and the place of the real data."""

import os
import signal
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports datasets or huggingface_hub
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

SHARED = Path(os.environ.get("CYTOIMAGENET_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Keep what the package and its libraries remember inside of the test's own folder."""
    monkeypatch.setenv("CYTOIMAGENET_HOME", str(tmp_path / "home"))


@pytest.fixture
def hears_interrupts():
    """Let processes that the test starts hear SIGINT: what runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def hub_server(tmp_path):
    """A real Hub on loopback (tests/hub_server.py); an unknown route fails the test."""
    from tests.hub_server import serving_hub

    (tmp_path / "hub").mkdir()
    with serving_hub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture(scope="session")
def real_images() -> Path:
    """The folder of real microscopy images; without it the test is skipped by name."""
    folder = SHARED / "data" / "images"
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder} (set CYTOIMAGENET_SHARED)")
    return folder


@pytest.fixture(scope="session")
def real_tables() -> Path:
    """The folder of real metadata tables; without it the test is skipped by name."""
    folder = SHARED / "data" / "metadata"
    if not folder.is_dir():
        pytest.skip(f"no real tables at {folder} (set CYTOIMAGENET_SHARED)")
    return folder
