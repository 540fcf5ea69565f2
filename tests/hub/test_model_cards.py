"""The model's card: facts of the run and of the data, terms that follow, nothing of the machine."""

import dataclasses
import json
import re
import sys
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from cytoimagenet_hf.hub import _modelfacts
from cytoimagenet_hf.hub._embeddings import may_be_shown
from cytoimagenet_hf.hub.model_cards import (
    DataFacts,
    DataPart,
    ModelFacts,
    describe_run,
    license_of_model,
    render_eval_results,
    render_model_card,
    weights_terms,
    write_model_card,
)
from cytoimagenet_hf.pretraining.config import TrainConfig
from tests.hub._folder import make_folder
from tests.hub._run import CLASSES, FINAL, HISTORY, PRETRAINED_CFG, make_run, safetensors
from tests.loopback.cards import card_errors

SHA = "c0ffee" + "0" * 34
BY = DataPart(name="Cells", database="BBBC", license="CC BY 4.0", crops=900)
NC = DataPart(name="Worms", database="IDR", license="CC BY-NC 3.0", crops=100)
UNKNOWN = DataPart(name="Found", database="web", license="unknown", crops=1)


def facts(**changes) -> ModelFacts:
    """Facts of a model on the Hub, trained on a data set there."""
    data = DataFacts(
        id="lab/cells", on_hub=True, revision=SHA, build="ab" * 16, validation_split="validation",
        parts=changes.pop("parts", (BY,)), simulated=changes.pop("simulated", False),
    )  # fmt: skip
    given = ModelFacts(
        architecture="tf_efficientnet_b0",
        classes=CLASSES,
        data=data,
        settings={"learning_rate": 0.0003, "pretrained": False, "model": "tf_efficientnet_b0"},
        preprocessing=PRETRAINED_CFG,
        parameters=111,
        metrics=FINAL,
        history=HISTORY,
        versions={"timm": "1.0.31"},
        hub_id="lab/net",
    )
    return replace(given, **changes)


def front(card: str) -> dict:
    """The YAML block."""
    return yaml.safe_load(card.split("---\n")[1])


def test_front_matter_is_what_the_hub_takes():
    """Parsed by the Hub's own library, with the numbers as model-index."""
    card = render_model_card(facts())
    assert card_errors(card, "models") == []
    data = ModelCard(card).data
    assert (data.license, data.library_name, data.datasets) == ("cc-by-4.0", "timm", ["lab/cells"])
    assert data.pipeline_tag == "image-classification"
    assert data.model_name == "net"
    numbers = {one.metric_name: one.metric_value for one in data.eval_results}
    assert numbers == {"top-1 accuracy": 0.75, "balanced accuracy": 0.5, "macro F1": 0.625}
    assert {one.dataset_revision for one in data.eval_results} == {SHA}
    assert {one.dataset_split for one in data.eval_results} == {"validation"}


def test_equal_facts_give_equal_bytes():
    """No clock, no order of dictionaries."""
    turned = facts(settings=dict(reversed(facts().settings.items())))
    assert render_model_card(turned) == render_model_card(facts())


@pytest.mark.parametrize(
    ("parts", "license", "words"),
    [
        ((BY,), "cc-by-4.0", "Name the makers"),
        ((BY, NC), "other", "No commercial use"),
        ((BY, NC, UNKNOWN), "other", "may not be passed on"),
        (
            (DataPart(name="x", database="y", license="CC BY-SA 4.0", crops=1),),
            "cc-by-sa-4.0",
            "carries the same license",
        ),
        ((), "other", "states no terms"),
    ],
)
def test_weights_carry_the_strictest_terms(parts, license, words):
    """One noncommercial image in ten makes the weights noncommercial; unknown is strictest."""
    card = render_model_card(facts(parts=parts))
    assert front(card)["license"] == license
    assert words in card
    assert card_errors(card, "models") == []


def test_mixed_terms_have_a_name_and_an_address():
    """`other` says which, and links to the chapter that is there."""
    card = render_model_card(facts(parts=(BY, NC)))
    assert front(card)["license_name"] == "terms-of-training-data"
    assert front(card)["license_link"].endswith("lab/net#training-data-and-terms")
    assert "## Training data and terms\n" in card
    assert "license_link" not in front(render_model_card(facts(parts=(BY, NC), hub_id="")))


@pytest.mark.parametrize(
    ("parts", "license", "shown"),
    [
        ((BY,), "cc-by-4.0", True),
        ((BY, NC), "CC BY 4.0 + CC BY-NC 3.0", True),
        ((BY, UNKNOWN), "CC BY 4.0 + unknown", False),
        ((), "unknown", False),
    ],
)
def test_license_is_read_back_from_the_card(tmp_path, parts, license, shown):
    """What the card says of the weights decides on vectors that they make, too."""
    (tmp_path / "README.md").write_text(render_model_card(facts(parts=parts)), encoding="utf-8")
    assert license_of_model(tmp_path) == license
    assert may_be_shown(license) == shown == weights_terms(facts(parts=parts).data).publishable


def test_license_of_a_model_of_others_is_what_its_files_say(tmp_path):
    """A card with a name of its own, else config.json, else nothing; a broken card is none."""
    assert license_of_model(tmp_path) == ""
    (tmp_path / "config.json").write_text('{"pretrained_cfg": {"license": "apache-2.0"}}')
    assert license_of_model(tmp_path) == "apache-2.0"
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert license_of_model(tmp_path) == "apache-2.0"
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: their-own\n---\n")
    assert license_of_model(tmp_path) == "their-own"
    assert [may_be_shown(one) for one in ("", "none: untrained", "their-own")] == [
        True,
        True,
        False,
    ]


def test_terms_of_nothing_known_are_local():
    """Without a statement nothing is allowed."""
    assert not weights_terms(DataFacts(id="x", on_hub=False)).publishable


def test_simulated_training_data_is_declared_loudly():
    """In the first lines, in the tags and among the limits."""
    card = render_model_card(facts(simulated=True))
    assert "simulated" in front(card)["tags"]
    lines = card.split("---\n", 2)[2].splitlines()
    assert any("TRAINED ON SIMULATED PIXELS" in line for line in lines[:5])
    assert "SIMULATED" not in render_model_card(facts())


def test_text_from_outside_is_escaped():
    """Class names, settings and names of sources set no markup and break no table."""
    wild = DataPart(name="<img src=x>|", database="`a`", license="CC BY 4.0", crops=1)
    card = render_model_card(
        facts(parts=(wild,), settings={"tracker|": "<script>\n# x"}, hub_id="lab/net")
    )
    assert "<b>" not in card
    assert "<img" not in card
    assert "<script" not in card
    assert r"a\|b" in card
    for line in card.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 4, 5, 6)


def test_data_set_with_yaml_in_its_name():
    """A folder named like markup stays one value of the YAML block."""
    data = DataFacts(id="x: [\n- y", on_hub=False, validation_split="validation")
    card = render_model_card(facts(data=data, hub_id=""))
    assert card_errors(card, "models") == []
    assert front(card)["model-index"][0]["results"][0]["dataset"]["name"] == "x: [\n- y"


def test_loading_lines_name_the_model():
    """Both libraries and both pipelines, from the Hub or from the folder."""
    card = render_model_card(facts())
    assert 'timm.create_model("hf-hub:lab/net", pretrained=True)' in card
    assert 'AutoModelForImageClassification.from_pretrained("lab/net")' in card
    assert 'pipeline("image-feature-extraction", "lab/net")' in card
    local = render_model_card(facts(hub_id=""))
    assert 'timm.create_model("local-dir:FOLDER", pretrained=True)' in local
    assert "not on the Hub" in local


def test_curves_as_text_and_the_numbers_behind():
    """Loss falls in bars; each validation is a row."""
    card = render_model_card(facts())
    assert "| training loss | █▃▁ | 2 | 0.5 |" in card
    assert "| 20 | 0.8000 | 0.7500 |" in card
    assert "curves.png" not in card
    assert "![Loss and accuracy over steps](curves.png)" in render_model_card(facts(curves=True))


def test_run_without_validation_has_no_numbers():
    """Nothing is claimed of a model that nobody validated."""
    bare = facts(data=replace(facts().data, validation_split=""))
    card = render_model_card(bare)
    assert "model-index" not in front(card)
    assert "nothing is known of how good it is" in card
    assert render_eval_results(bare) == ""


def test_number_that_is_none_is_left_out():
    """A NaN is no result."""
    card = render_model_card(facts(metrics=FINAL | {"macro_f1": float("nan")}))
    assert "macro F1" not in card


def test_top_5_needs_more_than_5_classes():
    """Of three classes each is among the first five, which would read as a perfect score."""
    metrics = FINAL | {"accuracy_top5": 1.0}
    assert "top-5" not in render_model_card(facts(metrics=metrics))
    many = [f"class {number}" for number in range(6)]
    assert "| top-5 accuracy | 1.0000 |" in render_model_card(facts(metrics=metrics, classes=many))


def test_eval_results_refer_to_the_data_set():
    """The Hub's own form: one entry a number, with the data set's commit."""
    entries = yaml.safe_load(render_eval_results(facts()))
    assert entries[0] == {
        "dataset": {"id": "lab/cells", "task_id": "default", "revision": SHA},
        "value": 0.75,
        "notes": "top-1 accuracy, split validation",
    }
    local = replace(facts().data, on_hub=False)
    assert render_eval_results(facts(data=local)) == ""


@pytest.mark.parametrize(
    ("model", "pretrained", "base"),
    [
        ("tf_efficientnet_b0.in1k", True, "timm/tf_efficientnet_b0.in1k"),
        ("hf-hub:lab/old@v1", True, "lab/old"),
        ("local-dir:old", True, None),
        ("tf_efficientnet_b0.in1k", False, None),
    ],
)
def test_base_model_is_the_one_whose_weights_were_taken(model, pretrained, base):
    """Random starts have none, nor has a folder."""
    card = render_model_card(facts(settings={"model": model, "pretrained": pretrained}))
    assert front(card).get("base_model") == base


# --- a run


def test_run_on_a_curated_folder(tmp_path):
    """The card of a run counts its training rows by license and names the build."""
    folder = make_folder(tmp_path / "cytoimagenet")
    run = make_run(tmp_path / "run", dataset=str(folder))
    found = describe_run(run)
    assert [(part.license, part.crops) for part in found.data.parts] == [
        ("CC0 1.0", 2),
        ("unknown", 2),
    ]
    assert found.data.id == "cytoimagenet"
    assert re.fullmatch("[0-9a-f]{32}", found.data.build)
    assert found.parameters == 4 * 3 * 3 * 3 + 3  # the running mean is none
    assert found.settings["dataset"] == "cytoimagenet"


def test_config_with_open_rows_alone_has_open_terms(tmp_path):
    """Config `commercial` leaves the rows of unknown license out, and so do the terms."""
    folder = make_folder(tmp_path / "cytoimagenet")
    found = describe_run(make_run(tmp_path / "run", dataset=str(folder), name="commercial"))
    assert [(part.license, part.crops) for part in found.data.parts] == [("CC0 1.0", 2)]


def test_simulated_folder_is_known_by_its_card(tmp_path):
    """What the data set declares, its models declare."""
    folder = make_folder(tmp_path / "cytoimagenet", simulated=True)
    assert describe_run(make_run(tmp_path / "run", dataset=str(folder))).data.simulated


def test_card_tells_nothing_of_the_machine(tmp_path):
    """Neither the run's folder nor the data's nor the first weights' is named."""
    folder = make_folder(tmp_path / "cytoimagenet")
    model = f"local-dir:{tmp_path / 'old'}"
    run = make_run(tmp_path / "run", dataset=str(folder), model=model)
    card = write_model_card(run).read_text(encoding="utf-8")
    assert str(tmp_path) not in card
    assert "/home/ada" not in card
    assert "local-dir:old" in card


def test_unreadable_data_set_costs_a_note_and_not_the_model(tmp_path):
    """A data set that is gone is said, and the card is written."""
    told = []
    gone = str(tmp_path / "gone")
    card = write_model_card(make_run(tmp_path / "run", dataset=gone), say=told.append)
    assert "There is no folder" in told[0]
    text = card.read_text(encoding="utf-8")
    assert "states no terms that could be read" in text
    assert str(tmp_path) not in text


def test_written_card_has_its_curves(tmp_path):
    """With matplotlib a picture lies beside; twice the same bytes."""
    pytest.importorskip("matplotlib")
    run = make_run(tmp_path / "run")
    write_model_card(run)
    picture = (run / "model" / "curves.png").read_bytes()
    card = (run / "model" / "README.md").read_bytes()
    assert picture.startswith(b"\x89PNG")
    write_model_card(run)
    assert (run / "model" / "curves.png").read_bytes() == picture
    assert (run / "model" / "README.md").read_bytes() == card


def test_without_matplotlib_the_text_is_enough(tmp_path, monkeypatch):
    """No picture, and no line that shows one."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    run = make_run(tmp_path / "run")
    assert "curves.png" not in write_model_card(run).read_text(encoding="utf-8")
    assert not (run / "model" / "curves.png").exists()


def test_history_keeps_the_last_line_of_a_step(tmp_path):
    """A resumed run wrote a step twice, and a kill cut a line."""
    run = make_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps({"kind": "train", "step": 5, "loss": 9.0}) + '\n{"kind": "tr')
    losses = [one["loss"] for one in describe_run(run).history if one["kind"] == "train"]
    assert losses == [9.0, 1.0, 0.5]


@pytest.mark.parametrize("name", ["train_config.json", "final.json", "model/config.json"])
def test_unfinished_run_is_named(tmp_path, name):
    """A file that is absent is told by its path."""
    run = make_run(tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(ValueError, match=name.replace("/", ".")):
        describe_run(run)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04\x95" + bytes(40),  # a pickle
        safetensors({"a": (2,)})[:-1],
        safetensors({"a": (2,)}) + b"!",
        b"\xff" * 16,
        b"\x02" + bytes(7) + b"[]",
    ],
)
def test_weights_in_another_format_are_refused(tmp_path, content):
    """A pickle under the right name, a cut file, and a header that never ends."""
    run = make_run(tmp_path / "run")
    (run / "model" / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is no"):
        describe_run(run)


def test_settings_left_out_are_settings():
    """A renamed flag is noticed before it tells of the machine."""
    known = {one.name for one in dataclasses.fields(TrainConfig)}
    assert set(_modelfacts._PRIVATE) <= known
