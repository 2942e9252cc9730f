"""The compact network: towers, recognition against a bank of nouns, and its weights file."""

from dataclasses import replace

import pytest
import torch
from small_models import SMALL_COMPACT, small_compact
from torch import nn

from clipcount_cli.counting import counter as counting
from clipcount_cli.counting.compact import build_model
from clipcount_cli.counting.counter import Counter
from clipcount_cli.counting.prompts import bpe_ids, tokenize
from clipcount_cli.counting.recognition import Recognition
from clipcount_cli.counting.towers import EfficientNetLite0, PhraseEncoder
from clipcount_cli.weights import checkpoint


@pytest.fixture(scope="module")
def model():
    return small_compact()


def fold(norm, conv):
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


@torch.no_grad()
def test_the_image_tower_equals_the_reference_network_with_its_norms_folded():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    modules = [m for m in reference.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    for norm in modules[1::2]:
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
    tower = EfficientNetLite0().eval()
    ours = [m for m in tower.modules() if isinstance(m, nn.Conv2d)]
    for mine, conv, norm in zip(ours, modules[::2], modules[1::2], strict=True):
        weight, bias = fold(norm, conv)
        mine.weight.copy_(weight)
        mine.bias.copy_(bias)
    pixels = torch.rand(2, 3, 96, 96) * 2 - 1

    deep = tower(pixels).deep

    torch.testing.assert_close(deep, reference.forward_features(pixels), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_phrase_is_read_alike_alone_and_beside_longer_ones():
    config = SMALL_COMPACT.clip
    encoder = PhraseEncoder(config, 49_408).eval()
    prompts = ["coins", "a long row of small green apples"]
    together = encoder(tokenize(prompts, SMALL_COMPACT))

    alone = torch.cat([encoder(tokenize([prompt], SMALL_COMPACT)) for prompt in prompts])

    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(2))


@torch.no_grad()
def test_a_noun_is_recognized_without_the_words_that_describe_it(model):
    config = replace(model.config, attribute_ids=tuple(bpe_ids("red large")))
    described = build_model(config).eval()
    described.load_state_dict(model.state_dict())

    def nouns(*prompts):
        return described.contrast_text(described.encode_text(tokenize(prompts, config)))

    described.recognition.bank.zero_()  # no prompt is one of its nouns
    plain = nouns("apples", "red", "apples on plates")
    torch.testing.assert_close(nouns("red apples", "large red", "red apples on red plates"), plain)
    described.recognition.bank[0] = described.clip.text(tokenize(["red apples"], config))[0]
    assert not torch.allclose(nouns("red apples"), plain[:1])  # now it is one noun


@torch.no_grad()
def test_patches_carry_the_colours_of_their_own_cells(model):
    red_corner = torch.zeros(1, 3, 64, 64)
    red_corner[:, 0, :8, 8:16] = 1

    colours = build_model(replace(model.config, patch_colours=True))._colours(red_corner)

    assert colours.shape == (1, 16, 12)
    assert [divmod(int(i), 12) for i in (colours.flatten() > 0).nonzero()] == [(0, 1)]


@torch.no_grad()
def test_the_noun_that_patches_resemble_most_is_the_most_relevant(model):
    evidence = model.encode_image(torch.rand(2, 3, 64, 64)).evidence
    texts = model.recognition.bank

    relevance = torch.stack(
        [model.recognition.relevance(evidence, text.expand(2, -1)) for text in texts]
    )  # (K, B, N, 3)

    likeness = evidence.vectors @ texts.T  # (B, N, 3, K)
    assert torch.equal(relevance.argmax(dim=0), likeness.argmax(dim=-1))
    assert (relevance.exp().mean(dim=0) - 1).abs().max() < 1e-3  # the bank explains itself


@torch.no_grad()
def test_patches_of_one_look_share_one_vector():
    torch.manual_seed(0)
    recognition = Recognition(4, 6, 24, 2).eval()
    coarse, deep = torch.zeros(1, 16, 4), torch.zeros(1, 4, 6)
    coarse[:, :8] = torch.tensor([3.0, 0, -1, 2])
    coarse = coarse + 0.05 * torch.randn(coarse.shape)
    recognition.focus.fill_(6.0)

    vectors = recognition(coarse, deep).vectors[0]

    own, grouped = vectors[:8, 0], vectors[:8, 1]
    assert grouped.std(dim=0).mean() < 0.2 * own.std(dim=0).mean()


@torch.no_grad()
def test_densities_depend_on_the_prompt_and_not_on_the_company(model):
    windows = torch.rand(3, 3, 64, 64)
    text = model.encode_text(tokenize(["coins", "penguins"], model.config))
    features = model.encode_image(windows)
    rows = torch.tensor([0, 2])

    together = model.decode(features.select(rows), text, 32)

    alone = model.decode(model.encode_image(windows[2:]), text[1:], 32)
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model.decode(model.encode_image(windows[2:]), text[:1], 32), alone)


@pytest.mark.parametrize(("least", "announced"), [(-1.0, False), (1.1, True)])
def test_a_prompt_unlike_every_noun_is_announced(model, monkeypatch, least, announced):
    monkeypatch.setattr(counting, "FAMILIAR", least)

    notice = Counter(model, "compact", "0" * 64, "fp32").unread_part("snow")

    assert ('"snow" is unlike every noun' in (notice or "")) == announced


def test_the_weights_file_rebuilds_the_network(model, tmp_path):
    path = tmp_path / "compact.safetensors"
    checkpoint.save(model, model.config, path, {"name": "compact", "licence": "MIT"})

    loaded, metadata = checkpoint.load(path)

    assert metadata.config == model.config
    assert {n: t.tolist() for n, t in loaded.recognition.named_buffers()} == {
        n: t.tolist() for n, t in model.recognition.named_buffers()
    }


def test_the_density_teaches_no_noun_by_heart(model):
    windows = torch.rand(1, 3, 64, 64)
    text = model.encode_text(tokenize(["coins"], model.config)).detach()
    density = model.decode(model.encode_image(windows), text, 32)

    density.sum().backward()

    assert model.recognition.embed.weight.grad is None
    assert model.read_relevance[0].weight.grad.abs().sum() > 0
    model.zero_grad(set_to_none=True)
