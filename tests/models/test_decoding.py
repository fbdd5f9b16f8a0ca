from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from attnbench.config.attention import AttentionConfig, Score
from attnbench.config.model import Init, NormPlacement, NormType, TiedEmbeddings, TransformerConfig
from attnbench.config.position import Position, PositionConfig
from attnbench.config.task import LengthPenalty
from attnbench.models.decoding import Hypothesis, beam_search, find_top_k
from attnbench.models.transformer import Transformer

PAD, BOS, EOS = 0, 1, 2


def build(
    vocabulary: int = 12,
    score: Score = Score.scaled_dot,
    position: Position = Position.sinusoidal,
    max_len: int = 32,
    seed: int = 0,
    **options: Any,
) -> Transformer:
    torch.manual_seed(seed)
    shape = {
        "depth": 2,
        "d_model": 16,
        "d_ff": 16,
        "num_heads": 2,
        "init": Init.torch,
        "tie_embeddings": TiedEmbeddings.none,
    }
    model = Transformer(
        TransformerConfig(**(shape | options)),
        AttentionConfig(score=score),
        PositionConfig(kind=position, max_len=max_len),
        source_vocab=vocabulary,
        target_vocab=vocabulary,
        pad=PAD,
    )
    torch.nn.init.normal_(model.output.weight, std=0.5)  # opinions strong enough to end at different lengths
    return model.double().eval()


def sources(rows: int, vocabulary: int = 12, longest: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    source = torch.randint(3, vocabulary, (rows, longest), generator=generator)
    for row, length in enumerate(torch.randint(1, longest + 1, (rows,), generator=generator).tolist()):
        source[row, length:] = PAD
    return source


def search(model: Transformer, source: Tensor, beam_size: int = 4, **options: Any) -> list[Hypothesis]:
    settings: dict[str, Any] = {
        "max_lengths_B": torch.full((len(source),), 8),
        "length_penalty": 1.0,
        "bos": BOS,
        "eos": EOS,
        "pad": PAD,
    }
    return beam_search(model, source, beam_size=beam_size, **(settings | options))


@torch.no_grad()
def log_p(model: Transformer, source: Tensor, prefix: list[int]) -> list[float]:
    hidden = model(source[None, source != PAD], torch.tensor([[BOS, *prefix]])).hidden[0, -1]
    return model.project(hidden).log_softmax(-1).tolist()


def slow_search(
    model: Transformer,
    source: Tensor,
    beam_size: int,
    max_length: int,
    penalty: Callable[[int], float],
    min_length: int = 0,
) -> Hypothesis:
    """One sentence, one hypothesis, one token at a time; `penalty` of a length divides."""
    live, finished = [(0.0, [])], []
    for length in itertools.count():
        grown = []
        for total, prefix in live:
            for token, value in enumerate(log_p(model, source, prefix)):
                too_short = token == EOS and length < min(min_length, max_length)
                if token not in (PAD, BOS) and (length < max_length or token == EOS) and not too_short:
                    grown.append((total + value, [*prefix, token]))
        grown.sort(key=lambda pair: -pair[0])
        for total, tokens in grown[:beam_size]:
            if tokens[-1] == EOS:
                finished.append(Hypothesis(total / penalty(len(tokens)), tokens[:-1]))
        live = [pair for pair in grown if pair[1][-1] != EOS][:beam_size]
        if len(finished) >= beam_size or length == max_length:
            return max(finished, key=lambda hypothesis: hypothesis.score)
    raise AssertionError


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [h.tokens for h in found] == [h.tokens for h in expected]
    assert [h.score for h in found] == pytest.approx([h.score for h in expected], rel=1e-5)


@pytest.mark.parametrize("form", LengthPenalty)
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("beam_size", [1, 2, 5, 10])
def test_equals_a_slow_search(beam_size: int, alpha: float, form: LengthPenalty) -> None:
    def penalty(length: int) -> float:
        return ((5 + length) / 6) ** alpha if form is LengthPenalty.wu else length**alpha

    model, source = build(), sources(10)
    limits = torch.arange(10)  # none at all, to nine
    found = search(model, source, beam_size, max_lengths_B=limits, length_penalty=alpha, length_penalty_form=form)
    expected = [
        slow_search(model, row, beam_size, limit, penalty) for row, limit in zip(source, limits.tolist(), strict=True)
    ]
    assert_same(found, expected)
    assert len({len(h.tokens) for h in found}) > 1  # sentences left the batch at different times


@pytest.mark.parametrize("min_length", [1, 3])
@pytest.mark.parametrize("beam_size", [1, 4])
def test_a_translation_has_a_least_length(beam_size: int, min_length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, source, limits = build(), sources(10), torch.arange(10)
    project, end = model.project, 5 * torch.nn.functional.one_hot(torch.tensor(EOS), 12)
    monkeypatch.setattr(model, "project", lambda hidden_D: project(hidden_D) + end)  # would end at once
    assert {len(h.tokens) for h in search(model, source, beam_size, max_lengths_B=limits)} == {0}
    found = search(model, source, beam_size, max_lengths_B=limits, min_length=min_length)
    expected = [
        slow_search(model, row, beam_size, limit, lambda length: length, min_length)
        for row, limit in zip(source, limits.tolist(), strict=True)
    ]
    assert_same(found, expected)
    lengths = [len(h.tokens) for h in found]
    assert all(length >= min(min_length, limit) for length, limit in zip(lengths, limits.tolist(), strict=True))


class TwoTranslations:
    """Knows a translation of nine tokens with log p = -5, one of eleven with log p = -5.45, and hardly any other."""

    NINE, ELEVEN, NONSENSE = 4, 5, 3
    LOG_P = (-5.0, -5.45)
    max_length = None

    def start_decoding(self, source_BS: Tensor) -> TwoTranslations:
        self.prefix_NT = torch.zeros(len(source_BS), 0, dtype=torch.long)
        return self

    def step(self, tokens_BJ: Tensor) -> Tensor:
        self.prefix_NT = torch.cat((self.prefix_NT, tokens_BJ.reshape(-1, 1)), 1)
        log_p_NV = torch.full((len(self.prefix_NT), 6), -math.inf)
        for row, prefix in enumerate(self.prefix_NT[:, 1:].tolist()):
            if not prefix:
                log_p_NV[row, self.NINE], log_p_NV[row, self.ELEVEN] = self.LOG_P
                log_p_NV[row, self.NONSENSE] = math.log1p(-sum(map(math.exp, self.LOG_P)))
            else:
                length = {self.NINE: 9, self.ELEVEN: 11}.get(prefix[0], math.inf)
                log_p_NV[row, prefix[0] if len(prefix) < length else EOS] = 0.0
        return log_p_NV.view(*tokens_BJ.shape, 6)

    def select(self, rows_N: Tensor | None, sentences_B: Tensor | None) -> None:
        if rows_N is not None:
            self.prefix_NT = self.prefix_NT[rows_N]

    def project(self, hidden_D: Tensor) -> Tensor:
        return hidden_D.clone()


@pytest.mark.parametrize(("form", "length"), [(LengthPenalty.power, 12), (LengthPenalty.wu, 10)])
def test_the_two_penalties_choose_differently(form: LengthPenalty, length: int) -> None:
    """-5 / 10^0.6 = -1.256 and -5.45 / 12^0.6 = -1.227; over ((5 + L) / 6)^0.6, -2.885 and -2.918."""
    found = beam_search(
        TwoTranslations(), torch.ones(1, 3, dtype=torch.long), beam_size=4, max_lengths_B=torch.tensor([20]),
        length_penalty=0.6, length_penalty_form=form, bos=BOS, eos=EOS, pad=PAD,
    )  # fmt: skip
    assert len(found[0].tokens) + 1 == length
    assert found[0].score == pytest.approx({12: -1.2271, 10: -2.8854}[length], abs=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_the_best_of_all(seed: int, penalty: float) -> None:
    vocabulary, longest = 6, 3  # three words: 1 + 3 + 9 + 27 translations
    model, source = build(vocabulary, seed=seed), sources(4, vocabulary)
    found = search(model, source, 41, max_lengths_B=torch.full((4,), longest), length_penalty=penalty)
    for row, hypothesis in zip(source, found, strict=True):
        every = []
        for length in range(longest + 1):
            for words in itertools.product(range(3, vocabulary), repeat=length):
                tokens = [*words, EOS]
                total = sum(log_p(model, row, tokens[:i])[token] for i, token in enumerate(tokens))
                every.append(Hypothesis(total / len(tokens) ** penalty, list(words)))
        assert_same([hypothesis], [max(every)])


# Every part that a model can be made of, one at a time.
PARTS: list[dict[str, Any]] = [
    *({"norm_placement": norm} for norm in NormPlacement),
    *({"score": score} for score in Score),
    *({"position": position} for position in Position),
    *({"norm_type": kind} for kind in NormType),
]


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("part", PARTS, ids=lambda part: "-".join(value.value for value in part.values()))
def test_the_cache_changes_nothing(part: dict[str, Any], beam_size: int) -> None:
    model, source = build(**part), sources(12)
    assert_same(search(model, source, beam_size), search(model, source, beam_size, use_cache=False))


def test_greedy_takes_the_likeliest_token_each_time() -> None:
    model, source = build(), sources(8)
    for row, hypothesis in zip(source, search(model, source, 1), strict=True):
        prefix: list[int] = []
        while len(prefix) < 8:
            values = log_p(model, row, prefix)
            best = max(range(2, len(values)), key=lambda token: values[token])
            if best == EOS:
                break
            prefix.append(best)
        assert hypothesis.tokens == prefix


@pytest.mark.parametrize("beam_size", [1, 4])
def test_batch_and_order_change_nothing(beam_size: int) -> None:
    model, source = build(), sources(12)
    together = search(model, source, beam_size)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert_same(search(model, source[order], beam_size), [together[i] for i in order.tolist()])
    for row, hypothesis in zip(source, together, strict=True):
        assert_same(search(model, row[None, row != PAD], beam_size), [hypothesis])


def test_a_longer_batch_pads_more_and_changes_nothing() -> None:
    model, source = build(), sources(6)
    wider = torch.cat((source, torch.full((6, 5), PAD)), dim=1)
    assert_same(search(model, wider), search(model, source))


@pytest.mark.parametrize("beam_size", [1, 3])
def test_never_longer_than_allowed_and_never_special(beam_size: int) -> None:
    model, source = build(), sources(10)
    limits = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    for limit, hypothesis in zip(limits, search(model, source, beam_size, max_lengths_B=limits), strict=True):
        assert len(hypothesis.tokens) <= limit
        assert not {PAD, BOS, EOS} & set(hypothesis.tokens)
        assert torch.tensor(hypothesis.score).isfinite()


def test_a_wider_beam_than_vocabulary() -> None:
    model, source = build(vocabulary=4), sources(3, vocabulary=4)
    found = search(model, source, 50, max_lengths_B=torch.full((3,), 4))
    assert_same(found, [slow_search(model, row, 50, 4, lambda length: length) for row in source])


def test_learned_positions_bound_the_length() -> None:
    model, source = build(position=Position.learned, max_len=6), sources(8)
    model.output.weight.data[EOS] = -model.output.weight.data.sum(0)
    found = search(model, source, 3, max_lengths_B=torch.full((8,), 100))
    assert max(len(hypothesis.tokens) for hypothesis in found) <= 5  # BOS has the sixth place
    assert_same(found, search(model, source, 3, max_lengths_B=torch.full((8,), 100), use_cache=False))


def test_no_sentences() -> None:
    assert search(build(), sources(1)[:0]) == []


def test_the_source_is_read_once_and_finished_sentences_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    model, source = build(), sources(10)
    encoded, widths = [], []
    encode, embed = model.encode, model.embed_target
    monkeypatch.setattr(model, "encode", lambda *args: encoded.append(len(args[0])) or encode(*args))
    monkeypatch.setattr(model, "embed_target", lambda *args: widths.append(args[0].shape) or embed(*args))
    search(model, source, 3, max_lengths_B=torch.arange(10))
    assert encoded == [10]
    assert all(length == 1 for _, length in widths)  # never a prefix, only what is new
    rows = [count for count, _ in widths]
    assert rows[0] == 10
    assert sorted(rows[1:], reverse=True) == rows[1:]
    assert rows[-1] <= 3


@pytest.mark.parametrize("vocabulary", [5, 64, 640, 1000])
@pytest.mark.parametrize("count", [1, 4])
def test_the_largest_are_found_by_blocks(vocabulary: int, count: int) -> None:
    torch.manual_seed(vocabulary)
    values = torch.randn(3, 2, vocabulary).masked_fill(torch.rand(3, 2, vocabulary) < 0.2, -torch.inf)
    expected = values.topk(count)
    found, places = find_top_k(values, count)
    assert torch.equal(found, expected.values)
    assert torch.equal(places, expected.indices)
