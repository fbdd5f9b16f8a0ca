"""Translation: label-smoothed cross-entropy in, sacreBLEU and chrF out."""

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
from attnbench.data.encoding import Codec, encode
from attnbench.data.pairs import DETOKENISED, TOKENISED, ParallelText
from attnbench.data.tokenizer import BOS, EOS, PAD
from attnbench.metrics.flop_formulas import METHOD, training_flops
from attnbench.metrics.text import TextScore, bleu, bleu_by_length, chrf, detokenise
from attnbench.metrics.tokenization import DEFAULT
from attnbench.models.build import SequenceToSequence, build_model
from attnbench.models.decoding import beam_search
from attnbench.nn.loss import CrossEntropy, linear_cross_entropy
from attnbench.nn.normalizers import choice_loss, choices, greedy_choices
from attnbench.tasks.base import CHECKPOINT_KEY, Task
from attnbench.tasks.flop_estimation import size_of
from attnbench.tasks.results import Sample, Tested
from attnbench.visualization.attention_maps import AttentionMap

COLUMNS = ("source", "reference", "hypothesis")  # of what is kept of a test set, as the model reads and writes it


@dataclass
class _Found:
    """What an evaluation of one set has found so far, on this rank."""

    sentences: list[tuple[int, list[int]]] = field(default_factory=list)  # place in the corpus, and its translation
    nll_sum: float = 0.0
    tokens: int = 0


class Translation(Task):
    """Learns p(target | source) token by token; scores greedy or beam-searched translations."""

    def build_network(self) -> nn.Module:
        """The sequence-to-sequence model for the vocabularies in assets."""
        self.codec = Codec.from_json(self.assets["codec"])
        self.task_config = cast(TranslationConfig, self.config.task)
        self.outputs: list[Sample] = []
        self.tested: list[Tested] = []
        self._found: defaultdict[int, _Found] = defaultdict(_Found)
        sizes = {"source_vocab": self.codec.source.size, "target_vocab": self.codec.target.size}
        return cast(nn.Module, build_model(self.config, **sizes))

    @property
    def model(self) -> SequenceToSequence:
        """The network, as what it is."""
        return cast(SequenceToSequence, self.network)

    def flops_per_unit(self) -> tuple[float, str]:
        """FLOPs of training on one target token, averaged over the training set."""
        pairs = self.data.pairs["train"]
        lengths = zip(pairs.source_lengths_N.tolist(), pairs.target_lengths_N.tolist(), strict=True)
        size = size_of(self.config, self.codec.target.size)
        return sum(training_flops(size, s, t) for s, t in lengths) / float(pairs.target_lengths_N.sum()), METHOD

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy of the update this batch is a share of: its sum over the update's real tokens."""
        with choices() as made:
            loss_sum, nll_N, loss_N = self._cross_entropy(batch, self.task_config.label_smoothing)
        self.log_update(batch_idx, batch.update_tokens, loss=loss_sum, nll=nll_N.sum())
        if made:
            loss_sum = loss_sum + choice_loss(made, *self._sentence_losses(batch, loss_N))
        return self.update_loss(loss_sum, batch.update_tokens)

    def _sentence_losses(self, batch: Batch, loss_N: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the loss of each sentence, the one that training minimizes, with and without a random choice.

        Returns:
            loss_B after the choices that were made, and baseline_B after the likeliest ones.
        """
        with torch.no_grad(), greedy_choices():
            greedy_N = self._cross_entropy(batch, self.task_config.label_smoothing).loss_N
        sentence_N = (batch.target_out_BT != PAD).nonzero()[:, 0]
        nothing_B = loss_N.new_zeros(len(batch.target_out_BT))
        return nothing_B.index_add(0, sentence_N, loss_N), nothing_B.index_add(0, sentence_N, greedy_N)

    def _cross_entropy(self, batch: Batch, label_smoothing: float) -> CrossEntropy:
        hidden_BTD = self.model(batch.source_BS, batch.target_in_BT).hidden
        real_BT = batch.target_out_BT != PAD
        return linear_cross_entropy(
            hidden_BTD[real_BT],
            self.model.output_weight,
            self.model.output_bias,
            batch.target_out_BT[real_BT],
            label_smoothing=label_smoothing,
        )

    def on_validation_epoch_start(self) -> None:
        """Nothing found yet."""
        self._found.clear()

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Likelihood of the reference, and a quick translation."""
        self._evaluate(batch, self.task_config.val_beam_size)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Likelihood of the reference, and the translation that counts."""
        self._evaluate(batch, self.task_config.beam_size, dataloader_idx)

    def _evaluate(self, batch: Batch, beam_size: int, place: int = 0) -> None:
        nll_N = self._cross_entropy(batch, 0.0).nll_N
        found = self._found[place]
        found.nll_sum += float(nll_N.sum())
        found.tokens += batch.num_tokens
        found.sentences += zip(batch.indices_B.tolist(), self.decode(batch.source_BS, beam_size), strict=True)

    def decode(self, source_BS: Tensor, beam_size: int) -> list[list[int]]:
        """The best translation of each source row, as token ids without BOS and EOS."""
        config = self.task_config
        lengths_B = (source_BS != PAD).sum(1) - 1  # EOS is no word
        hypotheses = beam_search(
            self.model,
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
        self._score("val", self._found[0])

    def on_test_epoch_end(self) -> None:
        """Score the test sets; the one that the run is known by last, so that it is what the module reports."""
        stages = list(enumerate(self.data.tests))
        self.tested = [self._score(stage, self._found[place]) for place, stage in reversed(stages)][::-1]

    def _score(self, stage: str, found: _Found) -> Tested:
        split, is_test = self.data.split(stage), stage != "val"
        # A sentence is scored once, in the corpus's order, however many ranks there are.
        sentences = dict(self.gather(found.sentences))
        order = sorted(sentences)
        hypotheses = [self.codec.target.decode(sentences[index]) for index in order]
        references = {form: [lines[i] for i in order] for form, lines in split.references.items()}
        self.outputs = [
            Sample(split.source[i], split.target[i], text) for i, text in zip(order, hypotheses, strict=True)
        ]
        nll_sum, tokens = (sum(column) for column in zip(*self.gather([(found.nll_sum, found.tokens)]), strict=True))
        loss = nll_sum / tokens
        report: dict[str, Any] = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        texts = {column: [getattr(sample, column) for sample in self.outputs] for column in COLUMNS}
        if is_test:
            report["yardsticks"] = {"unigram_loss": self._unigram_loss(stage)}
            said, meant = ordinary(hypotheses, references, self.data.text)
            if (said, meant) != (texts["hypothesis"], texts["reference"]):
                texts |= {"detokenised.hypothesis": said, "detokenised.reference": meant}
        sources = texts["source"] if is_test else None
        scores = score_translations(hypotheses, references, self.data.text, sources, tokenize=self.data.bleu_tokenizer)
        self.publish(stage, report | scores)
        return Tested(stage, self.report, texts)

    def _unigram_loss(self, stage: str) -> float:
        """A test set's loss under the frequencies of training's target tokens, plus one each: knowing no more."""
        train_N, test_N = (self.data.pairs[name].target.flat_T for name in ("train", stage))
        counts_V = np.bincount(train_N[train_N != BOS], minlength=self.codec.target.size) + 1.0
        return float(-np.log(counts_V / counts_V.sum())[test_N[test_N != BOS]].mean())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on from a checkpoint with another vocabulary."""
        self.codec.check_fits(checkpoint[CHECKPOINT_KEY]["assets"]["codec"], "checkpoint")

    @torch.inference_mode()
    def pictures(self, examples: int) -> list[AttentionMap]:
        """The attention of the first validation pairs, the reference given: encoder, decoder, cross."""
        val = self.data.split("val")
        sources = encode(self.codec.source, val.source[:examples], backwards=self.codec.reverse_source)
        targets = encode(self.codec.target, val.target[:examples])
        return [
            picture
            for number in range(len(sources))
            for picture in self.attention_maps(number, sources[number].tolist(), targets[number].tolist()[:-1])
        ]

    @torch.inference_mode()
    def attention_maps(self, number: int, source: list[int], target: list[int]) -> list[AttentionMap]:
        """All attention while `target`, without BOS and EOS, is said of `source`, EOS included: both as token ids."""
        source_1S, target_1T = (torch.tensor([ids], device=self.device) for ids in (source, [BOS, *target]))
        attention = self.network(source_1S, target_1T, need_weights=True).attention
        rows, columns = self.codec.source.tokens(source), self.codec.target.tokens([BOS, *target])
        axes = {"encoder": (rows, rows), "decoder": (columns, columns), "cross": (columns, rows)}
        return [
            AttentionMap(f"{name}-{number}", weights_L1HQK[:, 0].float().cpu().numpy(), *axes[name])
            for name, weights_L1HQK in attention.items()
        ]


def ordinary(
    hypotheses: list[str], references: dict[str, list[str]], text: ParallelText
) -> tuple[list[str], list[str]]:
    """Translations and references as ordinary text: detokenised where a set is tokenised."""
    plain = references.get(DETOKENISED)
    if text.tokenised:
        language = text.target_language.name if text.target_language is not None else "en"
        hypotheses = detokenise(hypotheses, language)
        plain = detokenise(references.get(TOKENISED, []), language) if plain is None else plain
    return hypotheses, plain or []


def score_translations(
    hypotheses: list[str],
    references: dict[str, list[str]],
    text: ParallelText,
    sources: list[str] | None = None,
    *,
    tokenize: str = DEFAULT,
) -> dict[str, Any]:
    """Scores by sacreBLEU: BLEU and chrF against ordinary text, and BLEU on tokens where a set is published tokenised.

    Scores are 0..100, each with its sacreBLEU signature, which also says whether case counts: it does not where
    the training text has no capitals to learn from. With `sources`, as the tokenizer sees them, `by_source_words` has
    BLEU against ordinary text by the number of words that their spaces part. `tokenize` is what BLEU on ordinary text
    splits it with.
    """
    report: dict[str, Any] = {}
    ignore_case = not any(line != line.lower() for line in text.train.target)
    tokenised = references.get(TOKENISED)
    if tokenised is not None:
        scored = bleu(hypotheses, tokenised, tokenize="none", lowercase=ignore_case)
        report |= {"bleu_tokenised": scored.score, "bleu_tokenised_signature": scored.signature}
    hypotheses, plain = ordinary(hypotheses, references, text)
    metrics: dict[str, Callable[..., TextScore]] = {"bleu": partial(bleu, tokenize=tokenize), "chrf": chrf}
    for name, metric in metrics.items():
        found = metric(hypotheses, plain, lowercase=ignore_case)
        report |= {name: found.score, f"{name}_signature": found.signature}
    if sources is not None:
        words = [len(source.split()) for source in sources]
        report["by_source_words"] = bleu_by_length(hypotheses, plain, words, tokenize=tokenize, lowercase=ignore_case)
    return report
