from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig, Backend, Normalizer, Score
from attnbench.config.model import Activation, Init, NormPlacement, NormType, TiedEmbeddings, TransformerConfig
from attnbench.config.position import Position, PositionConfig
from attnbench.models.encoder_decoder import build_token_mask
from attnbench.models.transformer import Transformer
from attnbench.nn.loss import linear_cross_entropy
from attnbench.nn.normalizers import collect_choices

from ..conftest import one_at_a_time

PAD, BOS = 0, 1
B, S, T, V, D = 4, 7, 6, 13, 8

# Every part that a model can be made of, one at a time.
PARTS: list[dict[str, Any]] = [
    *one_at_a_time(
        {
            "norm_placement": NormPlacement.pre, "norm_type": NormType.layer, "score": Score.scaled_dot,
            "normalizer": Normalizer.softmax, "position": Position.sinusoidal,
        }
    ).values(),
    {"d_k": 6, "d_v": 2},
]  # fmt: skip
HARD = (Normalizer.gumbel, Normalizer.reinforce)


def name_of(part: dict[str, Any]) -> str:
    return "-".join(f"{key}={getattr(value, 'value', value)}" for key, value in part.items())


each_part = pytest.mark.parametrize("options", PARTS, ids=map(name_of, PARTS))
each_architecture = pytest.mark.parametrize(
    "options",
    [*PARTS, *({"tie_embeddings": tie} for tie in TiedEmbeddings)],
    ids=[*map(name_of, PARTS), *(f"tie={tie.value}" for tie in TiedEmbeddings)],
)


def build(
    score: Score = Score.scaled_dot,
    normalizer: Normalizer = Normalizer.softmax,
    position: Position = Position.sinusoidal,
    backend: Backend = Backend.auto,
    attention_dropout: float = 0.0,
    target_vocab: int = V,
    max_len: int = 16,
    **options: Any,
) -> Transformer:
    torch.manual_seed(0)
    shape = {
        "depth": 2,
        "decoder_depth": 3,
        "d_model": D,
        "d_ff": 12,
        "num_heads": 2,
        "dropout": 0.0,
        "norm_placement": NormPlacement.pre,
    }
    return Transformer(
        TransformerConfig(**(shape | options)),
        AttentionConfig(score=score, normalizer=normalizer, backend=backend, dropout=attention_dropout),
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
    model, (source, target) = build(**options).eval(), batch()
    together = model(source, target).hidden
    for row in range(B):
        alone_source = source[row : row + 1, : int((source[row] != PAD).sum())]
        alone_target = target[row : row + 1, : int((target[row] != PAD).sum())]
        alone = model(alone_source, alone_target).hidden
        torch.testing.assert_close(together[row : row + 1, : alone.shape[1]], alone)


@each_architecture
def test_batch_order_changes_nothing(options: dict[str, Any]) -> None:
    model, (source, target) = build(**options).eval(), batch()
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model(source[order], target[order]).hidden, model(source, target).hidden[order])


@each_architecture
@pytest.mark.parametrize("backend", Backend)
def test_the_causal_mask_leaks_nothing(options: dict[str, Any], backend: Backend) -> None:
    model, (source, target) = build(backend=backend, **options).eval(), batch()
    before = model(source, target).hidden
    for place in range(1, T):
        other = target.clone()
        other[:, place:] = torch.randint(3, V, (B, T - place))
        after = model(source, other).hidden
        assert after[:, :place].equal(before[:, :place])
        assert not after[:, place:].allclose(before[:, place:])


@each_architecture
def test_the_source_is_seen_wholly(options: dict[str, Any]) -> None:
    if options.get("normalizer", Normalizer.softmax) is not Normalizer.softmax:
        return  # what gives a key no weight at all may miss it
    model, (source, target) = build(**options).eval(), batch()
    before = model(source, target).hidden
    for place in range(S):
        other = source.clone()
        other[0, place] = 3 + (other[0, place] - 2) % (V - 3)
        assert not model(other, target).hidden[0, 0].allclose(before[0, 0], atol=1e-9)


@pytest.mark.parametrize("options", [*PARTS, *({"activation": kind} for kind in Activation)], ids=name_of)
def test_every_parameter_gets_a_gradient(options: dict[str, Any]) -> None:
    model, (source, target) = build(**options), batch()
    with collect_choices() as made:
        loss = model.project(model(source, target).hidden).square().sum()
    (loss + sum(log_p_B.sum() for log_p_B in made)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A pre-norm in front of nothing but a query: uniform attention does not ask it.
        idle = options.get("score") is Score.uniform and ".around_cross.norm" in name
        assert (parameter.grad != 0).any() != idle, name


@each_architecture
def test_attention_is_returned_when_asked_for(options: dict[str, Any]) -> None:
    model, (source, target) = build(**options).eval(), batch()
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


@pytest.mark.parametrize("tie", TiedEmbeddings)
@pytest.mark.parametrize("norm", [NormPlacement.post, NormPlacement.pre])
def test_equals_torch(norm: NormPlacement, tie: TiedEmbeddings) -> None:
    ours, (source, target) = build(norm_placement=norm, tie_embeddings=tie), batch()
    first = norm is NormPlacement.pre
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
    weight = ours.output.weight if tie is TiedEmbeddings.none else ours.target_embedding.weight
    torch.testing.assert_close(ours.project(found), found @ weight.T)


def _copy(ours: nn.ModuleList, theirs: nn.ModuleList, norms: dict[str, str]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        for name, attention in (("self_attn", "self_attention"), ("multihead_attn", "cross_attention")):
            if hasattr(mine, attention):
                source, target = getattr(mine, attention), getattr(other, name)
                target.in_proj_weight.data, target.in_proj_bias.data = source.qkv.weight.data, source.qkv.bias.data
                target.out_proj.load_state_dict(source.output_projection.state_dict())
        other.linear1.load_state_dict(mine.feed_forward.input_projection.state_dict())
        other.linear2.load_state_dict(mine.feed_forward.output_projection.state_dict())
        for name, norm in norms.items():
            getattr(other, norm).load_state_dict(getattr(mine, name).norm.state_dict())


@pytest.mark.parametrize(
    ("tie", "source_is_target", "target_is_output"),
    [(TiedEmbeddings.none, False, False), (TiedEmbeddings.target, False, True), (TiedEmbeddings.all, True, True)],
)
def test_tie(tie: TiedEmbeddings, source_is_target: bool, target_is_output: bool) -> None:
    model = build(tie_embeddings=tie)
    assert (model.source_embedding.weight is model.target_embedding.weight) is source_is_target
    assert (model.target_embedding.weight is model.output_weight) is target_is_output
    again = build(tie_embeddings=tie)
    again.load_state_dict(model.state_dict())
    assert (again.target_embedding.weight is again.output_weight) is target_is_output


def test_one_table_cannot_serve_two_vocabularies() -> None:
    with pytest.raises(
        ValueError, match=r"model.tie_embeddings=all: expected one vocabulary, got 13 source and 14 target"
    ):
        build(tie_embeddings=TiedEmbeddings.all, target_vocab=14)
    assert build(tie_embeddings=TiedEmbeddings.target, target_vocab=14).output_weight.shape == (14, D)


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
    assert build_token_mask(torch.tensor([[3, 4], [5, 6]]), PAD) is None
    real = build_token_mask(torch.tensor([[3, 4], [5, 0]]), PAD)
    assert real is not None
    assert real.tolist() == [[True, True], [True, False]]


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
        loss = linear_cross_entropy(rough.flatten(0, 1), model.output_weight, None, target.flatten()).loss_sum
    assert 0 < (rough - exact).norm() < 0.05 * exact.norm()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("init", Init)
def test_starts_near_a_uniform_guess(init: Init) -> None:
    model, (source, target) = build(init=init, tie_embeddings=TiedEmbeddings.none), batch()
    found = linear_cross_entropy(
        model(source, target).hidden.flatten(0, 1), model.output_weight, model.output_bias, target.flatten()
    )
    assert 0.5 < found.nll_N.sum().item() / target.numel() / torch.tensor(float(V)).log().item() < 2


# How many updates, and with which learning rate, where 200 at 0.01 are too few: what starts smaller, or sees only some
# keys, or only how far they are, takes longer to tell one place from another.
LONGER = {NormPlacement.deepnorm: (600, 3e-3), Normalizer.sparsemax: (400, 5e-3), Normalizer.gumbel: (400, 5e-3),
          Score.dot: (400, 1e-2), Score.concat: (400, 1e-2),
          Position.rotary: (600, 1e-2), Position.alibi: (600, 1e-2)}  # fmt: skip
# Without a score, or without positions, there is no telling one place from another: the ablations must fail. So does
# REINFORCE, for which a hundred choices of a sentence share one reward; recurrent models, which make six, learn by it.
FAILING = (Score.uniform, Position.none, Normalizer.reinforce)


@each_part
def test_learns_to_reverse(options: dict[str, Any], reverse: Callable[..., float]) -> None:
    model = build(**options, d_model=32, d_ff=64, num_heads=4, depth=1, decoder_depth=1).float()
    (value,) = list(options.values())[:1]
    right = reverse(model, *LONGER.get(value, (200, 1e-2)))
    assert right < 0.7 if value in FAILING else right > 0.95


def test_two_layers_with_deepnorm_learn(reverse: Callable[..., float]) -> None:
    """Its small beginning costs updates, not the ability to learn."""
    model = build(
        norm_placement=NormPlacement.deepnorm, d_model=32, d_ff=64, num_heads=4, depth=2, decoder_depth=2
    ).float()
    assert reverse(model, 600, 3e-3) > 0.95
