"""Publishing folders to a real Hub on loopback: whole or not at all, within their terms."""

import json
import re
import shutil
from datetime import timedelta

import pytest

from cytoimagenet_hf.curation.verify import verify
from tests.hub_server import READ_TOKEN, TOKEN, run_client
from tests.publishing import MIXED, OPEN, PUBLISH, build_data, publish, put, read_build

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Open crops alone; never change this folder."""
    return build_data(tmp_path_factory.mktemp("open"), OPEN)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Open and closed crops; never change this folder."""
    return build_data(tmp_path_factory.mktemp("mixed"), MIXED)


def stored(hub, revision="main", repo="lab/cells") -> dict[str, bytes]:
    """What stands on the Hub, without what the Hub put there."""
    found = hub.files("datasets", repo, revision)
    return {path: content for path, content in found.items() if path != ".gitattributes"}


def repo_of(hub, repo="lab/cells"):
    """The repository as the Hub keeps it."""
    return hub.store.repo("datasets", repo)


def shards_of(folder) -> dict[str, bytes]:
    """The shards of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in (folder / "data").rglob("*.parquet")
    }


def test_publish_then_again_then_tag(hub_server, folder, tmp_path):
    """One commit on main with every byte; the same folder makes no other; the branch is gone."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    first, second, third = publish(
        hub_server, f"{str(folder)!r}", f"{str(folder)!r}", f"{str(folder)!r}, tag='v1.0'"
    )
    assert (first["is_new"], second["is_new"], third["is_new"]) == (True, False, False)
    assert first["commit"] == second["commit"] == third["commit"]
    titles = [one.title for one in repo_of(hub_server).log("main")]
    assert titles == ["Publish", "initial commit"]
    assert repo_of(hub_server).branches == {"main": first["commit"]}
    assert repo_of(hub_server).tags == {"v1.0": first["commit"]}
    found = stored(hub_server)
    shards = shards_of(folder)
    assert {path: found[path] for path in shards} == shards
    assert set(found) == {p.relative_to(folder).as_posix() for p in before}
    sizes = sum(map(len, shards.values()))
    assert (first["sent_bytes"], first["kept_bytes"]) == (sizes, 0)
    assert (second["sent_bytes"], second["kept_bytes"]) == (0, sizes)
    assert f"publish {sizes} byte" in first["told"]
    assert (first["files"], first["bytes"]) == (len(found), sum(map(len, found.values())))
    assert verify(put(tmp_path / "there", found), workers=0).findings == ()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_open_part_of_a_mixed_folder(hub_server, mixed, tmp_path):
    """Refused as it is, also privately; with the option no closed byte arrives."""
    plain, private, rest = publish(
        hub_server,
        f"{str(mixed)!r}",
        f"{str(mixed)!r}, private=True",
        f"{str(mixed)!r}, only_publishable=True",
    )
    for one in (plain, private):
        assert one["error"].startswith("ValueError: ")
        assert "bbbc048 (unknown: " in one["error"]
    assert [one["source"] for one in rest["withheld"]] == ["bbbc048"]
    closed = [content for path, content in shards_of(mixed).items() if "-local-" in path]
    kept = [blob.read_bytes() for blob in (hub_server.store.folder / "blobs").iterdir()]
    assert closed
    assert not [content for content in closed if content in kept]
    assert verify(put(tmp_path / "there", stored(hub_server)), workers=0).findings == ()


def test_dry_run_changes_nothing(hub_server, folder):
    """It lists what would go, and what stands in the way: a token, a namespace, another build."""
    line = f"{str(folder)!r}, dry_run=True"
    (free,) = publish(hub_server, line)
    assert free["notes"] == []
    assert free["shards"] == [
        [path, len(content), True] for path, content in sorted(shards_of(folder).items())
    ]
    answers = publish(hub_server, line, token=None) + publish(hub_server, line, token=READ_TOKEN)
    answers += publish(hub_server, f"{str(folder)!r}, 'others/cells', dry_run=True")
    words = ("There is no token", "may only read", r"make repositories of ada, lab only")
    for one, word in zip(answers, words, strict=True):
        assert re.search(word, one["notes"][0])
        assert one["sent_bytes"] == free["sent_bytes"]
    assert not hub_server.store.repos
    assert not hub_server.count("POST (?!.*validate)")
    publish(hub_server, f"{str(folder)!r}")
    (after,) = publish(hub_server, line)
    assert (after["sent_bytes"], after["is_new"]) == (0, False)


def test_right_is_asked_for_before_anything_slow(hub_server, folder):
    """Without token, with a reader's, in a foreign namespace: told before a byte is verified."""
    line = f"{str(folder)!r}"
    answers = publish(hub_server, line, token=None) + publish(hub_server, line, token=READ_TOKEN)
    answers += publish(hub_server, f"{line}, 'others/cells'", f"{line}, 'cells'")
    words = (
        "PushError: There is no token.*hf auth login.*HF_TOKEN",
        "PushError: The token of ada may only read",
        "PushError: .*no right to write to others/cells.*namespace others",
        "ValueError: 'cells' is no id on the Hub",
    )
    for one, word in zip(answers, words, strict=True):
        assert re.match(word, one["error"])
        assert one["told"] == []
    assert not hub_server.store.repos


def test_what_stands_there_is_respected(hub_server, folder, tmp_path):
    """A model of that id, files of somebody else, a public repository that shall be private."""
    hub_server.store.create("models", "lab/net")
    hub_server.store.create("spaces", "lab/room")
    hub_server.store.create("datasets", "lab/public")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "rows.csv").write_text("a\n1\n")
    sha = hub_server.put_folder("datasets", "lab/theirs", tmp_path / "theirs")
    line = f"{str(folder)!r}"
    answers = publish(
        hub_server,
        f"{line}, 'lab/net'",
        f"{line}, 'lab/room'",
        f"{line}, 'lab/theirs'",
        f"{line}, 'lab/theirs', replace=True",
        f"{line}, 'lab/public', private=True",
        f"{line}, 'lab/new', tag='v 1'",
    )
    words = (
        "PushError: lab/net is a model on the Hub",
        "PushError: lab/room is a space on the Hub",
        r"PushError: .*lab/theirs holds files that no build wrote \(rows.csv\)",
        r"PushError: .*lab/theirs holds files that no build wrote \(rows.csv\)",
        "PushError: lab/public is public already",
        "ValueError: 'v 1' is no name of a tag",
    )
    for one, word in zip(answers, words, strict=True):
        assert re.match(word, one["error"])
        assert one["told"] == []
    assert repo_of(hub_server, "lab/theirs").branches == {"main": sha}
    assert ("datasets", "lab/net") not in hub_server.store.repos


def test_folder_that_was_changed_is_refused(hub_server, folder, tmp_path):
    """One other byte in a shard, or a card edited in its generated parts: nothing arrives."""
    for name in ("a", "b"):
        shutil.copytree(folder, tmp_path / name)
    shard = next((tmp_path / "a" / "data" / "small").iterdir())
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    card = tmp_path / "b" / "README.md"
    card.write_text(card.read_text(encoding="utf-8").replace("from 1 source", "from 9 sources"))
    damaged, edited = publish(
        hub_server, f"{str(tmp_path / 'a')!r}", f"{str(tmp_path / 'b')!r}, 'lab/b'"
    )
    assert re.match(r"ValueError: .*isn't as it was built.*data/small/", damaged["error"])
    assert re.match(r"ValueError: .*isn't as it was built.*README.md", edited["error"])
    assert stored(hub_server) == stored(hub_server, repo="lab/b") == {}
    assert hub_server.received() == 0


def test_file_changed_after_it_was_verified_is_not_committed(hub_server, folder, tmp_path):
    """Each file is hashed once more while it is sent."""
    shutil.copytree(folder, tmp_path / "a")
    shard = next((tmp_path / "a" / "data" / "default").iterdir())
    code = f"""{PUBLISH}
from cytoimagenet_hf.curation import publishing
checked = publishing.verify
def verify_and_change(*given, **options):
    report = checked(*given, **options)
    shard = Path({str(shard)!r})
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    return report
publishing.verify = verify_and_change
answer = attempt({str(tmp_path / "a")!r})
"""
    answer = run_client(hub_server, code).answer
    assert re.match("PushError: .*was changed while it was being published", answer["error"])
    assert stored(hub_server) == {}


def test_each_fault_is_told_and_leaves_main_as_it_was(hub_server, folder):
    """Refused, limited, too large, in trouble, cut in the middle: the next run ends it well."""
    faults = {
        "POST .*/branch/": [(403, {})],  # the first: a branch that is there needs no right
        "PUT /lfs": [(413, {}), (500, {}), (0, {"cut": 100})],
        "POST .*/preupload/": [(401, {}), (403, {}), (429, {"headers": {"Retry-After": "1"}})],
        "POST .*/commit/publishing": [(409, {}), (500, {})],
        "POST .*/commit/main": [(412, {}), (0, {"cut": 10})],
        "GET .*/tree/": [(500, {})],
    }
    words = {
        401: "doesn't know the token", 403: "no right to write", 409: "Somebody else is changing",
        412: "changed by somebody else", 413: "too large", 429: "wait 1 s", 500: "in trouble",
        0: "could not be reached",
    }  # fmt: skip
    line = f"{str(folder)!r}"
    for route, cases in faults.items():
        for status, how in cases:
            fault = hub_server.fail(route, status, **how)
            (one,) = publish(hub_server, line)
            assert one.get("error", "").startswith("PushError: "), (route, status, one)
            assert words[status] in one["error"], (route, one)
            assert stored(hub_server) == {}, (route, status)
            hub_server.faults.remove(fault)
    (done,) = publish(hub_server, line)
    assert done["is_new"]
    shards = shards_of(folder)
    assert {path: stored(hub_server)[path] for path in shards} == shards
    good = [r.path for r in hub_server.requests if r.method == "PUT" and r.status == 200]
    assert len(good) == len(set(good))  # nothing that had arrived was sent again


def test_lost_answer_is_no_failure(hub_server, folder):
    """The commit is made, its answer is cut off: it is found to be ours, and made once."""
    hub_server.fail("POST .*/commit/main", mute=True, times=1)
    (one,) = publish(hub_server, f"{str(folder)!r}, tag='v1.0'")
    assert one["is_new"], one
    assert [c.title for c in repo_of(hub_server).log("main")] == ["Publish v1.0", "initial commit"]
    assert repo_of(hub_server).tags == {"v1.0": one["commit"]}


def test_prose_edited_on_the_hub_stays(hub_server, folder):
    """A publication after the edit changes nothing; one after a change here keeps it."""
    publish(hub_server, f"{str(folder)!r}")
    repo, store = repo_of(hub_server), hub_server.store
    card = stored(hub_server)["README.md"] + b"\n## By hand\n"
    store.commit(repo, "main", {"summary": "edit"}, [("put", "README.md", store.blob(card))])
    (again,) = publish(hub_server, f"{str(folder)!r}")
    found = stored(hub_server)
    assert found["README.md"] == card
    assert json.loads(found["build.json"])["prose_sha256"] != ""
    assert again["sent_bytes"] == 0
    (third,) = publish(hub_server, f"{str(folder)!r}")
    assert not third["is_new"]
    assert stored(hub_server)["README.md"] == card


def test_yaml_that_the_owner_added_on_the_hub_stays(hub_server, folder, tmp_path):
    """A prompt for access and languages outlive a publication, and are no finding of `verify`."""
    publish(hub_server, f"{str(folder)!r}")
    repo, store = repo_of(hub_server), hub_server.store
    added = b"extra_gated_prompt: Who are you?\nlanguage:\n- en\n"
    card = stored(hub_server)["README.md"].replace(b"---\n", b"---\n" + added, 1)
    store.commit(repo, "main", {"summary": "edit"}, [("put", "README.md", store.blob(card))])
    (done,) = publish(hub_server, f"{str(folder)!r}")
    assert "error" not in done
    found = stored(hub_server)
    assert added in found["README.md"]
    new = store.create("datasets", "lab/new")  # and made on the Hub's page before any publication
    card = b"---\nlicense: mit\n" + added + b"---\n"
    store.commit(new, "main", {"summary": "card"}, [("put", "README.md", store.blob(card))])
    publish(hub_server, f"{str(folder)!r}, 'lab/new'", f"{str(folder)!r}, 'lab/new', tag='v1'")
    assert stored(hub_server, repo="lab/new")["README.md"].count(added) == 1
    assert b"license: mit" not in stored(hub_server, repo="lab/new")["README.md"]
    assert verify(put(tmp_path / "there", found), workers=0).findings == ()


def test_other_build_replaces_only_when_told(hub_server, folder, mixed):
    """Its shards are named with their size; tags keep the old state, whatever main becomes."""
    publish(hub_server, f"{str(folder)!r}, tag='v1.0'")
    old = stored(hub_server)
    refused, taken, done = publish(
        hub_server,
        f"{str(mixed)!r}, only_publishable=True",
        f"{str(mixed)!r}, only_publishable=True, replace=True, tag='v1.0'",
        f"{str(mixed)!r}, only_publishable=True, replace=True, tag='v2.0'",
    )
    gone = len(shards_of(folder))
    assert re.match(
        rf"PushError: {gone} shards .*are not of this build.*--replace", refused["error"]
    )
    assert re.match("PushError: Tag v1.0 .* names another state", taken["error"])
    assert refused["told"] == taken["told"] == []
    assert len(done["removed"]) == gone
    new = stored(hub_server)
    build = read_build(mixed)["build"]
    assert {path.split("-")[2] for path in new if path.startswith("data/")} == {build}
    assert stored(hub_server, "v1.0") == old
    assert stored(hub_server, "v2.0") == new


def test_bytes_sent_again_are_told_as_such(hub_server, folder):
    """Where the Hub lies about sizes all is offered again, and the outcome says all of it."""
    line = f"{str(folder)!r}"
    first, second = publish(hub_server, line, line)
    size = first["sent_bytes"]
    assert (first["stood_bytes"], first["again_bytes"]) == (0, 0)
    assert (second["stood_bytes"], second["again_bytes"]) == (size, 0)
    hub_server.fail("GET .*/tree/", size=1)
    lied, done = publish(hub_server, f"{line}, replace=True, dry_run=True", f"{line}, replace=True")
    for one in (lied, done):
        assert (one["stood_bytes"], one["again_bytes"]) == (size, size)


def test_branch_of_a_publication_that_was_given_up_goes(hub_server, folder, mixed):
    """Broken off long ago, another folder's branch goes; one of this week may be somebody's."""
    fault = hub_server.fail("POST .*/commit/main", 403)
    left = []
    for days in (0, 8):
        hub_server.store.age = timedelta(days=days)
        (broken,) = publish(hub_server, f"{str(folder)!r}, 'lab/{days}'")
        assert "error" in broken
        left.append(set(repo_of(hub_server, f"lab/{days}").branches))
    hub_server.faults.remove(fault)
    for days in (0, 8):
        publish(hub_server, f"{str(mixed)!r}, 'lab/{days}', only_publishable=True")
    assert len(left[0]) == 2
    assert set(repo_of(hub_server, "lab/0").branches) == left[0]
    assert set(repo_of(hub_server, "lab/8").branches) == {"main"}


def test_token_stands_in_no_output_and_no_log(hub_server, folder):
    """With all logs at their loudest; and where the Hub repeats the token in its refusal."""
    loud = f"""import logging
logging.basicConfig(level=logging.DEBUG)
import huggingface_hub
huggingface_hub.logging.set_verbosity_debug()
{PUBLISH}
answer = attempt({str(folder)!r})
print(answer)
"""
    client = run_client(hub_server, loud)  # fails on any output that holds a token
    assert client.answer["is_new"]
    assert "DEBUG" in client.output
    hub_server.fail("POST .*/repos/create", 403, headers={"X-Error-Message": f"bad {TOKEN}"})
    (one,) = publish(hub_server, f"{str(folder)!r}, 'lab/b'")
    assert "bad hf_***" in one["error"]
    for path in hub_server.home.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()
