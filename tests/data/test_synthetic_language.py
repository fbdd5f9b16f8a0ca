"""The synthetic language, against a translator that knows its rules and dictionary but not its generator."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

import pytest

from attnbench.config.data import SyntheticTranslationConfig
from attnbench.data.errors import DataError
from attnbench.data.synthetic_language import Grammar, Pair, generate_pairs

SMALL = SyntheticTranslationConfig(train_pairs=250, val_pairs=20, test_pairs=30, clauses=3)
SWITCHES = ("reordering", "agreement", "drop_insert")
VARIANTS = [
    replace(SMALL, **dict(zip(SWITCHES, switches, strict=True)))  # type: ignore[arg-type]
    for switches in itertools.product((False, True), repeat=3)
]
FUNCTION_WORDS = {
    "the": "l",
    "a": "un",
    "some": "un",
    "that": "ke",
    "not": "ne",
    "and": "e",
    "but": "ma",
    "because": "por",
}


class Translator:
    """Reads a source sentence word by word, left to right, and writes the target."""

    def __init__(self, config: SyntheticTranslationConfig) -> None:
        grammar = Grammar(config)
        self.config = config
        self.nouns, self.verbs, self.adjectives = (
            dict(grammar.nouns),
            dict(grammar.verbs),
            dict(grammar.adjectives),
        )
        self.genders = {noun: grammar.genders[i] for i, (noun, _) in enumerate(grammar.nouns)}

    def __call__(self, source: str) -> str:
        self.rest = source.split()
        out: list[str] = []
        while self.rest:
            if self.rest[0] in ("and", "but", "because"):
                out.append(FUNCTION_WORDS[self.rest.pop(0)])
            subject, ending, singular = self.noun()
            out += subject + self.predicate(ending, singular)
        return " ".join(out)

    def noun(self) -> tuple[list[str], str, bool]:
        article = self.rest.pop(0) if self.rest[0] in ("the", "a", "some") else ""
        adjective = self.rest.pop(0) if self.rest[0] in self.adjectives else None
        word = self.rest.pop(0)
        stem, plural = word.removesuffix("s"), word.endswith("s")
        assert article != ("a" if plural else "some")
        assert article or (plural and self.config.drop_insert)
        ending = ""
        if self.config.agreement:
            ending = {(0, False): "o", (0, True): "i", (1, False): "a", (1, True): "e"}[self.genders[stem], plural]
        noun = self.nouns[stem] + ("ir" if plural else "")
        out = [noun]
        if adjective is not None:
            shown = self.adjectives[adjective] + ending
            out = [noun, shown] if self.config.reordering else [shown, noun]
        out.insert(0, ("l" if article == "the" else "un") + ending)
        if self.rest and self.rest[0] == "that":
            self.rest.pop(0)
            out += ["ke", *self.predicate(ending, not plural)]
        return out, ending, not plural

    def predicate(self, ending: str, singular: bool) -> list[str]:
        negated, carrier = False, ""
        if self.rest[0] in ("do", "dot", "dod"):
            carrier = self.rest.pop(0).removeprefix("do")
            assert self.config.drop_insert
            assert self.rest[0] == "not"
        if self.rest[0] == "not":
            negated = bool(self.rest.pop(0))
        word = self.rest.pop(0)
        stem, suffix = word[:5], word[5:]
        if negated and self.config.drop_insert:
            assert not suffix
            suffix = carrier
        assert suffix in ("d", "t" if singular and self.config.agreement else "")
        verb = self.verbs[stem] + ("ul" if suffix == "d" else "en") + ending
        thing = self.noun()[0] + ["ta"] * self.config.drop_insert
        said = ["ne"] * negated + [verb]
        return thing + said if self.config.reordering else said + thing


def everything(config: SyntheticTranslationConfig) -> list[Pair]:
    return [pair for pairs in generate_pairs(config).values() for pair in pairs]


@pytest.mark.parametrize("config", VARIANTS)
def test_every_sentence_has_its_one_translation(config: SyntheticTranslationConfig) -> None:
    translate = Translator(config)
    for pair in everything(config):
        assert translate(pair.source) == pair.target


@pytest.mark.parametrize("config", VARIANTS)
def test_aligned_words_are_in_the_dictionary_and_the_rest_has_no_counterpart(
    config: SyntheticTranslationConfig,
) -> None:
    grammar = Grammar(config)
    dictionary = dict(grammar.nouns + grammar.verbs + grammar.adjectives)
    for pair in everything(config):
        source, target = pair.source.split(), pair.target.split()
        for i, j in pair.alignment:
            word = FUNCTION_WORDS.get(source[i]) or dictionary[source[i][:5]]
            assert target[j].startswith(word)
        lone_source = set(range(len(source))) - {i for i, _ in pair.alignment}
        lone_target = set(range(len(target))) - {j for _, j in pair.alignment}
        assert len(pair.alignment) == len(source) - len(lone_source) == len(target) - len(lone_target)
        assert {source[i][:2] for i in lone_source} <= {"do"}
        assert {target[j][:2] for j in lone_target} <= {"ta", "un"}
        assert config.drop_insert or not (lone_source or lone_target)
        order = [j for _, j in pair.alignment]
        assert config.reordering or order == sorted(order)


def test_each_kind_of_difficulty_occurs() -> None:
    pairs = everything(SMALL)
    verbs = {verb for _, verb in Grammar(SMALL).verbs}
    assert all(pair.target.split()[-1][:5] in verbs for pair in pairs)
    crossing = [p for p in pairs if (order := [j for _, j in p.alignment]) != sorted(order)]
    assert len(crossing) == len(pairs)  # a verb-final clause crosses in every sentence
    words = [set(f"{p.source} | {p.target}".split()) for p in pairs]
    for word in ("that", "and", "not", "dot", "ta", "li", "la", "le", "lo", "uni", "una", "une", "uno"):
        assert sum(word in sentence for sentence in words) > 5, word
    # A subject's own clause stands between it and the verb that agrees with it.
    assert sum(" ke " in p.target for p in pairs) > len(pairs) / 5


def test_agreement_can_be_switched_off() -> None:
    plain = [pair.target for pair in everything(replace(SMALL, agreement=False))]
    assert {word for line in plain for word in line.split() if len(word) < 4 and word[0] in "lu"} == {
        "l",
        "un",
    }


def test_no_sentence_twice_and_the_same_for_the_same_config() -> None:
    pairs = everything(SMALL)
    assert len({pair.source for pair in pairs}) == len(pairs) == 300
    assert generate_pairs(SMALL) == generate_pairs(SMALL)
    assert generate_pairs(replace(SMALL, grammar_seed=1)) != generate_pairs(SMALL)


def test_the_language_stays_what_it_is() -> None:
    # A published number of this set is of this language: a change of it needs a new name.
    digest = hashlib.sha256("\n".join(pair.target for pair in everything(SMALL)).encode()).hexdigest()
    assert digest.startswith("d8a3f7bc5a1e821d")


def test_validation_and_test_do_not_depend_on_the_size_of_training() -> None:
    few, many = generate_pairs(SMALL), generate_pairs(replace(SMALL, train_pairs=400))
    assert (few["val"], few["test"]) == (many["val"], many["test"])
    assert few["train"] == many["train"][:250]


@pytest.mark.parametrize("clauses", [1, 2, 4])
def test_clauses_are_at_most_what_was_asked(clauses: int) -> None:
    verbs = {verb for verb, _ in Grammar(SMALL).verbs}
    counts = {
        sum(word[:5] in verbs for word in pair.source.split()) for pair in everything(replace(SMALL, clauses=clauses))
    }
    assert counts == set(range(1, clauses + 1))


def test_more_sentences_than_there_are_is_one_clear_error() -> None:
    tiny = SyntheticTranslationConfig(nouns=1, verbs=1, adjectives=1, clauses=1, train_pairs=300)
    # 8 subjects x 8 objects x 2 tenses x with or without `not`
    with pytest.raises(DataError, match=r"gave 256 different sentences and then no more; expected .*=700"):
        generate_pairs(tiny)
    assert len(everything(replace(tiny, train_pairs=200, val_pairs=28, test_pairs=28))) == 256


def test_more_words_than_there_are_is_one_clear_error() -> None:
    with pytest.raises(DataError, match=r"43,2.. words; expected .* of at most 43,200"):
        generate_pairs(replace(SMALL, nouns=43_200))


def test_test_sentences_may_be_longer_than_those_of_training() -> None:
    pairs = generate_pairs(
        SyntheticTranslationConfig(clauses=1, test_clauses=4, train_pairs=60, val_pairs=20, test_pairs=40)
    )
    longest = {name: max(len(pair.source.split()) for pair in found) for name, found in pairs.items()}
    assert longest["test"] > 2 * max(longest["train"], longest["val"])
