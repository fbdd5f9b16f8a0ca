"""Image classification: trained with cross-entropy, scored by accuracy and calibration."""

# Shapes: B batch, N examples of a split, K classes, C channels, L layers, H heads, T tokens, P patches

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.model import Pool, VitConfig
from attnbench.config.task import ClassificationConfig
from attnbench.data.image_batches import NO_LABEL, ImageBatch, ImageTransform
from attnbench.metrics.classification import score_predictions
from attnbench.metrics.flop_counter import METHOD, count_training_flops
from attnbench.models.build import Classifier, build_classifier
from attnbench.models.vit import VisionTransformer
from attnbench.nn.normalizers import choose_greedily, collect_choices, compute_choice_loss
from attnbench.nn.positions import LearnedPosition
from attnbench.tasks.base import Task
from attnbench.tasks.results import Figure, Sample, TestResult
from attnbench.visualization.image_classification import (
    AttentionOverview,
    ConfusionMatrix,
    PatchAttention,
    PositionSimilarity,
    compute_rollout,
)

_MAX_ATTENTION_CANDIDATES = 512  # number of validation images in which right and wrong cases are searched


class Classification(Task):
    """Task that learns p(class | image)."""

    unit_name = ImageBatch.unit_name

    def build_network(self) -> nn.Module:
        """Build the classifier for the classes and channels in assets."""
        self.classes: list[str] = self.assets["classes"]
        self.preparation = ImageTransform(**self.assets["preparation"])
        self.task_config = cast(ClassificationConfig, self.config.task)
        self.outputs: list[Sample] = []
        self.test_results: list[TestResult] = []
        self._found: list[tuple[Tensor, Tensor, Tensor]] = []
        return self.create_network()

    def create_network(self) -> nn.Module:
        """Create the classifier with random weights."""
        sizes = {"channels": self.assets["channels"], "image_size": self.preparation.image_size}
        return cast(nn.Module, build_classifier(self.config, **sizes, classes=len(self.classes)))

    @property
    def classifier(self) -> Classifier:
        """The network with its type."""
        return cast(Classifier, self.network)

    def count_flops_per_unit(self, network: nn.Module, device: str) -> tuple[float, str]:
        """Count the training FLOPs per image."""
        size = self.preparation.image_size
        picture_1CHW = torch.zeros(1, self.assets["channels"], size, size, device=device)
        network.eval()  # BatchNorm cannot train on one image
        return count_training_flops(lambda: network(picture_1CHW).logits), METHOD

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Compute the cross-entropy of a micro-batch, scaled to a mean over the update's images."""
        with collect_choices() as made:
            loss_B = self._compute_cross_entropy(batch)
        loss_sum = loss_B.sum()
        self.log_update(batch_idx, batch.num_update_images, loss=loss_sum)
        if made:
            with torch.no_grad(), choose_greedily():
                baseline_B = self._compute_cross_entropy(batch)
            loss_sum = loss_sum + compute_choice_loss(made, loss_B, baseline_B)
        return self.scale_loss(loss_sum, batch.num_update_images)

    def _compute_cross_entropy(self, batch: ImageBatch) -> Tensor:
        """Compute loss_B; 0 for images that only fill the batch."""
        return F.cross_entropy(
            self.classifier(batch.images_BCHW).logits,
            batch.labels_B,
            reduction="none",
            ignore_index=NO_LABEL,
            label_smoothing=self.task_config.label_smoothing,
        )

    def on_validation_epoch_start(self) -> None:
        """Reset the collected results."""
        self._found = []

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Classify a batch."""
        log_p_BK = self.classifier(batch.images_BCHW).logits.float().log_softmax(-1)
        self._found.append((batch.indices_B.cpu(), log_p_BK.cpu(), batch.labels_B.cpu()))

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Score the validation set."""
        self._score_stage("val")

    def on_test_epoch_end(self) -> None:
        """Score the test set."""
        self._score_stage("test")
        columns = ("source", "reference", "hypothesis")
        texts = {column: [getattr(sample, column) for sample in self.outputs] for column in columns}
        self.test_results = [TestResult("test", self.report, texts)]

    def _score_stage(self, stage: str) -> None:
        # Each image is scored once, in the order of the data set, for any number of ranks.
        indices_N, log_p_NK, labels_N = map(torch.cat, zip(*self.gather_over_ranks(self._found), strict=True))
        order_N = indices_N.argsort()
        log_p_NK, labels_N = log_p_NK[order_N], labels_N[order_N]
        found = score_predictions(log_p_NK, labels_N, num_bins=self.task_config.calibration_bins)
        rows = zip(indices_N[order_N].tolist(), labels_N.tolist(), log_p_NK.argmax(1).tolist(), strict=True)
        name = self.data_module.get_split_name(stage)
        self.outputs = [Sample(f"{name}[{i}]", self.classes[label], self.classes[guess]) for i, label, guess in rows]
        report: dict[str, Any] = {
            "accuracy": found.accuracy,
            "loss": found.loss,
            "calibration_error": found.calibration_error,
            "per_class": dict(zip(self.classes, found.per_class, strict=True)),
            "confusion": found.confusion,
        }
        self.publish_report(stage, report)

    @torch.inference_mode()
    def build_figures(self, examples: int) -> list[Figure]:
        """Build the confusion matrix of the last evaluation.

        For a model with attention, also build attention figures of right and wrong cases.

        Args:
            examples: number of images with attention.
        """
        confusion = torch.tensor(self.report["confusion"]).numpy()
        found: list[Figure] = [ConfusionMatrix("confusion", confusion, self.classes)]
        if isinstance(self.network, VisionTransformer):
            maps = self._build_attention_figures(self.network, examples)
            found += [AttentionOverview("attention", maps), *maps]
            if isinstance(self.network.position, LearnedPosition):
                vectors_PD = F.normalize(self.network.position.embedding.weight.float(), dim=1)
                similarity_PP = (vectors_PD @ vectors_PD.T).cpu().numpy()
                found.append(PositionSimilarity("positions", similarity_PP, self.network.grid))
        return found

    def _build_attention_figures(self, network: VisionTransformer, examples: int) -> list[PatchAttention]:
        """Build attention figures of validation images, half of them wrongly classified if there are enough."""
        images = self.data_module.get_split("val")
        pixels_BCHW = images.pixels_NCHW[:_MAX_ATTENTION_CANDIDATES]
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
                weights_LHP=self._select_patch_weights(weights),
                rollout_P=self._select_patch_weights(compute_rollout(weights)),
                grid=network.grid,
                label=self.classes[labels_B[row]],
                predicted=self.classes[guess_B[row]],
                confidence=float(confidence_B[row]),
            )
            found.append(picture)
        return found

    def _select_patch_weights(self, weights_TT: np.ndarray) -> np.ndarray:
        """Compute weights_P, with any leading dimensions: the weight of each patch in the vector that is classified."""
        if cast(VitConfig, self.config.model).pool is Pool.cls:
            return weights_TT[..., 0, 1:]
        return cast(np.ndarray, weights_TT.mean(-2))
