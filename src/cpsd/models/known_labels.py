"""Labels that a network is told: in training by chance, in prediction by who knows them.

Shapes: B images, C labels. Told labels are 1 present, 0 absent, -1 not told.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from cpsd.errors import ModelError
from cpsd.labels import ABSENT, PRESENT, UNKNOWN, LabelSpace
from cpsd.models.classifier import Classifier
from cpsd.models.heads.ctran import CTranHead


def takes_known_labels(network: nn.Module) -> bool:
    """Return whether ``network`` can be told labels beside the pictures."""
    return isinstance(network, Classifier) and isinstance(network.head, CTranHead)


def told_labels(network: nn.Module, targets_BC: Tensor) -> tuple[Tensor, ...]:
    """Return what training tells ``network`` beside the pictures: nothing, or some of the targets.

    Args:
        network: in training.
        targets_BC: 1 present, 0 absent, -1 unknown.
    """
    if not takes_known_labels(network):
        return ()
    return (cast(CTranHead, cast(Classifier, network).head).reveal(targets_BC),)


def still_to_learn(targets_BC: Tensor, told: tuple[Tensor, ...]) -> Tensor:
    """Return the targets with what was told made unknown: it is nothing to learn from."""
    for told_BC in told:
        targets_BC = targets_BC.masked_fill(told_BC != UNKNOWN, UNKNOWN)
    return targets_BC


def still_to_follow(soft_labels_BSC: Tensor, logits_BC: Tensor, told: tuple[Tensor, ...]) -> Tensor:
    """Return the soft labels with the student's own logits where it was told the label.

    Its teachers were not, so that there they have nothing to teach; the distillation is 0 there.
    """
    for told_BC in told:
        is_told_B1C = (told_BC != UNKNOWN)[:, None]
        own_B1C = logits_BC.detach()[:, None].to(soft_labels_BSC.dtype)
        soft_labels_BSC = torch.where(is_told_B1C, own_B1C, soft_labels_BSC)
    return soft_labels_BSC


class ToldPredictor(nn.Module):
    """A predictor of pictures of which some labels are known, the same for all of them.

    Args:
        network: a classifier that can be told labels (head 'ctran').
        labels: its C labels.
        present: names of labels that are there.
        absent: names of labels that are not.

    Raises:
        ModelError: the network cannot be told labels, or a label is both there and not.
        DataError: a name is not among the labels.
    """

    known: Tensor

    def __init__(
        self,
        network: nn.Module,
        labels: LabelSpace,
        *,
        present: Sequence[str] = (),
        absent: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if not takes_known_labels(network):
            raise ModelError(
                "This model cannot be told which labels are known; only the head 'ctran' can."
            )
        if both := set(present) & set(absent):
            raise ModelError(f"The label '{min(both)}' cannot be present and absent at once.")
        if len(labels) != cast(Classifier, network).head.num_labels:
            raise ModelError(f"The model has other labels than the {len(labels)} given ones.")
        self.network = network
        known = torch.full((1, len(labels)), UNKNOWN)
        for names, state in ((present, PRESENT), (absent, ABSENT)):
            known[0, labels.indices(names).tolist()] = state
        self.register_buffer("known", known)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Return logits ``(B, C)``, those of the known labels as the network sees them."""
        known_BC = self.known.expand(images_B3HW.shape[0], -1)
        logits_BC: Tensor = self.network(images_B3HW, known_BC)
        return logits_BC
