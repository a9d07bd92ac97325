"""What the networks of a training say about the validation pictures, of all devices together.

N pictures, B of them in a batch, P labels of a network.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpsd.labels import Targets
from cpsd.process_group import gathered


class ValidationLogits:
    """Takes the logits of every batch, and hands them out in the order of the pictures."""

    def __init__(self) -> None:
        self._rows: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._logits: list[Sequence[Tensor]] = []

    def add(self, rows: Tensor, targets_BC: Tensor, logits: Sequence[Tensor]) -> None:
        """Take a batch.

        Args:
            rows: (B,), of the records.
            targets_BC: of the pictures.
            logits: of each network, (B, P).
        """
        self._rows.append(rows)
        self._targets.append(targets_BC)
        self._logits.append(logits)

    def ordered(self) -> tuple[Targets, list[NDArray[np.float32]]]:
        """Return targets (N, C), and the logits (N, P) of each network, of all devices' pictures.

        Each picture is there once, however often and wherever it was put in to make shares alike.
        """
        own = (
            torch.cat(self._rows).numpy(),
            torch.cat(self._targets).cpu().numpy(),
            [torch.cat(of_network).cpu().numpy() for of_network in zip(*self._logits, strict=True)],
        )
        rows, targets, logits = zip(*gathered(own), strict=True)
        _, order = np.unique(np.concatenate(rows), return_index=True)
        return np.concatenate(targets)[order], [
            np.concatenate(of_network)[order] for of_network in zip(*logits, strict=True)
        ]
