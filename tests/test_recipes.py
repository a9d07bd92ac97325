"""The recipes: the paper's settings, the published scores, and what stands at their beginning."""

import re
from functools import cache
from pathlib import Path

import pytest
import timm

from cpsd.arguments import parse, run_config
from cpsd.config import RunConfig
from cpsd.errors import ModelError
from cpsd.fast import fast
from cpsd.labels import LabelSpace
from cpsd.models.backbones import NON_COMMERCIAL
from cpsd.models.classifier import model_factory
from cpsd.parsers import recipe_names

ROOT = Path(__file__).resolve().parents[1]

# Baseline and CPSD in percent of mAP (CPSD, section 4); backbone, head, pixels, data set.
PUBLISHED = {
    "coco-resnet101": ((81.6, 83.1), "resnet101.", "linear", 448, "coco"),
    "coco-resnet101-tf": ((84.3, 85.2), "resnet101.", "transformer", 448, "coco"),
    "coco-resnet101-tf-576": ((85.9, 86.7), "resnet101.", "transformer", 576, "coco"),
    "coco-q2l-resnet101": ((84.0, 84.9), "resnet101.", "query", 448, "coco"),
    "coco-tresnet-l": ((86.2, 87.3), "tresnet_l.", "linear", 448, "coco"),
    "coco-resnext50-swsl": ((86.7, 87.7), "resnext50_32x4d.fb_swsl", "linear", 448, "coco"),
    "nus-wide-resnet101-tf": ((64.1, 65.8), "resnet101.", "transformer", 448, "nus-wide"),
    "nus-wide-tresnet-l": ((64.7, 66.5), "tresnet_l.", "linear", 448, "nus-wide"),
}
OURS = {"demo", "photographs", "voc2007-resnet101"}
FAST = {
    f"{base}-fast"
    for base in (
        "photographs",
        "coco-resnet101",
        "coco-resnet101-tf",
        "coco-tresnet-l",
        "coco-q2l-resnet101",
    )
}
LIKE_THE_PAPER = sorted({*PUBLISHED, "voc2007-resnet101"})


def text_of(name: str) -> str:
    return (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


@cache
def config_of(name: str) -> RunConfig:
    return run_config(parse(["run", "--config", name])[1])


def test_every_system_of_the_paper_has_a_recipe() -> None:
    assert set(recipe_names()) == {*PUBLISHED, *OURS, *FAST}


@pytest.mark.parametrize("name", sorted(FAST))
def test_a_fast_recipe_is_the_fast_form_of_the_one_it_builds_on(name: str) -> None:
    base = name.removesuffix("-fast")
    assert config_of(name) == fast(config_of(base))
    # Said in so many words: what it is that others need not be told.
    stated = text_of(name).replace("\n# ", " ")
    assert f"# Builds on the recipe {base}, " in text_of(name)
    teachers, views = config_of(name).teachers, config_of(name).distillation.views
    assert f"in {teachers.epochs} epochs; " in stated
    assert f"stored for {views} views " in stated


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_network_data_and_scores_are_the_published(name: str) -> None:
    (baseline, cpsd), backbone, head, pixels, data = PUBLISHED[name]
    config = config_of(name)
    assert config.model.backbone.startswith(backbone)
    found = (config.model.head, config.image.size, config.data.format)
    assert found == (head, pixels, data)
    assert f"# Published mAP: baseline {baseline}, CPSD {cpsd}.\n" in text_of(name)
    assert f" at {pixels} pixels.\n" in text_of(name)
    assert config.data.without_positive == "drop"


@pytest.mark.parametrize("name", LIKE_THE_PAPER)
def test_settings_are_the_papers(name: str) -> None:
    config = config_of(name)
    assert config.partition.parts == 5
    assert config.partition.strategies == ("co-occurrence", "dis-occurrence")
    assert (config.image.randaugment, config.image.cutout) == (True, 0.5)
    assert not config.image.horizontal_flip
    assert config.model.normalization == "none"
    training = config.training
    assert (training.epochs, training.batch_size, training.ema_decay) == (80, 24, 0.9997)
    assert (training.learning_rate, config.student.learning_rate) == (1e-4, 1e-5)
    assert (config.distillation.weight, config.distillation.alpha) == (0.5, 0.5)
    assert (config.loss.gamma_pos, config.loss.reduction) == (0, "sum")
    assert config.evaluation.threshold == 0.8
    # A view for each epoch: nothing of the method is approximated.
    assert config.distillation.views is None
    adam = (training.decay, training.weight_decay, training.warmup)
    loss = (config.loss.gamma_neg, config.loss.clip, config.loss.eps)
    if config.model.head == "query":
        assert adam == ("decoupled", 1e-2, 0.2)
        assert loss == (2, 0, 1e-5)
        assert config.model.freeze_batch_norm
    else:
        assert adam == ("coupled", 1e-4, 0.1)
        assert loss == (4, 0.05, 1e-8)
        assert not config.model.freeze_batch_norm


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_begins_with_its_command(name: str) -> None:
    command = text_of(name).splitlines()[0].removeprefix("# ")
    if name == "demo":
        assert command == "make demo"
        return
    program, *words = command.split()
    assert program == "cpsd"
    verb, arguments = parse(words)
    assert verb == "run"
    config = run_config(arguments)
    assert config.data.table is not None or config.data.root is not None
    assert f"--config {name} " in f"{command} " or words[3] == name


@pytest.mark.parametrize("name", recipe_names())
def test_weights_exist_and_their_licence_is_as_stated(name: str) -> None:
    config = config_of(name).model
    assert not config.non_commercial_weights
    if name == "demo":
        assert config.weights == "none"
        return
    weights = timm.get_pretrained_cfg(config.backbone)
    assert weights is not None
    assert weights.has_weights
    stated = re.search(r"Backbone weights: .*?\((.*?)\)", text_of(name).replace("\n# ", " "))
    assert stated is not None
    licence = stated[1].lower().replace(" ", "-")
    assert licence == weights.license
    refused = bool(NON_COMMERCIAL.search(licence))
    assert refused == (name == "coco-resnext50-swsl")


def test_the_recipe_of_non_commercial_weights_is_refused_until_the_user_says_so() -> None:
    assert "--model.non_commercial_weights true" in text_of("coco-resnext50-swsl")
    make_model = model_factory(config_of("coco-resnext50-swsl").model)
    with pytest.raises(ModelError, match=r"--model\.non_commercial_weights true"):
        make_model(LabelSpace(("cat", "dog")))
