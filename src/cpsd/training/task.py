"""The training task: one step, one validation, for whatever predictor is trained.

B batch, C all labels, P labels of a member, S strategies.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import reduce
from typing import Any, Protocol, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy
from numpy.typing import NDArray
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from cpsd.config import TrainingConfig
from cpsd.cost import Cost, side_by_side
from cpsd.data.picture_dataset import Batch
from cpsd.losses.objective import LossTerms, Objective
from cpsd.memory import plain_inference_memory
from cpsd.models.known_labels import still_to_follow, still_to_learn, told_labels
from cpsd.models.trunk import one_pass
from cpsd.process_group import gathered
from cpsd.seeds import derive_seed
from cpsd.shares import WHOLE, Share
from cpsd.training.epoch_losses import STEPS_BETWEEN_LOOKS, EpochLosses
from cpsd.training.members import (
    EMA,
    RAW,
    Best,
    Member,
    Scorer,
    checked_logits,
    scaled_pixels,
)
from cpsd.training.optimization import optimizer_and_schedule
from cpsd.training.random_layers import RandomLayers
from cpsd.training.running_cost import RunningCost
from cpsd.training.validation_logits import ValidationLogits


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
        share: of every batch that this process has, where several train together.
        num_pictures: seen in an epoch, by all of them.
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
        share: Share = WHOLE,
        num_pictures: int | None = None,
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
        ).requires_grad_(False)
        self.objective = objective
        self.config = config
        self.seed = seed
        self.scorer = scorer
        self.image_names = image_names
        self.reduction = reduction
        self.soft_labels = soft_labels
        self.share = share
        self.num_pictures = num_pictures
        self.cost = RunningCost()
        self._random_layers = RandomLayers(len(self.members))
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
        self._validated = ValidationLogits()

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own type is not importable
        """Return the optimizer of all members, and its schedule."""
        epochs = self.config.epochs
        batches_an_epoch = int(self.trainer.estimated_stepping_batches) // epochs
        num_steps = math.ceil(batches_an_epoch / self.config.accumulate) * epochs
        optimizer, schedule = optimizer_and_schedule(
            self.networks, self.config, self.device, num_steps=num_steps
        )
        return [optimizer], [schedule]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip each member's gradient by its own norm."""
        if self.config.clip_norm is not None:
            for network in self.networks:
                torch.nn.utils.clip_grad_norm_(network.parameters(), self.config.clip_norm)

    def on_train_epoch_start(self) -> None:
        """Give the epoch's random layers their own seed, so that a resumed run repeats them."""
        self._reset_epoch()
        self._random_layers.begin_epoch()
        # Other devices have other pictures, on which to drop the same would be no chance.
        device = [self.share.index] if self.share.index else []
        torch.manual_seed(derive_seed(self.seed, "random layers", self.current_epoch, *device))

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
        if self._is_step_due(batch_index):
            self._change_weights()

    def _is_step_due(self, batch_index: int) -> bool:
        return self.trainer.is_last_batch or (batch_index + 1) % self.config.accumulate == 0

    def _exchange(self, batch_index: int, index: int) -> AbstractContextManager[None]:
        """Have devices exchange gradients once a step, in its last member's backward pass."""
        last = index == len(self.members) - 1
        if self.share.of == 1 or (last and self._is_step_due(batch_index)):
            return nullcontext()
        strategy = self.trainer.strategy
        assert isinstance(strategy, DDPStrategy)
        return strategy.block_backward_sync()

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
        weight = self._weight_of_share(batch_index, len(images))
        # Devices average gradients, where losses are to be added up.
        factor = weight * self.share.of * self._share_of_step(batch_index)
        losses = []
        for index, network in enumerate(self.networks):
            with self.cost.forward(images, "step", index):
                loss = self._losses(index, network, images, batch.targets, soft_labels_BSC)
            with self.cost.backward(images, "step", index), self._exchange(batch_index, index):
                go_back(loss.total * factor)
            losses.append(loss)
        self._losses_of_epoch.add(batch_index, batch.rows, losses, weight=weight)
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
        needed = (len(images), len(columns))
        with self._random_layers.of(index, images.device):
            told = told_labels(network, targets_BP)
            logits_BP = checked_logits(network(images, *told), needed, self.members[index].name)
        soft_labels_BSP = None
        if soft_labels_BSC is not None:
            soft_labels_BSP = still_to_follow(soft_labels_BSC[:, :, columns], logits_BP, told)
        return self.objective(logits_BP, still_to_learn(targets_BP, told), soft_labels_BSP)

    def _weight_of_share(self, batch_index: int, num_images: int) -> float:
        """Return how much of the batch's loss this device's is: a sum whole, a mean its part."""
        if self.reduction == "sum" or self.share.of == 1:
            return 1.0
        before = batch_index * self.config.batch_size
        assert self.num_pictures is not None, "several devices share a known number of pictures"
        return num_images / min(self.config.batch_size, self.num_pictures - before)

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
        self._validated.add(batch.rows, batch.targets, logits)

    def on_validation_epoch_end(self) -> None:
        """Score every member raw and averaged, and keep what is better than before."""
        targets_NC, logits = self._validated.ordered()
        for index, member in enumerate(self.members):
            row = self._training_row(index)
            candidates = [(RAW, index, self.networks[index])]
            if len(self.averages):
                average = cast(ModelEmaV3, self.averages[index])
                candidates.append((EMA, index + len(self.members), average.module))
            for weights, position, network in candidates:
                score = self._score(logits[position], targets_NC[:, list(member.columns)])
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
        num_images = sum(gathered(self._num_images))
        for sums in gathered(self._losses_of_epoch.sums(index)):
            for term, value in sums.items():
                row[term] = row.get(term, 0.0) + value / num_images
        return row

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add best epochs, histories and costs so far."""
        checkpoint["members"] = [member.state_dict() for member in self.members]
        checkpoint["cost"] = self.cost_so_far().to_json()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up best epochs, histories and costs."""
        for member, state in zip(self.members, checkpoint["members"], strict=True):
            member.load_state_dict(state)
        # Of all devices; the others count what is to come.
        if self.share.index == 0:
            self.cost.go_on_from(checkpoint["cost"])

    def cost_so_far(self, peak_memory: int | None = None) -> Cost:
        """Return what all devices have taken together; all of them call this.

        Args:
            peak_memory: bytes that this process held at most.
        """
        own = replace(self.cost.so_far(), peak_memory=peak_memory)
        total: Cost = reduce(side_by_side, gathered(own))
        return total


def _columns(index: int) -> str:
    """Return the buffer with the columns of a member's labels."""
    return f"_columns_{index}"
