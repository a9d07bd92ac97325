"""The training task: one step, one validation, for whatever predictor is trained.

B batch, C all labels, P labels of a member, S strategies.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from numpy.typing import NDArray
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from cpsd.config import TrainingConfig
from cpsd.data.picture_dataset import Batch
from cpsd.errors import ModelError
from cpsd.losses.objective import LossTerms, Objective
from cpsd.memory import plain_inference_memory
from cpsd.models.known_labels import still_to_follow, still_to_learn, told_labels
from cpsd.models.trunk import one_pass
from cpsd.seeds import derive_seed
from cpsd.training.epoch_losses import STEPS_BETWEEN_LOOKS, EpochLosses
from cpsd.training.members import (
    EMA,
    RAW,
    Best,
    Member,
    Scorer,
    decayed_parameters,
    scaled_pixels,
)
from cpsd.training.running_cost import RunningCost


class SoftLabels(Protocol):
    """Where the student finds the teachers' logits: a store, or the teachers themselves."""

    num_views: int | None

    def __call__(self, images: Tensor, rows: Tensor, *, view_index: int) -> Tensor:
        """Return the teachers' logits (B, S, C) for the pictures ``rows`` as seen in this view."""


class TrainingTask(lightning.LightningModule):
    """Trains members side by side on the same batches (CPSD, section 3).

    Each member has its own loss, gradient norm, weight average, best epoch and choice between raw
    and averaged weights, so that its result does not depend on who trains beside it. In a step one
    member after another goes forward and back, so that memory holds the activations of one alone.

    Args:
        members: the networks to train.
        objective: logits, targets and soft labels to named loss terms.
        config: optimizer, schedule, averages.
        seed: of the random layers; each epoch starts from (seed, epoch).
        scorer: chooses the best epoch on validation.
        image_names: by row, for messages.
        reduction: of the objective; a sum is added up over accumulated batches, a mean averaged.
        soft_labels: what the student learns from; None where there is no distillation.
    """

    def __init__(
        self,
        members: Sequence[Member],
        objective: Objective,
        config: TrainingConfig,
        *,
        seed: int,
        scorer: Scorer,
        image_names: Sequence[str],
        reduction: str,
        soft_labels: SoftLabels | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # Lightning's goes back once, when all are forward
        self.members = tuple(members)
        self.networks = nn.ModuleList(member.network for member in members)
        for index, member in enumerate(members):
            # On the device: indexing by a list would send it there at every step, and wait.
            self.register_buffer(_columns(index), torch.tensor(member.columns), persistent=False)
        self.averages = nn.ModuleList(
            ModelEmaV3(member.network, decay=config.ema_decay, use_warmup=True)
            for member in members
            if config.ema_decay > 0
        )
        self.objective = objective
        self.config = config
        self.seed = seed
        self.scorer = scorer
        self.image_names = image_names
        self.reduction = reduction
        self.soft_labels = soft_labels
        self.cost = RunningCost()
        self._reset_epoch()

    def _reset_epoch(self) -> None:
        self._started = time.monotonic()
        self._losses_of_epoch = EpochLosses(
            [member.name for member in self.members],
            self.image_names,
            epoch=self.current_epoch,
            steps_between_looks=1 if self.device.type == "cpu" else STEPS_BETWEEN_LOOKS,
        )
        self._num_images = 0
        self._validated: list[tuple[Tensor, Tensor, list[Tensor]]] = []

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own type is not importable
        """Adam with the paper's coupled decay or AdamW, and a one-cycle schedule by the step."""
        groups = [
            group
            for network in self.networks
            for group in decayed_parameters(network, self.config.weight_decay)
        ]
        optimizer = torch.optim.Adam(
            groups,
            lr=self.config.learning_rate,
            decoupled_weight_decay=self.config.decay == "decoupled",
            fused=self._has_fused_optimizer(),
        )
        epochs = self.config.epochs
        batches_an_epoch = int(self.trainer.estimated_stepping_batches) // epochs
        total_steps = math.ceil(batches_an_epoch / self.config.accumulate) * epochs
        schedule = OneCycleLR(
            optimizer,
            max_lr=self.config.learning_rate,
            total_steps=total_steps,
            pct_start=_warmup_share(self.config.warmup, total_steps),
        )
        return [optimizer], [schedule]

    def _has_fused_optimizer(self) -> bool:
        """Return whether one kernel may take a whole step: 2.5 to 5 times as fast on a CPU.

        It unscales half-precision gradients itself, after they should have been clipped.
        """
        clipped_scaled = self.config.precision == "16-mixed" and self.config.clip_norm is not None
        return self.device.type in ("cpu", "cuda") and not clipped_scaled

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip each member's gradient by its own norm."""
        if self.config.clip_norm is not None:
            for network in self.networks:
                torch.nn.utils.clip_grad_norm_(network.parameters(), self.config.clip_norm)

    def on_train_epoch_start(self) -> None:
        """Give the epoch's random layers their own seed, so that a resumed run repeats them."""
        self._reset_epoch()
        torch.manual_seed(derive_seed(self.seed, "random layers", self.current_epoch))

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Send pictures and targets; rows stay, for what is looked up by them lies here."""
        return batch._replace(
            images=batch.images.to(device, non_blocking=True),
            targets=batch.targets.to(device, non_blocking=True),
        )

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """Go forward and back with every member, and change the weights where a step is due.

        Nothing in it asks the device for a value, so that the host is always ahead.
        """
        self.add_gradients(batch, batch_index, self.manual_backward)
        if self.trainer.is_last_batch or (batch_index + 1) % self.config.accumulate == 0:
            self._change_weights()

    @one_pass()
    def add_gradients(
        self, batch: Batch, batch_index: int, go_back: Callable[[Tensor], None]
    ) -> None:
        """Add each member's gradient of its own loss to what it has.

        Args:
            batch: on the device.
            batch_index: counted from 0.
            go_back: computes gradients of a loss.
        """
        images = scaled_pixels(batch.images)
        soft_labels_BSC = None
        if self.soft_labels is not None:
            num_views = self.soft_labels.num_views
            view_index = self.current_epoch % num_views if num_views else self.current_epoch
            with self.cost.forward(images, "soft labels", num_networks=0):
                soft_labels_BSC = self.soft_labels(images, batch.rows, view_index=view_index)
        share = self._share_of_step(batch_index)
        losses = []
        for index, network in enumerate(self.networks):
            with self.cost.forward(images, "step", index):
                loss = self._losses(index, network, images, batch.targets, soft_labels_BSC)
            with self.cost.backward(images, "step", index):
                go_back(loss.total * share)
            losses.append(loss)
        self._losses_of_epoch.add(batch_index, batch.rows, losses)
        self._num_images += len(images)

    def _change_weights(self) -> None:
        """Take a step of the optimizer, its schedule and the weight averages."""
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer)
        assert isinstance(schedule, OneCycleLR)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        for average, network in zip(self.averages, self.networks, strict=False):
            cast(ModelEmaV3, average).update(network, step=self.global_step)

    def _losses(
        self,
        index: int,
        network: nn.Module,
        images: Tensor,
        targets_BC: Tensor,
        soft_labels_BSC: Tensor | None,
    ) -> LossTerms:
        """Return the losses of one member, on its own labels."""
        columns = self.get_buffer(_columns(index))
        targets_BP = targets_BC[:, columns]
        told = told_labels(network, targets_BP)
        needed = (len(images), len(columns))
        logits_BP = checked_logits(network(images, *told), needed, self.members[index].name)
        soft_labels_BSP = None
        if soft_labels_BSC is not None:
            soft_labels_BSP = still_to_follow(soft_labels_BSC[:, :, columns], logits_BP, told)
        return self.objective(logits_BP, still_to_learn(targets_BP, told), soft_labels_BSP)

    def _share_of_step(self, batch_index: int) -> float:
        """Return what a batch's loss counts for where several make a step.

        Sums are added up, means averaged: over fewer in an epoch's last step, if fewer are left.
        """
        accumulate = self.config.accumulate
        if self.reduction == "sum" or accumulate == 1:
            return 1.0
        first = batch_index - batch_index % accumulate
        return 1 / min(accumulate, int(self.trainer.num_training_batches) - first)

    def on_validation_start(self) -> None:
        """Look at the last losses of the epoch, before any of its weights are kept."""
        self._losses_of_epoch.look()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Put the validation pictures through the raw and the averaged networks."""
        images = scaled_pixels(batch.images)
        networks = (*self.networks, *self.averages)
        counting = self.cost.forward(images, "validation", num_networks=len(networks))
        with plain_inference_memory(len(images)), counting, one_pass():
            logits = [network(images).float() for network in networks]
        self._validated.append((batch.rows, batch.targets, logits))

    def on_validation_epoch_end(self) -> None:
        """Score every member raw and averaged, and keep what is better than before."""
        rows = torch.cat([rows for rows, _, _ in self._validated]).numpy()
        targets_NC = torch.cat([targets for _, targets, _ in self._validated]).cpu().numpy()
        _, order = np.unique(rows, return_index=True)
        for index, member in enumerate(self.members):
            row = self._training_row(index)
            candidates = [(RAW, index, self.networks[index])]
            if len(self.averages):
                average = cast(ModelEmaV3, self.averages[index])
                candidates.append((EMA, index + len(self.members), average.module))
            for weights, position, network in candidates:
                logits_NP = (
                    torch.cat([logits[position] for _, _, logits in self._validated]).cpu().numpy()
                )
                score = self._score(logits_NP[order], targets_NC[order][:, list(member.columns)])
                row[f"validation_{weights}"] = score
                member.consider(Best(self.current_epoch, weights, score), network)
            member.history.append(row)
            member.write_metrics()
            if self.logger is not None:
                named = {f"{member.name}/{key}": value for key, value in row.items()}
                self.logger.log_metrics(named, step=self.current_epoch)
        self.cost.seconds += time.monotonic() - self._started

    def _score(self, logits_NP: NDArray[np.float32], targets_NP: NDArray[np.int8]) -> float:
        return float(self.scorer(logits_NP, targets_NP))

    def _training_row(self, index: int) -> dict[str, float]:
        """Return the epoch's losses per picture and the learning rate."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, torch.optim.Optimizer)
        row = {"epoch": float(self.current_epoch), "learning_rate": optimizer.param_groups[0]["lr"]}
        for term, value in self._losses_of_epoch.sums(index).items():
            row[term] = value / self._num_images
        return row

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add best epochs, histories and costs so far."""
        checkpoint["members"] = [member.state_dict() for member in self.members]
        checkpoint["cost"] = self.cost.so_far().to_json()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up best epochs, histories and costs."""
        for member, state in zip(self.members, checkpoint["members"], strict=True):
            member.load_state_dict(state)
        self.cost.go_on_from(checkpoint["cost"])


def checked_logits(logits: object, needed: tuple[int, int], name: str) -> Tensor:
    """Return ``logits``, refused where they are no tensor of shape ``needed``, (B, P).

    Raises:
        ModelError: they are not, as those of a user's own network may be.
    """
    if isinstance(logits, Tensor) and logits.shape == needed:
        return logits
    found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    raise ModelError(
        f"The network of {name} returns {found} for {needed[0]} pictures and {needed[1]} labels; "
        f"logits of shape {needed} are needed."
    )


def _columns(index: int) -> str:
    """Return the buffer with the columns of a member's labels."""
    return f"_columns_{index}"


def _warmup_share(warmup: float, total_steps: int) -> float:
    """Return ``warmup``, or the nearest share below it that OneCycleLR can take.

    It divides by zero where the rise would be of exactly one step; with a hair less it starts at
    the peak, which is what such a rise means.

    Example:
        >>> _warmup_share(0.25, 4) < 0.25, _warmup_share(0.25, 8)
        (True, 0.25)
    """
    return math.nextafter(warmup, 0) if warmup * total_steps == 1 else warmup
