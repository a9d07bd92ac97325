"""The losses of an epoch: added up, and refused where one is not finite, without waiting for them.

Asking a GPU for a number makes the host wait until all that was queued before is computed, and then
the GPU for the host. So losses stay where they are and are looked at once in many steps.

M members, T terms of each member's loss, the total first.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cpsd.errors import TrainingError
from cpsd.losses.objective import LossTerms

STEPS_BETWEEN_LOOKS = 32
"""On a GPU. A training that has failed goes on for as many steps at most; what it does to the
weights is lost with it."""


class EpochLosses:
    """Takes the losses of every step and looks at them once in ``steps_between_looks``.

    Args:
        names: of the members.
        image_names: by row, for messages.
        epoch: counted from 0, for messages.
        steps_between_looks: 1 to look at every step, as on a CPU, where nothing waits.
    """

    def __init__(
        self,
        names: Sequence[str],
        image_names: Sequence[str],
        *,
        epoch: int,
        steps_between_looks: int,
    ) -> None:
        self._names = names
        self._image_names = image_names
        self._epoch = epoch
        self._steps_between_looks = steps_between_looks
        self._unseen: list[tuple[int, Tensor, Tensor]] = []
        self._terms: tuple[str, ...] = ()
        self._sums_MT: Tensor | float = 0.0

    def add(
        self, batch_index: int, rows: Tensor, losses: Sequence[LossTerms], *, weight: float = 1.0
    ) -> None:
        """Take a step's losses, one of each member.

        Args:
            batch_index: counted from 0.
            rows: the batch's pictures.
            losses: on the device, with the same terms for each member.
            weight: what the sums take of them, where other devices have the rest of the batch.

        Raises:
            TrainingError: as ``look``, where a look is due.
        """
        self._terms = ("loss", *losses[0].terms)
        scalars = [value for loss in losses for value in (loss.total, *loss.terms.values())]
        values_MT = torch.stack([scalar.detach().float() for scalar in scalars]) * weight
        self._unseen.append((batch_index, rows, values_MT.view(len(losses), -1)))
        if len(self._unseen) >= self._steps_between_looks:
            self.look()

    def look(self) -> None:
        """Look at the losses that nobody has looked at yet.

        Raises:
            TrainingError: one is not finite; names the member, the epoch, and the first batch where
                it was so, with its pictures.
        """
        if not self._unseen:
            return
        values_UMT = torch.stack([values_MT for _, _, values_MT in self._unseen]).cpu().double()
        failed = (~values_UMT[..., 0].isfinite()).nonzero().tolist()
        if failed:
            step, member = failed[0]
            batch_index, rows, values_MT = self._unseen[step]
            pictures = ", ".join(self._image_names[row] for row in rows.tolist())
            raise TrainingError(
                f"The loss of {self._names[member]} is {values_MT[member, 0].item()} in epoch "
                f"{self._epoch + 1}, batch {batch_index + 1}; lower training.learning_rate or set "
                f"training.clip_norm. The pictures of this batch: {pictures}"
            )
        self._sums_MT = self._sums_MT + values_UMT.sum(dim=0)
        self._unseen.clear()

    def sums(self, member: int) -> dict[str, float]:
        """Return a member's loss and its terms, added up over the steps that were looked at."""
        if not isinstance(self._sums_MT, Tensor):
            return {}
        return dict(zip(self._terms, self._sums_MT[member].tolist(), strict=True))
