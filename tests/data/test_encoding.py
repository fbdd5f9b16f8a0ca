"""From text to arrays: every step against plain lists; limits, cache, and the codec a checkpoint carries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attnbench.config.data import OnTooLong, ParallelTextConfig, SyntheticTranslationConfig, TokenizerType
from attnbench.config.tracking import PathsConfig
from attnbench.data import encoding
from attnbench.data.encoding import TokenizerPair, encode_lines, train_tokenizers
from attnbench.data.errors import DataError
from attnbench.data.pairs import ParallelText, Preprocessing, Split
from attnbench.data.parallel_text import load_parallel_text
from attnbench.data.tokenizer import BOS, EOS, PAD, Tokenizer

SOURCE = ["a b c d e", "a", "b c", "e d c b a e d"]
TARGET = ["x y", "z", "x y z x y z", "y"]
TEXT_CONFIG = SyntheticTranslationConfig(train_pairs=300, val_pairs=10, test_pairs=10)


def split(name: str = "train", source: list[str] = SOURCE, target: list[str] = TARGET) -> Split:
    return Split(name, source, target, {}, ("s.txt", "t.txt"), range(1, len(source) + 1))


def words(lines: list[str]) -> Tokenizer:
    return Tokenizer.train(lines, TokenizerType.word, vocab_size=99)


def codec(reverse_source: bool = False) -> TokenizerPair:
    return TokenizerPair(words(SOURCE), words(TARGET), reverse_source=reverse_source)


@pytest.fixture(scope="module")
def text() -> ParallelText:
    return load_parallel_text(TEXT_CONFIG, PathsConfig())


@pytest.mark.parametrize("begin", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("limit", [None, 2, 4])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_encode_is_what_lists_do(
    begin: bool, backwards: bool, limit: int | None, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_LINES_PER_CHUNK", chunk)
    tokenizer = words(SOURCE)
    expected = []
    for ids in tokenizer.encode(SOURCE):
        kept = ids if limit is None else ids[: limit - 1]
        expected.append([BOS] * begin + (kept[::-1] if backwards else kept) + [EOS])
    got = encode_lines(tokenizer, SOURCE, add_bos=begin, is_reversed=backwards, max_tokens=limit)
    assert [got[i].tolist() for i in range(len(got))] == expected
    assert got.lengths_N.tolist() == [len(row) for row in expected]


@pytest.mark.parametrize(("first", "last"), [(0, 0), (1, 0), (0, 1)])
@pytest.mark.parametrize("rows", [[0], [3, 1, 3], [0, 1, 2, 3], []])
def test_padded_and_select_are_what_lists_do(rows: list[int], first: int, last: int) -> None:
    sequences = encode_lines(words(SOURCE), SOURCE, add_bos=True)
    lists = [sequences[row].tolist() for row in rows]
    cut = [ids[first : len(ids) - last] for ids in lists]
    width = max(map(len, cut), default=0)
    index = np.array(rows, dtype=np.int64)
    padded = sequences.pad_rows(index, skip_first=first, skip_last=last)
    assert padded.dtype == np.int64
    assert padded.tolist() == [ids + [PAD] * (width - len(ids)) for ids in cut]
    chosen = sequences.select(index)
    assert [chosen[i].tolist() for i in range(len(chosen))] == lists


def test_nothing_is_encoded_to_nothing() -> None:
    assert len(encode_lines(words(SOURCE), [])) == 0


def test_pairs_and_their_lengths() -> None:
    pairs = codec(reverse_source=True).encode_pairs(split(), max_len=8, on_too_long=OnTooLong.error)
    assert pairs.source_lengths_N.tolist() == [6, 2, 3, 8]
    assert pairs.target_lengths_N.tolist() == [3, 2, 7, 2]  # what is to be predicted: words and EOS
    assert codec().source.decode(pairs.source[0].tolist()) == "e d c b a"
    assert codec().target.decode(pairs.target[0].tolist()) == "x y"
    assert pairs.target[0][0] == BOS
    assert pairs.notes == []


def test_over_long_is_refused_with_file_and_line() -> None:
    for name in ("train", "val", "test"):
        with pytest.raises(DataError, match=r"^s\.txt:4: 8 tokens; expected at most data\.max_len=7"):
            codec().encode_pairs(split(name), max_len=7, on_too_long=OnTooLong.error)
    with pytest.raises(DataError, match=r"^t\.txt:3: 7 tokens; expected at most data\.max_len=6"):
        codec().encode_pairs(split("train", SOURCE[:3], TARGET[:3]), max_len=6, on_too_long=OnTooLong.error)


def test_over_long_is_dropped_from_training_only() -> None:
    pairs = codec().encode_pairs(split(), max_len=6, on_too_long=OnTooLong.drop)
    assert pairs.indices_N.tolist() == [0, 1]
    assert [codec().target.decode(pairs.target[i].tolist()) for i in (0, 1)] == TARGET[:2]
    assert pairs.notes == ["train: 2 of 4 pairs over 6 tokens dropped"]
    kept = codec().encode_pairs(split("test"), max_len=6, on_too_long=OnTooLong.drop)
    assert kept.indices_N.tolist() == [0, 1, 2, 3]
    assert kept.notes == ["test: 2 of 4 pairs over 6 tokens truncated"]
    with pytest.raises(DataError, match=r"s\.txt: every pair is over data\.max_len=1"):
        codec().encode_pairs(split(), max_len=1, on_too_long=OnTooLong.drop)


@pytest.mark.parametrize("reverse", [False, True])
def test_over_long_is_truncated_at_its_end(reverse: bool) -> None:
    pairs = codec(reverse).encode_pairs(split(), max_len=4, on_too_long=OnTooLong.truncate)
    assert pairs.source_lengths_N.max() == pairs.target_lengths_N.max() == 4
    assert codec().source.decode(pairs.source[0].tolist()) == ("c b a" if reverse else "a b c")
    assert codec().target.decode(pairs.target[2].tolist()) == "x y z"
    assert pairs.source[0][-1] == pairs.target[2][-1] == EOS
    assert pairs.notes == ["train: 3 of 4 pairs over 4 tokens truncated"]


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("segmenter", TokenizerType)
def test_a_codec_travels_as_json(text: ParallelText, joint: bool, segmenter: TokenizerType) -> None:
    config = replace(TEXT_CONFIG, tokenizer_type=segmenter, joint_vocabulary=joint, vocab_size=150)
    made = train_tokenizers(replace(text, preprocessing=Preprocessing.d2l), config)
    again = TokenizerPair.from_json(made.to_json())
    assert made.is_joint is again.is_joint is joint
    assert (made.source.size == made.target.size) or not joint
    lines = ["The  bAlok, not!"]
    assert again.encode_source(lines)[0].tolist() == made.encode_source(lines)[0].tolist()
    prepared = made.source.encode(["the balok , not !"])[0]
    assert made.encode_source(lines)[0].tolist() == [*prepared, EOS]
    assert made.encode_source(lines, max_tokens=3)[0].tolist() == [*prepared[:2], EOS]
    again.check_same_vocabulary(made.to_json(), "model.ckpt")
    assert made.target.encode(text.val.target) == again.target.encode(text.val.target)


def test_a_checkpoint_with_another_vocabulary_is_refused() -> None:
    other = TokenizerPair(words(SOURCE[1:3]), words(TARGET)).to_json()
    with pytest.raises(DataError, match=r"^model\.ckpt: has another vocabulary \(7 source and 7 target tokens\); exp"):
        codec().check_same_vocabulary(other, "model.ckpt")


BPE = replace(TEXT_CONFIG, tokenizer_type=TokenizerType.bpe, vocab_size=150, joint_vocabulary=False)


def test_a_cached_vocabulary_is_the_trained_one(
    text: ParallelText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = train_tokenizers(text, BPE).to_json()
    assert train_tokenizers(text, BPE, tmp_path).to_json() == fresh
    files = sorted((tmp_path / "tokenizers").iterdir())
    assert len(files) == 2
    with monkeypatch.context() as patch:
        patch.setattr(Tokenizer, "train", lambda *_, **__: pytest.fail("trained again"))
        assert train_tokenizers(text, BPE, tmp_path).to_json() == fresh
    for path in files:
        path.write_text("{damaged")
    assert train_tokenizers(text, BPE, tmp_path).to_json() == fresh
    assert "damaged" not in files[0].read_text()


@pytest.mark.parametrize("change", [{"vocab_size": 151}, {"min_frequency": 2}])
def test_the_cache_tells_settings_and_text_apart(text: ParallelText, tmp_path: Path, change: dict[str, int]) -> None:
    train_tokenizers(text, BPE, tmp_path)
    changed: ParallelTextConfig = replace(BPE, **change)  # type: ignore[arg-type]
    assert train_tokenizers(text, changed, tmp_path).to_json() == train_tokenizers(text, changed).to_json()
    less = replace(text, vocabulary_splits=(text.val,))
    assert train_tokenizers(less, BPE, tmp_path).to_json() == train_tokenizers(less, BPE).to_json()


def test_a_cache_that_cannot_be_written_to_is_done_without(text: ParallelText, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert train_tokenizers(text, BPE, blocked).to_json() == train_tokenizers(text, BPE).to_json()
