"""What publishing a large data set takes: peak memory, seconds, and bytes sent, on a loopback Hub.

    python benchmarks/publishing.py                 # 100,000 crops, about five minutes
    python benchmarks/publishing.py --crops 2000    # to see that it runs

Crops are made-up cells (48 x 48 pixels) and say so in their source's name. The Hub is that of the
tests (tests/hub_server.py), in this process; the publication runs in one of its own.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the Hub of the tests
SIDE = 48  # pixels
MUST_MB = 1500
CHILD = """
import resource, sys
from cytoimagenet_hf.cli import main
status = 0
try:
    main(["publish", sys.argv[1], "lab/cells", "--json", "--workers", sys.argv[2]])
except SystemExit as ended:
    status = ended.code or 0
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
sys.exit(status)
"""


def make_images(to: Path, count: int) -> Path:
    """Write made-up crops, all different, and their table; returns the table."""
    from cytoimagenet_hf.imaging import png

    noise = np.random.default_rng(0).integers(0, 255, (64, 4096, SIDE), dtype=np.uint8)
    lines = ["path,license,compound"]
    for number in range(count):
        pixels = noise[number % 64][number * 7 % 4000 :][:SIDE].copy()
        pixels[0, :8] = list(number.to_bytes(8, "big"))
        path = to / f"{number // 1000:03d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png.encode(pixels))
        lines.append(f"{path.relative_to(to)},CC0 1.0,drug {number // 1000}")
    table = to / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def build_folder(scratch: Path, crops: int) -> Path:
    """Build the data set; returns its folder."""
    from cytoimagenet_hf.curation import inputs
    from cytoimagenet_hf.curation.parameters import preset
    from cytoimagenet_hf.curation.pipeline import BuildConfig, build

    images = scratch / "images"
    images.mkdir()
    table = inputs.from_table(make_images(images, crops), images, [], name="simulated_cells")
    parameters = preset("paper", shard_bytes=30_000_000)
    build(BuildConfig(inputs=[table], output=scratch / "cytoimagenet", parameters=parameters))
    return scratch / "cytoimagenet"


def publish(folder: Path, scratch: Path, workers: int) -> dict[str, float]:
    """Publish to a Hub on loopback; returns megabytes and seconds."""
    from tests.hub_server import serving_hub

    with contextlib.ExitStack() as stack:
        (scratch / "hub").mkdir()
        hub = stack.enter_context(serving_hub(scratch / "hub"))
        given = {**os.environ, **hub.environment(), "PYTHONPATH": str(ROOT)}
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(folder), str(workers)],
            env=given, check=True, capture_output=True, text=True,
        )  # fmt: skip
        seconds = time.perf_counter() - start
    told, _, peak = done.stdout.rpartition("PEAK ")
    sent = json.loads(told)["sent_bytes"]
    return {"peak_mb": float(peak), "seconds": seconds, "sent_mb": sent / 1e6}


def main() -> int:
    """Build, publish, tell; the status is 1 if memory is above its bound."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--crops", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=0, help="processes that verify")
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = build_folder(Path(temporary), flags.crops)
        found = {"crops": flags.crops, **publish(folder, Path(temporary), flags.workers)}
    if flags.json:
        print(json.dumps(found))
    else:
        print(
            f"{found['crops']:,} crops: peak {found['peak_mb']:,.0f} MB (must {MUST_MB:,}), "
            f"{found['seconds']:.0f} s with verification, {found['sent_mb']:,.1f} MB sent"
        )
    return 0 if found["peak_mb"] < MUST_MB else 1


if __name__ == "__main__":
    sys.exit(main())
