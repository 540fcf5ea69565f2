"""Where the data set is loaded from, what is said about it, and what is never served."""

import contextlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import datasets
import huggingface_hub
import pytest

from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.hub._folders import remember_folder
from cytoimagenet_hf.hub._generated import generated_parts
from cytoimagenet_hf.hub.loading import load_dataset
from cytoimagenet_hf.hub.places import (
    DEFAULT_REPO,
    PROBE_SECONDS,
    Answer,
    locate,
    probe_hub,
)
from tests.hub._folder import LABELS, ROWS, make_folder
from tests.hub_server import serving_hub

COMMIT, REPO = "c0ffee" + "0" * 34, "lab/cells"
ROOT = Path(__file__).resolve().parents[2]
OTHER_ROWS = (("f7", "train", "open", 0), *ROWS[1:])  # f7 in the place of f1


@pytest.fixture
def cache(tmp_path):
    """A cache for datasets, as argument of load_dataset."""
    return {"cache_dir": str(tmp_path / "cache")}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Work in an empty folder without a default id in the environment."""
    monkeypatch.delenv("CYTOIMAGENET_REPO", raising=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


def hub(state: str, detail: str = COMMIT):
    """A probe that always answers the same, and keeps what it was asked."""

    def ask(repo, revision):
        ask.asked.append((repo, revision))
        return Answer(state, detail)

    ask.asked = []
    return ask


def never(repo, revision):
    """A probe that must not be called."""
    raise AssertionError(f"the Hub was asked for {repo}")


# --- the folder


def test_every_config_and_split_of_a_folder(tmp_path, cache):
    """Rows, classes and images come back as written, map-style and streaming."""
    folder = make_folder(tmp_path / "cytoimagenet")
    crops = load_dataset(folder, split="train", **cache)
    assert crops["idx"][:] == ["fake/f1", "fake/f2", "fake/f3", "fake/f4"]
    assert crops.features["label"].names == list(LABELS)
    assert crops[2]["image"].getpixel((0, 0)) == 30
    small = load_dataset(str(folder), "small", split="validation", **cache)
    assert small[0]["image"].size == (40, 40)
    metadata = load_dataset(folder, "metadata", **cache)
    assert "image" not in metadata["train"].column_names
    assert metadata["train"][1]["row"] == 1
    assert set(load_dataset(folder, "commercial", **cache)["train"]["terms"]) == {"open"}
    streamed = load_dataset(folder, split="train", streaming=True, **cache)
    assert [row["idx"] for row in streamed] == crops["idx"][:]


def test_plain_datasets_reads_the_folder_beside_it(tmp_path, cache, monkeypatch):
    """`datasets.load_dataset("cytoimagenet")` gives what our loader gives."""
    make_folder(tmp_path / "cytoimagenet")
    monkeypatch.chdir(tmp_path)
    theirs = datasets.load_dataset("cytoimagenet", split="train", **cache)
    ours = load_dataset("cytoimagenet", split="train", **cache)
    assert theirs["image_id"][:] == ours["image_id"][:]


def test_code_of_the_card_loads_the_folder_beside_it(tmp_path, cache, monkeypatch, capsys):
    """Pasted where the folder lies."""
    folder = make_folder(tmp_path / "cytoimagenet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache["cache_dir"])
    code = generated_parts((folder / "README.md").read_text("utf-8"))["code"]
    exec(code.removeprefix("```python\n").removesuffix("```\n"), {})
    assert capsys.readouterr().out.endswith("nucleus\n")


def test_unknown_config_and_split_are_named_by_datasets(tmp_path, cache):
    """The errors of datasets list what there is, and are passed through."""
    folder = make_folder(tmp_path / "cytoimagenet")
    with pytest.raises(ValueError, match=r"'huge' not found.*default.*small.*metadata"):
        load_dataset(folder, "huge", **cache)
    with pytest.raises(ValueError, match=r"test.*train.*validation"):
        load_dataset(folder, split="test", **cache)


def test_rebuild_in_place_is_read_again_even_with_the_old_times(tmp_path, cache, monkeypatch):
    """Other rows under the same file names, sizes aside, are never hidden by a cache."""
    folder = make_folder(tmp_path / "cytoimagenet")
    monkeypatch.chdir(tmp_path)
    assert load_dataset(folder, split="train", **cache)["idx"][0] == "fake/f1"
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    make_folder(folder, OTHER_ROWS)
    for path, time_ns in times.items():
        os.utime(path, ns=(time_ns, time_ns))
    assert load_dataset(folder, split="train", **cache)["idx"][0] == "fake/f7"
    plain = datasets.load_dataset("cytoimagenet", split="train", **cache)
    assert plain["idx"][0] == "fake/f7"


def test_the_build_in_the_card_is_what_keeps_the_cache_fresh(tmp_path, cache):
    """Without it `datasets` serves the old rows of a folder rebuilt in place."""
    folder = tmp_path / "cytoimagenet"

    def rows_of(rows):
        make_folder(folder, rows)
        readme = folder / "README.md"
        lines = readme.read_text("utf-8").splitlines(keepends=True)
        readme.write_text("".join(x for x in lines if "description: build" not in x), "utf-8")
        return datasets.load_dataset(str(folder), split="train", **cache)["idx"][0]

    assert rows_of(ROWS) == "fake/f1"
    assert rows_of(OTHER_ROWS) == "fake/f1"  # the trap: stale


def test_shards_of_one_build_under_the_card_of_another_are_refused(tmp_path):
    """New shards and sums with an old README.md would meet the old build's cache."""
    folder = make_folder(tmp_path / "cytoimagenet")
    old = (folder / "README.md").read_bytes()
    make_folder(folder, OTHER_ROWS)
    (folder / "README.md").write_bytes(old)
    with pytest.raises(DatasetNotAvailableError, match="different builds"):
        locate(folder)


def test_missing_shard_is_named(tmp_path):
    """A folder copied in part says which files it lacks."""
    folder = make_folder(tmp_path / "cytoimagenet")
    lost = "data/small/train-local-0badc0de-00000.parquet"
    (folder / lost).unlink()
    with pytest.raises(DatasetNotAvailableError, match=rf"1 of its 12 shards .*{lost}"):
        locate(folder)


def test_missing_shard_is_found_by_the_sums_alone(tmp_path):
    """A shard that only SHA256SUMS names counts too."""
    folder = make_folder(tmp_path / "cytoimagenet")
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  data/tiny/train-open-00000000-00000.parquet\n")
    with pytest.raises(DatasetNotAvailableError, match=r"1 of its 13 .*data/tiny/train-open"):
        locate(folder)


def test_folder_without_card_is_refused(tmp_path):
    """`datasets` would join the files of all configs."""
    folder = make_folder(tmp_path / "cytoimagenet")
    (folder / "README.md").unlink()
    with pytest.raises(DatasetNotAvailableError, match=r"no README\.md.*silently join"):
        locate(folder)


@pytest.mark.parametrize("script", ["cytoimagenet.py", "mine.py"])
def test_folder_with_a_script_is_refused(tmp_path, script):
    """A file that datasets takes for a loading script is named."""
    folder = make_folder(tmp_path / "mine")
    (folder / script).write_text("")
    with pytest.raises(DatasetNotAvailableError, match=f"holds {script}"):
        locate(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# CytoImageNet\n", "declares no configs.*checkout"),
        ("---\nlicense: mit\n---\n", "declares no configs"),
        ("---\nconfigs: [\n---\n", "YAML block is broken"),
        ("---\nconfigs:\n- data_files: x\n---\n", "aren't of the form"),
        ("---\nconfigs: [1]\n---\n", "aren't of the form"),
        (
            "---\nconfigs:\n- config_name: default\n  data_files:\n"
            "  - {split: train, path: [../../secret.parquet]}\n---\n",
            r"secret\.parquet' leaves the folder",
        ),
    ],
)
def test_folder_with_another_readme_is_refused(tmp_path, text, message):
    """A checkout of that name, a broken block or paths that leave the folder aren't loaded."""
    folder = make_folder(tmp_path / "cytoimagenet")
    (folder / "README.md").write_text(text)
    with pytest.raises(DatasetNotAvailableError, match=message):
        locate(folder)


def test_folder_has_no_revisions(tmp_path):
    """A revision asked of a folder would be ignored silently."""
    with pytest.raises(ValueError, match="no revisions"):
        locate(make_folder(tmp_path / "cytoimagenet"), revision="v1")


@pytest.mark.parametrize(
    "path", ["./cytoimagenet", "~/none/cytoimagenet", "/no/such/place", "a/b/c"]
)
def test_path_to_nothing_is_no_id(elsewhere, path):
    """What can only be a path is never looked for on the Hub."""
    with pytest.raises(DatasetNotAvailableError, match="There is no folder"):
        locate(path, probe=never)
    with pytest.raises(DatasetNotAvailableError, match="There is no folder"):
        locate(Path(path), probe=never)


# --- the recorded folder


def test_recorded_folder_is_found_from_anywhere(tmp_path, elsewhere, caplog, cache):
    """After a build the name works in any folder, and a warning says which folder it is."""
    folder = make_folder(tmp_path / "built" / "cytoimagenet")
    remember_folder(folder)
    with caplog.at_level(logging.INFO, "cytoimagenet_hf"):
        crops = load_dataset("cytoimagenet", split="train", **cache)
    assert len(crops) == 4
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert folder.as_posix() in record.getMessage()


def test_named_folder_is_said_without_a_warning(tmp_path, caplog, cache):
    """A folder that the caller named is logged as information."""
    with caplog.at_level(logging.INFO, "cytoimagenet_hf"):
        load_dataset(make_folder(tmp_path / "cytoimagenet"), **cache)
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_folder_here_comes_before_a_recorded_one(tmp_path, elsewhere):
    """What stands in the working folder is what datasets would take, and so do we."""
    remember_folder(make_folder(tmp_path / "built" / "cytoimagenet"))
    here = make_folder(elsewhere / "cytoimagenet")
    assert locate("cytoimagenet", probe=never).where == here.as_posix()


def test_each_name_is_recorded_by_itself_and_the_last_folder_wins(tmp_path, elsewhere):
    """A trial build under another name doesn't take the place of the data set."""
    first, trial, second = (
        make_folder(tmp_path / at) for at in ("a/cytoimagenet", "a/trial", "b/cytoimagenet")
    )
    for folder in (first, trial, second):
        remember_folder(folder)
    assert locate("cytoimagenet", probe=never).where == second.as_posix()
    assert locate("trial", probe=never).where == trial.as_posix()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"cytoimagenet": 3}'])
def test_broken_record_counts_as_none(tmp_path, elsewhere, text):
    """A record cut short or edited wrongly doesn't break loading."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "folders.json").write_text(text)
    assert locate(probe=hub("there")).kind == "hub"


def test_home_that_cannot_be_written_is_said_and_not_fatal(tmp_path, monkeypatch, caplog):
    """A finished build doesn't fail because nobody may write to its home."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CYTOIMAGENET_HOME", str(tmp_path / "file"))
    remember_folder(make_folder(tmp_path / "cytoimagenet"))
    assert "was not recorded" in caplog.text


def test_cache_of_a_folder_that_is_gone_is_never_served(tmp_path, monkeypatch, cache):
    """Plain datasets gives rows of a deleted folder; our loader says that it is gone."""
    folder = make_folder(tmp_path / "cytoimagenet")
    monkeypatch.chdir(tmp_path)
    remember_folder(folder)
    datasets.load_dataset("cytoimagenet", **cache)
    shutil.rmtree(folder)
    stale = datasets.load_dataset("cytoimagenet", "default", split="train", **cache)
    assert stale["idx"][0] == "fake/f1"  # the trap
    with pytest.raises(DatasetNotAvailableError, match=r"recorded by a build.*gone"):
        load_dataset("cytoimagenet", **cache)


# --- the Hub


def test_default_id_is_a_place_nobody_named(elsewhere):
    """Without folder and record the name stands for the default id, with a warning."""
    place = locate(probe=hub("there"))
    assert (place.kind, place.where, place.named) == ("hub", DEFAULT_REPO, False)
    assert COMMIT in place.detail


def test_id_from_the_environment_and_id_in_words(elsewhere, monkeypatch):
    """Both name the place, so there is nothing to warn of; the revision is asked for."""
    monkeypatch.setenv("CYTOIMAGENET_REPO", "my/own")
    ask = hub("there")
    assert locate(revision="v2", probe=ask).named
    assert locate("their/cells", probe=ask).named
    assert ask.asked == [("my/own", "v2"), ("their/cells", None)]


def test_revision_goes_past_a_recorded_folder(tmp_path, elsewhere):
    """A folder can't tell its revision, so one asked for comes from the Hub."""
    remember_folder(make_folder(tmp_path / "cytoimagenet"))
    assert locate(revision="v2", probe=hub("there")).kind == "hub"


def test_recorded_folder_that_is_gone_is_said_with_the_hub(tmp_path, elsewhere, monkeypatch):
    """Going on to the Hub instead of the folder is worth a warning, even for a chosen id."""
    monkeypatch.setenv("CYTOIMAGENET_REPO", "my/own")
    remember_folder(tmp_path / "cytoimagenet")
    place = locate(probe=hub("there"))
    assert (place.kind, place.named) == ("hub", False)
    assert "gone" in place.detail


def test_nowhere_lists_places_and_ways_forward(elsewhere):
    """The error says where it was looked for and five ways to go on."""
    with pytest.raises(DatasetNotAvailableError) as caught:
        locate(probe=hub("absent", "no such data set there"))
    message = str(caught.value)
    assert f"folder {(elsewhere / 'cytoimagenet').as_posix()}: absent" in message
    assert f"Hub id {DEFAULT_REPO}: absent (no such data set there)" in message
    for way in ("cytoimagenet build", "cytoimagenet demo", "cytoimagenet pull", "OWNER/NAME"):
        assert way in message


def test_other_names_are_not_looked_for_on_the_hub(elsewhere):
    """Only our own name stands for an id; "imdb" is somebody else's."""
    with pytest.raises(DatasetNotAvailableError, match="imdb was not found"):
        locate("imdb", probe=never)


def test_offline_fails_at_once(elsewhere):
    """With HF_HUB_OFFLINE set nothing is waited for."""
    start = time.monotonic()
    with pytest.raises(DatasetNotAvailableError, match="OfflineModeIsEnabled"):
        load_dataset()
    assert time.monotonic() - start < 2


@contextlib.contextmanager
def endpoint(monkeypatch, url):
    """Let huggingface_hub talk to `url`, as if it had been set before its import."""
    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        patch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        huggingface_hub.close_session()
        yield
    huggingface_hub.close_session()


def test_probe_tells_there_from_absent_from_unreachable(tmp_path, monkeypatch):
    """An id, a revision or a repository that isn't there, and a server that isn't."""
    with serving_hub(tmp_path / "hub") as server, endpoint(monkeypatch, server.url):
        sha = server.put_folder("datasets", REPO, make_folder(tmp_path / "cytoimagenet"))
        assert probe_hub(REPO, None) == Answer("there", sha)
        assert probe_hub(REPO, "v9").state == "absent"
        assert probe_hub("lab/none", None).state == "absent"
        assert probe_hub("not--an..id/x", None).state == "absent"
    with endpoint(monkeypatch, server.url):  # nobody listens there any more
        assert probe_hub(REPO, None).state == "unreachable"


def test_probe_does_not_wait_for_a_silent_server(monkeypatch):
    """A host that accepts and never answers costs less than two seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with endpoint(monkeypatch, url):
            start = time.monotonic()
            assert probe_hub(REPO, None).state == "unreachable"
            assert time.monotonic() - start < PROBE_SECONDS + 0.4


def test_probe_does_not_wait_for_a_slow_resolver(monkeypatch):
    """Looking up a host's name can't be timed out, so the probe goes on without it."""
    woken = threading.Event()

    def resolve(*_, **__):
        woken.wait(10)
        raise TimeoutError

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", resolve)
    start = time.monotonic()
    answer = probe_hub(REPO, None)
    woken.set()
    assert answer == Answer("unreachable", "no answer within 1.5 s")
    assert time.monotonic() - start < PROBE_SECONDS + 0.4


def run(code: str, home: Path, url: str = "", **changes: str) -> dict:
    """Run code in a process of its own, whose Hub is `url` (none: offline); returns its JSON."""
    environment = {
        **os.environ,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "CYTOIMAGENET_HOME": str(home / "ours"),
        "PYTHONPATH": str(ROOT),
        **({"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0"} if url else {"HF_HUB_OFFLINE": "1"}),
        **changes,
    }
    done = subprocess.run(
        [sys.executable, "-c", "import json\nfrom cytoimagenet_hf import load_dataset\n" + code],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {"log": done.stderr, **json.loads(done.stdout)}


@pytest.mark.slow
def test_from_the_hub_then_offline_from_its_cache(tmp_path):
    """What was loaded once loads again without a network; what wasn't says so."""
    folder = make_folder(tmp_path / "cytoimagenet")
    home = tmp_path / "hf"
    (home / "lab" / "other").mkdir(parents=True)
    load = f'rows = load_dataset("{REPO}", "small", split="train")["idx"][:]\n'
    with serving_hub(tmp_path / "hub") as server:
        sha, url = server.put_folder("datasets", REPO, folder), server.url
        online = run(load + 'print(json.dumps({"rows": rows}))', home, url)
        streamed = run(
            f'rows = [x["idx"] for x in load_dataset("{REPO}", split="train", streaming=True)]\n'
            'print(json.dumps({"rows": rows}))',
            home,
            url,
        )
        # A folder of the id's name in the working folder is not taken for the default id.
        (home / REPO).mkdir()
        default = run(
            'rows = load_dataset(name="small", split="train")["idx"][:]\n'
            'print(json.dumps({"rows": rows}))',
            home,
            url,
            CYTOIMAGENET_REPO=REPO,
        )
        (home / REPO).rmdir()
    expected = ["fake/f1", "fake/f2", "fake/f3", "fake/f4"]
    assert online["rows"] == streamed["rows"] == default["rows"] == expected
    offline = run(load + 'print(json.dumps({"rows": rows}))', home)
    assert offline["rows"] == expected
    assert f"commit {sha}, from the local cache of the Hub" in offline["log"]
    failures = run(
        "found = {}\n"
        'for name, revision in [("metadata", None), ("huge", None), ("small", "v9")]:\n'
        "    try:\n"
        f'        load_dataset("{REPO}", name, revision=revision)\n'
        "    except Exception as error:\n"
        '        found[name] = f"{type(error).__name__}: {error}"\n'
        "print(json.dumps(found))",
        home,
    )
    assert "Config metadata is not whole" in failures["metadata"]
    assert "Whole there: small" in failures["metadata"]
    assert failures["huge"].startswith("ValueError: BuilderConfig 'huge' not found")
    assert f"{REPO} at v9 is not in it" in failures["small"]
