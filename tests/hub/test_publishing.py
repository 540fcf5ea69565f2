"""How files get to a data set's repository: a few a commit on a branch, then all at once."""

import hashlib
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from cytoimagenet_hf.errors import PushError
from cytoimagenet_hf.hub import publishing
from cytoimagenet_hf.hub._repository import Stored, Target, Upload, is_stored, missing, upload_of
from cytoimagenet_hf.hub.publishing import branch_of, check_target, removed, standing
from tests.hub_server import TOKEN, run_client


def target(files=None, tags=None, head="0" * 40) -> Target:
    """A repository with some files."""
    stored = {path: Stored(sha, "", 10) for path, sha in (files or {}).items()}
    return Target(repo_id="lab/cells", url="u", head=head, files=stored, tags=tags or {})


def upload(path: str, sha256: str, tmp_path) -> Upload:
    """A file of 10 bytes that claims a hash."""
    at = tmp_path / "ten"
    at.write_bytes(b"0123456789")
    return Upload(path, at, sha256, 10)


# --- what needs no Hub


def test_file_is_stored_when_hash_and_size_agree(tmp_path):
    """Under LFS the sha256 counts; in git its own sha1, over length and bytes."""
    at = tmp_path / "a"
    at.write_bytes(b"cells\n")
    one = upload_of("a", at)
    assert one.sha256 == hashlib.sha256(b"cells\n").hexdigest()
    in_git = hashlib.sha1(b"blob 6\0cells\n").hexdigest()
    assert is_stored(one, Stored(one.sha256, "of a pointer", 6))
    assert is_stored(one, Stored("", in_git, 6))
    assert not is_stored(one, None)
    assert not is_stored(one, Stored(one.sha256, "", 7))
    assert not is_stored(one, Stored("0" * 64, "", 6))
    assert not is_stored(one, Stored("", "0" * 40, 6))


def test_missing_and_removed(tmp_path):
    """Other bytes are missing; shards that are no longer wanted go, other files stay."""
    there = target(
        {"data/a.parquet": "1", "data/b.parquet": "2", "LICENSE": "3", "data/c.txt": "4"}
    )
    wanted = [upload("data/a.parquet", "1", tmp_path), upload("data/x.parquet", "2", tmp_path)]
    assert [one.path for one in missing(there, wanted)] == ["data/x.parquet"]
    assert removed(there, wanted) == ["data/b.parquet"]


def test_changed_shards_need_replace_as_removed_ones_do(tmp_path):
    """Other rows under the same name are refused; embeddings and documents may change."""
    there = target({"data/small/a.parquet": "1", "build.json": "9"})
    other = [upload("data/small/a.parquet", "2", tmp_path)]
    with pytest.raises(PushError, match=r"^1 shards .*data/small/a\.parquet.*--replace"):
        check_target(there, other, tag="", replace=False)
    check_target(there, other, tag="", replace=True)
    there = target({"data/embeddings-x/a.parquet": "1", "labels.parquet": "1", "build.json": "9"})
    free = [
        upload(path, "2", tmp_path) for path in ("data/embeddings-x/a.parquet", "labels.parquet")
    ]
    check_target(there, free, tag="", replace=False)


def test_standing_is_what_main_holds_under_its_name(tmp_path):
    """The hash counts, so that a file sent because of a wrong size is told as sent again."""
    wrong = Stored("1", "", 11)
    there = replace(target(), files={"a": wrong, "b": Stored("2", "", 10)})
    uploads = [upload("a", "1", tmp_path), upload("b", "2", tmp_path), upload("c", "3", tmp_path)]
    assert [one.path for one in standing(there, uploads)] == ["a", "b"]
    assert [one.path for one in missing(there, uploads)] == ["a", "c"]


def test_branch_is_named_by_what_is_published(tmp_path):
    """So that a run finds what another has sent, and never what was sent of another state."""
    a, b = upload("data/a.parquet", "1", tmp_path), upload("data/a.parquet", "2", tmp_path)
    assert branch_of([a]) == branch_of([a]) != branch_of([b])
    assert re.fullmatch("publishing-[0-9a-f]{8}", branch_of([a]))


def test_tag_may_name_this_state_again_and_no_other(tmp_path):
    """A tag is for good; the same command once more is no error."""
    one = upload("data/a.parquet", "1", tmp_path)
    same = target({"data/a.parquet": "1", "build.json": "9"}, {"v1.0": "0" * 40})
    check_target(same, [one], tag="v1.0", replace=False)
    check_target(same, [one], tag="v1.1", replace=False)
    with pytest.raises(PushError, match=r"Tag v1\.0 of u names another state"):
        check_target(same, [upload("data/b.parquet", "2", tmp_path)], tag="v1.0", replace=True)
    elsewhere = target({"data/a.parquet": "1", "build.json": "9"}, {"v1.0": "f" * 40})
    with pytest.raises(PushError, match=r"Tag v1\.0 of u names another state"):
        check_target(elsewhere, [one], tag="v1.0", replace=False)


@pytest.mark.parametrize("tag", ["a b", "-x", "a/b", "é", "x" * 64])
def test_odd_tags_are_refused(tag):
    """Git or the Hub would, after the upload."""
    with pytest.raises(ValueError, match="is no name of a tag"):
        check_target(target(), [], tag=tag, replace=False)


def test_offline_is_said_at_once(monkeypatch):
    """HF_HUB_OFFLINE, set for all tests, is named."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(PushError, match="HF_HUB_OFFLINE is set"):
        publishing.open_target("lab/cells")


# --- with a Hub

SEND = """
import time
time.sleep = lambda seconds: None
from pathlib import Path
from cytoimagenet_hf.hub import publishing
from cytoimagenet_hf.hub._repository import upload_of
folder = Path(FOLDER)
files = sorted(path for path in folder.rglob("*.parquet"))
uploads = [upload_of(path.relative_to(folder).as_posix(), path) for path in files]
papers = {"build.json": folder / "build.json", "README.md": folder / "README.md"}
steps, said = [], []
def send(tag="v1", replace=False, **settings):
    for name, value in settings.items():
        setattr(publishing, name, value)
    try:
        there = publishing.open_target("lab/cells")
        publishing.check_target(there, uploads, tag="", replace=replace)
        sent = publishing.send_files(there, uploads, step=lambda *one: steps.append(one),
            say=said.append)
        commit = publishing.commit_files(there, uploads, papers, tag=tag)
        publishing.finish(there, uploads, commit, tag=tag)
        return sum(one.size for one in sent)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
"""


@pytest.fixture
def folder(tmp_path):
    """Five files of 2 to 6 kB under data/, and two documents."""
    for number in range(5):
        path = tmp_path / "set" / "data" / f"{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * 1000 * (number + 2))
    (tmp_path / "set" / "build.json").write_text("{}")
    (tmp_path / "set" / "README.md").write_text("---\nlicense: mit\n---\n")
    return tmp_path / "set"


def send(hub, folder, code="answer = send()", **env):
    """Run SEND and then `code` in a process of its own."""
    return run_client(hub, f"{SEND.replace('FOLDER', repr(str(folder)))}\n{code}", **env).answer


def repo_of(hub):
    """The repository as the Hub keeps it."""
    return hub.store.repo("datasets", "lab/cells")


@pytest.mark.slow
def test_commits_to_the_branch_are_bounded_and_main_gets_one(hub_server, folder):
    """Two files or 7 kB a commit: 2+3, 4, 5, 6 kB. Main goes from nothing to all at once."""
    hub_server.fail("DELETE .*/branch/", 403)  # so that the branch can be looked at
    sent = send(hub_server, folder, "answer = send(COMMIT_FILES=2, COMMIT_BYTES=7000)")
    assert "no right" in sent
    repo = repo_of(hub_server)
    (branch,) = [name for name in repo.branches if name != "main"]
    numbers = [sorted(one.files) for one in repo.log(branch)][::-1]
    assert [sum(path.endswith(".parquet") for path in one) for one in numbers] == [0, 2, 3, 4, 5]
    assert [one.title for one in repo.log("main")] == ["Publish v1", "initial commit"]
    assert len(repo.at("main").files) == 8
    hub_server.faults.clear()
    assert send(hub_server, folder) == 0
    assert set(repo.branches) == {"main"}
    assert repo.tags == {"v1": repo.branches["main"]}


@pytest.mark.slow
def test_branches_of_others_stay(hub_server, folder):
    """Those alone go that are named as ours and got their last shards more than a week ago."""
    assert send(hub_server, folder) == 20_000
    repo, store = repo_of(hub_server), hub_server.store
    branches = repo.branches
    old = ["publishing-notes", "publishing-0123abcde", "publishing-0123ABCD", "publishing-0123abcd"]
    ages = dict.fromkeys(old, 8) | {"publishing-00000000": 6}
    for name, days in ages.items():
        branches[name], store.age = branches["main"], timedelta(days=days)
        shard = [("put", "data/x.parquet", store.blob(b"x"))]
        store.commit(repo, name, {"summary": "Add shards"}, shard)
    store.age = timedelta(days=8)
    store.commit(repo, "main", {"summary": "Edit"}, [("put", "note", store.blob(b"x"))])
    branches["publishing-11111111"] = branches["main"]  # its first shards are on their way
    expected = {"main", "publishing-11111111", *ages} - {"publishing-0123abcd"}
    assert send(hub_server, folder) == 0
    assert set(branches) == expected


@pytest.mark.slow
@pytest.mark.parametrize("step", ["preupload_lfs_files", "create_commit", "delete_branch"])
def test_branch_that_another_publisher_of_the_same_removed(hub_server, folder, step):
    """It is told as what it is, and once more ends well; where all is done, it is no error."""
    answer = send(hub_server, folder, f"""
from huggingface_hub import HfApi
real = HfApi.{step}
def removed(api, repo_id, *given, **options):
    HfApi.{step} = real
    api.delete_branch(repo_id, branch=publishing.branch_of(uploads), repo_type="dataset")
    return real(api, repo_id, *given, **options)
HfApi.{step} = removed
answer = [send(), send()]
""")  # fmt: skip
    if step == "delete_branch":
        assert answer == [20_000, 0]
    else:
        assert answer[0].startswith("PushError: Somebody else finished this publication"), answer
        assert "Run the same command again" in answer[0]
        assert answer[1] == 20_000
    assert set(repo_of(hub_server).branches) == {"main"}


@pytest.mark.slow
def test_progress_tells_every_byte_and_what_was_there(hub_server, folder):
    """Steps add up to the whole; after a break those of the first commit are there."""
    hub_server.fail("POST .*/preupload/.*", 403, skip=3, times=1)  # 2 files and a commit first
    answer = send(hub_server, folder, """
first = send(COMMIT_FILES=2)
steps.clear()
answer = [first, send(), steps, said]
""")  # fmt: skip
    first, second, steps, said = answer
    assert "no right to write" in first
    assert second == 4000 + 5000 + 6000
    assert sum(size for size, _ in steps) == 2000 + 3000 + second
    assert [note.split(": ")[1] for _, note in steps] == ["there"] * 2 + ["sent"] * 3
    assert re.fullmatch(r"going on: branch publishing-\w{8} holds 2 of 5 files", said[-1])
    assert hub_server.received("PUT /lfs") == 20_000


@pytest.mark.slow
def test_upload_in_parts_and_a_part_with_a_wrong_etag(hub_server, folder):
    """A large file goes in parts; where one got a wrong name, nothing of it is taken."""
    hub_server.multipart_above = hub_server.part_size = 2500
    fault = hub_server.fail("PUT /lfs/.*/2$", etag="0" * 32)
    assert "wrong etag of part 2" in send(hub_server, folder)
    assert len(repo_of(hub_server).at("main").files) == 1
    hub_server.faults.remove(fault)
    assert send(hub_server, folder) == 20_000
    here = {path.name: path.read_bytes() for path in (folder / "data").iterdir()}
    found = hub_server.files("datasets", "lab/cells")
    assert {path[5:]: found[path] for path in found if path.startswith("data/")} == here


@pytest.mark.slow
def test_listing_that_lies_costs_an_upload_and_no_byte_of_the_data(hub_server, folder):
    """Told of another size or hash, the client offers the file again; the Hub knows better."""
    assert send(hub_server, folder) == 20_000
    hub_server.fail("GET .*/tree/", size=1)
    again = send(hub_server, folder, "answer = send(tag='', replace=True)")
    assert hub_server.received("PUT /lfs") == 20_000
    assert again == 20_000
    assert len(repo_of(hub_server).log("main")) == 2
    found = hub_server.files("datasets", "lab/cells")
    assert len([path for path in found if path.startswith("data/")]) == 5


@pytest.mark.slow
def test_small_files_are_read_back_within_bounds(hub_server, folder):
    """A card that is huge or no text is told, not swallowed."""
    (folder / "README.md").write_bytes(b"\xff" * 100)
    hub_server.put_folder("datasets", "lab/cells", folder)
    answer = send(hub_server, folder, """
from cytoimagenet_hf.hub import _repository
def read(path):
    try:
        return publishing.read_small(publishing.open_target("lab/cells"), path)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
answer = [read("none"), read("build.json"), read("README.md")]
_repository.SMALL_BYTES = 50
answer.append(read("README.md"))
""")  # fmt: skip
    assert answer[:2] == ["", "{}"]
    assert answer[2].startswith("PushError: README.md at ")
    assert answer[2].endswith("is no text in UTF-8.")
    assert "larger than" in answer[3]


@pytest.mark.slow
def test_memory_doesn_t_grow_with_the_files(hub_server, folder):
    """400 MB in files of 100 MB are sent within 100 MB of memory beyond what one file takes."""
    pytest.importorskip("resource")
    for number in range(4):
        with (folder / "data" / f"{number}.parquet").open("wb") as stream:
            stream.write(bytes([number]))
            stream.truncate(100 << 20)
    answer = send(hub_server, folder, """
import resource, sys
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
    1 if sys.platform == "darwin" else 1024)
publishing.open_target("lab/cells")  # loads the client
before = peak()
answer = [send(), peak() - before]
""")  # fmt: skip
    assert answer[0] > 400 << 20
    assert answer[1] < 100 << 20
