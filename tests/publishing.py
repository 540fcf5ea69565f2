"""What tests of publishing share: folders of open and closed crops, clients that publish."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from cytoimagenet_hf.curation.editions import Edition, choose_edition
from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pipeline import build
from tests.curation.builds import config, raw_data
from tests.hub_server import READ_TOKEN, ROOT, TOKEN, Hub, run_client

OPEN, MIXED = ("bbbc038",), ("bbbc038", "bbbc048")  # CC0; and beside it an unknown license
SMALL = {"min_fields": 3, "chunk_fields": 6, "small_side": 64, "tiny_side": 32}

PUBLISH = """
import time
time.sleep = lambda seconds: None  # between the tries of huggingface_hub
from dataclasses import asdict
from pathlib import Path
from cytoimagenet_hf.curation.progress import Silent
from cytoimagenet_hf.curation.publishing import Options, publish
class Told(Silent):
    def __init__(self): self.lines = []
    def start(self, stage, total, unit): self.lines.append(f"{stage} {total} {unit}")
    def step(self, done, note=""): self.lines.append(f"{done} {note}")
    def say(self, text): self.lines.append(text)
def attempt(folder, repo="lab/cells", **options):
    told = Told()
    try:
        done = asdict(publish(Path(folder), repo, Options(workers=0, **options), progress=told))
    except Exception as error:
        done = {"error": f"{type(error).__name__}: {error}"}
    return done | {"told": told.lines}
"""


def build_data(to: Path, names: tuple[str, ...] = MIXED, *, fields: int = 12, **changes) -> Path:
    """Build a small data set from simulated raw data; returns its folder."""
    raw = raw_data(to / "raw", names, fields=fields)
    chosen = config(
        raw, to / "cytoimagenet", names=names, parameters=preset("standard", **(SMALL | changes))
    )
    build(dataclasses.replace(chosen, workers=0))
    return chosen.output


def publish(hub: Hub, *calls: str, **env) -> list[dict]:
    """Publish in a process of its own; each call is what goes between `attempt(` and `)`."""
    lines = ", ".join(f"attempt({one})" for one in calls)
    answer = run_client(hub, f"{PUBLISH}\nanswer = [{lines}]", **env).answer
    assert isinstance(answer, list)
    return answer


def command(hub: Hub, *arguments: object, token: str | None = TOKEN, **env) -> subprocess.Popen:
    """Start the command in a process of its own."""
    base = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.Popen(
        [sys.executable, "-m", "builders.publish", *map(str, arguments)],
        env={**base, **hub.environment(token), "PYTHONUTF8": "1", **env},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def said(process: subprocess.Popen) -> tuple[int, str, str]:
    """Wait for a command: status, output, errors; none of them may hold a token."""
    output, errors = process.communicate(timeout=240)
    for secret in (TOKEN, READ_TOKEN):
        assert secret not in output + errors, "a token was printed"
    return process.returncode, output, errors


def put(folder: Path, files: dict[str, bytes]) -> Path:
    """Write what stands on a Hub into a folder, as `pull` would."""
    for path, content in files.items():
        if not path.startswith("."):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    return folder


def edition_of(folder: Path) -> Edition:
    """What may be published of a folder."""
    return choose_edition(folder, only_publishable=True)


def read_build(folder: Path) -> dict:
    """Read build.json."""
    return json.loads((folder / "build.json").read_text(encoding="utf-8"))
