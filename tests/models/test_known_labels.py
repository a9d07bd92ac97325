"""What a network is told in training and in prediction, and what it is still to learn."""

import pytest
import torch
from torch import nn

from cpsd.errors import DataError, ModelError
from cpsd.models.classifier import Classifier
from cpsd.models.heads.ctran import CTranHead
from cpsd.models.known_labels import (
    ToldPredictor,
    still_to_follow,
    still_to_learn,
    takes_known_labels,
    told_labels,
)
from tiny_heads import HEADS, LABELS, classifier, pictures

TARGETS = torch.tensor([[1, 0, -1, 1, 0], [0, 0, 1, -1, 1]], dtype=torch.int8)


@pytest.mark.parametrize("head", HEADS)
def test_only_ctran_can_be_told(head: str) -> None:
    network = classifier(head)
    assert takes_known_labels(network) == (head == "ctran")
    told = told_labels(network, TARGETS)
    assert len(told) == (head == "ctran")
    network(pictures(), *told)


def test_what_is_no_classifier_is_told_nothing() -> None:
    assert told_labels(nn.Flatten(), TARGETS) == ()


def test_training_tells_what_the_head_reveals(monkeypatch: pytest.MonkeyPatch) -> None:
    revealed = torch.full((2, 5), -1, dtype=torch.int8)
    revealed[0, 1] = 0
    monkeypatch.setattr(CTranHead, "reveal", lambda head, targets: revealed)
    (told,) = told_labels(classifier("ctran"), TARGETS)
    assert told is revealed


def test_what_was_told_is_nothing_to_learn_from() -> None:
    told = torch.tensor([[1, -1, -1, -1, 0], [-1, -1, -1, -1, -1]], dtype=torch.int8)
    left = still_to_learn(TARGETS, (told,))
    assert left.tolist() == [[-1, 0, -1, 1, -1], [0, 0, 1, -1, 1]]
    assert still_to_learn(TARGETS, ()) is TARGETS
    assert TARGETS[0, 0] == 1


def test_of_told_labels_there_is_nothing_to_follow() -> None:
    told = torch.tensor([[1, -1, -1, -1, 0], [-1, -1, -1, -1, -1]], dtype=torch.int8)
    logits = torch.arange(10.0, requires_grad=True).view(2, 5)
    soft_labels = torch.full((2, 2, 5), 7.0)
    left = still_to_follow(soft_labels, logits, (told,))
    assert left[0].tolist() == [[0, 7, 7, 7, 4]] * 2
    assert left[1].tolist() == [[7] * 5] * 2
    assert not left.requires_grad
    assert still_to_follow(soft_labels, logits, ()) is soft_labels


def test_a_told_predictor_tells_every_picture_the_same() -> None:
    network = classifier("ctran")
    predictor = ToldPredictor(network, LABELS, present=["eel", "bee"], absent=["ant"])
    known = torch.tensor([[0, 1, -1, -1, 1]] * 3)
    with torch.no_grad():
        logits = predictor(pictures(3))
        assert torch.equal(logits, network(pictures(3), known))
        assert not torch.allclose(logits, network(pictures(3)))
        assert torch.equal(ToldPredictor(network, LABELS)(pictures(3)), network(pictures(3)))


def test_a_label_can_be_told_by_any_sequence_of_names() -> None:
    network = classifier("ctran")
    told = ToldPredictor(network, LABELS, present=("cat", "cat"), absent=[])
    assert told.known.tolist() == [[-1, -1, 1, -1, -1]]


@pytest.mark.parametrize("head", ["linear", "transformer"])
def test_networks_that_cannot_be_told_are_refused(head: str) -> None:
    with pytest.raises(ModelError, match="cannot be told which labels are known; only the head"):
        ToldPredictor(classifier(head), LABELS, present=["cat"])
    with pytest.raises(ModelError, match="only the head 'ctran' can"):
        ToldPredictor(nn.Flatten(), LABELS)


def test_a_label_that_is_there_and_not_is_refused() -> None:
    with pytest.raises(ModelError, match="'cat' cannot be present and absent at once"):
        ToldPredictor(classifier("ctran"), LABELS, present=["dog", "cat"], absent=["cat"])


def test_a_name_that_is_no_label_is_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'dogg' is not among the 5 labels\. Did you mean 'dog'"):
        ToldPredictor(classifier("ctran"), LABELS, absent=["dogg"])


def test_what_is_known_moves_with_the_network() -> None:
    predictor = ToldPredictor(classifier("ctran"), LABELS, present=["cat"])
    assert "known" in dict(predictor.named_buffers())
    assert isinstance(predictor.network, Classifier)
    with torch.no_grad():
        assert predictor.double()(pictures().double()).dtype == torch.float64
