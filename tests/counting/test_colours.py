"""The words that describe a noun are read apart from it, and matched with a window's colours."""

import dataclasses

import pytest
import torch
from small_models import SMALL_COMPACT, small_compact

from clipcount_cli.counting import compact
from clipcount_cli.counting.colours import attributes_alone, of_patches, without_attributes
from clipcount_cli.counting.prompts import bpe_ids, tokenize

WORDS = ("red", "blue", "large")
IDS = tuple(sorted(i for word in WORDS for i in bpe_ids(word)))
CONFIG = dataclasses.replace(SMALL_COMPACT, attribute_ids=IDS, colour_channels=4)


@pytest.fixture(scope="module")
def model():
    return small_compact(CONFIG)


@pytest.mark.parametrize(
    ("prompt", "noun", "words"),
    [
        ("coins", "coins", ""),
        ("red coins", "coins", "red"),
        ("large red coins", "coins", "large red"),
        ("red", "red", ""),
        ("large blue", "blue", "large"),
        ("coins on red cloth", "coins on cloth", "red"),
    ],
)
def test_a_prompt_is_taken_apart_into_noun_and_describing_words(prompt, noun, words):
    tokens = tokenize([prompt, "a longer prompt beside it"], CONFIG)
    ids = torch.tensor(IDS)

    alone, any_words = attributes_alone(tokens, ids)

    def words_of(row):
        return row[row != 0].tolist()

    assert words_of(without_attributes(tokens, ids)[0]) == words_of(tokenize([noun], CONFIG)[0])
    assert any_words.tolist() == [bool(words), False]
    assert words_of(alone[0]) == words_of(tokenize([words], CONFIG)[0])


@torch.no_grad()
def test_a_prompt_without_describing_words_has_no_match(model):
    features = model.encode_image(torch.rand(2, 3, 64, 64))
    text = model.encode_text(tokenize(["coins", "red coins"], CONFIG))

    match = model.colour_match(features.colours, text[:, 2 * CONFIG.clip.embed_dim :])

    assert not match[0].any()
    assert match[1].std() > 0


@torch.no_grad()
def test_a_described_noun_is_compared_with_the_bank_as_the_noun_alone(model, monkeypatch):
    monkeypatch.setattr(compact, "WHOLE", 2.0)  # untrained vectors resemble each other
    one, other = model.contrast_text(model.encode_text(tokenize(["coins", "red coins"], CONFIG)))

    torch.testing.assert_close(one, other)


@torch.no_grad()
def test_features_of_chosen_windows_keep_their_colours(model):
    windows = torch.rand(3, 3, 64, 64)
    text = model.encode_text(tokenize(["red coins"], CONFIG))

    chosen = model.decode(model.encode_image(windows).select(torch.tensor([2])), text, 32)

    torch.testing.assert_close(
        chosen, model.decode(model.encode_image(windows[2:]), text, 32), rtol=1e-4, atol=1e-5
    )


def test_a_patch_has_the_greatest_and_the_mean_match_of_its_cells():
    match = torch.zeros(1, 1, 8, 8)
    match[0, 0, 1, 5] = 4.0

    greatest, mean = of_patches(match, grid_side=2)[0].T

    assert greatest.tolist() == [0, 4, 0, 0]
    assert mean.tolist() == [0, 0.25, 0, 0]
