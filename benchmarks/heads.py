"""Print which heads work on which backbones, and parameter counts beside the published ones.

    python benchmarks/heads.py [--backbones NAME ...] [--size PIXELS]

Two Markdown tables. The first has a row for each head on each backbone (ResNet, TResNet, ViT and
Swin by default, weights at random, heads narrow): whether the forward pass gives finite logits,
whether every parameter gets a gradient, whether it makes a sub-task teacher of one label, whether a
saved model comes back with the same logits, and whether ``torch.export`` takes it with any number
of pictures (tried with one and with five). The second counts the learned parameters of every head
as its publication has it, and of the networks that CPSD published.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from cpsd.config import ImageConfig
from cpsd.graph import LabelGraph
from cpsd.labels import LabelSpace
from cpsd.model_config import (
    CTranConfig,
    GCNConfig,
    HeadName,
    MLDecoderConfig,
    ModelConfig,
    QueryConfig,
    TransformerConfig,
)
from cpsd.models.card import ModelCard
from cpsd.models.classifier import Classifier, build_classifier
from cpsd.models.heads import HEADS
from cpsd.models.known_labels import takes_known_labels
from cpsd.models.label_information import LabelInformation
from cpsd.models.store import load_model, save_model

BACKBONES = ("resnet18", "tresnet_m", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224")
LABELS = LabelSpace(tuple(f"label {number}" for number in range(7)))
NARROW = ModelConfig(
    weights="none",
    label_embedding_width=16,
    transformer=TransformerConfig(width=32, heads=2, head_width=32, feedforward=32),
    query=QueryConfig(width=32, heads=2, feedforward=32),
    ml_decoder=MLDecoderConfig(width=32, groups=3, heads=2, feedforward=32),
    gcn=GCNConfig(hidden=32),
    ctran=CTranConfig(width=32, heads=2, feedforward=32),
)
NETWORKS = {
    "ResNet-101": (ModelConfig(backbone="resnet101"), 42_664_080),
    "ResNet101+TF": (ModelConfig(backbone="resnet101", head="transformer"), 101_552_193),
    "Q2L-R101": (ModelConfig(backbone="resnet101", head="query"), 198_103_184),
    "TResNet-L": (ModelConfig(backbone="tresnet_l"), 53_750_896),
    "ResNeXt-50 SWSL": (ModelConfig(backbone="resnext50_32x4d"), 23_143_824),
}
"""Networks of 80 labels, and the learned parameters of the checkpoints that CPSD published."""


def linear(inputs: int, outputs: int) -> int:
    """Return the parameters of a linear layer with bias."""
    return inputs * outputs + outputs


def transformer_layer(width: int, feedforward: int) -> int:
    """Return the parameters of attention, a feed-forward network and a layer norm for each."""
    attention = 4 * linear(width, width)
    return attention + linear(width, feedforward) + linear(feedforward, width) + 2 * 2 * width


HEADS_AS_PUBLISHED: dict[HeadName, tuple[int, str]] = {
    "linear": (linear(2048, 80), "last layer of torchvision's ResNet-101"),
    "transformer": (
        linear(2048, 1024)
        + linear(300, 1024)
        # Projections to 4 heads of 1024 without biases, pre-norm as ViT has it.
        + 3 * (3 * 1024 * 4096 + linear(4096, 1024) + 2 * linear(1024, 1024) + 2 * 2 * 1024)
        + linear(1024, 1),
        "CPSD's checkpoint; embeddings given",
    ),
    "query": (
        linear(2048, 2048)  # the projection of image tokens
        + 80 * 2048  # queries
        + 3 * transformer_layer(2048, 8192)
        + 2 * 2048  # the norm after the decoder
        + 80 * (2048 + 1),
        "CPSD's checkpoint of Q2L-R101",
    ),
    "ml-decoder": (
        linear(2048, 768)
        + transformer_layer(768, 2048)
        + 2 * 768  # the norm where others have self-attention
        + 80 * (768 + 1),
        "authors' code, fixed queries",
    ),
    "csra": (2048 * 80, "section 3, 1 attention head"),
    "gcn": (300 * 1024 + 1024 * 2048, "section 4.1; embeddings given"),
    "ctran": (
        80 * 2048  # label embeddings
        + 2 * 2048  # states: present and absent; that of unknown labels stays zero
        + 2 * 2048  # the norm before the encoder
        + 3 * transformer_layer(2048, 2048)
        + linear(2048, 80),
        "section 3 and authors' code",
    ),
}
"""Learned parameters of each head for 80 labels and 2048 channels, from the layers that its
publication names, and where it names them."""

Check = Callable[[ModelConfig, int], object]


def pictures(number: int, size: int) -> Tensor:
    """Return pictures of noise."""
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(number))


def network(config: ModelConfig, labels: LabelSpace = LABELS) -> Classifier:
    """Return the network of ``config`` over ``labels``, with weights that a seed gives."""
    torch.manual_seed(0)
    targets = np.random.default_rng(0).integers(0, 2, size=(50, len(LABELS))).astype(np.int8)
    information = LabelInformation(
        LABELS,
        LabelGraph.from_targets(targets, LABELS),
        embedding_width=config.label_embedding_width,
    )
    return build_classifier(labels, config, information)


def forward(config: ModelConfig, size: int) -> None:
    """Hold the logits to be finite, one a label."""
    logits_BC = network(config).eval()(pictures(2, size))
    assert logits_BC.shape == (2, len(LABELS)), f"logits of shape {tuple(logits_BC.shape)}"
    assert logits_BC.isfinite().all(), "logits that are not finite"


def backward(config: ModelConfig, size: int, labels: LabelSpace = LABELS) -> None:
    """Hold every parameter that learns to get a finite gradient."""
    model = network(config, labels).train()
    known = [torch.ones(2, len(labels), dtype=torch.long)] if takes_known_labels(model) else []
    if known:
        known[0][1] = 0  # both states of a label are told
    model(pictures(2, size), *known).square().sum().backward()
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        missing = parameter.requires_grad and (gradient is None or not gradient.isfinite().all())
        assert not missing, f"no gradient for {name}"


def teacher_of_one_label(config: ModelConfig, size: int) -> None:
    """Hold a part of a single label to give one logit and to learn."""
    part = LABELS.select([3])
    logits_BC = network(config, part).eval()(pictures(2, size))
    assert logits_BC.shape == (2, 1), f"logits of shape {tuple(logits_BC.shape)}"
    backward(config, size, part)


def save_and_load(config: ModelConfig, size: int) -> None:
    """Hold a saved model to come back with the same logits, to the bit."""
    model = network(config).eval()
    card = ModelCard(LABELS.names, asdict(config), asdict(ImageConfig(size=size)))
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), model, card)
        loaded, _ = load_model(Path(folder))
    assert torch.equal(loaded(pictures(2, size)), model(pictures(2, size))), "other logits"


def export(config: ModelConfig, size: int) -> None:
    """Hold the exported graph to the network, with fewer and more pictures than it was made of."""
    model = network(config).eval()
    shapes = {"images_B3HW": {0: torch.export.Dim("batch")}}
    graph = torch.export.export(model, (pictures(3, size),), dynamic_shapes=shapes).module()
    for number in (1, 5):
        found, expected = graph(pictures(number, size)), model(pictures(number, size))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


CHECKS: dict[str, Check] = {
    "forward": forward,
    "backward": backward,
    "teacher of 1 label": teacher_of_one_label,
    "save = load": save_and_load,
    "`torch.export`, 2 batch sizes": export,
}


def outcome(check: Check, config: ModelConfig, size: int) -> str:
    """Return ``yes``, or the first line of what went wrong."""
    # Only the backward pass needs gradients, and exports are quicker without.
    try:
        with torch.set_grad_enabled(check not in (forward, save_and_load, export)):
            check(config, size)
    # Whatever a network cannot do belongs into the table.
    except Exception as error:
        return f"no: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return "yes"


def working_table(backbones: list[str], size: int) -> Iterator[str]:
    """Yield the lines of the table of what works.

    Args:
        backbones: timm's names.
        size: height and width of pictures.
    """
    yield f"| head | backbone | {' | '.join(CHECKS)} | seconds |"
    yield "|---|---|" + ":-:|" * len(CHECKS) + "--:|"
    for head in get_args(HeadName):
        for backbone in backbones:
            config = replace(NARROW, backbone=backbone, head=head)
            started = time.perf_counter()
            cells = [outcome(check, config, size) for check in CHECKS.values()]
            seconds = time.perf_counter() - started
            yield f"| `{head}` | {backbone} | {' | '.join(cells)} | {seconds:.1f} |"


def parameter_table() -> Iterator[str]:
    """Yield the lines of the table of learned parameters, counted without memory for them."""
    yield "| 80 labels | ours | published | difference | published where |"
    yield "|---|--:|--:|--:|---|"
    labels = LabelSpace(tuple(f"label {number}" for number in range(80)))
    graph = LabelGraph.from_targets(np.zeros((1, 80), dtype=np.int8), labels)
    learned = LabelInformation(labels, graph)
    given = LabelInformation(labels, graph, np.zeros((80, 300), dtype=np.float32))
    for head, (published, where) in HEADS_AS_PUBLISHED.items():
        with torch.device("meta"):
            # Published with word vectors, which nobody learns; the other heads learn theirs.
            information = given if head in ("transformer", "gcn") else learned
            module = HEADS[head](2048, information, ModelConfig(head=head))
        yield _parameter_row(f"head `{head}`", module, published, where)
    for name, (config, published) in NETWORKS.items():
        with torch.device("meta"):
            information = given if config.head == "transformer" else learned
            model = build_classifier(labels, replace(config, weights="none"), information)
        yield _parameter_row(name, model, published, "CPSD's checkpoint")


def _parameter_row(name: str, module: nn.Module, published: int, where: str) -> str:
    count = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return f"| {name} | {count:,} | {published:,} | {count - published:+,} | {where} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), help="timm's names")
    parser.add_argument("--size", type=int, default=64, help="height and width of pictures")
    arguments = parser.parse_args()
    for line in working_table(arguments.backbones, arguments.size):
        print(line, flush=True)  # noqa: T201 - the tables are what the script is for
    print()  # noqa: T201
    for line in parameter_table():
        print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
