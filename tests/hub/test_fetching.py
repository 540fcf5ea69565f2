"""Tests of fetching from the Hub: whole, checked, resumed, without a second copy."""

import json
import shutil

import pytest

from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.hub.fetching import fetch_release
from tests.hub_server import run_client
from tests.publishing import OPEN, build_data

pytestmark = pytest.mark.slow

PULL = """
from pathlib import Path
from cytoimagenet_hf.curation.progress import Silent
from cytoimagenet_hf.hub import fetching, places
class Loud(Silent):
    def say(self, text): print(text)
def pull(to, revision=None):
    try:
        done = fetching.pull(places.on_hub("lab/cells", revision), Path(to), progress=Loud())
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


def test_home_with_a_cache_of_the_hub_is_left_alone(hub, tmp_path):
    """A folder with .cache/huggingface is nobody's pull: its README.md stays."""
    (tmp_path / "home" / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / "home" / "README.md").write_text("mine")
    answer = run_client(hub, f"{PULL}\nanswer = pull({str(tmp_path / 'home')!r})").answer
    assert "no build or pull wrote" in answer["error"]
    assert contents(tmp_path / "home") == {"README.md": b"mine"}


def test_build_of_another_data_set_is_left_alone(hub, folder, tmp_path):
    """A whole folder is pulled into only if every shard that it lists is in the new release."""
    to = tmp_path / "own"
    shutil.copytree(folder, to)
    sums = (to / "SHA256SUMS").read_text()
    (to / "SHA256SUMS").write_text(f"{sums}{'0' * 64}  data/default/train-own.parquet\n")
    before = contents(to)
    code = f"{PULL}\nanswer = [pull({str(to)!r})]"
    assert "holds another data set than lab/cells" in run_client(hub, code).answer[0]["error"]
    assert contents(to) == before
    (to / "SHA256SUMS").write_text(sums)  # now the same release: its shards aren't sent again
    assert run_client(hub, code).answer[0]["sent"] == 0


def test_half_pull_goes_on_from_its_own_id_only(hub, folder, tmp_path):
    """The marker names the id; another's half pull is refused, and a whole pull has no marker."""
    to, marker = tmp_path / "cytoimagenet", tmp_path / "cytoimagenet" / ".cytoimagenet-pull.json"
    to.mkdir()
    marker.write_text('{"repo": "lab/others"}')
    code = f"{PULL}\nanswer = pull({str(to)!r})"
    assert "half pull of lab/others" in run_client(hub, code).answer["error"]
    marker.write_text('{"repo": "lab/cells"}')
    assert run_client(hub, code).answer["sent"] > 0
    assert not marker.exists()
    assert contents(to) == contents(folder)


@pytest.mark.parametrize("path", ["../mine.txt", "/mine.txt", "C:/mine.txt", ".git/config"])
def test_path_that_leaves_the_folder_is_refused_first(hub, folder, tmp_path, path):
    """Sums with such a path change nothing in a folder that could be gone on with."""
    to, other = tmp_path / "own", tmp_path / "other"
    shutil.copytree(folder, to)
    other.mkdir()
    sums = (folder / "SHA256SUMS").read_text()
    (other / "SHA256SUMS").write_text(f"{sums}{'0' * 64}  {path}\n")
    hub.put_folder("datasets", "lab/cells", other)
    answer = run_client(hub, f"{PULL}\nanswer = pull({str(to)!r})").answer
    assert "leaves the folder" in answer["error"]
    assert contents(to) == contents(folder)


@pytest.mark.parametrize("broken_off", [False, True])
def test_prose_written_into_a_pulled_card_stays(hub, folder, tmp_path, broken_off):
    """With the new generated parts; also over a break. One without edits is the Hub's."""
    to = tmp_path / "cytoimagenet"
    code = f"{PULL}\nanswer = pull({str(to)!r})"
    run_client(hub, code)
    card = to / "README.md"
    old = card.read_text("utf-8")
    card.write_text(f"{old}\n## Mine\n", "utf-8")
    path = next((to / "data" / "small").iterdir())
    path.unlink()
    if broken_off:
        fault = hub.fail(f"GET .*{path.name}", status=500, times=50)
        assert "can't be fetched" in run_client(hub, code).answer["error"]
        hub.faults.remove(fault)
        assert not card.exists()
    store = hub.store
    theirs = old.replace("## Known limits", "## Beware")
    changes = [("put", "README.md", store.blob(theirs.encode()))]
    store.commit(store.repo("datasets", "lab/cells"), "main", {"summary": "edit"}, changes)
    told = run_client(hub, code)
    assert told.answer["sent"] > 0
    assert card.read_text("utf-8") == f"{old}\n## Mine\n"
    assert "kept: prose in README.md that lab/cells doesn't have" in told.output
    card.unlink()
    assert "kept" not in run_client(hub, code).output
    assert card.read_text("utf-8") == theirs


def test_card_with_broken_marks_is_not_pulled_over(hub, tmp_path):
    """Its prose can't be told from the rest, so it is left as it is, and the way out is told."""
    to = tmp_path / "cytoimagenet"
    code = f"{PULL}\nanswer = pull({str(to)!r})"
    run_client(hub, code)
    card = to / "README.md"
    card.write_text(card.read_text("utf-8").replace("<!-- /generated:code -->\n", ""), "utf-8")
    before = contents(to)
    assert "Move the file away and pull again" in run_client(hub, code).answer["error"]
    assert contents(to) == before


OFFLINE = """
import cytoimagenet_hf
def rows(name, **options):
    try:
        return len(cytoimagenet_hf.load_dataset("lab/cells", name, split="train", **options))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
"""


def test_verified_config_loads_offline(hub):
    """What verify fetched is found in the cache; files of other configs are named as missing."""
    online = run_client(hub, f'{OFFLINE}\nanswer = rows("small", verify=True)').answer
    code = f'{OFFLINE}\nanswer = [rows("small"), rows("small", sources=["bbbc038"])]'
    offline, selected = run_client(hub, code, HF_HUB_OFFLINE="1").answer
    assert offline == online > 0
    assert selected.startswith("DatasetNotAvailableError: Config metadata is not whole"), selected
    assert "data/metadata/train" in selected


def test_verify_offline_names_what_was_never_fetched(hub):
    """Sums or shards that aren't in the cache are no damage."""
    run_client(hub, f'{OFFLINE}\nanswer = rows("tiny")')
    code = f'{OFFLINE}\nanswer = rows("tiny", verify=True)'
    told = run_client(hub, code, HF_HUB_OFFLINE="1").answer
    assert told.startswith("DatasetNotAvailableError: SHA256SUMS was never fetched"), told
    run_client(hub, f'{OFFLINE}\nanswer = rows("small", verify=True)')
    told = run_client(hub, code.replace("tiny", "default"), HF_HUB_OFFLINE="1").answer
    assert told.startswith("DatasetNotAvailableError: Config default is not whole"), told


def test_main_that_moved_meanwhile_is_told(hub):
    """A commit between finding a place and fetching its card is an error, not a mixture."""
    other = "0" * 40
    code = f"""
from dataclasses import replace
from cytoimagenet_hf.hub import fetching, places
try:
    answer = str(fetching.fetch_card(replace(places.on_hub("lab/cells"), commit={other!r})))
except Exception as error:
    answer = f"{{type(error).__name__}}: {{error}}"
"""
    told = run_client(hub, code).answer
    assert told.startswith(f"DatasetNotAvailableError: lab/cells at main moved from commit {other}")
    assert "Try again" in told


def test_names_of_releases(hub):
    """OWNER/NAME is an id at main; @TAG and TAG are of the default id."""
    code = """
from cytoimagenet_hf.hub.fetching import fetch_release
answer = [fetch_release(name).name for name in ("lab/cells", "lab/cells@main", "@main", "main")]
"""
    found = run_client(hub, code, CYTOIMAGENET_REPO="lab/cells").answer
    assert found == [hub.store.repo("datasets", "lab/cells").at("main").sha] * 4


@pytest.mark.parametrize("name", ["./gone", "~/gone", "/gone/x", "a/b/c", "C:\\gone", "C:/gone"])
def test_path_that_is_no_folder_is_no_release(name):
    """The Hub isn't asked for it, and the message says that there is no such folder."""
    with pytest.raises(DatasetNotAvailableError, match="is neither a folder nor"):
        fetch_release(name)


@pytest.mark.parametrize("status", [401, 429, 500])
def test_probe_tells_the_status(hub, status):
    """A Hub that answers with an error is told apart from one that doesn't answer."""
    hub.fail("GET /api/datasets/lab/cells", status=status, times=9)
    code = """
from cytoimagenet_hf.hub.places import probe_hub
answer = probe_hub("lab/cells", None).detail
"""
    assert f"HTTP {status}" in run_client(hub, code).answer


def test_bad_token_is_named(hub, tmp_path):
    """Whoever pulls or loads learns that it is the token, not the network."""
    code = f"""{PULL}
import cytoimagenet_hf
answer = [pull({str(tmp_path / "cytoimagenet")!r})["error"]]
try:
    cytoimagenet_hf.load_dataset("lab/cells")
except Exception as error:
    answer.append(str(error))
"""
    told = run_client(hub, code, token="hf_old").answer
    assert ["doesn't know the token; unset HF_TOKEN" in one for one in told] == [True, True], told
    assert "unreachable" not in "".join(told)


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


def test_share_of_bytes_that_one_source_costs(hub_server, tmp_path):
    """Of two sources of other terms, one takes its own shards and the small columns."""
    mixed = build_data(tmp_path / "mixed")  # bbbc038 open, bbbc048 closed: a Hub of our own
    hub_server.put_folder("datasets", "lab/cells", mixed)
    code = """
import cytoimagenet_hf
rows = cytoimagenet_hf.load_dataset("lab/cells", sources=["bbbc048"], streaming=True)
answer = sum(1 for split in rows.values() for _ in split)
"""
    assert run_client(hub_server, code).answer > 0
    sent: dict[str, int] = {}
    for one in hub_server.requests:
        if "data/default/" in one.path:
            terms = one.path.rpartition("/")[2].split("-")[1]
            sent[terms] = sent.get(terms, 0) + one.sent
    assert set(sent) == {"local"}  # not a byte of the shards of the other source
    assert sent["local"] > 0


def test_verified_load_from_the_hub(hub):
    """With verify, files of one config are x."""
    code = """
import cytoimagenet_hf
rows = [cytoimagenet_hf.load_dataset("lab/cells", "small", verify=True, split="train", **more)
        for more in ({}, {"sources": ["bbbc038"]}, {"use": "commercial"})]
answer = [len(one) for one in rows]
"""
    first, *others = run_client(hub, code).answer
    assert first > 0
    assert others == [first, first]  # all of it is of this source, and open
    assert hub.count("GET .*data/small") > 0
    assert hub.count("GET .*data/default") == 0
