"""A synthetic language pair from a small grammar: every sentence has one correct translation and a word alignment.

The source is like English: subject, verb, object; adjectives before nouns; `that` clauses after subjects.
In the target, verbs stand last and adjectives after their noun. Every noun has one of two genders, which the source
does
not show: articles, adjectives and the verb agree with it in gender and number.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from attnbench.config.data import SyntheticTranslationConfig
from attnbench.data.errors import DataError
from attnbench.data.pairs import Alignment

_CONSONANTS, _VOWELS = "bdfgklmnprtv", "aeiou"
_MAX_ATTEMPTS = 20_000  # draws in a row without a new sentence
_CONJUNCTIONS = (("and", "e"), ("but", "ma"), ("because", "por"))

# Words of a sentence, each with the name of what it says; words of the two languages that say the same
# are aligned, and None has no counterpart.
Words = Iterator[tuple[str, str | None]]


@dataclass(frozen=True)
class NounPhrase:
    """A noun, with an optional adjective and relative clause."""

    noun: int
    plural: bool
    definite: bool
    adjective: int | None
    clause: Predicate | None = None


@dataclass(frozen=True)
class Predicate:
    """A verb and its object."""

    verb: int
    past: bool
    negated: bool
    object: NounPhrase


@dataclass(frozen=True)
class Statement:
    """A main clause; `conjunction` joins it to the one before."""

    subject: NounPhrase
    predicate: Predicate
    conjunction: int | None


@dataclass(frozen=True)
class Pair:
    """A sentence in both languages, words separated by spaces, and the alignment of the words."""

    source: str
    target: str
    alignment: Alignment


class Grammar:
    """Words and rules of both languages, and random sentences."""

    def __init__(self, config: SyntheticTranslationConfig) -> None:
        self._config = config
        # Words have five letters and endings one to three: no two forms can be spelt alike.
        size = config.nouns + config.verbs + config.adjectives
        rng = random.Random(f"words {config.grammar_seed}")
        source, target = _generate_stems(rng, size), _generate_stems(rng, size)
        ends = config.nouns, config.nouns + config.verbs
        self.nouns = list(zip(source[: ends[0]], target[: ends[0]], strict=True))
        self.verbs = list(zip(source[ends[0] : ends[1]], target[ends[0] : ends[1]], strict=True))
        self.adjectives = list(zip(source[ends[1] :], target[ends[1] :], strict=True))
        self.genders = [index % 2 for index in range(config.nouns)]

    def draw_sentence(self, rng: random.Random, max_clauses: int) -> tuple[Statement, ...]:
        """Draw a sentence of one to `max_clauses` clauses: main clauses, and `that` clauses about their subjects.

        Args:
            rng: random generator.
            max_clauses: largest number of clauses.
        """
        clauses = rng.randint(1, max_clauses)
        statements = rng.randint((clauses + 1) // 2, clauses)
        described = set(rng.sample(range(statements), clauses - statements))
        return tuple(
            Statement(
                self._draw_noun(rng, self._draw_predicate(rng) if number in described else None),
                self._draw_predicate(rng),
                rng.randrange(len(_CONJUNCTIONS)) if number else None,
            )
            for number in range(statements)
        )

    def _draw_noun(self, rng: random.Random, clause: Predicate | None = None) -> NounPhrase:
        adjective = rng.randrange(len(self.adjectives)) if rng.random() < 0.5 else None
        return NounPhrase(rng.randrange(len(self.nouns)), rng.random() < 0.5, rng.random() < 0.5, adjective, clause)

    def _draw_predicate(self, rng: random.Random) -> Predicate:
        verb, past, negated = rng.randrange(len(self.verbs)), rng.random() < 0.5, rng.random() < 0.25
        return Predicate(verb, past, negated, self._draw_noun(rng))

    def build_pair(self, sentence: tuple[Statement, ...]) -> Pair:
        """Return a sentence in both languages."""
        source, target = list(self._generate_source(sentence)), list(self._generate_target(sentence))
        places = {name: place for place, (_, name) in enumerate(source) if name is not None}
        alignment = tuple((places[name], place) for place, (_, name) in enumerate(target) if name is not None)
        return Pair(
            " ".join(word for word, _ in source),
            " ".join(word for word, _ in target),
            tuple(sorted(alignment)),
        )

    def _generate_source(self, sentence: tuple[Statement, ...]) -> Words:
        for number, statement in enumerate(sentence):
            if statement.conjunction is not None:
                yield _CONJUNCTIONS[statement.conjunction][0], f"{number} conjunction"
            yield from self._generate_source_noun(statement.subject, f"{number} subject")
            yield from self._generate_source_predicate(statement.predicate, statement.subject, f"{number}")

    def _generate_source_noun(self, phrase: NounPhrase, name: str) -> Words:
        if phrase.definite:
            yield "the", f"{name} article"
        elif not phrase.plural:
            yield "a", f"{name} article"
        elif not self._config.drop_insert:
            yield "some", f"{name} article"
        if phrase.adjective is not None:
            yield self.adjectives[phrase.adjective][0], f"{name} adjective"
        yield self.nouns[phrase.noun][0] + "s" * phrase.plural, f"{name} noun"
        if phrase.clause is not None:
            yield "that", f"{name} that"
            yield from self._generate_source_predicate(phrase.clause, phrase, f"{name} clause")

    def _generate_source_predicate(self, predicate: Predicate, subject: NounPhrase, name: str) -> Words:
        singular = self._config.agreement and not subject.plural
        ending = "d" if predicate.past else "t" * singular
        if predicate.negated and self._config.drop_insert:
            yield "do" + ending, None
            ending = ""
        if predicate.negated:
            yield "not", f"{name} not"
        yield self.verbs[predicate.verb][0] + ending, f"{name} verb"
        yield from self._generate_source_noun(predicate.object, f"{name} object")

    def _generate_target(self, sentence: tuple[Statement, ...]) -> Words:
        for number, statement in enumerate(sentence):
            if statement.conjunction is not None:
                yield _CONJUNCTIONS[statement.conjunction][1], f"{number} conjunction"
            yield from self._generate_target_noun(statement.subject, f"{number} subject")
            yield from self._generate_target_predicate(statement.predicate, statement.subject, f"{number}")

    def _get_gender_ending(self, subject: NounPhrase) -> str:
        return "oiae"[2 * self.genders[subject.noun] + subject.plural] if self._config.agreement else ""

    def _generate_target_noun(self, phrase: NounPhrase, name: str) -> Words:
        ending = self._get_gender_ending(phrase)
        bare = phrase.plural and not phrase.definite and self._config.drop_insert  # no article in the source
        yield ("l" if phrase.definite else "un") + ending, None if bare else f"{name} article"
        words = [(self.nouns[phrase.noun][1] + "ir" * phrase.plural, f"{name} noun")]
        if phrase.adjective is not None:
            adjective = self.adjectives[phrase.adjective][1] + ending, f"{name} adjective"
            words.insert(1 if self._config.reordering else 0, adjective)
        yield from words
        if phrase.clause is not None:
            yield "ke", f"{name} that"
            yield from self._generate_target_predicate(phrase.clause, phrase, f"{name} clause")

    def _generate_target_predicate(self, predicate: Predicate, subject: NounPhrase, name: str) -> Words:
        def direct_object() -> Words:
            yield from self._generate_target_noun(predicate.object, f"{name} object")
            if self._config.drop_insert:
                yield "ta", None

        if self._config.reordering:
            yield from direct_object()
        if predicate.negated:
            yield "ne", f"{name} not"
        tense = "ul" if predicate.past else "en"
        yield self.verbs[predicate.verb][1] + tense + self._get_gender_ending(subject), f"{name} verb"
        if not self._config.reordering:
            yield from direct_object()


def _generate_stems(rng: random.Random, count: int) -> list[str]:
    """Generate different words of five letters: consonant, vowel, consonant, vowel, consonant."""
    letters = (_CONSONANTS, _VOWELS, _CONSONANTS, _VOWELS, _CONSONANTS)
    most = len(_CONSONANTS) ** 3 * len(_VOWELS) ** 2
    if count > most:
        raise DataError(
            f"the synthetic language was asked for {count:,} words; expected data.nouns + data.verbs + "
            f"data.adjectives of at most {most:,}"
        )
    stems = []
    for code in rng.sample(range(most), count):
        stem = ""
        for choices in letters:
            code, letter = divmod(code, len(choices))
            stem += choices[letter]
        stems.append(stem)
    return stems


def generate_pairs(config: SyntheticTranslationConfig) -> dict[str, list[Pair]]:
    """Generate pairs for test, val and train; no sentence occurs twice, and the same config gives the same pairs.

    Test and validation pairs are drawn first, so they do not depend on `train_pairs`.

    Raises:
        DataError: if the grammar has fewer sentences than requested.
    """
    grammar, rng = Grammar(config), random.Random(f"sentences {config.grammar_seed}")
    sizes = {"test": config.test_pairs, "val": config.val_pairs, "train": config.train_pairs}
    wanted, seen = sum(sizes.values()), dict[tuple[Statement, ...], None]()
    repeats = 0
    while len(seen) < wanted:
        before = len(seen)
        most = config.test_clauses if before < config.test_pairs else None
        seen[grammar.draw_sentence(rng, most or config.clauses)] = None
        repeats = repeats + 1 if len(seen) == before else 0
        if repeats == _MAX_ATTEMPTS:
            raise DataError(
                f"the synthetic language gave {len(seen):,} different sentences and then no more; expected "
                f"data.train_pairs + data.val_pairs + data.test_pairs={wanted:,} (data.nouns, data.verbs, "
                f"data.adjectives and data.clauses make it larger)"
            )
    sentences = iter(seen)
    return {name: [grammar.build_pair(next(sentences)) for _ in range(size)] for name, size in sizes.items()}
