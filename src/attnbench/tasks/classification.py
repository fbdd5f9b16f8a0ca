"""Classification of pictures: cross-entropy in, accuracy and calibration out."""

# Shapes: B batch, N examples of a split, K classes, C channels, L layers, H heads, T tokens, P patches

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.model import Pool, VitConfig
from attnbench.config.task import ClassificationConfig
from attnbench.data.image_batches import NO_LABEL, ImageBatch, Preparation
from attnbench.metrics.classification import score
from attnbench.metrics.flop_counter import COUNTED, training_flops_by_running
from attnbench.models.build import Classifier, build_classifier
from attnbench.models.vit import VisionTransformer
from attnbench.nn.normalizers import choice_loss, choices, greedy_choices
from attnbench.nn.positions import Learned
from attnbench.tasks.base import Task
from attnbench.tasks.results import Picture, Sample, Tested
from attnbench.visualization.image_classification import (
    AttentionOverview,
    ConfusionMatrix,
    PatchAttention,
    PositionSimilarity,
    rollout,
)

_CANDIDATES = 512  # validation pictures among which the probe's right and wrong cases are looked for


class Classification(Task):
    """Learns p(class | picture)."""

    def build_network(self) -> nn.Module:
        """The classifier for the classes and channels in assets."""
        self.classes: list[str] = self.assets["classes"]
        self.preparation = Preparation(**self.assets["preparation"])
        self.task_config = cast(ClassificationConfig, self.config.task)
        self.outputs: list[Sample] = []
        self.tested: list[Tested] = []
        self._found: list[tuple[Tensor, Tensor, Tensor]] = []
        return self._classifier()

    def _classifier(self) -> nn.Module:
        sizes = {"channels": self.assets["channels"], "image_size": self.preparation.image_size}
        return cast(nn.Module, build_classifier(self.config, **sizes, classes=len(self.classes)))

    @property
    def model(self) -> Classifier:
        """The network, as what it is."""
        return cast(Classifier, self.network)

    def flops_per_unit(self) -> tuple[float, str]:
        """FLOPs of training on one picture."""
        with torch.device("meta"):  # another one: of this one, a rank may have but a share
            network = self._classifier().eval()  # BatchNorm refuses to train on one
        size = self.preparation.image_size
        picture_1CHW = torch.empty(1, self.assets["channels"], size, size, device="meta")
        return training_flops_by_running(lambda: network(picture_1CHW).logits), COUNTED

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of the update this batch is a share of: its sum over the update's pictures."""
        with choices() as made:
            loss_B = self._cross_entropy(batch)
        loss_sum = loss_B.sum()
        self.log_update(batch_idx, batch.update_images, loss=loss_sum)
        if made:
            with torch.no_grad(), greedy_choices():
                baseline_B = self._cross_entropy(batch)
            loss_sum = loss_sum + choice_loss(made, loss_B, baseline_B)
        return self.update_loss(loss_sum, batch.update_images)

    def _cross_entropy(self, batch: ImageBatch) -> Tensor:
        """loss_B, zero for a picture that only fills up a share."""
        return F.cross_entropy(
            self.model(batch.images_BCHW).logits,
            batch.labels_B,
            reduction="none",
            ignore_index=NO_LABEL,
            label_smoothing=self.task_config.label_smoothing,
        )

    def on_validation_epoch_start(self) -> None:
        """Nothing found yet."""
        self._found = []

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Classify."""
        log_p_BK = self.model(batch.images_BCHW).logits.float().log_softmax(-1)
        self._found.append((batch.indices_B.cpu(), log_p_BK.cpu(), batch.labels_B.cpu()))

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Score the validation set."""
        self._score("val")

    def on_test_epoch_end(self) -> None:
        """Score the test set."""
        self._score("test")
        columns = ("source", "reference", "hypothesis")
        texts = {column: [getattr(sample, column) for sample in self.outputs] for column in columns}
        self.tested = [Tested("test", self.report, texts)]

    def _score(self, stage: str) -> None:
        # A picture is scored once, in the set's order, however many ranks there are.
        indices_N, log_p_NK, labels_N = map(torch.cat, zip(*self.gather(self._found), strict=True))
        order_N = indices_N.argsort()
        log_p_NK, labels_N = log_p_NK[order_N], labels_N[order_N]
        found = score(log_p_NK, labels_N, bins=self.task_config.calibration_bins)
        rows = zip(indices_N[order_N].tolist(), labels_N.tolist(), log_p_NK.argmax(1).tolist(), strict=True)
        name = self.data.split_name(stage)
        self.outputs = [Sample(f"{name}[{i}]", self.classes[label], self.classes[guess]) for i, label, guess in rows]
        report: dict[str, Any] = {
            "accuracy": found.accuracy,
            "loss": found.loss,
            "calibration_error": found.calibration_error,
            "per_class": dict(zip(self.classes, found.per_class, strict=True)),
            "confusion": found.confusion,
        }
        self.publish(stage, report)

    @torch.inference_mode()
    def pictures(self, examples: int) -> list[Picture]:
        """The last evaluation's confusions; and where there is attention, that of right and wrong cases."""
        confusion = torch.tensor(self.report["confusion"]).numpy()
        found: list[Picture] = [ConfusionMatrix("confusion", confusion, self.classes)]
        if isinstance(self.network, VisionTransformer):
            maps = self._attention(self.network, examples)
            found += [AttentionOverview("attention", maps), *maps]
            if isinstance(self.network.position, Learned):
                vectors_PD = F.normalize(self.network.position.embedding.weight.float(), dim=1)
                similarity_PP = (vectors_PD @ vectors_PD.T).cpu().numpy()
                found.append(PositionSimilarity("positions", similarity_PP, self.network.grid))
        return found

    def _attention(self, network: VisionTransformer, examples: int) -> list[PatchAttention]:
        """Of the first pictures of the validation set: half of the probe are right, half wrong where there are any."""
        images = self.data.split("val")
        pixels_BCHW = images.pixels_NCHW[:_CANDIDATES]
        labels_B = images.labels_N[: len(pixels_BCHW)]
        p_BK = network(self.preparation(pixels_BCHW).to(self.device)).logits.float().softmax(-1).cpu()
        confidence_B, guess_B = p_BK.max(1)
        right = torch.nonzero(guess_B == labels_B).flatten().tolist()
        wrong = torch.nonzero(guess_B != labels_B).flatten().tolist()
        wrong = wrong[: max(examples // 2, examples - len(right))]
        probe = [*right[: examples - len(wrong)], *wrong]
        output = network(self.preparation(pixels_BCHW[probe]).to(self.device), need_weights=True)
        assert output.attention is not None, "weights were asked for"
        found = []
        for number, (row, weights_LHTT) in enumerate(zip(probe, output.attention["encoder"].unbind(1), strict=True)):
            weights = weights_LHTT.float().cpu().numpy()
            picture = PatchAttention(
                name=f"attention-{number}",
                pixels_HWC=pixels_BCHW[row].permute(1, 2, 0).numpy() / 255,
                weights_LHP=self._read(weights),
                rollout_P=self._read(rollout(weights)),
                grid=network.grid,
                label=self.classes[labels_B[row]],
                predicted=self.classes[guess_B[row]],
                confidence=float(confidence_B[row]),
            )
            found.append(picture)
        return found

    def _read(self, weights_TT: np.ndarray) -> np.ndarray:
        """weights_P, of whatever leading shape: how much of each patch the classified vector takes."""
        if cast(VitConfig, self.config.model).pool is Pool.cls:
            return weights_TT[..., 0, 1:]
        return cast(np.ndarray, weights_TT.mean(-2))
