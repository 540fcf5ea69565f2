"""Tests of fetching from the Hub: whole, checked, resumed, without a second copy."""

import json

import pytest

from cytoimagenet_hf.hub.fetching import fetch_release
from tests.hub_server import run_client
from tests.publishing import OPEN, build_data

pytestmark = pytest.mark.slow

PULL = """
from pathlib import Path
from cytoimagenet_hf.curation.progress import Silent
from cytoimagenet_hf.hub import fetching, places
def pull(to, revision=None):
    try:
        done = fetching.pull(places.on_hub("lab/cells", revision), Path(to), progress=Silent())
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"files": done.files, "bytes": done.bytes, "sent": done.sent_bytes}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set that may be published."""
    return build_data(tmp_path_factory.mktemp("fetching"), OPEN)


@pytest.fixture
def hub(hub_server, folder):
    """A Hub on which it stands."""
    hub_server.put_folder("datasets", "lab/cells", folder)
    return hub_server


def contents(folder) -> dict[str, bytes]:
    """All files but those that the Hub's client keeps beside them."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }


def test_pulled_folder_has_every_byte_and_no_second_copy(hub, folder, tmp_path):
    """Files equal those published; the Hub's cache holds card and sums only; the name loads it."""
    code = f"""{PULL}
answer = [pull({str(tmp_path / "cytoimagenet")!r})]
import datasets, cytoimagenet_hf, os
os.chdir({str(tmp_path)!r})
answer.append(len(datasets.load_dataset("cytoimagenet", split="train")))
os.chdir("/")
answer.append(sum(1 for _ in cytoimagenet_hf.load_dataset("cytoimagenet", split="train",
                                                          streaming=True)))
"""
    first, rows, streamed = run_client(hub, code).answer
    assert contents(tmp_path / "cytoimagenet") == contents(folder)
    assert first["files"] == len(contents(folder))
    assert rows == streamed > 0
    cached = [path for path in hub.home.rglob("*.parquet") if "hub" in path.parts]
    assert cached == []


def test_second_pull_transfers_nothing(hub, tmp_path):
    """What is there whole is hashed, and not asked for again."""
    to = str(tmp_path / "cytoimagenet")
    first, second = run_client(hub, f"{PULL}\nanswer = [pull({to!r}), pull({to!r})]").answer
    assert first["sent"] > 0
    assert second["sent"] == 0


def test_pull_that_was_cut_goes_on(hub, folder, tmp_path):
    """A connection cut in the middle is told; the next pull takes only what is missing."""
    to = str(tmp_path / "cytoimagenet")
    hub.fail(r"GET /datasets/lab/cells/resolve/.*small.*parquet", status=500, times=50)
    assert (
        "Run the same command again"
        in run_client(hub, f"{PULL}\nanswer = pull({to!r})").answer["error"]
    )
    assert not (tmp_path / "cytoimagenet" / "README.md").exists()
    hub.faults.clear()
    second = run_client(hub, f"{PULL}\nanswer = pull({to!r})").answer
    assert 0 < second["sent"] < second["bytes"]
    assert contents(tmp_path / "cytoimagenet") == contents(folder)


def test_other_bytes_than_the_sums_tell_are_refused(hub, folder, tmp_path):
    """A shard that was changed on the Hub is named, and the folder gets no card."""
    other = tmp_path / "other"
    path = next(one for one in sorted(contents(folder)) if "data/default/train" in one)
    (other / path).parent.mkdir(parents=True)
    (other / path).write_bytes(contents(folder)[path][:-1] + b"?")
    hub.put_folder("datasets", "lab/cells", other)
    to = tmp_path / "cytoimagenet"
    answer = run_client(hub, f"{PULL}\nanswer = pull({str(to)!r})").answer
    assert path.rpartition("/")[2] in answer["error"]
    assert not (to / "README.md").exists()


def test_shard_that_the_hub_lacks_is_named(hub, folder, tmp_path):
    """Whoever pulls or loads gets the name of the file, and no row of the others."""
    path = next(one for one in sorted(contents(folder)) if "data/default/train" in one)
    store = hub.store
    store.commit(
        store.repo("datasets", "lab/cells"), "main", {"summary": "lost"}, [("delete", path, None)]
    )
    code = f"""{PULL}
import cytoimagenet_hf
answer = [pull({str(tmp_path / "cytoimagenet")!r})["error"]]
for options in ({{}}, {{"verify": True}}, {{"sources": ["bbbc038"]}}, {{"streaming": True}}):
    try:
        rows = cytoimagenet_hf.load_dataset("lab/cells", split="train", **options)
        answer.append(f"{{len(list(rows))}} rows")
    except Exception as error:
        answer.append(f"{{type(error).__name__}}: {{error}}")
"""
    told = run_client(hub, code).answer
    assert [path.rpartition("/")[2] in one for one in told] == [True] * 5, told
    assert not (tmp_path / "cytoimagenet" / "README.md").exists()


def test_folder_of_others_is_left_alone(hub, tmp_path):
    """A folder with files of somebody's is refused, and nothing in it changes."""
    to = tmp_path / "own"
    to.mkdir()
    (to / "mine.txt").write_text("mine")
    answer = run_client(hub, f"{PULL}\nanswer = pull({str(to)!r})").answer
    assert "no build or pull wrote" in answer["error"]
    assert [path.name for path in to.iterdir()] == ["mine.txt"]


def test_release_by_its_tag_is_a_base(hub, folder):
    """ID@REVISION gives a folder with all files, from which a build can go on."""
    code = """
from cytoimagenet_hf.hub.fetching import fetch_release
from cytoimagenet_hf.curation.base import read_release
from cytoimagenet_hf.curation.parameters import Parameters
import json
found = fetch_release("lab/cells@main")
known = json.loads((found / "build.json").read_text())["parameters"]
answer = [str(found), read_release(found, Parameters(small_side=known["small_side"],
                                                     tiny_side=known["tiny_side"])).texts]
"""
    where, texts = run_client(hub, code).answer
    assert texts
    assert "datasets--lab--cells" in where


def test_folder_is_its_own_release(folder):
    """A folder that exists is taken as it is, without the Hub."""
    assert fetch_release(str(folder)) == folder
    assert json.loads((folder / "build.json").read_text())["lineage"]


def test_rows_of_a_source_travel_alone(hub, folder):
    """By ranges: of the images no more is sent than the row groups that hold the source."""
    code = """
import cytoimagenet_hf
rows = cytoimagenet_hf.load_dataset("lab/cells", sources=["bbbc038"], split="train", streaming=True)
answer = sum(1 for _ in rows)
"""
    assert run_client(hub, code).answer > 0
    whole = [r for r in hub.requests if "parquet" in r.path and r.status == 200 and r.sent > 1000]
    assert whole == []  # only parts were asked for


def test_verified_load_from_the_hub(hub):
    """With verify, files of one config are x."""
    code = """
import cytoimagenet_hf
answer = len(cytoimagenet_hf.load_dataset("lab/cells", "small", verify=True, split="train"))
"""
    assert run_client(hub, code).answer > 0
    assert hub.count("GET .*data/small") > 0
    assert hub.count("GET .*data/default") == 0
