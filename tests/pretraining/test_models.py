"""Networks: the paper's to the last number, any timm name, and weights that can't be had."""

import os
import subprocess
import sys
import time

import pytest
import timm
import torch

from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining import models
from cytoimagenet_hf.pretraining.config import PRESETS, TrainConfig
from cytoimagenet_hf.pretraining.export import save_model
from cytoimagenet_hf.pretraining.models import (
    build_model,
    make_optimizer,
    normalization,
    truncate_convolutions,
)

# The paper's network: drop connect of the blocks that are skipped over, 0.2 * number / 16.
DROP_CONNECT = {"1.1": 0.025, "2.1": 0.05, "3.1": 0.075, "3.2": 0.0875, "4.1": 0.1125,
                "4.2": 0.125, "5.1": 0.15, "5.2": 0.1625, "5.3": 0.175}  # fmt: skip


@pytest.fixture(scope="module")
def paper():
    torch.manual_seed(0)
    config = TrainConfig(**PRESETS["paper"])
    model = build_model(config, [str(at) for at in range(894)])
    return model, make_optimizer(model, config)


def test_paper_network_has_keras_size(paper):
    """Keras' network without top has 4,049,571 numbers, 7 in its normalization; and 894 x 1281."""
    statistics = sum(
        2 * one.num_features
        for one in paper[0].modules()
        if isinstance(one, torch.nn.modules.batchnorm._BatchNorm)
    )
    trained = sum(one.numel() for one in paper[0].parameters())
    assert trained + statistics == 4_049_571 - 7 + 894 * 1281


def test_paper_drop_connect(paper):
    """Each block with a skip has the paper's rate; the others have no use for one."""
    found = {
        f"{stage}.{at}": block.drop_path.drop_prob
        for stage, blocks in enumerate(paper[0].blocks)
        for at, block in enumerate(blocks)
        if block.has_skip
    }
    assert found == pytest.approx(DROP_CONNECT)


def test_paper_dropout_and_batch_norm(paper):
    """Dropout 0.2 before the classifier; batch norm with 0.001 and 1 - 0.99."""
    assert paper[0].drop_rate == 0.2
    norms = [m for m in paper[0].modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 49
    assert {(one.eps, one.momentum) for one in norms} == {(1e-3, 0.01)}


def test_paper_optimizer(paper):
    """Adam with Keras' numbers, and no weight decay for any parameter."""
    assert type(paper[1]) is torch.optim.Adam
    for group in paper[1].param_groups:
        assert group["lr"] == 1e-3
        assert group["betas"] == (0.9, 0.999)
        assert group["eps"] == 1e-7
        assert group["weight_decay"] == 0
        assert not group["amsgrad"]


def test_paper_input_is_only_scaled(paper):
    """The paper's normalization layer was never adapted: pixels are x / 255."""
    mean, std = normalization(paper[0])
    assert (mean.flatten().tolist(), std.flatten().tolist()) == ([0.0] * 3, [1.0] * 3)


def test_paper_initial_weights(paper):
    """Convolutions are cut normals of variance 2 / fan_out, the classifier is uniform, biases 0."""
    total = 0
    for name, layer in paper[0].named_modules():
        if not isinstance(layer, torch.nn.Conv2d):
            continue
        height, width = layer.kernel_size
        fan_out = height * width * (1 if layer.groups > 1 else layer.out_channels)
        deviation = (2 / fan_out) ** 0.5
        weights = layer.weight.detach()
        assert weights.abs().max() <= 2 * deviation / 0.8796, name
        if weights.numel() > 20_000:
            assert float(weights.std()) == pytest.approx(deviation, rel=0.02), name
            total += 1
        if layer.bias is not None:
            assert not layer.bias.any()
    assert total > 20
    top = paper[0].classifier
    limit = 894**-0.5
    assert 0.99 * limit < top.weight.abs().max() <= limit
    assert float(top.weight.detach().std()) == pytest.approx(limit / 3**0.5, rel=0.01)
    assert not top.bias.any()


def test_timm_alone_does_not_cut():
    """The guard bites: timm's own normal start has weights beyond two deviations."""
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet")

    def beyond():
        return max(float(one.weight.abs().max() / (2 / (one.weight[0, 0].numel()
                   * one.out_channels / one.groups)) ** 0.5)
                   for one in model.modules() if isinstance(one, torch.nn.Conv2d))  # fmt: skip

    assert beyond() > 2.5
    truncate_convolutions(model)
    assert beyond() <= 2 / 0.8796


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_any_timm_model(name):
    """Convolutional networks and transformers are built for the size asked for."""
    config = TrainConfig(model=name, pretrained=False, image_size=64, drop=0.1, drop_path=0.1)
    model = build_model(config, ["a", "b"]).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


@pytest.mark.parametrize("name", ["repghostnet_050", "lcnetv2_base", "hrnet_w18_small"])
def test_networks_without_stochastic_depth(name):
    """They are built where none is asked for; else one line names the flag."""
    values = {"model": name, "pretrained": False, "image_size": 64}
    assert build_model(TrainConfig(**values), ["a", "b"]).num_classes == 2
    with pytest.raises(ValueError, match=f"{name} has no stochastic depth: pass --drop-path 0"):
        build_model(TrainConfig(**values, drop_path=0.1), ["a", "b"])


def test_no_stochastic_depth_means_none():
    """Networks with a rate of their own (0.1 for swin) keep to the flag's 0, too."""
    config = TrainConfig(model="swin_tiny_patch4_window7_224", pretrained=False, image_size=64)
    rates = [getattr(one, "drop_prob", 0.0) for one in build_model(config, ["a"]).modules()]
    assert not any(rates)


def test_transformer_of_a_folder_sees_other_sizes(tmp_path):
    """Position embeddings of a saved model are resampled to the size of the run."""
    values = {"model": "vit_tiny_patch16_224", "pretrained": False, "image_size": 32}
    source = TrainConfig(**values)
    save_model(build_model(source, ["a"]), tmp_path, classes=["a"], config=source)
    config = TrainConfig(model=f"local-dir:{tmp_path}", image_size=64)
    model = build_model(config, ["a", "b"])
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


def test_transformer_bound_to_its_size(tmp_path):
    """Where timm can't resample, one line says that weights and size don't fit."""
    values = {"model": "gmlp_ti16_224", "pretrained": False, "image_size": 32}
    source = TrainConfig(**values)
    save_model(build_model(source, ["a"]), tmp_path, classes=["a"], config=source)
    with pytest.raises(CytoImageNetError, match="bound to the --image-size") as caught:
        build_model(TrainConfig(model=f"local-dir:{tmp_path}", image_size=64), ["a"])
    assert "\n" not in str(caught.value)


def test_sizes_that_a_network_cannot_see():
    """HaloNet asserts, in no words, when it first runs: one line names the flag before."""
    config = TrainConfig(model="halonet26t", pretrained=False, image_size=96)
    with pytest.raises(ValueError, match=r"halonet26t can't see .* 96 pixels .*--image-size"):
        build_model(config, ["a"])


def test_shared_weights_are_saved(tmp_path):
    """Layers of CoaT share weights, which safetensors refuses; a folder has each by its name."""
    config = TrainConfig(model="coat_tiny", pretrained=False, image_size=32)
    model = build_model(config, ["a", "b"]).eval()
    save_model(model, tmp_path, classes=["a", "b"], config=config)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    pixels = torch.ones(1, 3, 32, 32)
    assert torch.equal(again(pixels), model(pixels))


def test_local_folder_of_weights(tmp_path):
    """local-dir starts from the weights in a folder, with a classifier of its own."""
    source = timm.create_model("test_efficientnet", num_classes=5)
    timm.models.save_for_hf(source, str(tmp_path), safe_serialization=True)
    config = TrainConfig(model=f"local-dir:{tmp_path}", image_size=32)
    model = build_model(config, ["a", "b"])
    assert torch.equal(model.conv_stem.weight, source.conv_stem.weight)
    assert model.classifier.out_features == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": "efficientnet_bO"}, "Did you mean efficientnet_b"),
        ({"model": "tf_efficientnet_b0.in2k"}, "no pretrained weights.*tf_efficientnet_b0.in1k"),
        ({"model": "local-dir:nowhere"}, r"no config\.json"),
    ],
)
def test_unknown_models(values, words):
    """A wrong name, tag or folder is told with what there is."""
    with pytest.raises(ValueError, match=words):
        build_model(TrainConfig(**values), ["a"])


@pytest.mark.parametrize("name", ["tf_efficientnet_b0.in1k", "hf-hub:someone/something"])
def test_weights_out_of_reach_are_told_at_once(name, monkeypatch):
    """Offline the way out is named in less than two seconds."""
    began = time.perf_counter()
    with pytest.raises(CytoImageNetError, match=r"--model local-dir:FOLDER.*--no-pretrained"):
        build_model(TrainConfig(model=name), ["a"])
    assert time.perf_counter() - began < 2


@pytest.mark.slow
def test_dead_hub_is_told_soon():
    """A Hub that doesn't answer is given up after two seconds, not after half a minute."""
    program = (
        "import time\n"
        "from cytoimagenet_hf.pretraining import models\n"
        "from cytoimagenet_hf.pretraining.config import TrainConfig\n"
        "import huggingface_hub; huggingface_hub.HfApi\n"
        "began = time.perf_counter()\n"
        "try:\n    models.check_model(TrainConfig())\n"
        "except Exception as error:\n    print(type(error).__name__)\n"
        "print(time.perf_counter() - began)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True,
                          text=True, check=True)  # fmt: skip
    name, seconds = done.stdout.split()
    assert name == "EncoderError"
    assert float(seconds) < 4


def test_sgd_has_no_epsilon():
    """Each optimizer gets the settings that it knows; norms and biases don't decay."""
    model = build_model(TrainConfig(model="test_efficientnet", pretrained=False), ["a"])
    for name in ("sgd", "adamw"):
        made = make_optimizer(model, TrainConfig(optimizer=name, weight_decay=0.1))
        assert {group["weight_decay"] for group in made.param_groups} == {0.0, 0.1}
        for group in made.param_groups:
            assert all((one.ndim > 1) == (group["weight_decay"] > 0) for one in group["params"])


def test_grad_checkpointing_is_turned_on(monkeypatch):
    """The switch reaches the network."""
    config = TrainConfig(model="test_efficientnet", pretrained=False, grad_checkpointing=True)
    assert models.build_model(config, ["a"]).grad_checkpointing


def test_grad_checkpointing_is_refused_where_there_is_none():
    """One line names the flag; timm asserts."""
    config = TrainConfig(model="vgg11", pretrained=False, image_size=32, grad_checkpointing=True)
    with pytest.raises(ValueError, match=r"vgg11 .* leave --grad-checkpointing away"):
        build_model(config, ["a"])
