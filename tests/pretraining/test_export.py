"""The model folder gives the same numbers in timm, transformers and its pipelines, without us."""

import io
import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining import log, train
from cytoimagenet_hf.pretraining.config import TrainConfig
from cytoimagenet_hf.pretraining.decoding import decode
from cytoimagenet_hf.pretraining.export import save_model
from cytoimagenet_hf.pretraining.models import build_model, normalization
from tests.pretraining.conftest import CLASSES, rows

NETWORKS = {
    "plain": {"model": "test_efficientnet"},
    "unnormalized": {"model": "test_efficientnet", "normalization": "none"},
    "transformer": {"model": "test_vit", "image_size": 48},
    "resnet": {"model": "test_resnet"},
}


def export(folder, **values):
    """Export a network with weights that are no longer those of its start."""
    config = TrainConfig(**{"pretrained": False, "image_size": 32} | values)
    torch.manual_seed(0)
    network = build_model(config, CLASSES)
    for one in network.parameters():
        one.data += 0.05 * torch.randn_like(one)
    network.train()(torch.randn(8, 3, config.image_size, config.image_size))  # moves batch norm
    network.eval()
    save_model(network, folder, classes=CLASSES, config=config)
    return config, network


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70), dtype=np.uint8))


def as_trained(picture, config, network):
    """What training and validation show the network of a picture."""
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    gray = torch.from_numpy(decode(stream.getvalue(), config.image_size).copy())
    mean, std = normalization(network)
    return ((gray[None, None].float() / 255).expand(-1, 3, -1, -1) - mean) / std


@pytest.mark.parametrize("name", NETWORKS)
def test_same_numbers_everywhere(tmp_path, picture, name):
    """Preprocessing, logits, features, labels and both pipelines agree to 1e-5."""
    import transformers

    config, network = export(tmp_path, **NETWORKS[name])
    seen = as_trained(picture, config, network)
    folder = str(tmp_path)
    with torch.inference_mode():
        logits = network(seen)
        features = network.forward_head(network.forward_features(seen), pre_logits=True)
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
        pixels = processor(picture.convert("RGB"), return_tensors="pt")["pixel_values"]
        assert (pixels - seen).abs().max() <= 1e-6
        by_timm = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        assert (by_timm(seen) - logits).abs().max() <= 1e-5
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(by_timm))
        assert (transform(picture.convert("RGB")) - seen[0]).abs().max() <= 1e-6
        model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
        assert (model(pixel_values=seen).logits - logits).abs().max() <= 1e-5
        body = transformers.AutoModel.from_pretrained(folder).eval()
        assert (body(pixel_values=seen).pooler_output - features).abs().max() <= 1e-5
    assert model.config.id2label == dict(enumerate(CLASSES))
    shares = logits.softmax(-1)[0]
    told = transformers.pipeline("image-classification", model=folder, device="cpu")(picture)
    for one in told:
        assert one["score"] == pytest.approx(float(shares[CLASSES.index(one["label"])]), abs=1e-5)
    extract = transformers.pipeline(
        "image-feature-extraction", model=folder, device="cpu", pool=True
    )
    assert np.abs(np.array(extract(picture)) - features.numpy()).max() <= 1e-5


def test_only_two_files_and_no_code(tmp_path):
    """Weights are safetensors; nothing asks for remote code, and no path or date is inside."""
    export(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json", "model.safetensors",
    ]  # fmt: skip
    written = json.loads((tmp_path / "model" / "config.json").read_text())
    assert "auto_map" not in written
    assert written["label_names"] == list(CLASSES)
    assert "num_classes" not in written.get("model_args", {})
    assert written["pretrained_cfg"]["tag"] == "cytoimagenet"
    assert written["pretrained_cfg"]["custom_load"] is False
    assert str(tmp_path) not in json.dumps(written)


def test_same_names_are_refused(tmp_path):
    """Two classes of one name would leave transformers without a mapping."""
    config = TrainConfig(model="test_efficientnet", pretrained=False)
    with pytest.raises(ValueError, match="same name"):
        save_model(torch.nn.Linear(1, 2), tmp_path, classes=["a", "a"], config=config)


def test_refused_disk_is_an_error_of_ours(tmp_path):
    """A folder that can't be written is named, and the checkpoints stay."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CytoImageNetError, match="file"):
        export(tmp_path / "file" / "model")


@pytest.mark.slow
def test_pipeline_reproduces_validation(settings, tmp_path):
    """The accuracy of a run's last validation is that of the pipeline on the same files."""
    import transformers

    config = settings(epochs=12, learning_rate=1e-2, warmup=0.0, label_smoothing=0.0, batch_size=16)
    scores = train.train(config)
    told = transformers.pipeline("image-classification", model=f"{config.output_dir}/model")
    pictures = [Image.open(io.BytesIO(data)) for data, _ in rows(13, 1000)]
    labels = [CLASSES[label] for _, label in rows(13, 1000)]
    right = [one[0]["label"] == name for one, name in zip(told(pictures), labels, strict=True)]
    assert np.mean(right) == scores["accuracy"] > 0.5
    assert log.read_lines(tmp_path / "run")[-1]["accuracy"] == scores["accuracy"]
