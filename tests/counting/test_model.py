"""The exact identities of the network, each against the plain form it stands for."""

import dataclasses
import math

import pytest
import small_models
import torch
from benchmarks.plain import plain_form
from small_models import SMALL_CLIP
from torch.nn import functional as F

from clipcount_cli.counting.model import ClipCount, DensityDecoder, ReadText, resize, sinusoid
from clipcount_cli.counting.prompts import prompt_length, tokenize, unread_part

VIT = dataclasses.replace(
    SMALL_CLIP, embed_dim=32, image_layers=4, text_width=32, text_layers=2, vocabulary=()
)
CONVOLUTIONAL = dataclasses.replace(VIT, image_layers=(1, 1, 1, 1), image_width=8)
SMALL = dataclasses.replace(
    small_models.SMALL,
    clip=VIT,
    width=32,
    visual_prompts=3,
    prompted_layers=2,
    decoder_widths=(16, 8),
)
CONFIGS = {
    "released": SMALL,
    "true end of text": dataclasses.replace(SMALL, readout="eot"),
    "naive": dataclasses.replace(SMALL, interaction="naive"),
    "add": dataclasses.replace(SMALL, interaction="add"),
    "without visual prompts": dataclasses.replace(SMALL, visual_prompts=0),
    "every layer prompted": dataclasses.replace(SMALL, prompted_layers=4),
    "one layer prompted": dataclasses.replace(SMALL, prompted_layers=1),
    "convolutional": dataclasses.replace(
        SMALL,
        clip=CONVOLUTIONAL,
        visual_prompts=0,
        context_tokens=0,
        fine_features=True,
        fine_attention=False,
        text_gate=True,
        antialias=True,
    ),
}
PROMPTS = ["cars", "red apples", "the small white birds on the wire"]


def build(config, seed=0):
    torch.manual_seed(seed)
    return ClipCount(config).eval()


@pytest.fixture(params=CONFIGS.values(), ids=list(CONFIGS))
def model(request):
    return build(request.param)


@torch.inference_mode()
def test_every_configuration_gives_a_density_between_zero_and_one(model):
    windows = torch.rand(2, 3, 96, 96)

    density = model(windows, tokenize(["cars", "red apples"], model.config))

    assert density.shape == (2, 384, 384)
    assert density.dtype == torch.float32
    assert 0 < density.min() < density.max() < 1


def test_training_drops_visual_prompts_anew_for_each_window():
    tower = build(dataclasses.replace(SMALL, dropout=0.5)).train().image_tower

    first, second = next(tower.layer_prompts(windows=2))

    assert not torch.equal(first, second)
    assert len(next(tower.eval().layer_prompts(windows=2))) == 1


@torch.inference_mode()
def test_the_fast_form_answers_as_the_network_written_in_the_paper(model):
    windows = torch.rand(2, 3, 96, 96)
    tokens = tokenize(["cars", "red apples"], model.config)

    density = model(windows, tokens)

    torch.testing.assert_close(density, plain_form(model)(windows, tokens), atol=1e-6, rtol=1e-5)


@torch.inference_mode()
def test_prompts_asked_together_are_answered_as_when_asked_alone(model):
    windows = torch.rand(1, 3, 96, 96)
    text = model.encode_text(tokenize(PROMPTS, model.config))
    features = model.encode_image(windows)

    together = model.decode(features.select(torch.zeros(3, dtype=torch.int64)), text)

    for prompt, density in zip(PROMPTS, together, strict=True):
        alone = model(windows, tokenize([prompt], model.config))[0]
        torch.testing.assert_close(density, alone, atol=1e-6, rtol=1e-5)


@torch.inference_mode()
def test_text_cut_at_the_readout_is_read_like_the_whole(model):
    tokens = tokenize(PROMPTS, model.config)
    cut = model.encode_text(tokens)

    one_by_one = torch.cat([model.encode_text(row[None]) for row in tokens])
    whole = full_text_encoding(model, tokens)

    torch.testing.assert_close(cut, one_by_one, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(cut, whole, atol=1e-6, rtol=1e-5)


def full_text_encoding(model, tokens):
    """The text tower over all 77 places, as CLIP runs it."""
    clip, config = model.clip, model.config
    embedded = clip.token_embedding(tokens)
    if config.context_tokens:
        context = model.context.expand(len(tokens), -1, -1)
        embedded = torch.cat([embedded[:, :1], context, embedded[:, 1:]], dim=1)
    length = config.clip.context_length
    states = embedded[:, :length] + clip.positional_embedding[: embedded[:, :length].shape[1]]
    size = states.shape[1]
    mask = torch.full((size, size), -math.inf).triu(1)
    for block in clip.transformer.resblocks:
        states = block(states, attn_mask=mask)
    shift = config.context_tokens if config.readout == "eot" else 0
    read_at = tokens.argmax(-1) + shift
    return clip.ln_final(states[torch.arange(len(tokens)), read_at]) @ clip.text_projection


@torch.inference_mode()
def test_reading_one_text_token_equals_cross_attention_to_it():
    torch.manual_seed(0)
    read = ReadText(text_width=12, width=16, dropout=0.1, gate=False).eval()
    patches, text = torch.randn(2, 9, 16), torch.randn(2, 12)
    to_query, to_key = torch.nn.Linear(16, 16), torch.nn.Linear(12, 16)

    query = to_query(patches).unflatten(2, (4, 4)).transpose(1, 2)
    key = to_key(text[:, None]).unflatten(2, (4, 4)).transpose(1, 2)
    value = read.value(text[:, None]).unflatten(2, (4, 4)).transpose(1, 2)
    attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    torch.testing.assert_close(read(patches, text).expand_as(patches), read.proj(attended))


@torch.inference_mode()
def test_reading_out_before_the_last_resize_equals_reading_out_after_it():
    torch.manual_seed(0)
    decoder = DensityDecoder(32, (16, 8), fine=False, finest=0).eval()
    patches = torch.randn(2, 16, 32)

    grid = patches.transpose(1, 2).reshape(2, 32, 4, 4)
    grid = resize(decoder.levels[0](grid), 8)
    grid = resize(decoder.levels[1](grid), 96)
    plain = decoder.readout(grid).sigmoid()[:, 0]

    torch.testing.assert_close(decoder(patches, None, 96), plain, atol=1e-6, rtol=1e-5)


def test_position_codes_have_sines_in_even_and_cosines_in_odd_channels():
    code = sinusoid(5, 8)

    assert code[3, 0] == pytest.approx(math.sin(3))
    assert code[3, 1] == pytest.approx(math.cos(3))
    assert code[3, 2] == pytest.approx(math.sin(3 / 10))


@torch.inference_mode()
def test_words_without_a_row_of_their_own_share_one():
    ids = tuple(sorted({*tokenize(["red apples"], SMALL)[0].tolist()} - {0}))
    config = dataclasses.replace(
        SMALL, readout="eot", clip=dataclasses.replace(VIT, vocabulary=ids)
    )
    model = build(config)

    dogs, horses, apples = model.encode_text(tokenize(["dogs", "horses", "apples"], config))

    assert torch.equal(dogs, horses)
    assert not torch.allclose(dogs, apples)
    assert unread_part("red apples", config) is None
    assert '"zebras"' in unread_part("red zebras", config)


def test_a_prompt_as_long_as_the_context_keeps_its_end_and_a_longer_one_is_told():
    config = dataclasses.replace(SMALL, readout="eot")
    longest = " ".join(["cars"] * prompt_length(config))

    assert prompt_length(config) == 73
    assert unread_part(longest, config) is None
    assert "only the first 73" in unread_part(f"{longest} parked", config)
    assert tokenize([f"{longest} parked"], config).equal(tokenize([longest], config))


def test_the_true_end_of_text_hides_nothing():
    assert unread_part("cars", dataclasses.replace(SMALL, readout="eot")) is None
    assert unread_part("cars", dataclasses.replace(SMALL, context_tokens=0)) is None
