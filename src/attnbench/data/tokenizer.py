"""Text to tokens and back, exactly: word-internal byte-pair encoding, or whole words.

Every space becomes the mark of a word's beginning, and so does the line's own beginning: "a  dog" is
▁a ▁ ▁dog. Joining the tokens restores the line to the last space, whether it was tokenised before or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, trainers

from attnbench.config.data import Segmenter

PAD, BOS, EOS, UNK = range(4)
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
MARK = "▁"


class Tokenizer:
    """A trained vocabulary: indices 0 to 3 are `SPECIALS`, the rest was learned from text."""

    def __init__(self, backend: Backend, segmenter: Segmenter) -> None:
        # The library does not store this: a line that says "<pad>" is text, not padding.
        backend.encode_special_tokens = True
        self.segmenter = segmenter
        self._backend = backend
        pieces: list[str] = [backend.id_to_token(i) or "" for i in range(backend.get_vocab_size())]
        # A special word stands alone in a line of words; inside a subword it is part of one.
        unknown = MARK + SPECIALS[UNK] if segmenter is Segmenter.word else SPECIALS[UNK]
        self._text = ["", "", "", unknown.replace(MARK, " "), *(p.replace(MARK, " ") for p in pieces[4:])]
        self._labels = pieces if segmenter is Segmenter.bpe else [p.removeprefix(MARK) for p in pieces]

    @classmethod
    def train(cls, lines: Iterable[str], segmenter: Segmenter, *, vocab_size: int, min_frequency: int = 1) -> Tokenizer:
        """Learn a vocabulary of at most `vocab_size` tokens, specials included.

        `min_frequency` is of a word (word), or of a pair of pieces worth merging (bpe: Sennrich et al.
        2016, section 3.2). The same lines give the same vocabulary.
        """
        trainer: type[trainers.BpeTrainer] | type[trainers.WordLevelTrainer]
        if segmenter is Segmenter.bpe:
            backend, trainer = Backend(models.BPE(unk_token=SPECIALS[UNK])), trainers.BpeTrainer
        else:
            backend, trainer = Backend(models.WordLevel(unk_token=SPECIALS[UNK])), trainers.WordLevelTrainer
        backend.normalizer = normalizers.Sequence([normalizers.Replace(" ", MARK), normalizers.Prepend(MARK)])
        backend.pre_tokenizer = pre_tokenizers.Split(MARK, "merged_with_next")
        backend.train_from_iterator(
            lines,
            trainer(
                vocab_size=vocab_size,
                min_frequency=min_frequency,
                special_tokens=list(SPECIALS),
                show_progress=False,
            ),
        )
        return cls(backend, segmenter)

    @property
    def size(self) -> int:
        """How many tokens there are, specials included."""
        return len(self._labels)

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """Each line's token indices, without beginning and end of sentence."""
        return [encoding.ids for encoding in self._backend.encode_batch_fast(lines, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """The line that these tokens spell; padding, beginning and end of sentence spell nothing."""
        return "".join([self._text[i] for i in ids]).removeprefix(" ")

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """A label for each token, as for an axis."""
        return [self._labels[i] for i in ids]

    def to_json(self) -> str:
        """All of it, as text: travels inside checkpoints."""
        return str(self._backend.to_str())

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """What `to_json` wrote."""
        backend = Backend.from_str(text)
        return cls(backend, Segmenter.bpe if isinstance(backend.model, models.BPE) else Segmenter.word)
