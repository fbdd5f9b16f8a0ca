"""Beam search, batched over sentences and hypotheses; greedy search is beam size 1."""

# Shapes: B sentences still sought, J hypotheses of a sentence, N = B x J, V vocabulary, S source length,
#         T target tokens so far, C candidates (of a hypothesis where J stands too, else of a sentence), D width

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from attnbench.config.task import LengthPenalty

_ROWS_PER_CHUNK_CPU, _ROWS_PER_CHUNK_GPU = 256, 8192  # rows whose logits are computed at once
_TOP_K_BLOCK_SIZE = 64  # tokens per block of the first top-k step


class Decoder(Protocol):
    """Protocol of a decoder with state, during decoding."""

    def step(self, tokens_BJ: Tensor) -> Tensor:
        """Append one token to each hypothesis and return hidden_BJD for `project`; the first is BOS (J = 1)."""
        ...

    def select(self, rows_N: Tensor | None, sentences_B: Tensor | None) -> None:
        """Keep only these hypotheses and sentences.

        Args:
            rows_N: indices of hypotheses in B x J; None: all.
            sentences_B: indices of sentences; None: all.
        """
        ...


class Decodable(Protocol):
    """Protocol of models that beam search can decode."""

    @property
    def max_length(self) -> int | None:
        """Length of the longest target that the model can read, BOS included; None: no limit."""
        ...

    def start_decoding(self, source_BS: Tensor) -> Decoder:
        """Encode the source and return a decoder before the first target token."""
        ...

    def project(self, hidden_D: Tensor) -> Tensor:
        """Return logits_V of hidden states."""
        ...

    def __call__(self, source_BS: Tensor, target_BT: Tensor) -> Any:
        """Return an output whose `hidden` is hidden_BTD."""
        ...


@dataclass(frozen=True, order=True)
class Hypothesis:
    """Finished translation; `score` is its log-probability, EOS included, divided by its length penalty."""

    score: float
    tokens: list[int]  # without BOS and EOS


class UncachedDecoder:
    """Decoder without a cache: it computes source and prefix again for each token. Slow.

    The reference for cached decoders.
    """

    def __init__(self, model: Decodable, source_BS: Tensor) -> None:
        self._model, self._source_BS = model, source_BS
        self._prefix_NT = source_BS.new_empty(len(source_BS), 0)

    def step(self, tokens_BJ: Tensor) -> Tensor:
        """Append one token to each hypothesis and return hidden_BJD."""
        self._prefix_NT = torch.cat((self._prefix_NT, tokens_BJ.reshape(-1, 1)), dim=1)
        source_NS = self._source_BS.repeat_interleave(tokens_BJ.shape[1], dim=0)
        hidden_ND: Tensor = self._model(source_NS, self._prefix_NT).hidden[:, -1]
        return hidden_ND.view(*tokens_BJ.shape, -1)

    def select(self, rows_N: Tensor | None, sentences_B: Tensor | None) -> None:
        """Keep only these hypotheses and sentences; None: all."""
        if rows_N is not None:
            self._prefix_NT = self._prefix_NT[rows_N]
        if sentences_B is not None:
            self._source_BS = self._source_BS[sentences_B]


@torch.inference_mode()
def beam_search(
    model: Decodable,
    source_BS: Tensor,
    *,
    beam_size: int,
    max_lengths_B: Tensor,
    length_penalty: float,
    length_penalty_form: LengthPenalty = LengthPenalty.power,
    min_length: int = 0,
    bos: int,
    eos: int,
    pad: int,
    use_cache: bool = True,
) -> list[Hypothesis]:
    """Find the best translation of each row of `source_BS` by beam search.

    A hypothesis is finished when EOS is among the `beam_size` best continuations of its sentence's hypotheses; after
    max_lengths_B tokens EOS is forced. A sentence leaves the batch when it has `beam_size` finished hypotheses. With
    `min_length=1` and the power form these are the rules of fairseq (Ott et al. 2019). The best hypothesis has the
    highest log p divided by `penalize_length`.

    Args:
        model: model in eval mode.
        source_BS: source tokens.
        beam_size: hypotheses of a sentence; 1 is greedy search.
        max_lengths_B: maximum number of tokens of each translation, EOS not counted.
        length_penalty: alpha of `penalize_length`.
        length_penalty_form: formula of `penalize_length`.
        min_length: minimum number of tokens of a translation, EOS not counted (at most max_lengths_B).
        bos: first token of every target.
        eos: token that ends a target.
        pad: padding token.
        use_cache: False computes the whole prefix again for each token, for comparison.

    Returns:
        One hypothesis for each row.
    """
    decoder = model.start_decoding(source_BS) if use_cache else UncachedDecoder(model, source_BS)
    if model.max_length is not None:
        max_lengths_B = max_lengths_B.clamp(max=model.max_length - 1)
    tokens = _TokenScorer(model, eos, [bos, pad], min_length)
    search = _BeamSearch(tokens, max_lengths_B, beam_size, length_penalty, length_penalty_form)
    tokens_BJ = source_BS.new_full((len(source_BS), 1), bos)
    while len(tokens_BJ):
        tokens_BJ, rows_N, sentences_B = search.advance(decoder.step(tokens_BJ))
        decoder.select(rows_N, sentences_B)
    return search.found


def penalize_length(length: int, alpha: float, form: LengthPenalty) -> float:
    """Return the divisor of a hypothesis' log-probability.

    Args:
        length: tokens of the hypothesis, EOS counted.
        alpha: 0 gives 1, which prefers short hypotheses; larger values prefer longer ones.
        form: length^alpha, or ((5 + length) / 6)^alpha (Wu et al. 2016, equation 14).
    """
    base: float = (5 + length) / 6 if form is LengthPenalty.wu else length
    penalty: float = base**alpha
    return penalty


class _TokenScorer:
    """Scores of the next tokens of hypotheses, with forbidden and forced tokens."""

    def __init__(self, model: Decodable, eos: int, forbidden: list[int], min_length: int) -> None:
        self.model, self.eos, self.forbidden, self.min_length = model, eos, forbidden, min_length

    def find_best_tokens(
        self, hidden_ND: Tensor, forced_N: Tensor, count: int, *, length: int
    ) -> tuple[Tensor, Tensor]:
        """Find the best next tokens of each hypothesis.

        Logits are computed for some rows at a time, so that they stay in the cache.

        Args:
            hidden_ND: hidden state of each hypothesis.
            forced_N: True where only EOS is allowed.
            count: number of tokens.
            length: tokens so far; below `min_length`, EOS is not allowed.

        Returns:
            log_p_NC and token_NC, best first; log p is -inf for tokens that are not allowed.
        """
        rows = _ROWS_PER_CHUNK_GPU if hidden_ND.is_cuda else _ROWS_PER_CHUNK_CPU
        parts = zip(torch.split(hidden_ND, rows), torch.split(forced_N, rows), strict=True)
        is_short = length < self.min_length
        found = [self._find_best_tokens_in_chunk(hidden_CD, forced_C, count, is_short) for hidden_CD, forced_C in parts]
        log_p, tokens = zip(*found, strict=True)
        return torch.cat(log_p), torch.cat(tokens)

    def _find_best_tokens_in_chunk(
        self, hidden_ND: Tensor, forced_N: Tensor, count: int, is_short: bool
    ) -> tuple[Tensor, Tensor]:
        logits_NV = self.model.project(hidden_ND).float()
        # In place, row by row: torch.logsumexp would read and write all logits four times.
        log_p_NV = torch.log_softmax(logits_NV, -1, out=logits_NV)
        log_p_NV[:, self.forbidden] = -torch.inf
        if is_short:
            log_p_NV[:, self.eos].masked_fill_(~forced_N, -torch.inf)
        if bool(forced_N.any()):
            others_V = torch.arange(log_p_NV.shape[1], device=log_p_NV.device) != self.eos
            log_p_NV.masked_fill_(forced_N.unsqueeze(1) & others_V, -torch.inf)
        return find_top_k(log_p_NV, min(count, log_p_NV.shape[1]))


class _BeamSearch:
    """State of a beam search: unfinished hypotheses, and the best finished hypothesis of each sentence."""

    def __init__(
        self, tokens: _TokenScorer, max_lengths_B: Tensor, beam_size: int, length_penalty: float, form: LengthPenalty
    ) -> None:
        sentences = len(max_lengths_B)
        self.tokens, self.beam_size = tokens, beam_size
        self.length_penalty, self.length_penalty_form = length_penalty, form
        self.found = [Hypothesis(-torch.inf, [])] * sentences
        self.numbers_B = torch.arange(sentences, device=max_lengths_B.device)  # indices into `found`
        self.max_lengths_B = max_lengths_B
        self.finished_B = torch.zeros_like(max_lengths_B)
        self.prefixes_BJT = max_lengths_B.new_empty(sentences, 1, 0)  # without BOS
        self.log_p_BJ = max_lengths_B.new_zeros(sentences, 1, dtype=torch.float32)
        self.best_score_B = torch.full_like(self.log_p_BJ[:, 0], -torch.inf)
        self.best_length_B = torch.zeros_like(max_lengths_B)
        self.best_BT = self.prefixes_BJT[:, 0]

    def advance(self, hidden_BJD: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Advance by one token.

        Returns:
            Next tokens_BJ, and the rows and sentences to keep, for `Decoder.select`.
        """
        forced_B = self.max_lengths_B <= self.prefixes_BJT.shape[2]
        log_p_BC, row_BC, token_BC = self._find_candidates(hidden_BJD, forced_B)
        ends_BC = token_BC == self.tokens.eos
        self._add_finished(log_p_BC.masked_fill(~ends_BC, -torch.inf)[:, : self.beam_size], row_BC)
        going_BC = log_p_BC.masked_fill(ends_BC, -torch.inf)
        self.log_p_BJ, choice_BJ = going_BC.topk(min(self.beam_size, going_BC.shape[1]))
        row_BJ, tokens_BJ = row_BC.gather(1, choice_BJ), token_BC.gather(1, choice_BJ)
        self.prefixes_BJT = torch.cat((_select_prefixes(self.prefixes_BJT, row_BJ), tokens_BJ.unsqueeze(2)), dim=2)
        first_B1 = hidden_BJD.shape[1] * torch.arange(len(row_BJ), device=row_BJ.device).unsqueeze(1)
        done_B = forced_B | (self.finished_B >= self.beam_size)
        if not bool(done_B.any()):
            return tokens_BJ, None if self.beam_size == 1 else (first_B1 + row_BJ).flatten(), None
        self._store_results(done_B)
        left_B = (~done_B).nonzero().squeeze(1)
        self._keep_sentences(left_B)
        return tokens_BJ[left_B], (first_B1 + row_BJ)[left_B].flatten(), left_B

    def _find_candidates(self, hidden_BJD: Tensor, forced_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log_p_BC of the best continuations, best first, the hypothesis row_BC of each and its token_BC."""
        sentences, hypotheses = hidden_BJD.shape[:2]
        # Each hypothesis can end in one way, so among 2 x beam_size candidates beam_size do not end. A beam of one ends
        # with its first.
        count = 1 if self.beam_size == 1 else 2 * self.beam_size
        length = self.prefixes_BJT.shape[2]
        best = self.tokens.find_best_tokens(
            hidden_BJD.flatten(0, 1), forced_B.repeat_interleave(hypotheses), count, length=length
        )
        log_p_BJC, token_BJC = (part.view(sentences, hypotheses, -1) for part in best)
        of_each = log_p_BJC.shape[2]
        total_BJC = self.log_p_BJ.unsqueeze(2) + log_p_BJC
        log_p_BC, index_BC = total_BJC.flatten(1).topk(min(count, hypotheses * of_each))
        return log_p_BC, index_BC // of_each, token_BJC.flatten(1).gather(1, index_BC)

    def _add_finished(self, log_p_BC: Tensor, row_BC: Tensor) -> None:
        """Store the candidates that end here (those above -inf) if they are the best of their sentence so far."""
        length = self.prefixes_BJT.shape[2]
        self.finished_B += (log_p_BC > -torch.inf).sum(1)
        penalty = penalize_length(length + 1, self.length_penalty, self.length_penalty_form)
        score_B, choice_B = (log_p_BC / penalty).max(1)
        better_B = score_B > self.best_score_B
        self.best_score_B = torch.where(better_B, score_B, self.best_score_B)
        self.best_length_B = torch.where(better_B, length, self.best_length_B)
        prefix_BT = _select_prefixes(self.prefixes_BJT, row_BC.gather(1, choice_B.unsqueeze(1))).squeeze(1)
        so_far_BT = torch.nn.functional.pad(self.best_BT, (0, length - self.best_BT.shape[1]))
        self.best_BT = torch.where(better_B.unsqueeze(1), prefix_BT, so_far_BT)

    def _store_results(self, done_B: Tensor) -> None:
        done = zip(
            self.numbers_B[done_B].tolist(),
            self.best_score_B[done_B].tolist(),
            self.best_length_B[done_B].tolist(),
            self.best_BT[done_B].tolist(),
            strict=True,
        )
        for number, score, length, tokens in done:
            self.found[number] = Hypothesis(score, tokens[:length])

    def _keep_sentences(self, keep_B: Tensor) -> None:
        self.numbers_B, self.max_lengths_B = self.numbers_B[keep_B], self.max_lengths_B[keep_B]
        self.finished_B, self.prefixes_BJT = self.finished_B[keep_B], self.prefixes_BJT[keep_B]
        self.log_p_BJ, self.best_score_B = self.log_p_BJ[keep_B], self.best_score_B[keep_B]
        self.best_length_B, self.best_BT = self.best_length_B[keep_B], self.best_BT[keep_B]


def find_top_k(values_V: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` largest elements of the last dimension and their indices, largest first.

    Three times faster than torch.topk on a CPU: the largest elements lie in the blocks with the largest maxima;
    elements after the last full block are compared too.

    Args:
        values_V: values, with any leading dimensions.
        count: number of elements.
    """
    vocabulary = values_V.shape[-1]
    blocks = vocabulary // _TOP_K_BLOCK_SIZE
    if blocks <= count:
        return values_V.topk(count)
    places_X = torch.arange(vocabulary, device=values_V.device)
    inside = blocks * _TOP_K_BLOCK_SIZE
    maxima = values_V[..., :inside].reshape(*values_V.shape[:-1], blocks, _TOP_K_BLOCK_SIZE).amax(-1)
    places_C = places_X[:inside].view(blocks, _TOP_K_BLOCK_SIZE)[maxima.topk(count, sorted=False).indices].flatten(-2)
    rest_C = places_X[inside:].expand(*places_C.shape[:-1], -1)
    places_C = torch.cat((places_C, rest_C), dim=-1)
    found, which = values_V.gather(-1, places_C).topk(count)
    return found, places_C.gather(-1, which)


def _select_prefixes(prefixes_BJT: Tensor, row_BC: Tensor) -> Tensor:
    """Return prefixes_BCT: the given hypotheses of each sentence."""
    return prefixes_BJT.gather(1, row_BC.unsqueeze(2).expand(-1, -1, prefixes_BJT.shape[2]))
