"""Translation: trained with label-smoothed cross-entropy, scored by sacreBLEU and chrF."""

# Shapes: B batch, S source length, T target length, D d_model, N real target tokens, L layers, H heads

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from attnbench.config.task import TranslationConfig
from attnbench.data.batching import Batch
from attnbench.data.encoding import TokenizerPair, encode_lines
from attnbench.data.pairs import DETOKENIZED, TOKENIZED, ParallelText
from attnbench.data.tokenizer import BOS, EOS, PAD
from attnbench.metrics.flop_counter import METHOD_BY_LENGTH, count_training_flops, sum_flops_over_lengths
from attnbench.metrics.text import TextScore, compute_bleu, compute_bleu_by_length, compute_chrf, detokenize
from attnbench.metrics.tokenization import DEFAULT
from attnbench.models.build import SequenceToSequence, build_model
from attnbench.models.decoding import beam_search
from attnbench.nn.loss import CrossEntropy, linear_cross_entropy
from attnbench.nn.normalizers import choose_greedily, collect_choices, compute_choice_loss
from attnbench.tasks.base import CHECKPOINT_KEY, Task
from attnbench.tasks.results import Sample, TestResult
from attnbench.visualization.attention_maps import AttentionMap

OUTPUT_COLUMNS = (
    "source",
    "reference",
    "hypothesis",
)  # names of output files


@dataclass
class _Evaluation:
    """Results of an evaluation so far, on this rank."""

    sentences: list[tuple[int, list[int]]] = field(default_factory=list)  # place in the corpus, and its translation
    nll_sum: float = 0.0
    tokens: int = 0


class Translation(Task):
    """Task that learns p(target | source) token by token, and translates with greedy or beam search."""

    unit_name = Batch.unit_name

    def build_network(self) -> nn.Module:
        """Build the sequence-to-sequence model for the vocabularies in assets."""
        self.codec = TokenizerPair.from_json(self.assets["codec"])
        self.task_config = cast(TranslationConfig, self.config.task)
        self.outputs: list[Sample] = []
        self.test_results: list[TestResult] = []
        self._evaluations: defaultdict[int, _Evaluation] = defaultdict(_Evaluation)
        return self.create_network()

    def create_network(self) -> nn.Module:
        """Create the sequence-to-sequence model with random weights."""
        sizes = {"source_vocab": self.codec.source.size, "target_vocab": self.codec.target.size}
        return cast(nn.Module, build_model(self.config, **sizes))

    @property
    def sequence_model(self) -> SequenceToSequence:
        """The network with its type."""
        return cast(SequenceToSequence, self.network)

    def count_flops_per_unit(self, network: nn.Module, device: str) -> tuple[float, str]:
        """Count the training FLOPs per target token, averaged over the training set."""
        model = cast(SequenceToSequence, network)

        def count_pair(source_len: int, target_len: int) -> float:
            source_1S, target_1T = (torch.full((1, length), EOS, device=device) for length in (source_len, target_len))
            return count_training_flops(lambda: model.project(network(source_1S, target_1T).hidden))

        pairs = self.data_module.pairs["train"]
        lengths = (pairs.source_lengths_N, pairs.target_lengths_N)
        return sum_flops_over_lengths(count_pair, *lengths) / float(pairs.target_lengths_N.sum()), METHOD_BY_LENGTH

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the cross-entropy of a micro-batch, scaled to a mean over the update's tokens without padding."""
        with collect_choices() as made:
            loss_sum, nll_N, loss_N = self._compute_cross_entropy(batch, self.task_config.label_smoothing)
        self.log_update(batch_idx, batch.num_update_tokens, loss=loss_sum, nll=nll_N.sum())
        if made:
            loss_sum = loss_sum + compute_choice_loss(made, *self._compute_sentence_losses(batch, loss_N))
        return self.scale_loss(loss_sum, batch.num_update_tokens)

    def _compute_sentence_losses(self, batch: Batch, loss_N: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the loss of each sentence, the one that training minimizes, with and without a random choice.

        Returns:
            loss_B after the choices that were made, and baseline_B after the likeliest ones.
        """
        with torch.no_grad(), choose_greedily():
            greedy_N = self._compute_cross_entropy(batch, self.task_config.label_smoothing).loss_N
        sentence_N = (batch.target_out_BT != PAD).nonzero()[:, 0]
        nothing_B = loss_N.new_zeros(len(batch.target_out_BT))
        return nothing_B.index_add(0, sentence_N, loss_N), nothing_B.index_add(0, sentence_N, greedy_N)

    def _compute_cross_entropy(self, batch: Batch, label_smoothing: float) -> CrossEntropy:
        hidden_BTD = self.sequence_model(batch.source_BS, batch.target_in_BT).hidden
        real_BT = batch.target_out_BT != PAD
        return linear_cross_entropy(
            hidden_BTD[real_BT],
            self.sequence_model.output_weight,
            self.sequence_model.output_bias,
            batch.target_out_BT[real_BT],
            label_smoothing=label_smoothing,
        )

    def on_validation_epoch_start(self) -> None:
        """Reset the collected results."""
        self._evaluations.clear()

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Compute the loss of the reference, and translate with task.val_beam_size."""
        self._evaluate_batch(batch, self.task_config.val_beam_size)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Compute the loss of the reference, and translate with task.beam_size."""
        self._evaluate_batch(batch, self.task_config.beam_size, dataloader_idx)

    def _evaluate_batch(self, batch: Batch, beam_size: int, place: int = 0) -> None:
        nll_N = self._compute_cross_entropy(batch, 0.0).nll_N
        found = self._evaluations[place]
        found.nll_sum += float(nll_N.sum())
        found.tokens += batch.num_tokens
        found.sentences += zip(batch.indices_B.tolist(), self.decode(batch.source_BS, beam_size), strict=True)

    def decode(self, source_BS: Tensor, beam_size: int) -> list[list[int]]:
        """Translate each row of source_BS.

        Args:
            source_BS: token ids.
            beam_size: number of hypotheses per sentence; 1: greedy.

        Returns:
            Token ids of each translation, without BOS and EOS.
        """
        config = self.task_config
        lengths_B = (source_BS != PAD).sum(1) - 1  # EOS is not translated
        hypotheses = beam_search(
            self.sequence_model,
            source_BS,
            beam_size=beam_size,
            max_lengths_B=(lengths_B * config.max_ratio).long() + config.max_extra,
            length_penalty=config.length_penalty,
            length_penalty_form=config.length_penalty_form,
            min_length=config.min_length,
            bos=BOS,
            eos=EOS,
            pad=PAD,
        )
        return [hypothesis.tokens for hypothesis in hypotheses]

    def on_validation_epoch_end(self) -> None:
        """Score the validation set."""
        self._score_stage("val", self._evaluations[0])

    def on_test_epoch_end(self) -> None:
        """Score the test sets; the main one comes last, so that the module reports it."""
        stages = list(enumerate(self.data_module.test_stages))
        self.test_results = [self._score_stage(stage, self._evaluations[place]) for place, stage in reversed(stages)][
            ::-1
        ]

    def _score_stage(self, stage: str, found: _Evaluation) -> TestResult:
        split, is_test = self.data_module.get_split(stage), stage != "val"
        # Each sentence is scored once, in corpus order, for any number of ranks.
        sentences = dict(self.gather_over_ranks(found.sentences))
        order = sorted(sentences)
        hypotheses = [self.codec.target.decode(sentences[index]) for index in order]
        references = {form: [lines[i] for i in order] for form, lines in split.references.items()}
        self.outputs = [
            Sample(split.source[i], split.target[i], text) for i, text in zip(order, hypotheses, strict=True)
        ]
        nll_sum, tokens = (
            sum(column) for column in zip(*self.gather_over_ranks([(found.nll_sum, found.tokens)]), strict=True)
        )
        loss = nll_sum / tokens
        report: dict[str, Any] = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        texts = {column: [getattr(sample, column) for sample in self.outputs] for column in OUTPUT_COLUMNS}
        if is_test:
            report["yardsticks"] = {"unigram_loss": self._compute_unigram_loss(stage)}
            outputs, expected = to_ordinary_text(hypotheses, references, self.data_module.text)
            if (outputs, expected) != (texts["hypothesis"], texts["reference"]):
                texts |= {"detokenized.hypothesis": outputs, "detokenized.reference": expected}
        sources = texts["source"] if is_test else None
        scores = score_translations(
            hypotheses, references, self.data_module.text, sources, tokenize=self.data_module.bleu_tokenizer
        )
        self.publish_report(stage, report | scores)
        return TestResult(stage, self.report, texts)

    def _compute_unigram_loss(self, stage: str) -> float:
        """Compute a test set's loss under add-one-smoothed unigram frequencies of the training targets."""
        train_N, test_N = (self.data_module.pairs[name].target.flat_T for name in ("train", stage))
        counts_V = np.bincount(train_N[train_N != BOS], minlength=self.codec.target.size) + 1.0
        return float(-np.log(counts_V / counts_V.sum())[test_N[test_N != BOS]].mean())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint has the same vocabulary."""
        self.codec.check_same_vocabulary(checkpoint[CHECKPOINT_KEY]["assets"]["codec"], "checkpoint")

    @torch.inference_mode()
    def build_figures(self, examples: int) -> list[AttentionMap]:
        """Build attention maps (encoder, decoder, cross) of the first validation pairs, given the reference.

        Args:
            examples: number of pairs.
        """
        val = self.data_module.get_split("val")
        sources = encode_lines(self.codec.source, val.source[:examples], is_reversed=self.codec.reverse_source)
        targets = encode_lines(self.codec.target, val.target[:examples])
        return [
            picture
            for number in range(len(sources))
            for picture in self.build_attention_maps(number, sources[number].tolist(), targets[number].tolist()[:-1])
        ]

    @torch.inference_mode()
    def build_attention_maps(self, number: int, source: list[int], target: list[int]) -> list[AttentionMap]:
        """Build all attention maps of one sentence pair.

        Args:
            number: index of the pair, used in the names.
            source: token ids with EOS.
            target: token ids without BOS and EOS.
        """
        source_1S, target_1T = (torch.tensor([ids], device=self.device) for ids in (source, [BOS, *target]))
        attention = self.network(source_1S, target_1T, need_weights=True).attention
        rows, columns = self.codec.source.get_labels(source), self.codec.target.get_labels([BOS, *target])
        axes = {"encoder": (rows, rows), "decoder": (columns, columns), "cross": (columns, rows)}
        return [
            AttentionMap(f"{name}-{number}", weights_L1HQK[:, 0].float().cpu().numpy(), *axes[name])
            for name, weights_L1HQK in attention.items()
        ]


def to_ordinary_text(
    hypotheses: list[str], references: dict[str, list[str]], text: ParallelText
) -> tuple[list[str], list[str]]:
    """Convert translations and references to ordinary text: detokenize them if the data set is tokenized."""
    plain = references.get(DETOKENIZED)
    if text.is_tokenized:
        language = text.target_language.name if text.target_language is not None else "en"
        hypotheses = detokenize(hypotheses, language)
        plain = detokenize(references.get(TOKENIZED, []), language) if plain is None else plain
    return hypotheses, plain or []


def score_translations(
    hypotheses: list[str],
    references: dict[str, list[str]],
    text: ParallelText,
    sources: list[str] | None = None,
    *,
    tokenize: str = DEFAULT,
) -> dict[str, Any]:
    """Scores by sacreBLEU: BLEU and chrF against ordinary text, and BLEU on tokens where a set is published tokenized.

    Scores are 0..100, each with its sacreBLEU signature, which also says whether case counts: it does not where
    the training text has no capitals to learn from. With `sources`, as the tokenizer sees them, `by_source_words` has
    BLEU against ordinary text by the number of words that their spaces part. `tokenize` is what BLEU on ordinary text
    splits it with.
    """
    report: dict[str, Any] = {}
    ignore_case = not any(line != line.lower() for line in text.train.target)
    tokenized = references.get(TOKENIZED)
    if tokenized is not None:
        scored = compute_bleu(hypotheses, tokenized, tokenize="none", lowercase=ignore_case)
        report |= {"bleu_tokenized": scored.score, "bleu_tokenized_signature": scored.signature}
    hypotheses, plain = to_ordinary_text(hypotheses, references, text)
    metrics: dict[str, Callable[..., TextScore]] = {
        "bleu": partial(compute_bleu, tokenize=tokenize),
        "chrf": compute_chrf,
    }
    for name, metric in metrics.items():
        found = metric(hypotheses, plain, lowercase=ignore_case)
        report |= {name: found.score, f"{name}_signature": found.signature}
    if sources is not None:
        words = [len(source.split()) for source in sources]
        report["by_source_words"] = compute_bleu_by_length(
            hypotheses, plain, words, tokenize=tokenize, lowercase=ignore_case
        )
    return report
