"""Encoders from transformers: small models saved to folders, with their image processors."""

import numpy as np
import pytest

from cytoimagenet_hf.errors import EncoderError
from cytoimagenet_hf.models.encoders import load_encoder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT = {"image_size": 32, "patch_size": 8, "intermediate_size": 64, **SMALL}


@pytest.fixture
def images():
    """Two gray images of the size that the small models take."""
    return np.random.default_rng(0).uniform(0, 255, (2, 1, 32, 32)).astype(np.float32)


def save(folder, model, **processor):
    """Write a model with a processor of size 32, mean 0.25 and deviation 0.5."""
    model.save_pretrained(folder)
    given = {"size": {"height": 32, "width": 32}, "image_mean": [0.25] * 3, "image_std": [0.5] * 3}
    transformers.ViTImageProcessor(**given | processor).save_pretrained(folder)
    return model.eval()


def seen(images, mean=0.25, std=0.5):
    return (torch.from_numpy(images).repeat(1, 3, 1, 1) / 255 - mean) / std


def test_class_token_of_dinov2(tmp_path, images):
    """DINOv2's pooled output on the processor's numbers; the revision is that of the weights."""
    config = transformers.Dinov2Config(image_size=32, patch_size=8, **SMALL)
    model = save(tmp_path / "dino", transformers.Dinov2Model(config))
    encoder = load_encoder(f"transformers:{tmp_path / 'dino'}")
    with torch.no_grad():
        expected = model(seen(images)).pooler_output.numpy()
    np.testing.assert_allclose(encoder.embed(images), expected, rtol=1e-4, atol=1e-5)
    assert (encoder.pooling, encoder.dim, encoder.input_size) == ("pooler_output", 32, 32)
    assert encoder.name.endswith("/dino")
    assert encoder.name.count("/") == 1


def test_pooler_that_came_without_weights_is_not_used(tmp_path, images):
    """A classifier has no pooler; transformers would draw one at random at each loading."""
    config = transformers.ViTConfig(num_labels=4, **VIT)
    model = save(tmp_path, transformers.ViTForImageClassification(config))
    first, second = (load_encoder(f"transformers:{tmp_path}") for _ in range(2))
    with torch.no_grad():
        expected = model.vit(seen(images)).last_hidden_state.mean(dim=1).numpy()
    assert first.pooling == "mean of tokens"
    np.testing.assert_allclose(first.embed(images), expected, rtol=1e-4, atol=1e-5)
    assert first.revision == second.revision


def test_revision_is_of_the_configuration_too(tmp_path):
    """Equal tensors under another activation are another model; where they lie doesn't matter."""
    for name, activation in (("a", "gelu"), ("b", "gelu"), ("c", "relu")):
        torch.manual_seed(3)
        config = transformers.ViTConfig(hidden_act=activation, **VIT)
        save(tmp_path / name, transformers.ViTModel(config))
    one, copy, other = (load_encoder(f"transformers:{tmp_path / name}").revision for name in "abc")
    assert one == copy != other


def test_image_part_of_a_contrastive_model(tmp_path, images):
    """Of CLIP the vision model is taken."""
    text = {"vocab_size": 50, "max_position_embeddings": 8, "intermediate_size": 64, **SMALL,
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}  # fmt: skip
    config = transformers.CLIPConfig(vision_config=VIT, text_config=text)
    model = save(tmp_path, transformers.CLIPModel(config))
    with torch.no_grad():
        expected = model.vision_model(seen(images)).pooler_output.numpy()
    embedded = load_encoder(f"transformers:{tmp_path}").embed(images)
    np.testing.assert_allclose(embedded, expected, rtol=1e-4, atol=1e-5)


def test_processor_that_does_not_normalize(tmp_path, images):
    """Without normalization pixels are only rescaled; the crop's size counts, not the resize's."""
    model = save(tmp_path, transformers.ViTModel(transformers.ViTConfig(**VIT)), do_normalize=False)
    encoder = load_encoder(f"transformers:{tmp_path}")
    with torch.no_grad():
        expected = model(seen(images, 0, 1)).pooler_output.numpy()
    np.testing.assert_allclose(encoder.embed(images), expected, rtol=1e-4, atol=1e-5)


def test_model_of_ours_equals_its_timm_form(tmp_path):
    """The folder that training writes gives one set of numbers through both libraries."""
    import timm

    from cytoimagenet_hf.pretraining.config import TrainConfig
    from cytoimagenet_hf.pretraining.export import save_model

    config = TrainConfig(model="test_efficientnet", image_size=32)
    save_model(timm.create_model("test_efficientnet", num_classes=2), tmp_path, classes=["a", "b"],
               config=config)  # fmt: skip
    square = np.random.default_rng(0).uniform(0, 255, (2, 1, 32, 32)).astype(np.float32)
    ours, theirs = (load_encoder(f"{kind}:{tmp_path}") for kind in ("local-dir", "transformers"))
    np.testing.assert_allclose(ours.embed(square), theirs.embed(square), rtol=1e-5, atol=1e-7)
    assert (ours.input_size, theirs.input_size) == (None, 32)


def test_models_that_draw_at_random_are_refused(tmp_path):
    """A masked autoencoder hides other parts of an image each time."""
    config = transformers.ViTMAEConfig(**VIT)
    save(tmp_path, transformers.ViTMAEModel(config))
    with pytest.raises(EncoderError, match="embeds one image in two ways"):
        load_encoder(f"transformers:{tmp_path}")


def test_language_models_are_refused(tmp_path):
    """A model that takes no pixels is no encoder of images."""
    config = transformers.BertConfig(vocab_size=50, intermediate_size=64, **SMALL)
    save(tmp_path, transformers.BertModel(config))
    with pytest.raises(EncoderError, match="no vision model"):
        load_encoder(f"transformers:{tmp_path}")


def test_code_and_pickles_of_a_folder_are_not_run(tmp_path):
    """A configuration that names a module of its own folder, and pickled weights, are refused."""
    save(tmp_path, transformers.ViTModel(transformers.ViTConfig(**VIT)))
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="can't load"):
        load_encoder(f"transformers:{tmp_path}")
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')\n")
    (tmp_path / "config.json").write_text(
        '{"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}'
    )
    with pytest.raises(EncoderError, match="can't load"):
        load_encoder(f"transformers:{tmp_path}")
