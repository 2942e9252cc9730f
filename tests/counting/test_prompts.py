"""How a prompt is worded before a network reads it."""

from dataclasses import replace

import pytest
from small_models import SMALL, small_model

from clipcount_cli.config import ModelConfig
from clipcount_cli.counting.counter import Counter
from clipcount_cli.counting.prompts import disjoint_prompts, tokenize, untaught, worded

TRAINED_HERE, RELEASED = ModelConfig(readout="eot"), ModelConfig(readout="released")


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("a coin", "coin"),
        ("A coin", "coin"),
        ("an apple", "apple"),
        ("The red coins", "red coins"),
        ("  the  a coin", "coin"),
        ("cats on the table", "cats on table"),
        ("vitamin A pills", "vitamin A pills"),
        ("a", "a"),
        ("the", "the"),
        ("anchors", "anchors"),
        ("theatre seats", "theatre seats"),
        ("grade a", "grade a"),
    ],
)
def test_articles_are_left_out_for_weights_trained_here_only(prompt, read):
    assert worded(prompt, TRAINED_HERE) == read
    assert worded(prompt, RELEASED) == prompt


def test_an_article_changes_no_token_and_no_embedding_of_weights_trained_here():
    counter = Counter(small_model(replace(SMALL, readout="eot")), "small", "0" * 64, "fp32")

    with_article, without = counter.encode_prompts(["a dot", "dot"])

    assert with_article.equal(without)
    assert tokenize(["the dot"], TRAINED_HERE).equal(tokenize(["dot"], TRAINED_HERE))
    assert not tokenize(["the dot"], RELEASED).equal(tokenize(["dot"], RELEASED))


def test_an_article_is_no_word_that_weights_were_never_taught():
    config = ModelConfig(readout="eot", taught=("coins",))

    assert untaught(config, ["the coins", "an owl"]) == ["owl"]


@pytest.mark.parametrize(
    ("prompt", "other"),
    [
        ("beads", "Beads"),
        ("red beads", " Red  beads "),
        ("red beads", "beads"),
        ("coin", "coins"),
        ("a coin", "the coins"),
        ("strawberry", "ripe strawberries"),
        ("glass", "glasses"),
        ("boxes", "box"),
        ("bread-rolls", "bread roll"),
        ("leaves", "leaf"),
        ("shoe", "shoes"),
        ("gloves", "glove"),
    ],
)
def test_prompts_that_name_the_same_things_are_not_disjoint(prompt, other):
    assert not disjoint_prompts(prompt, other)
    assert not disjoint_prompts(other, prompt)


@pytest.mark.parametrize(
    ("prompt", "other"),
    [("beads", "coins"), ("bottles", "bottle caps"), ("red beads", "blue beads"), ("bus", "bun")],
)
def test_prompts_of_other_things_are_disjoint(prompt, other):
    assert disjoint_prompts(prompt, other)
    assert disjoint_prompts(other, prompt)
