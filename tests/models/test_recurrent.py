from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig, Backend, Normalizer, Score
from attnbench.config.fields import find_faults
from attnbench.config.model import Init, TiedEmbeddings
from attnbench.config.recurrent import Bridge, Cell, DecoderContext, RecurrentConfig, Window
from attnbench.models.decoding import Hypothesis, UncachedDecoder, beam_search
from attnbench.models.recurrent import Recurrent
from attnbench.models.recurrent_cells import RecurrentStack
from attnbench.nn.dropout import Dropout
from attnbench.nn.loss import linear_cross_entropy

PAD, BOS, EOS = 0, 1, 2
B, S, T, V, E, H = 4, 7, 6, 13, 5, 8
LENGTHS = [(7, 6), (4, 5), (2, 3), (7, 1)]  # of sources and targets
ATTENDING = [DecoderContext.bahdanau, DecoderContext.luong]
ONE_WIDTH = {score for score in Score if not score.allows_different_widths}

LUONG: dict[str, Any] = {"decoder_context": DecoderContext.luong}
BOTH: dict[str, Any] = {"bidirectional": True, "bridge": Bridge.linear, "score": Score.general}
VARIANTS: dict[str, dict[str, Any]] = (
    {
        f"{cell.name}-{attend.name}": {"cell": cell, "decoder_context": attend}
        for cell in Cell
        for attend in DecoderContext
    }
    | {
        f"{attend.name}-{score.name}": {"decoder_context": attend, "score": score}
        for attend, score in [
            *((DecoderContext.luong, score) for score in Score),
            *((DecoderContext.bahdanau, score) for score in (Score.scaled_dot, Score.additive, Score.concat)),
        ]
    }
    | {
        f"{cell.name}-both-{attend.name}": {"cell": cell, "decoder_context": attend} | BOTH
        for cell, attend in zip([*Cell, Cell.lstm], DecoderContext, strict=True)
    }
    | {f"{cell.name}-fed": LUONG | {"cell": cell, "input_feeding": True} for cell in Cell}
    | {
        f"{window.name}-{'fed' if fed else 'unfed'}": LUONG | {"window": window, "input_feeding": fed}
        for window in Window
        for fed in (False, True)
    }
    | {
        "everything": LUONG | BOTH | {"cell": Cell.lstm, "window": Window.local_p, "input_feeding": True},
        "shallow": LUONG | {"depth": 1, "input_feeding": True},
        "zero-bahdanau": {"decoder_context": DecoderContext.bahdanau, "bridge": Bridge.zero, "cell": Cell.lstm},
        "zero-cosine": {"decoder_context": DecoderContext.bahdanau, "bridge": Bridge.zero, "score": Score.cosine},
        "zero-none": {"decoder_context": DecoderContext.fixed, "bridge": Bridge.zero},
        "linear-initial": {"decoder_context": DecoderContext.initial_state, "bridge": Bridge.linear, "cell": Cell.lstm},
    }
)
each_variant = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())


def build(
    score: Score = Score.scaled_dot,
    normalizer: Normalizer = Normalizer.softmax,
    backend: Backend = Backend.auto,
    attention_dropout: float = 0.0,
    target_vocab: int = V,
    **options: Any,
) -> Recurrent:
    torch.manual_seed(0)
    shape = {"depth": 2, "d_embedding": E, "d_hidden": H, "dropout": 0.0, "window_size": 2}
    model = RecurrentConfig(**(shape | options))
    assert not list(find_faults(model))
    attention = AttentionConfig(score=score, normalizer=normalizer, backend=backend, dropout=attention_dropout)
    return Recurrent(model, attention, source_vocab=V, target_vocab=target_vocab, pad=PAD).double()


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    source, target = torch.randint(3, V, (B, S)), torch.randint(3, V, (B, T))
    target[:, 0] = BOS
    for row, (m, n) in enumerate(LENGTHS):
        source[row, m:] = PAD
        target[row, n:] = PAD
    return source, target


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@each_variant
def test_padding_changes_nothing(options: dict[str, Any]) -> None:
    model, (source, target) = build(**options), batch()
    together = model(source, target).hidden
    for row, (m, n) in enumerate(LENGTHS):
        assert_equal(together[row : row + 1, :n], model(source[row : row + 1, :m], target[row : row + 1, :n]).hidden)
    wider = torch.cat((source, torch.full((B, 3), PAD)), dim=1)
    assert_equal(model(wider, target).hidden, together)


@each_variant
def test_batch_order_changes_nothing(options: dict[str, Any]) -> None:
    model, (source, target) = build(**options), batch()
    order = torch.tensor([2, 0, 3, 1])
    assert_equal(model(source[order], target[order]).hidden, model(source, target).hidden[order])


@each_variant
def test_the_target_is_causal(options: dict[str, Any]) -> None:
    model, (source, target) = build(**options), batch()
    before = model(source, target).hidden
    for place in range(1, T):
        other = target.clone()
        other[:, place:] = torch.randint(3, V, (B, T - place))
        after = model(source, other).hidden
        assert_equal(after[:, :place], before[:, :place])
        assert not after[:, place:].allclose(before[:, place:])


@each_variant
def test_the_source_is_seen_wholly(options: dict[str, Any]) -> None:
    if "window" in options:
        options = options | {"window_size": S}
    model, (source, target) = build(**options), batch()
    before = model(source, target).hidden
    for place in range(S):
        other = source.clone()
        other[0, place] = 3 + (other[0, place] - 2) % (V - 3)
        assert not model(other, target).hidden[0, 0].allclose(before[0, 0], atol=1e-9)


@each_variant
def test_every_parameter_gets_a_gradient(options: dict[str, Any]) -> None:
    model, (source, target) = build(**options), batch()
    model.project(model(source, target).hidden).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


@each_variant
def test_attention_is_returned_when_asked_for(options: dict[str, Any]) -> None:
    model, (source, target) = build(**options), batch()
    plain, asked = model(source, target), model(source, target, need_weights=True)
    assert plain.attention is None
    assert asked.attention is not None
    assert_equal(asked.hidden, plain.hidden)
    if model.decoder.attend not in ATTENDING:
        assert asked.attention == {}
        return
    (weights,) = asked.attention["cross"]
    assert weights.shape == (B, 1, T, S)
    for row, (m, _) in enumerate(LENGTHS):
        assert (weights[row, ..., m:] == 0).all()
    total, window = weights.sum(-1), options.get("window", Window.all)
    if window is Window.all:
        assert_equal(total, torch.ones_like(total))
    elif window is Window.local_m:
        # Two to both sides of the target's place; behind a source of two tokens, nothing from its fifth place on.
        assert_equal(total[2, 0], torch.tensor([1.0, 1, 1, 1, 0, 0]).double())
        assert (weights[0, 0] > 0).tolist() == [[abs(s - t) <= 2 for s in range(S)] for t in range(T)]
    else:
        assert ((total > 0) & (total < 1)).all()


@pytest.mark.parametrize("score", Score)
def test_fused_and_explicit_are_the_same(score: Score) -> None:
    (source, target), found = batch(), []
    for backend in Backend:
        model = build(score, backend=backend, **LUONG)
        model(source, target).hidden.square().sum().backward()
        found.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


# Everything written out, one sentence and one token at a time.


def cell_step(layer: nn.RNNBase, direction: str, x: Tensor, state: list[Tensor]) -> list[Tensor]:
    """As torch.nn's pages give the formulas."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    w, u, b, c = (getattr(layer, f"{name}_l0{direction}") for name in names)
    new, old = w @ x + b, u @ state[0] + c
    if isinstance(layer, nn.RNN):
        return [torch.tanh(new + old)]
    if isinstance(layer, nn.GRU):
        (r, z, n), (r_h, z_h, n_h) = new.chunk(3), old.chunk(3)
        r, z = torch.sigmoid(r + r_h), torch.sigmoid(z + z_h)
        return [(1 - z) * torch.tanh(n + r * n_h) + z * state[0]]
    i, f, g, o = (new + old).chunk(4)
    cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return [torch.sigmoid(o) * torch.tanh(cell), cell]


def read_slowly(model: Recurrent, source: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
    """The encoder's top states and each layer's last."""
    inputs, finals = [model.source_embedding.weight[token] * E**0.5 for token in source], []
    for layer in model.encoder.layers:
        columns, ends = [], []
        for direction in ("", "_reverse")[: 1 + layer.bidirectional]:
            state = [torch.zeros(H).double()] * (2 if isinstance(layer, nn.LSTM) else 1)
            column = []
            for x in reversed(inputs) if direction else inputs:
                state = cell_step(layer, direction, x, state)
                column.append(state[0])
            columns.append(column[::-1] if direction else column)
            ends.append(state)
        inputs = [torch.cat(states) for states in zip(*columns, strict=True)]
        finals.append([torch.cat(states) for states in zip(*ends, strict=True)])
    return inputs, finals


def look_slowly(model: Recurrent, query: Tensor, memory: list[Tensor], place: int) -> Tensor:
    """Luong et al. 2015, equations 7 to 10; Bahdanau et al. 2015, appendix A.1.2."""
    source_attention = model.decoder.source_attention
    score, half = source_attention.attention.score, source_attention.window_size
    center = torch.tensor(float(place)).double()
    if source_attention.window is Window.local_p:
        hidden = torch.tanh(source_attention.place_hidden.weight @ query)
        center = len(memory) * torch.sigmoid(source_attention.place.weight[0] @ hidden)
    numbers, near = [], []
    for s, key in enumerate(memory):
        if hasattr(score, "key"):
            numbers.append(score.score.weight[0] @ torch.tanh(score.query.weight @ query + score.key.weight @ key))
        else:
            numbers.append((score.weight.weight @ query if hasattr(score, "weight") else query) @ key)
        near.append(source_attention.window is Window.all or abs(s - center) <= half)
    total = sum(number.exp() for number, n in zip(numbers, near, strict=True) if n)
    context = torch.zeros_like(memory[0])
    for s, (number, key) in enumerate(zip(numbers, memory, strict=True)):
        if near[s]:
            gaussian = torch.exp(-((s - center) ** 2) / (2 * (half / 2) ** 2))
            context = context + number.exp() / total * key * (gaussian if hasattr(source_attention, "place") else 1)
    return context


def run_slowly(model: Recurrent, source: Tensor, target: Tensor) -> Tensor:
    """hidden_TH."""
    memory, states = read_slowly(model, source)
    final, decoder = states[-1][0], model.decoder
    maps = iter(getattr(model.handover, "maps", []))
    if model.handover.bridge is Bridge.linear:
        states = [[torch.tanh(next(maps).weight @ end) for end in ends] for ends in states]
    elif model.handover.bridge is Bridge.zero:
        states = [[torch.zeros(H).double() for _ in ends] for ends in states]
    hidden, found = torch.zeros(H).double(), []
    for place, token in enumerate(target):
        x = model.target_embedding.weight[token] * E**0.5
        if decoder.attend is DecoderContext.fixed:
            x = torch.cat((x, final))
        elif decoder.attend is DecoderContext.bahdanau:
            x = torch.cat((x, look_slowly(model, states[-1][0], memory, place)))
        elif decoder.input_feeding:
            x = torch.cat((x, hidden))
        for number, layer in enumerate(decoder.cells.layers):
            states[number] = cell_step(layer, "", x, states[number])
            x = states[number][0]
        hidden = x
        if decoder.attend is DecoderContext.luong:
            hidden = torch.tanh(decoder.combine.weight @ torch.cat((look_slowly(model, x, memory, place), x)))
        found.append(hidden)
    return torch.stack(found)


@pytest.mark.parametrize("init", [Init.xavier, Init.torch])
@each_variant
def test_equals_the_formulas_written_out(options: dict[str, Any], init: Init) -> None:
    if options.get("score", Score.scaled_dot) not in (Score.additive, Score.general):
        options = options | {"score": Score.dot}
    model, (source, target) = build(init=init, **options), batch()
    model.scale = E**0.5
    found = model(source, target).hidden
    with torch.no_grad():
        for row, (m, n) in enumerate(LENGTHS):
            assert_equal(found[row, :n], run_slowly(model, source[row, :m], target[row, :n]))


@pytest.mark.parametrize("bptt", [None, 2])
@each_variant
def test_steps_on_a_cpu_equal_the_kernels_of_torch(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], bptt: int | None
) -> None:
    """Forward, and the gradient of every parameter, with dropout and without attention being shared."""
    (source, target), found = batch(), []
    for ours in (True, False):
        if not ours:
            monkeypatch.setattr(RecurrentStack, "prepare_weights", lambda _: None)
            for module in ("recurrent", "recurrent_decoder"):
                monkeypatch.setattr(f"attnbench.models.{module}.buffer_gradients", lambda x: x)
        model = build(dropout=0.2, attention_dropout=0.1, bptt=bptt, **options)
        torch.manual_seed(5)
        hidden = model(source, target).hidden
        hidden.square().sum().backward()
        found.append([hidden, *(parameter.grad for parameter in model.parameters() if parameter.grad is not None)])
    for one, other in zip(*found, strict=True):
        assert_equal(one, other)


# Decoding.


def sources(rows: int, longest: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    source = torch.randint(3, V, (rows, longest), generator=generator)
    for row, length in enumerate(torch.randint(1, longest + 1, (rows,), generator=generator).tolist()):
        source[row, length:] = PAD
    return source


def opinionated(**options: Any) -> Recurrent:
    """Sure enough of itself for hypotheses to differ."""
    model = build(**options).eval()
    nn.init.normal_(model.output.weight, std=1.5)
    return model


def search(model: Recurrent, source: Tensor, beam_size: int, use_cache: bool = True) -> list[Hypothesis]:
    return beam_search(
        model,
        source,
        beam_size=beam_size,
        max_lengths_B=torch.arange(len(source)) + 2,  # so that sentences leave at different times
        length_penalty=1.0,
        bos=BOS,
        eos=EOS,
        pad=PAD,
        use_cache=use_cache,
    )


@torch.no_grad()
@each_variant
def test_step_and_select_equal_reading_anew(options: dict[str, Any]) -> None:
    model, source = opinionated(**options), sources(5)
    generator = torch.Generator().manual_seed(3)
    decoders = model.start_decoding(source), UncachedDecoder(model, source)
    tokens, left, per_sentence = torch.full((5, 1), BOS), 5, 1
    for keep in (5, 5, 3, 1):
        found, expected = (decoder.step(tokens) for decoder in decoders)
        assert_equal(found, expected)
        sentences = torch.randperm(left, generator=generator)[:keep].sort().values
        rows = torch.randint(0, per_sentence, (keep, 3), generator=generator) + per_sentence * sentences[:, None]
        for decoder in decoders:
            decoder.select(rows.flatten(), sentences if keep < left else None)
        left, per_sentence = keep, 3
        tokens = torch.randint(1, V, (keep, 3), generator=generator)


@pytest.mark.parametrize("beam_size", [1, 3])
@each_variant
def test_the_cache_changes_nothing(options: dict[str, Any], beam_size: int) -> None:
    model, source = opinionated(**options), sources(8)
    found, expected = search(model, source, beam_size), search(model, source, beam_size, use_cache=False)
    assert [hypothesis.tokens for hypothesis in found] == [hypothesis.tokens for hypothesis in expected]
    assert [h.score for h in found] == pytest.approx([h.score for h in expected], rel=1e-5)
    assert any(hypothesis.tokens for hypothesis in found)


@pytest.mark.parametrize("attend", DecoderContext)
def test_no_sentences(attend: DecoderContext) -> None:
    assert search(opinionated(decoder_context=attend), sources(1)[:0], 3) == []


def test_hypotheses_share_the_memory_of_their_sentence() -> None:
    model, shapes = opinionated(decoder_context=DecoderContext.bahdanau), []
    attention = model.decoder.source_attention.attention
    attention.register_forward_pre_hook(lambda _, inputs: shapes.append((*inputs[0].shape, len(inputs[1]))))
    search(model, sources(6), 3)
    assert shapes[0] == (6, 1, 1, H, 6)
    assert {queries for _, _, queries, _, _ in shapes[1:]} == {3}
    assert all(sentences == keys for sentences, _, _, _, keys in shapes)
    assert shapes[-1][0] < 6


# Training: truncation and scheduled sampling.


@pytest.mark.parametrize("teacher_forcing", [1.0, 0.0])
@each_variant
def test_bptt_cuts_the_gradient_and_nothing_else(options: dict[str, Any], teacher_forcing: float) -> None:
    source, target = batch()[0], torch.arange(V - T, V).repeat(B, 1)
    whole = build(teacher_forcing=teacher_forcing, **options)(source, target).hidden
    for bptt in (1, 4, T + 1):
        model = build(bptt=bptt, teacher_forcing=teacher_forcing, **options)
        hidden = model(source, target).hidden
        assert_equal(hidden, whole)
        for place in range(T) if teacher_forcing == 1 else ():
            (grad,) = torch.autograd.grad(hidden[:, place].sum(), model.target_embedding.weight, retain_graph=True)
            seen = (grad[target[0]] != 0).any(1).tolist()
            assert seen == [place // bptt * bptt <= earlier <= place for earlier in range(T)]
        (grad,) = torch.autograd.grad(hidden[:, 0].sum(), model.source_embedding.weight, retain_graph=True)
        assert (grad != 0).any()


@each_variant
def test_stepping_with_the_reference_equals_the_whole_target_at_once(options: dict[str, Any]) -> None:
    source, target = batch()
    almost = build(teacher_forcing=1 - 1e-12, **options)
    assert_equal(almost(source, target).hidden, build(**options)(source, target).hidden)


@each_variant
def test_without_teacher_forcing_it_reads_what_it_wrote(options: dict[str, Any]) -> None:
    model, (source, target) = opinionated(teacher_forcing=0.0, **options), batch()
    tokens, written = target[:, :1], [target[:, :1]]
    decoder = model.start_decoding(source)
    for _ in range(T - 1):
        tokens = model.project(decoder.step(tokens)).argmax(-1)
        written.append(tokens)
    own = torch.cat(written, dim=1)
    assert not own.equal(target)
    expected = model(source, own).hidden
    reference = model(source, target).hidden
    model.train()
    assert_equal(model(source, target).hidden, expected)
    assert not expected.allclose(reference)  # and in evaluation the reference is read


def test_scheduled_sampling_draws_for_each_token() -> None:
    model = opinionated(teacher_forcing=0.3, decoder_context=DecoderContext.fixed)
    source, target = (ids[:1].expand(2000, -1) for ids in batch())
    reference = model(source[:1], target[:1]).hidden
    hidden = model.train()(source, target).hidden
    forced = (hidden[:, 1] - reference[:, 1]).abs().amax(-1) < 1e-9
    assert 0.25 < forced.double().mean() < 0.35
    torch.manual_seed(5)
    first = model(source, target).hidden
    torch.manual_seed(5)
    assert model(source, target).hidden.equal(first)


# Weights, types and refusals.


@pytest.mark.parametrize(
    ("tie", "source_is_target", "target_is_output"),
    [(TiedEmbeddings.none, False, False), (TiedEmbeddings.target, False, True), (TiedEmbeddings.all, True, True)],
)
def test_tie(tie: TiedEmbeddings, source_is_target: bool, target_is_output: bool) -> None:
    model = build(tie_embeddings=tie, d_embedding=H)
    assert (model.source_embedding.weight is model.target_embedding.weight) is source_is_target
    assert (model.target_embedding.weight is model.output_weight) is target_is_output


def test_one_table_cannot_serve_two_vocabularies() -> None:
    with pytest.raises(
        ValueError, match=r"model.tie_embeddings=all: expected one vocabulary, got 13 source and 14 target"
    ):
        build(tie_embeddings=TiedEmbeddings.all, d_embedding=H, target_vocab=14)
    assert build(tie_embeddings=TiedEmbeddings.target, d_embedding=H, target_vocab=14).output_weight.shape == (14, H)


@pytest.mark.parametrize("score", Score)
def test_two_directions_are_wider_than_one(score: Score) -> None:
    options: dict[str, Any] = {"bidirectional": True, "bridge": Bridge.linear}
    if score in ONE_WIDTH:
        with pytest.raises(ValueError, match=rf"attention.score={score.name}: queries of width 8 and keys of width 16"):
            build(score, **options)
    else:
        assert build(score, **options)(*batch()).hidden.isfinite().all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"input_feeding": True},
            "model.input_feeding=true: expected false for model.decoder_context=bahdanau:"
            " only luong has a state to feed",
        ),
        (
            {"window": Window.local_p, "decoder_context": DecoderContext.fixed},
            "model.window=local_p: expected all for model.decoder_context=fixed: only luong has windows",
        ),
        (
            {"bidirectional": True},
            "model.bridge=copy: expected linear or zero for model.bidirectional=true:"
            " two directions do not fit into one",
        ),
        (
            {"bridge": Bridge.zero, "decoder_context": DecoderContext.initial_state},
            "model.bridge=zero: expected copy or linear for model.decoder_context=initial_state:"
            " the decoder would not see the source",
        ),
        (
            {"tie_embeddings": TiedEmbeddings.target, "d_embedding": 128},
            "model.tie_embeddings=target: expected none, or model.d_embedding=128 to be model.d_hidden=256",
        ),
        ({"teacher_forcing": 1.5}, "model.teacher_forcing=1.5: expected a number at least 0 and at most 1"),
        ({"bptt": 0}, "model.bptt=0: expected a number at least 1"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], expected: str) -> None:
    assert [str(fault) for fault in find_faults(RecurrentConfig(**options), "model.")] == [expected]


def test_all_faults_are_told_at_once() -> None:
    model = RecurrentConfig(
        decoder_context=DecoderContext.initial_state,
        input_feeding=True,
        window=Window.local_m,
        bidirectional=True,
        tie_embeddings=TiedEmbeddings.all,
        d_embedding=1,
    )
    assert [fault.key for fault in find_faults(model)] == ["input_feeding", "window", "bridge", "tie_embeddings"]


@pytest.mark.parametrize("cell", Cell)
def test_each_gate_starts_for_itself(cell: Cell) -> None:
    model = build(cell=cell, **BOTH)
    for layer in [*model.encoder.layers, *model.decoder.cells.layers]:
        for name, parameter in layer.named_parameters():
            if name.startswith("bias"):
                assert (parameter == 0).all()
                continue
            for gate in parameter.split(H):
                if name.startswith("weight_hh"):
                    torch.testing.assert_close(gate @ gate.T, torch.eye(H).double(), atol=1e-5, rtol=0)
                else:
                    limit = (6 / sum(gate.shape)) ** 0.5  # Glorot and Bengio 2010, equation 16
                    assert 0.8 * limit < gate.abs().max() <= limit


@pytest.mark.parametrize("cell", Cell)
def test_normal_initialization_is_that_of_cells_too(cell: Cell) -> None:
    model = build(init=Init.normal, cell=cell, d_hidden=32, d_embedding=32, bidirectional=True, bridge=Bridge.linear,
                  score=Score.general)  # fmt: skip
    for name, parameter in model.named_parameters():
        if "bias" in name:
            assert (parameter == 0).all(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.2), name


@pytest.mark.parametrize("attend", DecoderContext)
@pytest.mark.parametrize("init", Init)
def test_starts_near_a_uniform_guess(init: Init, attend: DecoderContext) -> None:
    model, (source, target) = build(init=init, decoder_context=attend), batch()
    found = linear_cross_entropy(
        model(source, target).hidden.flatten(0, 1), model.output_weight, model.output_bias, target.flatten()
    )
    assert 0.5 < found.nll_N.sum().item() / target.numel() / torch.tensor(float(V)).log().item() < 2


def test_parameters_of_the_d2l_model() -> None:
    config = RecurrentConfig(decoder_context=DecoderContext.bahdanau)
    model = Recurrent(config, AttentionConfig(score=Score.additive), source_vocab=1000, target_vocab=2000)
    first, second = 3 * (256 * (256 + 256) + 2 * 256), 3 * (256 * (512 + 256) + 2 * 256)
    attention = 2 * 256 * 256 + 256
    expected = 1000 * 256 + 2 * 2000 * 256 + 3 * first + second + attention
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize("attention_dropout", [0.0, 0.4])
@each_variant
def test_dropout_is_for_training_and_follows_the_seed(options: dict[str, Any], attention_dropout: float) -> None:
    model, (source, target) = build(dropout=0.2, attention_dropout=attention_dropout, **options), batch()
    torch.manual_seed(5)
    first = model(source, target).hidden
    assert not model(source, target).hidden.equal(first)
    torch.manual_seed(5)
    assert model(source, target).hidden.equal(first)
    model.eval()
    assert model(source, target).hidden.equal(model(source, target).hidden)


@pytest.mark.parametrize(
    "options",
    [{"decoder_context": DecoderContext.bahdanau}, *(LUONG | {"window": window} for window in Window)],
    ids=str,
)
def test_attention_dropout_drops_weights(options: dict[str, Any]) -> None:
    model, (source, target) = build(attention_dropout=0.5, **options), batch()
    assert not model(source, target).hidden.equal(model(source, target).hidden)


def test_where_dropout_is() -> None:
    model, (source, target), seen = build(depth=3, dropout=0.2, attention_dropout=0.1, **LUONG), batch(), []
    for name, module in model.named_modules():
        if isinstance(module, Dropout):
            module.register_forward_pre_hook(lambda _, inputs, name=name: seen.append((name, tuple(inputs[0].shape))))
    model(source, target)
    tokens = sum(m for m, _ in LENGTHS)
    assert seen == [
        ("dropout", (B, S, E)),
        *[("encoder.dropout", (tokens, H))] * 2,
        ("dropout", (B, T, E)),
        *[("decoder.cells.dropout", (B, T, H))] * 2,
        ("decoder.source_attention.attention.dropout", (B, 1, T, S)),
        ("decoder.dropout", (B, T, H)),
    ]


def test_what_is_fed_is_whole() -> None:
    """Dropout never stands between one step and the next."""
    model, fed = build(dropout=0.5, input_feeding=True, **LUONG), []
    model.decoder.cells.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0][..., E:]))
    model(*batch())
    assert (fed[0] == 0).all()
    assert all((attentional != 0).all() for attentional in fed[1:])


def test_a_predicted_place_is_exact_under_autocast() -> None:
    """Of 200 places: the 8 bits of bfloat16 put a window up to half a place off."""
    model = build(**LUONG, window=Window.local_p).float()
    attention = model.decoder.source_attention
    source = torch.randint(3, V, (2, 200))
    queries, places = torch.randn(2, 50, H), torch.arange(50)
    with torch.no_grad():
        memory, _ = model.encode(source)
        exact = attention._compute_offsets(queries, places, memory)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = attention._compute_offsets(queries, places, memory)
    torch.testing.assert_close(mixed, exact, atol=1e-3, rtol=0)


@each_variant
def test_autocast_is_near_the_exact_result(options: dict[str, Any]) -> None:
    model, (source, target) = build(**options).float(), batch()
    exact = model(source, target).hidden
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(source, target).hidden
        loss = linear_cross_entropy(rough.flatten(0, 1), model.output_weight, None, target.flatten()).loss_sum
    assert 0 < (rough - exact).norm() < 0.05 * exact.norm()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("attend", DecoderContext)
def test_a_row_of_nothing_but_padding_harms_nobody(attend: DecoderContext) -> None:
    model, (source, target) = build(decoder_context=attend), batch()
    before = model(source, target).hidden
    source[1] = PAD
    after = model(source, target).hidden
    model.project(after).sum().backward()
    assert_equal(after[[0, 2, 3]], before[[0, 2, 3]])
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


# Learning.


def small(**options: Any) -> Recurrent:
    return build(**({"depth": 1, "d_embedding": 32, "d_hidden": 64, "window_size": 10} | options)).float()


@pytest.mark.parametrize(
    "options",
    [
        {"decoder_context": DecoderContext.bahdanau, "score": Score.additive},
        {
            "decoder_context": DecoderContext.bahdanau,
            "score": Score.concat,
            "bidirectional": True,
            "bridge": Bridge.linear,
        },
        LUONG | {"score": Score.dot},
        LUONG | {"score": Score.general, "input_feeding": True},
        LUONG | {"score": Score.general, "window": Window.local_m},
        LUONG | {"score": Score.general, "window": Window.local_p},
        LUONG | {"score": Score.general, "teacher_forcing": 0.8},
        LUONG | {"score": Score.general, "bptt": 3},
    ],
    ids=["bahdanau", "concat", "luong", "fed", "local_m", "local_p", "sampling", "bptt"],
)
def test_learns_to_reverse(options: dict[str, Any], reverse: Callable[..., float]) -> None:
    assert reverse(small(**options), updates=100, lr=1e-2) > 0.95


@pytest.mark.parametrize("normalizer", Normalizer)
def test_learns_to_reverse_with_every_normalizer(normalizer: Normalizer, reverse: Callable[..., float]) -> None:
    model = small(normalizer=normalizer, score=Score.general, **LUONG)
    assert reverse(model, updates=400 if normalizer is Normalizer.reinforce else 150, lr=1e-2) > 0.95


def test_a_context_of_fixed_length_cannot_hold_a_long_sequence_as_soon(reverse: Callable[..., float]) -> None:
    attentive = reverse(small(score=Score.general, **LUONG), updates=150, lr=1e-2, length=12)
    fixed = [
        reverse(small(decoder_context=kind), updates=150, lr=1e-2, length=12)
        for kind in (DecoderContext.fixed, DecoderContext.initial_state)
    ]
    assert attentive > 0.95
    assert max(fixed) < 0.75
