"""The true clients against the loopback Hub; and the Hub's own guards, which must bite."""

import hashlib
import http.client
import importlib.util
import json
import socket
import time
from pathlib import Path

import pytest

from tests.hub_server import READ_TOKEN, TOKEN, run_client, serving_hub
from tests.loopback.cards import card_errors

BIG = bytes(range(256)) * 100  # 25,600 bytes: LFS
SMALL = b"text\n"
NEEDS_MODELS = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed"
)


def ask(hub, method, path, *, body=b"", **headers):
    """One plain request; returns status, headers and body."""
    connection = http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=20)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def put(hub, folder: Path, files: dict[str, bytes], kind="models", id="lab/net") -> str:
    """Commit files without a client; returns the sha."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return hub.put_folder(kind, id, folder)


# --- the Hub by itself


def test_unknown_route_is_501_and_fails_the_test(tmp_path):
    """The guard bites: a request that the Hub doesn't know can't pass unseen."""
    with (
        pytest.raises(AssertionError, match="GET /api/kernels/lab/x"),
        serving_hub(tmp_path) as hub,
    ):
        assert ask(hub, "GET", "/api/kernels/lab/x")[0] == 501


def test_whoami_needs_a_known_token(hub_server):
    """401 without a token and with another one."""
    path = "/api/whoami-v2"
    assert ask(hub_server, "GET", path)[0] == 401
    assert ask(hub_server, "GET", path, Authorization="Bearer hf_other")[0] == 401
    status, _, body = ask(hub_server, "GET", path, Authorization=f"Bearer {TOKEN}")
    assert (status, json.loads(body)["name"]) == (200, "ada")


@pytest.mark.parametrize(
    ("token", "owner", "status"),
    [("", "lab", 401), (READ_TOKEN, "lab", 403), (TOKEN, "others", 403), (TOKEN, "lab", 200)],
)
def test_only_a_writer_creates_and_only_at_home(hub_server, token, owner, status):
    """A repository in a foreign namespace or with a reader's token is refused."""
    body = json.dumps({"name": "x", "organization": owner}).encode()
    head = {"Authorization": f"Bearer {token}"} if token else {}
    assert ask(hub_server, "POST", "/api/repos/create", body=body, **head)[0] == status


def test_private_repository_is_hidden(hub_server):
    """Without a token it is as if it weren't there."""
    hub_server.store.create("models", "lab/secret", private=True)
    assert ask(hub_server, "GET", "/api/models/lab/secret")[0] == 401
    head = {"Authorization": f"Bearer {READ_TOKEN}"}
    assert ask(hub_server, "GET", "/api/models/lab/secret", **head)[0] == 200


def test_commits_never_change(hub_server, tmp_path):
    """A sha gives its files after later commits, as a branch gives the newest."""
    first = put(hub_server, tmp_path / "net", {"a": b"1"})
    put(hub_server, tmp_path / "net", {"a": b"2"})
    assert hub_server.files("models", "lab/net", first)["a"] == b"1"
    assert hub_server.files("models", "lab/net")["a"] == b"2"
    status, head, body = ask(hub_server, "GET", f"/lab/net/resolve/{first}/a")
    assert (status, head["X-Repo-Commit"], body) == (200, first, b"1")


def test_ranges(hub_server, tmp_path):
    """First, last and open ranges are 206 with their place; beyond the end is 416."""
    put(hub_server, tmp_path / "net", {"a": b"0123456789"})
    path = "/lab/net/resolve/main/a"
    for wanted, place, body in (
        ("bytes=2-4", "bytes 2-4/10", b"234"),
        ("bytes=8-", "bytes 8-9/10", b"89"),
        ("bytes=-3", "bytes 7-9/10", b"789"),
        ("bytes=5-99", "bytes 5-9/10", b"56789"),
    ):
        status, head, got = ask(hub_server, "GET", path, Range=wanted)
        assert (status, head["Content-Range"], got) == (206, place, body)
    assert ask(hub_server, "GET", path, Range="bytes=10-")[0] == 416


def test_upload_that_is_not_what_it_says_is_refused(hub_server):
    """LFS contents are checked against their sha256; an unsigned address isn't taken."""
    oid = hashlib.sha256(b"true").hexdigest()
    at = f"/lfs/{hub_server.secret}/lab/net/{oid}"
    assert ask(hub_server, "PUT", at, body=b"false")[0] == 400
    assert ask(hub_server, "PUT", f"/lfs/guess/lab/net/{oid}", body=b"true")[0] == 403
    assert ask(hub_server, "PUT", at, body=b"true")[0] == 200
    assert hub_server.received() == 13  # 5 + 4 + 4


def test_faults_end_after_their_times(hub_server, tmp_path):
    """A fault of one time is over at the second request; `skip` lets requests pass before."""
    put(hub_server, tmp_path / "net", {"a": b"1"})
    path = "/lab/net/resolve/main/a"
    hub_server.fail("GET .*/a", 429, headers={"Retry-After": "1"}, times=1, skip=1)
    answers = [ask(hub_server, "GET", path) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 429, 200]
    assert answers[1][1]["Retry-After"] == "1"


def test_cut_and_lying_answers(hub_server, tmp_path):
    """A cut body is shorter than told; sizes and etags lie when they are told to."""
    put(hub_server, tmp_path / "net", {"a": b"0123456789"})
    path = "/lab/net/resolve/main/a"
    hub_server.fail("GET .*/a", cut=4, times=1)
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(hub_server, "GET", path)
    assert caught.value.partial == b"0123"
    hub_server.fail("HEAD .*/a", size=5, etag="f" * 40, times=1)
    _, head, _ = ask(hub_server, "HEAD", path)
    assert (head["Content-Length"], head["ETag"]) == ("15", f'"{"f" * 40}"')
    assert ask(hub_server, "HEAD", path)[1]["Content-Length"] == "10"


def test_lying_listing(hub_server, tmp_path):
    """A listing tells another size and name of a file when it is told to."""
    put(hub_server, tmp_path / "net", {"a": b"0123456789"})
    hub_server.fail("GET .*/tree/", size=5, etag="f" * 40, times=1)
    _, _, body = ask(hub_server, "GET", "/api/models/lab/net/tree/main")
    (told,) = [one for one in json.loads(body) if one["path"] == "a"]
    assert (told["size"], told["oid"]) == (15, "f" * 40)


def test_mute_hub_does_what_it_is_asked_for(hub_server):
    """The answer is lost, the repository is there."""
    hub_server.fail("POST /api/repos/create", mute=True)
    body = json.dumps({"name": "x", "organization": "lab", "type": "space"}).encode()
    with pytest.raises(http.client.RemoteDisconnected):
        ask(hub_server, "POST", "/api/repos/create", body=body, Authorization=f"Bearer {TOKEN}")
    assert ("spaces", "lab/x") in hub_server.store.repos
    assert ask(hub_server, "GET", "/api/spaces/lab/x")[0] == 200


def test_torn_upload_is_counted_and_not_kept(hub_server):
    """What a client sent before it died is in the log; nothing of it stays."""
    oid = hashlib.sha256(b"0123456789").hexdigest()
    with socket.create_connection(hub_server.server.server_address) as client:
        head = f"PUT /lfs/{hub_server.secret}/lab/net/{oid} HTTP/1.1\r\nContent-Length: 10\r\n\r\n"
        client.sendall(head.encode() + b"0123")
    for _ in range(100):
        if hub_server.requests:
            break
        time.sleep(0.02)
    (one,) = hub_server.requests
    assert (one.status, one.received) == (0, 4)
    assert oid not in hub_server.store.lfs
    assert not list(hub_server.store.folder.glob("incoming-*"))


def test_fault_of_the_hub_itself_fails_the_test(tmp_path):
    """A handler that breaks isn't taken for a client that went away."""
    broken = pytest.raises(http.client.RemoteDisconnected)
    with (
        pytest.raises(AssertionError, match="JSONDecodeError"),
        serving_hub(tmp_path) as hub,
        broken,
    ):
        ask(hub, "POST", "/api/repos/create", body=b"{", Authorization=f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    ("block", "wrong"),
    [
        ("license: mit\ntags: [cells]\n", ""),
        ("license: mitt\n", "license"),
        ("license: other\nlicense_name: Per Crop\n", "license_name"),
        ("license: other\nlicense_link: '#terms'\n", "license_link"),
        ("tags: [1]\n", "tags"),
        ("a: [\n", "Invalid metadata"),
        ("- a\n", "not a mapping"),
        ("model-index:\n- name: x\n  results: [{}]\n", "model-index"),
    ],
)
def test_cards_are_read_as_the_hub_reads_them(block, wrong):
    """The YAML block is parsed and what the Hub refuses is named."""
    found = card_errors(f"---\n{block}---\n# Title\n", "models")
    assert len(found) == bool(wrong)
    assert wrong in "".join(found)


# --- true clients

UPLOADS = """
import pathlib
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError
api = HfApi()
big = bytes(range(256)) * 100
folder = pathlib.Path("up")
(folder / "sub").mkdir(parents=True)
(folder / "sub" / "big.bin").write_bytes(big)
(folder / "README.md").write_text("---\\nlicense: mit\\n---\\n# Net\\n")
(folder / "huge.bin").write_bytes(big * 20)
answer = {"who": api.whoami()["name"]}
answer["url"] = str(api.create_repo("lab/net"))
api.create_repo("lab/net", exist_ok=True)
api.upload_file(path_or_fileobj=b"text\\n", path_in_repo="a.txt", repo_id="lab/net")
api.upload_folder(folder_path=folder, repo_id="lab/net")
head = api.model_info("lab/net").sha
done = api.create_commit("lab/net", [CommitOperationAdd("b.txt", b"b"),
    CommitOperationDelete("a.txt")], commit_message="two at once", parent_commit=head)
try:
    api.create_commit("lab/net", [CommitOperationAdd("c.txt", b"c")], commit_message="late",
        parent_commit=head)
except HfHubHTTPError as error:
    answer["late"] = error.response.status_code
try:
    api.upload_file(path_or_fileobj=b"---\\na: [\\n---\\n", path_in_repo="README.md",
        repo_id="lab/net")
except Exception as error:
    answer["bad card"] = type(error).__name__
api.create_branch("lab/net", branch="dev/x", revision=head)
api.create_tag("lab/net", tag="v1", tag_message="first")
api.upload_folder(folder_path=folder / "sub", repo_id="lab/net", revision="dev/x",
    path_in_repo="new", delete_patterns="*.bin")
refs = api.list_repo_refs("lab/net")
answer["refs"] = [sorted(one.name for one in x) for x in (refs.branches, refs.tags)]
answer["files"] = api.list_repo_files("lab/net")
answer["dev"] = api.list_repo_files("lab/net", revision="dev/x")
answer["titles"] = [one.title for one in api.list_repo_commits("lab/net")]
(info,) = api.get_paths_info("lab/net", ["sub/big.bin", "none"], expand=True)
answer["info"] = [info.size, info.lfs.sha256, info.last_commit.title]
tree = list(api.list_repo_tree("lab/net", recursive=True))
answer["tree"] = sorted(one.path for one in tree)
answer["there"] = [api.file_exists("lab/net", "b.txt"), api.file_exists("lab/net", "none"),
    api.repo_exists("lab/net"), api.repo_exists("lab/none"), api.revision_exists("lab/net", "v2")]
"""

DOWNLOADS = """
import fsspec, hashlib, pathlib
from huggingface_hub import hf_hub_download, snapshot_download, HfFileSystem
from huggingface_hub.errors import EntryNotFoundError
answer = {}
path = hf_hub_download("lab/net", "sub/big.bin")
answer["one"] = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
folder = pathlib.Path(snapshot_download("lab/net", revision="v1"))
answer["all"] = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
    for p in folder.rglob("*") if p.is_file()}
try:
    hf_hub_download("lab/net", "none.json")
except EntryNotFoundError as error:
    answer["none"] = "absent"
with fsspec.open("hf://lab/net@v1/sub/big.bin") as stream:
    stream.seek(25_590)
    answer["end"] = list(stream.read())
answer["ls"] = sorted(HfFileSystem().ls("lab/net", detail=False))
"""


def sha256(content: bytes) -> str:
    """Of bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


@pytest.mark.slow
def test_files_travel_to_the_hub_and_back(hub_server):
    """Upload in all ways, list in all ways, download in all ways: each byte the same."""
    hub_server.multipart_above, hub_server.part_size, hub_server.page = 100_000, 200_000, 2
    up = run_client(hub_server, UPLOADS).answer
    assert (up["who"], up["late"], up["bad card"]) == ("ada", 412, "ValueError")
    assert up["url"] == f"{hub_server.url}/lab/net"
    names = [".gitattributes", "README.md", "b.txt", "huge.bin", "sub/big.bin"]
    assert sorted(up["files"]) == names
    assert up["tree"] == sorted([*names, "sub"])
    assert "new/big.bin" in up["dev"]
    assert up["refs"] == [["dev/x", "main"], ["v1"]]
    assert up["titles"][0] == "two at once"
    assert up["titles"][-1] == "initial commit"
    assert up["info"][:2] == [25_600, sha256(BIG)]
    assert up["there"] == [True, False, True, False, False]
    stored = hub_server.files("models", "lab/net")
    assert (stored["sub/big.bin"], stored["huge.bin"]) == (BIG, BIG * 20)
    assert hub_server.count("PUT /lfs/.*/[123]$") == 3  # 512,000 bytes in parts of 200,000
    assert hub_server.count(r"POST .*\.git/info/lfs") >= 1

    down = run_client(hub_server, DOWNLOADS, token=None).answer
    assert down["one"] == sha256(BIG)
    assert down["all"] == {name: sha256(content) for name, content in stored.items()}
    assert down["none"] == "absent"
    assert bytes(down["end"]) == BIG[-10:]
    assert "lab/net/b.txt" in down["ls"]


DATA = """
import datasets, numpy
from PIL import Image
label = datasets.ClassLabel(names=["a", "b"])
features = datasets.Features({"image": datasets.Image(), "label": label})
def rows(n):
    squares = [Image.fromarray(numpy.full((8, 8), i, numpy.uint8)) for i in range(n)]
    columns = {"image": squares, "label": [i % 2 for i in range(n)]}
    return datasets.Dataset.from_dict(columns, features)
rows(4).push_to_hub("lab/cells", split="train")
first = rows(2).push_to_hub("lab/cells", "small", split="train")
rows(3).push_to_hub("lab/cells", "small", split="train")
load = datasets.load_dataset
whole = load("lab/cells", split="train")
streamed = load("lab/cells", split="train", streaming=True)
answer = {
    "map": [[x["image"].getpixel((0, 0)), x["label"]] for x in whole],
    "names": whole.features["label"].names,
    "stream": [x["image"].getpixel((7, 7)) for x in streamed],
    "small": len(load("lab/cells", "small", split="train")),
    "old": len(load("lab/cells", "small", split="train", revision=first.oid)),
}
"""


@pytest.mark.slow
def test_data_sets_load_as_from_the_hub(hub_server):
    """push_to_hub, then map-style, streaming, config and revision."""
    answer = run_client(hub_server, DATA).answer
    assert answer["map"] == [[0, 0], [1, 1], [2, 0], [3, 1]]
    assert answer["stream"] == [0, 1, 2, 3]
    assert answer["names"] == ["a", "b"]
    assert (answer["small"], answer["old"]) == (3, 2)
    assert hub_server.count("GET /datasets/lab/cells/resolve/.*parquet") >= 4


MODELS = """
import json as j, pathlib, numpy, timm, torch
from PIL import Image
torch.manual_seed(0)
net = timm.create_model("test_efficientnet", num_classes=3).eval()
timm.models.save_for_hf(net, "net", model_config={"label_names": ["a", "b", "c"]},
    safe_serialization=True)
path = pathlib.Path("net/config.json")
config = j.loads(path.read_text())
config.get("model_args", {}).pop("num_classes", None)
path.write_text(j.dumps(config))
from huggingface_hub import HfApi
HfApi().create_repo("lab/wrapped")
HfApi().upload_folder(folder_path="net", repo_id="lab/wrapped")
timm.models.push_to_hf_hub(net, "lab/theirs", safe_serialization=True)
x = torch.rand(2, 3, 160, 160)
want = net(x)
same = lambda found: float((found - want).abs().max())
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline
wrapped = AutoModelForImageClassification.from_pretrained("lab/wrapped").eval()
AutoImageProcessor.from_pretrained("lab/wrapped")
gray = Image.fromarray(numpy.arange(160 * 160, dtype=numpy.uint8).reshape(160, 160))
found = pipeline("image-classification", "lab/wrapped")(gray)
with torch.inference_mode():
    answer = {
        "timm": same(timm.create_model("hf-hub:lab/theirs", pretrained=True).eval()(x)),
        "at": same(timm.create_model("hf-hub:lab/wrapped@main", pretrained=True).eval()(x)),
        "transformers": same(wrapped(pixel_values=x).logits),
        "labels": sorted(one["label"] for one in found),
    }
"""


@pytest.mark.slow
@NEEDS_MODELS
def test_models_load_as_from_the_hub(hub_server):
    """What timm pushes timm and transformers load: the same numbers."""
    answer = run_client(hub_server, MODELS).answer
    assert answer == {"timm": 0.0, "at": 0.0, "transformers": 0.0, "labels": ["a", "b", "c"]}


FAULTY = """
import pathlib, time
from huggingface_hub import HfApi, hf_hub_download
def what(call):
    try:
        return call()
    except Exception as error:
        response = getattr(error, "response", None)
        return f"{type(error).__name__} {getattr(response, 'status_code', '')}"
size = lambda name: pathlib.Path(hf_hub_download("lab/net", name)).stat().st_size
answer = {
    "limited": what(lambda: size("limited")),
    "torn": what(lambda: size("torn")),
    "liar": what(lambda: size("liar")),
    "broken": what(lambda: HfApi().model_info("lab/net")),
}
"""


@pytest.mark.slow
def test_clients_meet_the_faults(hub_server, tmp_path):
    """Downloads survive 429 and a torn body, a 500 is reported.

    A size that is told too large it doesn't notice: who downloads must check hashes.
    """
    put(hub_server, tmp_path / "net", {"torn": BIG, "liar": BIG, "limited": SMALL})
    hub_server.fail("HEAD .*/limited", 429, headers={"Retry-After": "1"}, times=1)
    hub_server.fail("GET .*/torn", cut=1000, times=1)
    hub_server.fail(".*/liar", size=7)
    hub_server.fail("GET /api/models/lab/net", 500)
    answer = run_client(hub_server, FAULTY).answer
    assert answer["limited"] == len(SMALL)
    assert answer["torn"] == len(BIG)
    assert answer["liar"] == len(BIG)
    assert "500" in answer["broken"]
