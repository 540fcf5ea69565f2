"""Pushing models to a real Hub on loopback: whole or not at all, and each refusal in words."""

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest
import yaml

from cytoimagenet_hf.errors import PushError
from cytoimagenet_hf.hub.pushing import check_run, license_of_run, publish_run, push_model
from tests.hub._folder import make_folder
from tests.hub._run import make_run, safetensors
from tests.hub_server import READ_TOKEN, ROOT, TOKEN, run_client

NEEDS_MODELS = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed"
)

# Pushes the folder `path` to each id of `tries`; answers what was said, or the error.
PUSH = """
import time
from pathlib import Path
from cytoimagenet_hf.hub.pushing import check_push, check_run, publish_run, push_model
def attempt(call):
    said, start = [], time.monotonic()
    try:
        result = call(said.append)
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    return {"result": result, "said": said, "seconds": time.monotonic() - start}
"""


def push(path, repo_id="lab/net", **options) -> str:
    """The line that pushes a folder."""
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    return f"attempt(lambda say: push_model(Path({str(path)!r}), {repo_id!r}, say=say{given}))"


def answer(hub, line, **env) -> dict:
    """What one attempt in a process of its own gives."""
    return run_client(hub, f"{PUSH}\nanswer = {line}", **env).answer


@pytest.fixture
def model(tmp_path):
    """A model's folder with its card."""
    from cytoimagenet_hf.hub.model_cards import write_model_card

    return write_model_card(make_run(tmp_path / "run"), hub_id="lab/net").parent


def stored(hub, repo_id="lab/net") -> dict[str, bytes]:
    """What stands on the Hub, without what the Hub put there."""
    found = hub.files("models", repo_id)
    return {path: content for path, content in found.items() if path != ".gitattributes"}


def licensed(folder, license):
    """A data set of somebody else's, of which only the license is known."""
    folder.mkdir()
    (folder / "README.md").write_text(f"---\nlicense: {license}\n---\n")
    return folder


# --- what needs no Hub


def settings(dataset, **values) -> dict:
    """What a run that is to be pushed says of its data."""
    return {"dataset": str(dataset), "push_to_hub": True, "hub_model_id": "lab/net"} | values


def test_weights_of_images_that_others_may_not_have_are_not_shown_to_all(tmp_path):
    """Half of the images are of unknown terms: named with their number, and the ways out."""
    data = make_folder(tmp_path / "cytoimagenet")
    with pytest.raises(ValueError, match="not pushed for all to see") as refused:
        check_run(settings(data))
    told = str(refused.value)
    assert "Made-up cells (unknown, 2 images)" in told
    assert "CC0" not in told
    assert "--hub-private" in told
    assert "--name commercial" in told


@pytest.mark.parametrize("values", [{"hub_private": True}, {"name": "commercial"}])
def test_ways_out_get_as_far_as_the_hub(tmp_path, values):
    """A private model, and one of open images alone, are stopped by nothing but the Hub."""
    data = make_folder(tmp_path / "cytoimagenet")
    with pytest.raises(PushError, match=r"HF_HUB_OFFLINE|no token"):
        check_run(settings(data, **values))


@pytest.mark.parametrize("license", ["cc-by-nd-4.0", "other", "unknown"])
def test_license_without_derivatives_or_unknown_is_refused(tmp_path, license):
    """Of a data set of somebody else's, too; whoever knows better can write it down."""
    data = licensed(tmp_path / "theirs", license)
    with pytest.raises(ValueError, match=r"theirs.*--hub-private, or write `license:`"):
        check_run(settings(data))


def test_finished_run_is_refused_too(tmp_path):
    """Whatever was checked at the start: no card that speaks of the Hub, no question to it."""
    data = make_folder(tmp_path / "cytoimagenet")
    run = make_run(tmp_path / "run", **settings(data))
    with pytest.raises(ValueError, match="not pushed for all to see"):
        publish_run(run)
    assert not (run / "model" / "README.md").exists()


@pytest.mark.parametrize(
    ("license", "id"), [("cc-by-4.0", "cc-by-4.0"), ("mit", "mit"), ("mine", ""), ("other", "")]
)
def test_license_of_weights_is_that_of_their_images(tmp_path, license, id):
    """As the Hub names it; "" where it has no name."""
    data = licensed(tmp_path / "theirs", license)
    assert license_of_run({"dataset": str(data)}) == id


def test_license_of_mixed_images_has_no_name(tmp_path):
    """CC0 and unknown together are no license that the Hub has; the open ones alone are CC0."""
    data = str(make_folder(tmp_path / "cytoimagenet"))
    assert license_of_run({"dataset": data}) == ""
    assert license_of_run({"dataset": data, "name": "commercial"}) == "cc0-1.0"


@pytest.mark.parametrize(
    "repo_id", ["net", "", "a/b/c", "a--b/c", "../x", "lab/x.git", "lab/" + "x" * 96]
)
def test_bad_id_is_refused_before_anything_is_asked(model, repo_id):
    """An id needs an owner, and letters that the Hub takes."""
    with pytest.raises(ValueError, match="OWNER/NAME"):
        push_model(model, repo_id)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_folder_without_a_model_is_refused(model, name):
    """Both files must be there."""
    (model / name).unlink()
    with pytest.raises(ValueError, match=f"has no {name}"):
        push_model(model, "lab/net")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "old/optimizer.PT", "x.pkl"])
def test_pickle_is_refused_by_name(model, name):
    """Such a file anywhere in the folder stops the push."""
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{name}.*can run code"):
        push_model(model, "lab/net")


def test_pickle_under_a_good_name_is_refused(model):
    """Weights are looked at before they go anywhere."""
    (model / "model.safetensors").write_bytes(b"\x80\x04" + bytes(100))
    with pytest.raises(ValueError, match="no safetensors file"):
        push_model(model, "lab/net")


def test_offline_is_said_at_once(model, monkeypatch):
    """HF_HUB_OFFLINE, set for all tests, is named."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(PushError, match="HF_HUB_OFFLINE is set"):
        push_model(model, "lab/net")


# --- with a Hub


@pytest.mark.slow
def test_push_push_again_and_push_a_change(hub_server, model):
    """One commit with all bytes; nothing when nothing changed; only what changed afterwards."""
    (model / "notes.xyz").write_text("mine")
    again = f"""{PUSH}
first = {push(model)}
second = {push(model)}
Path({str(model / "config.json")!r}).write_text('{{"architecture": "x"}}')
third = {push(model)}
answer = [first, second, third]
"""
    first, second, third = run_client(hub_server, again).answer
    assert first["result"] == f"{hub_server.url}/lab/net"
    assert "left out: notes.xyz" in first["said"]
    assert first["said"][-1].startswith("pushed: ")
    assert "nothing to push" in second["said"][-1]
    assert third["said"][-1].startswith("pushed: ")
    here = {p.name: p.read_bytes() for p in model.iterdir() if p.name != "notes.xyz"}
    assert stored(hub_server) == here
    titles = [one.title for one in hub_server.store.repo("models", "lab/net").log("main")]
    assert titles == ["Upload model", "Upload model", "initial commit"]
    assert hub_server.received("PUT /lfs") == sum(
        len(here[name]) for name in ("model.safetensors", "curves.png") if name in here
    )  # once for three pushes


@pytest.mark.slow
def test_broken_off_push_shows_nothing_and_goes_on(hub_server, model):
    """The weights arrive, the commit fails: readers see the old state; later nothing is resent."""
    hub_server.fail("POST .*/commit/main", 500, times=6)  # all tries of huggingface_hub
    hub_server.fail("PUT /lfs", cut=10, times=1)  # one torn upload is tried again by itself
    broken = answer(hub_server, push(model))
    assert "PushError: The Hub is in trouble (HTTP 500" in broken["result"]
    assert "not sent twice" in broken["result"]
    assert stored(hub_server) == {}
    sent = hub_server.received("PUT /lfs")
    hub_server.faults.clear()
    assert answer(hub_server, push(model))["result"].endswith("/lab/net")
    assert hub_server.received("PUT /lfs") == sent
    assert stored(hub_server)["model.safetensors"] == (model / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_push_killed_at_any_request_leaves_all_or_nothing(hub_server, model):
    """Killed at the 1st, 4th, 7th ... request: never half a model, and the next push ends well."""
    whole = {path.name: path.read_bytes() for path in model.iterdir()}
    code = f"{PUSH}\n{push(model)}"
    environment = os.environ | hub_server.environment() | {"PYTHONPATH": str(ROOT)}
    kills = 0
    for at in range(0, 99, 3):
        hub_server.store.repos.clear()
        hub_server.store.lfs.clear()
        fault = hub_server.fail(".", delay=1.0, skip=at, times=1)
        with subprocess.Popen([sys.executable, "-c", code], env=environment) as child:
            while child.poll() is None and fault.times:
                time.sleep(0.01)
            ended = child.poll() is not None
            child.kill()
        time.sleep(1.2 * bool(not ended))  # what had been sent may still arrive
        hub_server.faults.clear()
        if ended:
            break
        kills += 1
        there = ("models", "lab/net") in hub_server.store.repos
        assert not there or stored(hub_server) in ({}, whole)
    assert kills >= 3
    assert answer(hub_server, push(model))["result"].endswith("/lab/net")
    assert stored(hub_server) == whole


@pytest.mark.slow
def test_refusals_in_words(hub_server, model):
    """No token's right, a foreign namespace, another's push, limits, a bad card: each is told."""
    hub_server.store.create("models", "lab/open")
    hub_server.fail("GET /api/whoami", 401, times=1)
    hub_server.fail("POST .*lab/race/commit/main", 412)
    hub_server.fail("POST .*lab/busy/preupload", 429, headers={"Retry-After": "1"})
    hub_server.fail("POST .*lab/fight/commit/main", 409)
    hub_server.fail("POST .*lab/large/commit/main", 413)
    lines = [push(model)]
    ids = ("others/net", "lab/race", "lab/busy", "lab/fight", "lab/large")
    lines += [push(model, repo_id) for repo_id in ids]
    lines += [push(model, "lab/open", private=True)]
    wrong = make_run(model.parents[1] / "wrong") / "model"
    (wrong / "README.md").write_text("---\nlicense: mine\n---\n")
    lines += [push(wrong)]
    answers = run_client(hub_server, f"{PUSH}\nanswer = [{', '.join(lines)}]").answer
    results = [one["result"] for one in answers]
    words = (
        r"doesn't know the token.*hf auth login.*HTTP 401",
        r"no right to write to others/net.*namespace others.*HTTP 403",
        r"changed by somebody else.*HTTP 412",
        r"takes no more requests.*wait 1 s.*HTTP 429",
        r"Somebody else is changing lab/fight.*HTTP 409",
        r"too large.*HTTP 413",
        r"lab/open is public already",
        r"license",
    )
    for result, word in zip(results, words, strict=True):
        assert result.startswith("PushError: ")
        assert re.search(word, result), (word, result)
    assert all(stored(hub_server, one) == {} for one in ("lab/race", "lab/busy", "lab/open"))


@pytest.mark.slow
def test_no_token_and_a_reader_s_token(hub_server, model):
    """Both are told with the way to a good one, and make no repository."""
    line = f"{PUSH}\nanswer = [{push(model)}, attempt(lambda say: check_push('lab/net'))]"
    for one in run_client(hub_server, line, token=None).answer:
        assert "no token" in one["result"]
        assert "hf auth login" in one["result"]
        assert "HF_TOKEN" in one["result"]
        assert one["seconds"] < 5
    for one in run_client(hub_server, line, token=READ_TOKEN).answer:
        assert "may only read" in one["result"]
    assert not hub_server.store.repos


@pytest.mark.slow
def test_hub_that_is_not_there_is_said_fast(hub_server, model):
    """Refused connections and silent hosts cost seconds, not minutes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        quiet = (
            f"{PUSH}\nfrom cytoimagenet_hf.hub import _client\n_client.ANSWER_SECONDS = 1.0\n"
            f"answer = {push(model)}"
        )
        still = run_client(hub_server, quiet, HF_ENDPOINT=f"http://127.0.0.1:{port}").answer
    gone = answer(hub_server, push(model), HF_ENDPOINT=f"http://127.0.0.1:{port}")
    for one in (still, gone):
        assert "could not be reached" in one["result"]
        assert one["seconds"] < 5


@pytest.mark.slow
def test_private_model_is_private(hub_server, model):
    """Nobody sees it without a token."""
    assert answer(hub_server, push(model, private=True))["result"].endswith("/lab/net")
    assert hub_server.store.repo("models", "lab/net").private


@pytest.mark.slow
def test_token_is_hidden_even_if_the_hub_repeats_it(hub_server, model):
    """run_client fails on any output with a token; here the Hub itself sends it back."""
    told = {"X-Error-Message": f"bad token {TOKEN}"}
    hub_server.fail("POST /api/repos/create", 403, headers=told)
    result = answer(hub_server, push(model))["result"]
    assert "bad token hf_***" in result
    assert TOKEN not in result


@pytest.mark.slow
def test_finished_run_is_published_as_its_settings_say(hub_server, tmp_path):
    """Asked for: card and model on the Hub, with its id in the card. Not asked: the card alone."""
    asked = make_run(tmp_path / "a", push_to_hub=True, hub_model_id="lab/net", hub_private=True)
    quiet = make_run(tmp_path / "b")
    nameless = make_run(tmp_path / "c", push_to_hub=True)
    lines = [
        f"attempt(lambda say: publish_run(Path({str(run)!r}), say=say))"
        for run in (asked, quiet, nameless)
    ]
    results = run_client(hub_server, f"{PUSH}\nanswer = [{', '.join(lines)}]").answer
    assert results[0]["result"] == f"{hub_server.url}/lab/net"
    assert results[1]["result"] == ""
    assert "OWNER/NAME" in results[2]["result"]
    assert b"hf-hub:lab/net" in stored(hub_server)["README.md"]
    assert hub_server.store.repo("models", "lab/net").private
    assert b"local-dir:" in (quiet / "model" / "README.md").read_bytes()
    assert set(hub_server.store.repos) == {("models", "lab/net")}


@pytest.mark.slow
def test_refused_public_push_leaves_no_trace(hub_server, tmp_path):
    """At the start of a run: nothing is asked of the Hub; private or of open images it is made."""
    data = make_folder(tmp_path / "cytoimagenet")
    runs = [settings(data), settings(data, hub_private=True), settings(data, name="commercial")]
    ids = ("lab/a", "lab/b", "lab/c")
    lines = [
        f"attempt(lambda say: check_run({one | {'hub_model_id': id}!r}))"
        for one, id in zip(runs, ids, strict=True)
    ]
    found = run_client(hub_server, f"{PUSH}\nanswer = [{', '.join(lines)}]").answer
    assert "not pushed for all to see" in found[0]["result"]
    assert [one["result"] for one in found[1:]] == [None, None]
    assert set(hub_server.store.repos) == {("models", "lab/b"), ("models", "lab/c")}
    assert hub_server.store.repo("models", "lab/b").private
    assert not hub_server.store.repo("models", "lab/c").private


@pytest.mark.slow
def test_card_of_a_model_trained_on_the_hub_s_data(hub_server, tmp_path):
    """Terms are counted from the data set on the Hub, whose commit stands in card and results."""
    data = make_folder(tmp_path / "cytoimagenet")
    sha = hub_server.put_folder("datasets", "lab/cells", data)
    hub_server.put_folder("datasets", "lab/plain", licensed(tmp_path / "plain", "cc-by-nc-4.0"))
    target = {"push_to_hub": True, "hub_model_id": "lab/net", "hub_private": True}
    ours = make_run(tmp_path / "a", dataset="lab/cells", **target)
    theirs = make_run(tmp_path / "b", dataset="lab/plain", push_to_hub=True, hub_model_id="lab/b")
    lines = [
        f"attempt(lambda say: publish_run(Path({str(run)!r}), say=say))" for run in (ours, theirs)
    ]
    run_client(hub_server, f"{PUSH}\nanswer = [{', '.join(lines)}]")
    found = stored(hub_server)
    (entry, *_) = yaml.safe_load(found[".eval_results/cytoimagenet.yaml"])
    assert entry["dataset"] == {"id": "lab/cells", "task_id": "default", "revision": sha}
    card = found["README.md"].decode()
    assert f"`{sha}`" in card
    assert "| Made-up cells | made up | unknown | local | 2 |" in card
    assert "datasets:\n- lab/cells\n" in card
    assert hub_server.count("GET /datasets/.*/data/default/") == 0  # no image travels for a card
    assert b"license: cc-by-nc-4.0" in stored(hub_server, "lab/b")["README.md"]


SAVE = """
import timm, torch
from pathlib import Path
from cytoimagenet_hf.hub.pushing import publish_run
from cytoimagenet_hf.pretraining.config import TrainConfig
from cytoimagenet_hf.pretraining.export import save_model
output = Path(OUTPUT)
torch.manual_seed(0)
net = timm.create_model("test_efficientnet", num_classes=3).eval()
save_model(net, output / "model", classes=["nucleus", "a|b", "<b>bold</b>"],
    config=TrainConfig(image_size=160))
x = torch.rand(2, 3, 160, 160)
torch.save({"x": x, "logits": net(x).detach(),
    "features": net.forward_head(net.forward_features(x), pre_logits=True).detach()}, "want.pt")
answer = publish_run(output)
"""

LOAD = """
import numpy, timm, torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification, pipeline
want = torch.load("want.pt", weights_only=True)
x, found = want["x"], {}
far = lambda a, b: float((a - b).abs().max())
with torch.inference_mode():
    net = timm.create_model("hf-hub:lab/net", pretrained=True).eval()
    found["timm"] = far(net(x), want["logits"])
    wrapped = AutoModelForImageClassification.from_pretrained("lab/net").eval()
    found["transformers"] = far(wrapped(pixel_values=x).logits, want["logits"])
    backbone = AutoModel.from_pretrained("lab/net").eval()
    found["features"] = far(backbone(pixel_values=x).pooler_output, want["features"])
    gray = Image.fromarray(numpy.arange(200 * 150, dtype=numpy.uint32).astype(numpy.uint8)
        .reshape(200, 150))
    settings = timm.data.resolve_model_data_config(net)
    pixels = timm.data.create_transform(**settings, is_training=False)(gray.convert("RGB"))
    scores = net(pixels[None]).softmax(-1)[0]
    told, names = pipeline("image-classification", "lab/net")(gray), wrapped.config.label2id
    found["pipeline"] = max(abs(one["score"] - float(scores[names[one["label"]]]))
        for one in told)
    vector = pipeline("image-feature-extraction", "lab/net")(gray, pool=True, return_tensors=True)
    found["embedding"] = far(vector,
        net.forward_head(net.forward_features(pixels[None]), pre_logits=True))
gray.save("cells.png")
import re
from huggingface_hub import hf_hub_download
card = open(hf_hub_download("lab/net", "README.md"), encoding="utf-8").read()
shown = {}
for block in re.findall("```python\\n(.*?)```", card, re.DOTALL):
    exec(block, shown)
found["card"] = max(far(shown["vector"], vector), far(shown["embedding"], vector))
answer = {"labels": sorted(one["label"] for one in told), "far": found}
"""


@pytest.mark.slow
@NEEDS_MODELS
def test_pushed_model_loads_in_all_ways_with_the_same_numbers(hub_server, tmp_path):
    """What training saved, published and loaded in a fresh process gives the very same numbers."""
    data = str(licensed(tmp_path / "data", "cc-by-4.0"))
    run = make_run(tmp_path / "run", dataset=data, push_to_hub=True, hub_model_id="lab/net")
    saved = SAVE.replace("OUTPUT", repr(str(run)))
    assert run_client(hub_server, saved).answer == f"{hub_server.url}/lab/net"
    loaded = run_client(hub_server, LOAD, token=None).answer
    assert loaded["labels"] == ["<b>bold</b>", "a|b", "nucleus"]
    exact = {key: value for key, value in loaded["far"].items() if key != "pipeline"}
    assert exact == dict.fromkeys(("timm", "transformers", "features", "embedding", "card"), 0.0)
    assert loaded["far"]["pipeline"] < 1e-6  # scores are rounded on their way through floats
    offline = LOAD + '\nanswer["offline"] = True'
    again = run_client(hub_server, offline, token=None, HF_HUB_OFFLINE="1").answer
    assert again == loaded | {"offline": True}


def test_fake_weights_are_of_the_format():
    """The hand-made file is what the library itself reads."""
    torch_free = pytest.importorskip("safetensors.numpy")
    found = torch_free.load(safetensors({"a": (2, 3), "b": (1,)}))
    assert {name: one.shape for name, one in found.items()} == {"a": (2, 3), "b": (1,)}
    assert json.dumps(found["a"].tolist()) == "[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]"
