"""Batches: nothing lost, nothing doubled, the same updates whatever the ranks, and little padding."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from attnbench.config.data import Language, Multi30kConfig, OnTooLong, TextVariant
from attnbench.config.tracking import PathsConfig
from attnbench.data.batching import (
    build_evaluation_sampler,
    build_loader,
    build_update_sampler,
    plan_epoch,
    select_first_updates,
)
from attnbench.data.encoding import EncodedPairs, Int64, Sequences, train_tokenizers
from attnbench.data.parallel_text import load_parallel_text
from attnbench.data.sharding import MicroBatchSpec, UpdateSampler
from attnbench.data.tokenizer import BOS, EOS, PAD

TOKENS = 60


def sequences(rows: list[list[int]]) -> Sequences:
    flat = np.array(list(chain.from_iterable(rows)), dtype=np.int32)
    return Sequences(flat, np.cumsum([0, *map(len, rows)]))


def make_pairs(count: int = 200, seed: int = 0) -> EncodedPairs:
    rng = np.random.default_rng(seed)

    def rows(begin: list[int]) -> list[list[int]]:
        return [
            [*begin, *rng.integers(4, 50, length).tolist(), EOS] for length in rng.geometric(0.2, count).clip(1, 30)
        ]

    # As if every second pair had been dropped: a row's place in its Split is not its own number.
    return EncodedPairs(sequences(rows([])), sequences(rows([BOS])), np.arange(count) * 2)


def sampler(pairs: EncodedPairs, *, epoch: int = 0, seed: int = 1, **more: int) -> UpdateSampler:
    made = build_update_sampler(pairs, TOKENS, seed=seed, **more)
    made.set_epoch(epoch)
    return made


def rows_of(shares: Iterable[MicroBatchSpec]) -> list[list[int]]:
    return [share.rows_B.tolist() for share in shares if not share.is_empty]


def plan(pairs: EncodedPairs, *, seed: int = 1, epoch: int = 0, shuffle: bool = True) -> list[Int64]:
    lengths = pairs.source_lengths_N, pairs.target_lengths_N
    return plan_epoch(*lengths, TOKENS, seed=seed, epoch=epoch, shuffle=shuffle)


@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_is_every_sentence_once_within_budget(shuffle: bool) -> None:
    pairs = make_pairs()
    updates = plan(pairs, shuffle=shuffle)
    assert sorted(np.concatenate(updates).tolist()) == list(range(200))
    for rows in updates:
        longest = max(pairs.source_lengths_N[rows].max(), pairs.target_lengths_N[rows].max())
        assert len(rows) * longest <= TOKENS


def test_epochs_differ_in_order_and_company_but_not_in_size() -> None:
    pairs = make_pairs()
    first, again, later, other = plan(pairs), plan(pairs), plan(pairs, epoch=1), plan(pairs, seed=2)
    assert [u.tolist() for u in first] == [u.tolist() for u in again]
    for different in (later, other):
        assert [u.tolist() for u in first] != [u.tolist() for u in different]
        assert {frozenset(u.tolist()) for u in first} != {frozenset(u.tolist()) for u in different}
        assert sorted(map(len, first)) == sorted(map(len, different))


def test_a_sentence_over_the_budget_is_refused() -> None:
    long, short = np.array([3, 61]), np.array([3, 3])
    for lengths in ((long, short), (short, long)):
        with pytest.raises(ValueError, match="a sentence of 61 tokens; expected at most batch_tokens=60"):
            plan_epoch(*lengths, TOKENS, seed=0, epoch=0, shuffle=True)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 5])
def test_ranks_share_each_update_without_overlap_or_loss(world_size: int, accumulate: int) -> None:
    pairs = make_pairs()
    alone = plan(pairs, epoch=3)
    ranks = [
        list(sampler(pairs, epoch=3, rank=rank, world_size=world_size, num_micro_batches=accumulate))
        for rank in range(world_size)
    ]
    assert {len(shares) for shares in ranks} == {len(alone) * accumulate}
    for number, update in enumerate(alone):
        turns = slice(number * accumulate, (number + 1) * accumulate)
        shares = [share for rank in ranks for share in rank[turns]]
        assert sorted(chain.from_iterable(rows_of(shares))) == sorted(update.tolist())
        assert {share.num_update_units for share in shares} == {float(pairs.target_lengths_N[update].sum())}
        sizes = [0 if share.is_empty else len(share.rows_B) for share in shares]
        assert max(sizes) - min(sizes) <= 1
    assert any(share.is_empty for rank in ranks for share in rank) == (world_size * accumulate > 1)


def test_length_is_exact_and_only_the_interrupted_epoch_is_shortened() -> None:
    pairs = make_pairs()
    every = list(sampler(pairs, epoch=2, num_micro_batches=2))
    for done in (0, 1, 7, len(every)):
        resumed = sampler(pairs, epoch=2, num_micro_batches=2)
        resumed.resume(epoch=2, num_batches=done)
        assert rows_of(resumed) == rows_of(resumed) == rows_of(every[done:])
        assert len(resumed) == len(every)  # what a progress bar counts is the whole epoch
        resumed.set_epoch(3)
        assert rows_of(resumed) == rows_of(sampler(pairs, epoch=3, num_micro_batches=2))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_evaluation_sees_every_sentence_once_over_all_ranks(world_size: int) -> None:
    pairs = make_pairs(count=50)
    ranks = [build_evaluation_sampler(pairs, TOKENS, rank=rank, world_size=world_size) for rank in range(world_size)]
    seen = [row for rank in ranks for rows in rows_of(rank) for row in rows]
    assert sorted(seen) == list(range(50))
    for rank in ranks:
        assert len(rank) == len(list(rank))
        assert rows_of(rank) == rows_of(rank)
    counts = [sum(map(len, rows_of(rank))) for rank in ranks]
    assert max(counts) - min(counts) <= 1


def test_a_batch_is_what_lists_make_of_it() -> None:
    pairs = make_pairs()
    made = sampler(pairs)
    assert build_loader(pairs, made).sampler is made  # where Lightning looks for set_epoch
    for share, batch in zip(made, build_loader(pairs, made), strict=True):
        source = [pairs.source[row].tolist() for row in share.rows_B]
        target = [pairs.target[row].tolist() for row in share.rows_B]
        for tensor, rows in (
            (batch.source_BS, source),
            (batch.target_in_BT, [ids[:-1] for ids in target]),
            (batch.target_out_BT, [ids[1:] for ids in target]),
        ):
            width = max(map(len, rows))
            assert tensor.dtype == torch.int64
            assert tensor.tolist() == [ids + [PAD] * (width - len(ids)) for ids in rows]
        assert batch.indices_B.tolist() == (share.rows_B * 2).tolist()
        assert batch.num_tokens == int((batch.target_out_BT != PAD).sum()) == batch.num_update_tokens
        assert batch.num_source_tokens == int((batch.source_BS != PAD).sum())
        both = torch.cat([batch.source_BS.flatten(), batch.target_out_BT.flatten()])
        assert batch.token_counts == (int((both != PAD).sum()), len(both))
        assert batch.num_units == batch.num_tokens


def test_a_silent_share_teaches_nothing() -> None:
    pairs = make_pairs(count=1)
    batches = [batch for rank in (0, 1) for batch in build_loader(pairs, sampler(pairs, rank=rank, world_size=2))]
    assert [batch.num_tokens for batch in batches] == [int(pairs.target_lengths_N[0]), 0]
    assert [batch.num_update_tokens for batch in batches] == [float(pairs.target_lengths_N[0])] * 2
    assert not batches[1].target_out_BT.any()
    assert batches[1].num_source_tokens == 0
    assert batches[1].source_BS.numel() > 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 says so of every forked worker
def test_workers_change_nothing() -> None:
    pairs = make_pairs(count=60)
    plain, worked = (list(build_loader(pairs, sampler(pairs, epoch=1), num_workers=n)) for n in (0, 2))
    assert len(plain) == len(worked)
    for one, two in zip(plain, worked, strict=True):
        assert torch.equal(one.target_out_BT, two.target_out_BT)
        assert torch.equal(one.indices_B, two.indices_B)


def test_a_batch_moves_as_one() -> None:
    pairs = make_pairs(count=5)
    batch = next(iter(build_loader(pairs, sampler(pairs))))
    moved = batch.to("meta")
    tensors = (moved.source_BS, moved.target_in_BT, moved.target_out_BT, moved.indices_B)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.num_tokens, moved.num_update_tokens) == (batch.num_tokens, batch.num_update_tokens)


def test_first_updates_are_the_epochs_first() -> None:
    pairs = make_pairs()
    few = select_first_updates(pairs, TOKENS, 2, seed=1)
    assert len(few) == sum(map(len, plan(pairs)[:2]))
    assert few.indices_N.tolist() == (np.concatenate(plan(pairs)[:2]) * 2).tolist()
    assert few.source[0].tolist() == pairs.source[int(few.indices_N[0]) // 2].tolist()


@pytest.mark.parametrize(("form", "target"), [(TextVariant.tokenized, Language.de), (TextVariant.raw, Language.fr)])
def test_padding_of_multi30k_is_under_5_percent(real_data: Path, form: TextVariant, target: Language) -> None:
    config = Multi30kConfig(variant=form, target=target)
    text = load_parallel_text(config, PathsConfig(data=str(real_data)))
    pairs = train_tokenizers(text, config).encode_pairs(text.train, max_len=256, on_too_long=OnTooLong.error)
    made = build_update_sampler(pairs, config.batch_tokens, seed=1)
    places = real = 0
    for batch in build_loader(pairs, made):
        places += batch.source_BS.numel() + batch.target_out_BT.numel()
        real += batch.num_source_tokens + batch.num_tokens
    assert real == pairs.source_lengths_N.sum() + pairs.target_lengths_N.sum()
    assert 1 - real / places < 0.05
