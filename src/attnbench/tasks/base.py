"""Base class of all tasks: optimizer, schedule, gradient norm, random state of a step, self-contained checkpoints."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from attnbench.config import Config
from attnbench.config.optim import Schedule
from attnbench.config.task import ClassificationConfig, TranslationConfig
from attnbench.config.trainer import Precision, Strategy
from attnbench.metrics.flop_counter import UncountableError
from attnbench.nn.fsdp import gather_full_tensor, is_finite, reshard_network, shard_network, unshard_network
from attnbench.records.identity import config_to_dict
from attnbench.tasks.optimization import build_optimizer, compute_lr_factor

CHECKPOINT_KEY = "attnbench"
_MAX_PARAMETERS_ON_CPU = 100_000_000  # of a second network that FLOPs are counted with
_DIVERGED_ADVICE = (
    "try a lower optim.lr, a longer schedule.warmup_steps, optim.gradient_clip_val=1, or debug.detect_anomaly=true to "
    "find the operation that makes it"
)


class TrainingError(Exception):
    """Raised when training fails in a way that a retry cannot repair."""


class Task(pl.LightningModule):
    """LightningModule that builds its network from the config and reports its evaluation.

    `assets` holds what the network needs besides the config, such as vocabularies, as plain values. It is stored in
    the checkpoint, so that a checkpoint can be loaded from its file alone.
    """

    unit_name: ClassVar[str]  # unit of throughput, as its batches have it

    def __init__(self, config: Config, assets: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.assets = dict(assets)
        self.network = self.build_network()
        # Results of the last evaluation, with signatures; the record reads them here.
        self.report: dict[str, Any] = {}
        self._mesh: DeviceMesh | None = None
        self._sums = torch.empty(0)  # losses of the micro-batches of a logged update so far
        self._is_loss_finite: Tensor | None = None  # on a GPU: of all batches since the last check

    @property
    def monitor(self) -> str:
        """Logged validation metric that selects the best weights: `val/` and task.monitor."""
        return f"val/{cast(TranslationConfig | ClassificationConfig, self.config.task).monitor.name}"

    @property
    def monitor_mode(self) -> str:
        """`min` or `max`: the direction in which the metric is better."""
        return "min" if self.monitor == "val/loss" else "max"

    @abstractmethod
    def build_network(self) -> nn.Module:
        """Build the network from config and assets."""

    @abstractmethod
    def create_network(self) -> nn.Module:
        """Create a network with random weights for the sizes in assets."""

    @abstractmethod
    def count_flops_per_unit(self, network: nn.Module, device: str) -> tuple[float, str]:
        """Count the training FLOPs per unit of a batch.

        Args:
            network: result of `create_network`, which may be changed.
            device: device of the network: "cpu" or "meta".

        Returns:
            FLOPs, and how they were counted.

        Raises:
            UncountableError: the FLOPs are unknown.
        """

    def estimate_flops_per_unit(self) -> tuple[float | None, str]:
        """Return the training FLOPs per unit of a batch (None: unknown), and how they were counted."""
        # Kernels of the meta device need no memory, but they are written in Python and slower in small networks.
        num_parameters = sum(parameter.numel() for parameter in self.network.parameters())
        device = "cpu" if num_parameters <= _MAX_PARAMETERS_ON_CPU else "meta"
        try:
            with torch.random.fork_rng(devices=[]):
                with torch.device(device):
                    network = self.create_network()  # not self.network, of which a rank may hold only a shard
                return self.count_flops_per_unit(network, device)
        except UncountableError as error:
            return None, str(error)

    def configure_model(self) -> None:
        """Shard the network if `trainer.strategy` is fsdp; Lightning calls this before fit and before test."""
        sharded = self.config.trainer.strategy is Strategy.fsdp
        if sharded and self._mesh is None:
            mesh = cast(Any, self.trainer.strategy).device_mesh
            self._mesh = mesh["data_parallel"]
            shard_network(self.network, self._mesh)

    def on_validation_start(self) -> None:
        """Check that the weights are finite, and unshard them, because validation calls more than `forward`."""
        self.raise_if_diverged()
        unshard_network(self.network)

    def on_validation_end(self) -> None:
        """Reshard the weights."""
        reshard_network(self.network)

    on_test_start = on_validation_start
    on_test_end = on_validation_end

    def configure_optimizers(self) -> Any:
        """Build optimizer and learning-rate schedule; the schedule is stepped after every update."""
        optim, schedule = self.config.optim, self.config.schedule
        # fp16's gradient scaler unscales inside a fused step, where clipping can no longer see the gradients.
        fused = self.config.trainer.precision is not Precision["16-mixed"]
        optimizer = build_optimizer(self.network.parameters(), optim, is_fused=fused)
        total = (
            int(self.trainer.estimated_stepping_batches)
            if schedule.target or schedule.name is Schedule.cosine
            else None
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: compute_lr_factor(step, schedule, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients, and log their norm at logged updates."""
        limit = self.config.optim.gradient_clip_val
        if limit is None and not self._is_update_logged():
            return
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), float("inf") if limit is None else limit)
        if self._is_update_logged():
            self.log("train/grad_norm", gather_full_tensor(norm), batch_size=1)
            self.log("train/lr", optimizer.param_groups[0]["lr"], batch_size=1)

    def log_update(self, batch_idx: int, num_update_units: float, **sums: Tensor) -> None:
        """Log as `train/<name>` what each of `sums` comes to over all shares of an update, divided by its units.

        Only at logged updates, to avoid the sum over parameters and ranks at all others.
        """
        if not self._is_update_logged():
            return
        accumulate = self.trainer.accumulate_grad_batches
        share = torch.stack([value.detach().float() for value in sums.values()])
        self._sums = share if batch_idx % accumulate == 0 else self._sums + share
        if (batch_idx + 1) % accumulate == 0:
            total = self.trainer.strategy.reduce(self._sums, reduce_op="sum")
            for name, value in zip(sums, total / num_update_units, strict=True):
                self.log(f"train/{name}", value, batch_size=1)

    def _is_update_logged(self) -> bool:
        """Return True if the current update is one of every `logger.log_every_n_steps`."""
        return (self.global_step + 1) % self.config.logger.log_every_n_steps == 0

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the random generators from (seed, epoch, batch, rank), so that a resumed run has the same dropout."""
        where = f"{self.config.seed} {self.current_epoch} {batch_idx} {self.global_rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(where.encode()).digest()[:7]))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop at the last update, and raise if the loss is NaN or infinite."""
        limits = self.config.trainer
        if limits.max_steps is not None and self.global_step >= limits.max_steps:
            self.trainer.should_stop = True
        if self.trainer.should_stop or self.current_epoch + 1 == limits.max_epochs:
            # Training always ends with a validation, because the weights are selected by it.
            self.trainer.check_val_every_n_epoch = 1
        self._check_loss((outputs["loss"] if isinstance(outputs, Mapping) else outputs).detach())

    def _check_loss(self, loss: Tensor) -> None:
        """Raise a TrainingError where the training loss is NaN or infinite.

        On a CPU at once. On a GPU a flag is kept, and read where an update is logged and before each decision: reading
        it after every batch would make the device wait.
        """
        if loss.device.type == "cpu":
            if not torch.isfinite(loss):
                raise self._build_divergence_error(f"the loss is {loss.item()}")
            return
        finite = torch.isfinite(loss)
        self._is_loss_finite = finite if self._is_loss_finite is None else self._is_loss_finite & finite
        if self.global_step % self.config.logger.log_every_n_steps == 0:
            self._raise_if_loss_not_finite()

    def _raise_if_loss_not_finite(self) -> None:
        flag, self._is_loss_finite = self._is_loss_finite, None
        if flag is not None and not bool(flag):
            raise self._build_divergence_error("the loss became nan or infinite")

    def raise_if_diverged(self) -> None:
        """Check the weights, and the training losses not yet looked at, before something is decided by them.

        Called before each validation, test and checkpoint, on every rank, however rarely updates are logged.

        Raises:
            TrainingError: a loss or a weight is NaN or infinite, on any rank.
        """
        self._raise_if_loss_not_finite()
        if self.trainer.strategy.reduce_boolean_decision(not self.has_finite_weights(), all=False):
            raise self._build_divergence_error("weights are nan or infinite")

    def has_finite_weights(self) -> bool:
        """Return True if all weights are finite; for a sharded network, those of this rank."""
        return is_finite(self.network.parameters())

    def convert_to_training_error(self, error: Exception) -> TrainingError | None:
        """Return what to raise instead of `error`, where an operation met NaN; None: `error` itself."""
        try:
            is_finite_now = self.has_finite_weights()
        except RuntimeError:  # the device itself has failed
            return None
        return (
            None
            if is_finite_now
            else self._build_divergence_error(f"weights are nan or infinite ({type(error).__name__}: {error})")
        )

    def _build_divergence_error(self, what: str) -> TrainingError:
        return TrainingError(f"{what} at update {self.global_step}: {_DIVERGED_ADVICE}")

    def scale_loss(self, loss_sum: Tensor, num_update_units: float) -> Tensor:
        """Scale the loss of a micro-batch so that the update's loss is a mean over its units.

        Lightning averages over accumulated batches and over ranks, but micro-batches have different numbers of units.

        Args:
            loss_sum: sum of the losses of this micro-batch.
            num_update_units: number of units in the whole update.

        Returns:
            Scalar loss.
        """
        return loss_sum * (self.trainer.accumulate_grad_batches * self.trainer.world_size / num_update_units)

    def publish_report(self, stage: str, report: dict[str, Any]) -> None:
        """Store the result of an evaluation in the report, and log its numbers.

        Args:
            stage: validation or a test stage.
            report: numbers by name.

        Raises:
            TrainingError: the loss is NaN or infinite.
        """
        if not math.isfinite(report["loss"]):
            raise self._build_divergence_error(f"the {stage} loss is {report['loss']}")
        self.report = report
        for name, value in report.items():
            if isinstance(value, float):
                self.log(f"{stage}/{name}", value, batch_size=1, sync_dist=True)

    @property
    def data_module(self) -> Any:
        """Data module of the trainer."""
        return cast(Any, self.trainer).datamodule

    def gather_over_ranks(self, found: list[Any]) -> list[Any]:
        """Gather the results of all ranks, in rank order, on every rank."""
        if self.trainer.world_size == 1:
            return found
        parts: list[list[Any]] = [[] for _ in range(self.trainer.world_size)]
        torch.distributed.all_gather_object(parts, found)
        return [item for part in parts for item in part]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what `tasks.load_task` needs to build this module again; refuse to keep weights that are not numbers."""
        self.raise_if_diverged()
        checkpoint[CHECKPOINT_KEY] = {"version": 1, "config": config_to_dict(self.config), "assets": self.assets}
