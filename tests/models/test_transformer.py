from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig, Backend, Score
from attnbench.config.model import Activation, Init, Norm, NormKind, Tie, TransformerConfig
from attnbench.config.position import Position, PositionConfig
from attnbench.models.transformer import Transformer, padding_mask
from attnbench.nn.loss import linear_cross_entropy

PAD, BOS, EOS = 0, 1, 2
B, S, T, V, D = 4, 7, 6, 13, 8

# Every part that a model can be made of, one at a time; and each with every way of knowing places and tying embeddings.
PARTS: list[dict[str, Any]] = [
    *({"norm": norm, "score": Score.scaled_dot} for norm in Norm),
    *({"norm": Norm.pre, "score": score} for score in Score if score is not Score.scaled_dot),
    *({"norm": Norm.pre, "score": Score.scaled_dot, "norm_kind": kind} for kind in NormKind),
]
ARCHITECTURES = [
    part | {"position": position, "tie": tie}
    for part, (position, tie) in itertools.product(PARTS, zip([*Position, Position.sinusoidal], Tie, strict=True))
]
each_architecture = pytest.mark.parametrize(
    "options",
    ARCHITECTURES,
    ids=["-".join(str(getattr(value, "value", value)) for value in a.values()) for a in ARCHITECTURES],
)


def build(
    score: Score = Score.scaled_dot,
    position: Position = Position.sinusoidal,
    backend: Backend = Backend.auto,
    attention_dropout: float = 0.0,
    target_vocab: int = V,
    max_len: int = 16,
    **options: Any,
) -> Transformer:
    torch.manual_seed(0)
    shape = {"depth": 2, "decoder_depth": 3, "d_model": D, "d_ff": 12, "num_heads": 2, "dropout": 0.0}
    return Transformer(
        TransformerConfig(**(shape | options)),
        AttentionConfig(score=score, backend=backend, dropout=attention_dropout),
        PositionConfig(kind=position, max_len=max_len),
        source_vocab=V,
        target_vocab=target_vocab,
        pad=PAD,
    ).double()


def batch() -> tuple[Tensor, Tensor]:
    """Sources of 7, 4, 2 and 7 tokens; targets of 6, 5, 3 and 1."""
    torch.manual_seed(1)
    source, target = torch.randint(3, V, (B, S)), torch.randint(3, V, (B, T))
    target[:, 0] = BOS
    for row, (m, n) in enumerate([(7, 6), (4, 5), (2, 3), (7, 1)]):
        source[row, m:] = PAD
        target[row, n:] = PAD
    return source, target


@each_architecture
def test_padding_changes_nothing(options: dict[str, Any]) -> None:
    model, (source, target) = build(**options), batch()
    together = model(source, target).hidden
    for row in range(B):
        alone_source = source[row : row + 1, : int((source[row] != PAD).sum())]
        alone_target = target[row : row + 1, : int((target[row] != PAD).sum())]
        alone = model(alone_source, alone_target).hidden
        torch.testing.assert_close(together[row : row + 1, : alone.shape[1]], alone)


@each_architecture
def test_batch_order_changes_nothing(options: dict[str, Any]) -> None:
    model, (source, target) = build(**options), batch()
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model(source[order], target[order]).hidden, model(source, target).hidden[order])


@each_architecture
@pytest.mark.parametrize("backend", Backend)
def test_the_causal_mask_leaks_nothing(options: dict[str, Any], backend: Backend) -> None:
    model, (source, target) = build(backend=backend, **options), batch()
    before = model(source, target).hidden
    for place in range(1, T):
        other = target.clone()
        other[:, place:] = torch.randint(3, V, (B, T - place))
        after = model(source, other).hidden
        assert after[:, :place].equal(before[:, :place])
        assert not after[:, place:].allclose(before[:, place:])


@each_architecture
def test_the_source_is_seen_wholly(options: dict[str, Any]) -> None:
    model, (source, target) = build(**options), batch()
    before = model(source, target).hidden
    for place in range(S):
        other = source.clone()
        other[0, place] = 3 + (other[0, place] - 2) % (V - 3)
        assert not model(other, target).hidden[0, 0].allclose(before[0, 0], atol=1e-9)


@pytest.mark.parametrize("activation", Activation)
@each_architecture
def test_every_parameter_gets_a_gradient(options: dict[str, Any], activation: Activation) -> None:
    model, (source, target) = build(activation=activation, **options), batch()
    model.project(model(source, target).hidden).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A pre-norm in front of nothing but a query: uniform attention does not ask it.
        idle = options["score"] is Score.uniform and options["norm"] is Norm.pre and ".around_cross.norm" in name
        assert (parameter.grad != 0).any() != idle, name


@each_architecture
def test_attention_is_returned_when_asked_for(options: dict[str, Any]) -> None:
    model, (source, target) = build(**options), batch()
    plain, asked = model(source, target), model(source, target, need_weights=True)
    assert plain.attention is None
    assert asked.attention is not None
    torch.testing.assert_close(asked.hidden, plain.hidden)
    shapes = {name: tuple(weights.shape) for name, weights in asked.attention.items()}
    assert shapes == {"encoder": (2, B, 2, S, S), "decoder": (3, B, 2, T, T), "cross": (3, B, 2, T, S)}
    for weights in asked.attention.values():
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    assert (asked.attention["cross"][..., 4:][:, 1] == 0).all()
    assert (asked.attention["decoder"].triu(1) == 0).all()


@pytest.mark.parametrize("score", [Score.scaled_dot, Score.dot])
def test_fused_and_explicit_give_the_same_gradients(score: Score) -> None:
    source, target = batch()
    found = []
    for backend in Backend:
        model = build(score=score, backend=backend)
        model(source, target).hidden.square().sum().backward()
        found.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("tie", Tie)
@pytest.mark.parametrize("norm", [Norm.post, Norm.pre])
def test_equals_torch(norm: Norm, tie: Tie) -> None:
    ours, (source, target) = build(norm=norm, tie=tie), batch()
    first = norm is Norm.pre
    settings = {"dim_feedforward": 12, "dropout": 0.0, "batch_first": True, "norm_first": first, "dtype": torch.double}
    ends = [nn.LayerNorm(D, dtype=torch.double) if first else None for _ in range(2)]
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(D, 2, **settings), 2, ends[0], enable_nested_tensor=False
    )
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(D, 2, **settings), 3, ends[1])
    _copy(ours.encoder, encoder.layers, {"around_self": "norm1", "around_feed_forward": "norm2"})
    _copy(
        ours.decoder,
        decoder.layers,
        {"around_self": "norm1", "around_cross": "norm2", "around_feed_forward": "norm3"},
    )

    def embed(ids: Tensor, table: nn.Embedding) -> Tensor:
        place, i = torch.arange(ids.shape[1])[:, None].double(), torch.arange(D // 2)
        angle = place / 10000 ** (2 * i / D)
        return table(ids) * D**0.5 + torch.stack((angle.sin(), angle.cos()), -1).flatten(1)

    padded = source == PAD
    memory = encoder(embed(source, ours.source_embedding), src_key_padding_mask=padded)
    hidden = decoder(
        embed(target, ours.target_embedding),
        memory,
        tgt_mask=torch.ones(T, T, dtype=torch.bool).triu(1),
        memory_key_padding_mask=padded,
    )
    found = ours(source, target).hidden
    # The table of sinusoids is kept in float32.
    torch.testing.assert_close(found, hidden, rtol=1e-5, atol=1e-5)
    weight = ours.output.weight if tie is Tie.none else ours.target_embedding.weight
    torch.testing.assert_close(ours.project(found), found @ weight.T)


def _copy(ours: nn.ModuleList, theirs: nn.ModuleList, norms: dict[str, str]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        for name, attention in (("self_attn", "self_attention"), ("multihead_attn", "cross_attention")):
            if hasattr(mine, attention):
                source, target = getattr(mine, attention), getattr(other, name)
                target.in_proj_weight.data, target.in_proj_bias.data = source.qkv.weight.data, source.qkv.bias.data
                target.out_proj.load_state_dict(source.out.state_dict())
        other.linear1.load_state_dict(mine.feed_forward.into.state_dict())
        other.linear2.load_state_dict(mine.feed_forward.out.state_dict())
        for name, norm in norms.items():
            getattr(other, norm).load_state_dict(getattr(mine, name).norm.state_dict())


@pytest.mark.parametrize(
    ("tie", "source_is_target", "target_is_output"),
    [(Tie.none, False, False), (Tie.target, False, True), (Tie.all, True, True)],
)
def test_tie(tie: Tie, source_is_target: bool, target_is_output: bool) -> None:
    model = build(tie=tie)
    assert (model.source_embedding.weight is model.target_embedding.weight) is source_is_target
    assert (model.target_embedding.weight is model.output_weight) is target_is_output
    again = build(tie=tie)
    again.load_state_dict(model.state_dict())
    assert (again.target_embedding.weight is again.output_weight) is target_is_output


def test_one_table_cannot_serve_two_vocabularies() -> None:
    with pytest.raises(ValueError, match=r"model.tie=all: expected one vocabulary, got 13 source and 14 target"):
        build(tie=Tie.all, target_vocab=14)
    assert build(tie=Tie.target, target_vocab=14).output_weight.shape == (14, D)


def test_parameters_of_the_base_model() -> None:
    """Vaswani et al. 2017, Table 3: 65 million with a vocabulary of 37,000."""
    with torch.device("meta"):
        model = Transformer(
            TransformerConfig(), AttentionConfig(), PositionConfig(), source_vocab=37000, target_vocab=37000
        )
    attention, feed_forward, norm = 4 * (512 * 512 + 512), 2 * 512 * 2048 + 2048 + 512, 2 * 512
    layers = 6 * (attention + feed_forward + 2 * norm) + 6 * (2 * attention + feed_forward + 3 * norm)
    assert sum(parameter.numel() for parameter in model.parameters()) == 37000 * 512 + layers


def test_no_mask_without_padding() -> None:
    assert padding_mask(torch.tensor([[3, 4], [5, 6]]), PAD) is None
    mask = padding_mask(torch.tensor([[3, 4], [5, 0]]), PAD)
    assert mask is not None
    assert mask.tolist() == [[[[True, True]]], [[[True, False]]]]


@pytest.mark.parametrize("attention_dropout", [0.0, 0.4])
def test_dropout_is_for_training(attention_dropout: float) -> None:
    model, (source, target) = build(dropout=0.2, attention_dropout=attention_dropout), batch()
    assert not model(source, target).hidden.equal(model(source, target).hidden)
    model.eval()
    assert model(source, target).hidden.equal(model(source, target).hidden)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("score", Score)
def test_autocast_is_near_the_exact_result(score: Score, need_weights: bool) -> None:
    model, (source, target) = build(score).float(), batch()
    exact = model(source, target).hidden
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(source, target, need_weights).hidden
        loss, _ = linear_cross_entropy(rough.flatten(0, 1), model.output_weight, None, target.flatten())
    assert 0 < (rough - exact).norm() < 0.05 * exact.norm()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("init", Init)
def test_starts_near_a_uniform_guess(init: Init) -> None:
    model, (source, target) = build(init=init, tie=Tie.none), batch()
    _, nll = linear_cross_entropy(
        model(source, target).hidden.flatten(0, 1), model.output_weight, model.output_bias, target.flatten()
    )
    assert 0.5 < nll.item() / target.numel() / torch.tensor(float(V)).log().item() < 2


@pytest.mark.parametrize("part", PARTS, ids=lambda part: "-".join(value.value for value in part.values()))
def test_learns_to_reverse(part: dict[str, Any]) -> None:
    """Six of ten words: a million sequences, of which training sees 6,400."""
    model = build(**part, d_model=32, d_ff=64, num_heads=4, depth=1, decoder_depth=1).float()
    optimiser = torch.optim.Adam(model.parameters())
    generator = torch.Generator().manual_seed(0)
    # Branches that start smaller take longer to tell one place from another.
    steps, lr = (600, 3e-3) if part["norm"] is Norm.deepnorm else (200, 1e-2)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = lr * min(1, (step + 1) / 30) * (1 - step / steps)
        source, target = _reversed(32, generator)
        hidden = model(source, target[:, :-1]).hidden.flatten(0, 1)
        loss, _ = linear_cross_entropy(hidden, model.output_weight, None, target[:, 1:].flatten())
        optimiser.zero_grad()
        (loss / len(hidden)).backward()
        optimiser.step()
    with torch.no_grad():
        source, target = _reversed(200, generator)
        guess = model.project(model(source, target[:, :-1]).hidden).argmax(-1)
    right = (guess == target[:, 1:]).double().mean()
    # Without a score there is no telling one place from another: the ablation must fail.
    assert right < 0.7 if part["score"] is Score.uniform else right > 0.9


def _reversed(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    words = torch.randint(3, V, (size, 6), generator=generator)
    first, last = torch.full((size, 1), BOS), torch.full((size, 1), EOS)
    return torch.cat((words, last), 1), torch.cat((first, words.flip(1), last), 1)
