"""`python -m builders.publish` as a curator runs it: killed, resumed, loaded by strangers."""

import io
import json
import random
import re
import signal
import sys
import time

import pyarrow.parquet as pq
import pytest

from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pipeline import build
from tests.curation.builds import config
from tests.hub_server import run_client
from tests.publishing import MIXED, build_data, command, publish, put, read_build, said

pytestmark = pytest.mark.slow
KILLS, TRIES = 10, 60


REAL = ("bbbc006", "bbbc022", "bbbc038")  # an unknown license, and CC0 twice


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Open and closed simulated crops in many small shards; never change this folder."""
    to = tmp_path_factory.mktemp("mixed")
    return build_data(to, MIXED, fields=24, shard_bytes=60_000)


@pytest.fixture(scope="module")
def real_folder(real_images, tmp_path_factory):
    """Crops of real images of three sources; never change this folder."""
    chosen = config(
        real_images,
        tmp_path_factory.mktemp("real") / "cytoimagenet",
        names=REAL,
        parameters=preset("standard", min_fields=10, shard_bytes=1_000_000),
        workers=2,
    )
    build(chosen)
    return chosen.output


@pytest.fixture(scope="module")
def crops(request):
    """Real crops, or simulated ones where there are none: what must hold is the same."""
    try:
        return request.getfixturevalue("real_folder")
    except pytest.skip.Exception:
        return request.getfixturevalue("folder")


def stored(hub, revision="main") -> dict[str, bytes]:
    """What stands on the Hub, without what the Hub put there."""
    found = hub.files("datasets", "lab/cells", revision)
    return {path: content for path, content in found.items() if path != ".gitattributes"}


def test_outcome_is_told_and_a_refusal_is_one_line(hub_server, folder):
    """Status 2 for what may not be published, 1 where the Hub says no, 0 with all in words."""
    status, output, errors = said(command(hub_server, folder, "lab/cells"))
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert "bbbc048" in errors
    more = (folder, "lab/cells", "--only-publishable", "--workers", "0")
    status, output, errors = said(command(hub_server, *more, token=None))
    assert (status, output, errors.count("\n")) == (1, "", 1)
    assert "There is no token" in errors
    status, output, errors = said(command(hub_server, *more, "--dry-run"))
    assert status == 0
    assert "nothing was changed" in output
    assert output.count(" send\n") == output.count("\ndata/")
    status, output, errors = said(command(hub_server, *more, "--tag", "v1.0"))
    assert status == 0
    assert "tag v1.0" in output
    assert "again" not in output  # nothing stood there
    assert "not published: bbbc048 (unknown)" in output
    assert 'load: datasets.load_dataset("lab/cells")' in output
    assert "B/s" in errors  # progress has a rate
    status, output, _ = said(command(hub_server, *more, "--json"))
    found = json.loads(output)
    assert (status, found["is_new"], found["sent_bytes"]) == (0, False, 0)
    status, output, _ = said(command(hub_server, *more))
    assert status == 0
    assert "0.0 % of what stood there sent again" in output


def test_killed_at_ten_random_moments_it_sends_nothing_twice(hub_server, crops):
    """Readers see nothing or all of it; each file arrives once, whatever was broken off."""
    folder, dice = crops, random.Random(13)
    (dry,) = publish(hub_server, f"{str(folder)!r}, only_publishable=True, dry_run=True")
    hub_server.requests.clear()
    arguments = (folder, "lab/cells", "--only-publishable", "--workers", "0")
    whole = {path for path, _, sends in dry["shards"] if sends}
    killed, reach = 0, 12  # requests within which a moment is chosen
    for number in range(TRIES):
        if killed == KILLS:
            break
        fault = hub_server.fail("PUT|commit|preupload|tag", delay=0.3, times=1)
        fault.skip = dice.randrange(reach)
        # A tag of its own gives a run something to do also after all has arrived.
        process = command(hub_server, *arguments, "--tag", f"try{number}")
        while process.poll() is None and fault.times:
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.6))
        process.kill()
        said(process)
        if process.returncode < 0:
            killed += 1
        else:  # it ended first
            assert process.returncode == 0
            reach = max(1, reach // 2)
        time.sleep(0.5)  # what was on its way may still arrive
        hub_server.faults.clear()
        if ("datasets", "lab/cells") in hub_server.store.repos:
            there = {path for path in stored(hub_server) if path.startswith("data/")}
            assert there in (set(), whole)
    assert killed == KILLS
    status, _, errors = said(command(hub_server, *arguments, "--tag", "v1.0"))
    assert status == 0, errors
    assert {path: stored(hub_server)[path] for path in whole} == {
        path: (folder / path).read_bytes() for path in whole
    }
    puts = [r for r in hub_server.requests if r.method == "PUT"]
    good = [r.path for r in puts if r.status == 200]
    assert len(good) == len(set(good))
    broken = sum(r.received for r in puts if r.status != 200)  # files that a kill tore
    sizes = [len(content) for content in stored(hub_server).values()]
    assert hub_server.received("PUT /lfs") - broken <= sum(sizes)
    assert broken <= KILLS * max(sizes)


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT for one process")
def test_interrupted_it_says_that_it_goes_on(hub_server, folder, hears_interrupts):
    """Ctrl-C in the middle of an upload ends with 130; main is as it was."""
    fault = hub_server.fail("PUT /lfs", delay=2, times=1)
    process = command(hub_server, folder, "lab/cells", "--only-publishable", "--workers", "0")
    while process.poll() is None and fault.times:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    status, _, errors = said(process)
    assert status == 130
    assert "cytoimagenet: stopped; the same command goes on from here" in errors
    assert "Traceback" not in errors
    assert stored(hub_server) == {}


LOAD = """
import datasets, hashlib
def told(rows):
    digest = hashlib.sha256()
    for row in rows.cast_column("image", datasets.Image(decode=False)):
        digest.update(row["image_id"].encode() + row["image"]["bytes"])
        digest.update(str((row["label"], row["pixel_sha256"], row["gene"])).encode())
    return digest.hexdigest()
answer = {}
for config in datasets.get_dataset_config_names("lab/cells"):
    if config == "metadata":
        rows = datasets.load_dataset("lab/cells", config)
        answer[config] = {split: rows[split]["image_id"][:] for split in rows}
        continue
    plain = datasets.load_dataset("lab/cells", config)
    streamed = datasets.load_dataset("lab/cells", config, streaming=True, revision="v1.0")
    answer[config] = {split: [told(plain[split]), told(streamed[split])] for split in plain}
one = datasets.load_dataset("lab/cells", split="train")
answer["decoded"] = [list(one[0]["image"].size), one[0]["image"].mode]
answer["classes"] = one.features["label"].names
"""

LOCAL = """
import pathlib
folder = pathlib.Path(FOLDER)
answer = {}
for config in ("default", "small", "tiny", "commercial", "commercial_small"):
    base = {"commercial": "default", "commercial_small": "small"}.get(config, config)
    open_ones = lambda split: (folder / "data" / base).glob(f"{split}-open-*")
    files = {split: sorted(map(str, open_ones(split))) for split in ("train", "validation")}
    rows = datasets.load_dataset("parquet", data_files=files)
    answer[config] = {split: [told(rows[split])] * 2 for split in rows}
"""


def test_real_images_are_published_as_far_as_their_licenses_go(hub_server, real_folder):
    """The source that says nothing of a license is refused by name; the others go out."""
    line = f"{str(real_folder)!r}"
    refused, rest = publish(hub_server, line, f"{line}, only_publishable=True")
    assert re.findall(r"(bbbc\d+) \(unknown", refused["error"]) == ["bbbc006"]
    assert [one["source"] for one in rest["withheld"]] == ["bbbc006"]
    about = [
        row
        for path, content in stored(hub_server).items()
        if path.startswith("data/metadata/")
        for row in pq.read_table(io.BytesIO(content), columns=["dir_name", "terms"]).to_pylist()
    ]
    assert {row["dir_name"] for row in about} == {"bbbc022", "bbbc038"}
    assert {row["terms"] for row in about} == {"open"}


def test_stranger_loads_every_config_with_every_byte(hub_server, crops, tmp_path):
    """A process without token or cache, plainly and streamed, gets what lies in the folder."""
    folder = crops
    publish(hub_server, f"{str(folder)!r}, only_publishable=True, tag='v1.0'")
    found = run_client(hub_server, LOAD, token=None, HF_HOME=str(tmp_path / "empty")).answer
    head = LOAD.partition("answer = {}")[0]
    code = head + LOCAL.replace("FOLDER", repr(str(folder)))
    expected = run_client(hub_server, code, HF_HUB_OFFLINE="1").answer
    assert {config: found[config] for config in expected} == expected
    about = put(tmp_path / "there", stored(hub_server)) / "data" / "metadata"
    for split, ids in found["metadata"].items():
        tables = [pq.read_table(path) for path in sorted(about.glob(f"{split}-*"))]
        assert ids == [one for table in tables for one in table["image_id"].to_pylist()]
    assert found["decoded"][1] == "L"
    labels = pq.read_table(folder / "labels.parquet").to_pylist()
    assert found["classes"] == [row["label"] for row in labels if not row["dropped_reason"]]


CHOSEN = """
import cytoimagenet_hf
def chosen(**options):
    rows = cytoimagenet_hf.load_dataset("lab/cells", streaming=STREAMING, **options)
    return {split: told(rows[split]) for split in rows}
answer = {"open": chosen(use="commercial")}
answer["checked"] = chosen(use="commercial", verify=not STREAMING)
answer |= {one: chosen(sources=[one], use="commercial") for one in SOURCES}
answer["small"] = chosen(name="small", sources=SOURCES, use="commercial")
"""

FILTERED = """
import pathlib
folder = pathlib.Path(FOLDER)
def part(config, sources):
    files = {split: sorted(map(str, (folder / "data" / config).glob(f"{split}-open-*")))
             for split in ("train", "validation")}
    rows = datasets.load_dataset("parquet", data_files=files)
    rows = rows.filter(lambda one: one in sources, input_columns="dir_name")
    return {split: told(rows[split]) for split in rows}
answer = {one: part("default", [one]) for one in SOURCES}
answer |= {"open": part("default", SOURCES), "small": part("small", SOURCES)}
answer["checked"] = answer["open"]
"""


@pytest.mark.parametrize("streaming", [True, False])
def test_chosen_rows_are_the_folders_to_the_byte(hub_server, crops, tmp_path, streaming):
    """By use, source and config, verified where not streamed: as a filter of the folder gives."""
    publish(hub_server, f"{str(crops)!r}, only_publishable=True, tag='v1.0'")
    sources = [one["name"] for one in read_build(crops)["sources"] if one["terms"] == "open"]
    head = LOAD.partition("answer = {}")[0]
    values = {"STREAMING": streaming, "FOLDER": str(crops), "SOURCES": sources}
    code = [head + one for one in (CHOSEN, FILTERED)]
    for name, value in values.items():
        code = [one.replace(name, repr(value)) for one in code]
    found = run_client(hub_server, code[0], token=None, HF_HOME=str(tmp_path / "empty")).answer
    expected = run_client(hub_server, code[1], HF_HUB_OFFLINE="1").answer
    assert found == expected
