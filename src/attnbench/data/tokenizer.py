"""Text to tokens and back without loss: byte-pair encoding inside words, or whole words.

Every space becomes the mark of a word start, and so does the start of the line: "a  dog" becomes ▁a ▁ ▁dog. Joined
tokens give the line back exactly, with all its spaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, trainers

from attnbench.config.data import TokenizerType

PAD, BOS, EOS, UNK = range(4)
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
WORD_START = "▁"


class Tokenizer:
    """Trained vocabulary: indices 0 to 3 are `SPECIAL_TOKENS`, the others were learned from text."""

    def __init__(self, backend: Backend, tokenizer_type: TokenizerType) -> None:
        # The library does not store this: a line that says "<pad>" is text, not padding.
        backend.encode_special_tokens = True
        self.segmenter = tokenizer_type
        self._backend = backend
        pieces: list[str] = [backend.id_to_token(i) or "" for i in range(backend.get_vocab_size())]
        # In word mode a special token is a whole word; in BPE it may be part of one.
        unknown = WORD_START + SPECIAL_TOKENS[UNK] if tokenizer_type is TokenizerType.word else SPECIAL_TOKENS[UNK]
        self._text = ["", "", "", unknown.replace(WORD_START, " "), *(p.replace(WORD_START, " ") for p in pieces[4:])]
        self._labels = pieces if tokenizer_type is TokenizerType.bpe else [p.removeprefix(WORD_START) for p in pieces]

    @classmethod
    def train(
        cls, lines: Iterable[str], tokenizer_type: TokenizerType, *, vocab_size: int, min_frequency: int = 1
    ) -> Tokenizer:
        """Learn a vocabulary; the same lines give the same vocabulary.

        Args:
            lines: text.
            tokenizer_type: words, or byte-pair encoding.
            vocab_size: maximum size, special tokens included.
            min_frequency: minimum count of a word, or of a pair of pieces before it is merged (Sennrich et al. 2016,
                section 3.2).
        """
        trainer: type[trainers.BpeTrainer] | type[trainers.WordLevelTrainer]
        if tokenizer_type is TokenizerType.bpe:
            backend, trainer = Backend(models.BPE(unk_token=SPECIAL_TOKENS[UNK])), trainers.BpeTrainer
        else:
            backend, trainer = Backend(models.WordLevel(unk_token=SPECIAL_TOKENS[UNK])), trainers.WordLevelTrainer
        backend.normalizer = normalizers.Sequence(
            [normalizers.Replace(" ", WORD_START), normalizers.Prepend(WORD_START)]
        )
        backend.pre_tokenizer = pre_tokenizers.Split(WORD_START, "merged_with_next")
        backend.train_from_iterator(
            lines,
            trainer(
                vocab_size=vocab_size,
                min_frequency=min_frequency,
                special_tokens=list(SPECIAL_TOKENS),
                show_progress=False,
            ),
        )
        return cls(backend, tokenizer_type)

    @property
    def size(self) -> int:
        """Number of tokens, special tokens included."""
        return len(self._labels)

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """Return the token indices of each line, without BOS and EOS."""
        return [encoding.ids for encoding in self._backend.encode_batch_fast(lines, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of tokens; special tokens except <unk> are left out."""
        return "".join([self._text[i] for i in ids]).removeprefix(" ")

    def get_labels(self, ids: Iterable[int]) -> list[str]:
        """Return a label for each token, for the axis of a plot."""
        return [self._labels[i] for i in ids]

    def to_json(self) -> str:
        """Return the tokenizer as text, which checkpoints store."""
        return str(self._backend.to_str())

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Build a tokenizer from the result of `to_json`."""
        backend = Backend.from_str(text)
        return cls(backend, TokenizerType.bpe if isinstance(backend.model, models.BPE) else TokenizerType.word)
