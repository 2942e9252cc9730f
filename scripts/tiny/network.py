"""The embedded network before its first step: pretrained towers, a bank, and untrained heads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from scenes.nouns import ATTRIBUTES
from torch import nn
from torch.nn import functional as F

from clipcount_cli.config import BPE_ROWS, GENERIC_PROMPT, ClipConfig, ModelConfig
from clipcount_cli.counting.compact import CompactClipCount
from clipcount_cli.counting.prompts import bpe_ids, tokenize
from clipcount_cli.counting.towers import PhraseEncoder
from clipcount_cli.errors import WeightsError
from clipcount_cli.files import atomic_write
from clipcount_cli.weights import checkpoint
from tiny.backbone import class_names, load_backbone
from tiny.bank import Bank
from tiny.distil import distil, teacher_vectors
from tiny.phrases import lemmas, phrases, plural
from tiny.samples import SIDE_PX

MINILM_WIDTH = 384
COMMON_IDS = 2  # BPE ids of a word that is not rare
STRANGE = 0.5  # likeness to all nouns of the bank below which a word is strange
# One BPE id each; nouns are recognized without them
DESCRIBING = (
    *ATTRIBUTES,
    *("grey", "gray", "beige", "bright", "dark", "golden", "pale", "ripe", "shiny", "violet"),
    *("turquoise", "maroon", "tiny", "huge"),
)


def tiny_config(bank: Sequence[str]) -> ModelConfig:
    """A narrow interaction and decoder between the compact towers."""
    clip = ClipConfig(
        embed_dim=MINILM_WIDTH,
        quick_gelu=False,
        image_size_px=SIDE_PX,
        image_tower="efficientnet-lite0",
        image_layers=0,
        text_row_width=64,
        text_width=192,
        text_heads=3,
        text_layers=2,
        context_length=32,
    )
    return ModelConfig(
        clip=clip,
        width=128,
        heads=4,
        mlp_ratio=2.0,
        visual_prompts=0,
        context_tokens=0,
        readout="eot",
        dropout=0.0,
        drop_path=0.0,
        antialias=True,
        fine_attention=False,
        fine_features=True,
        finest_features=True,
        text_gate=True,
        decoder_widths=(64, 48, 32),
        attribute_width=16,
        attribute_ids=tuple(sorted(i for word in DESCRIBING for i in bpe_ids(word))),
        patch_colours=True,
        colour_channels=16,
        bank=tuple(bank),
    )


def teach_phrases(bank: Bank, wordnet: Path, path: Path, steps: int) -> None:
    """Distil the phrase encoder and save it at `path`."""
    config = tiny_config(bank.nouns)
    names = {name for noun in bank.nouns for name in (*bank.names(noun), *bank.kinds(noun))}
    names |= {name for synonyms in class_names() for name in synonyms} | {GENERIC_PROMPT}
    learned = phrases(wordnet, names)
    torch.manual_seed(0)
    encoder = PhraseEncoder(config.clip, BPE_ROWS)
    often = names | {plural(name) for name in names}
    distil(encoder, learned, tokenize(learned, config), teacher_vectors(learned), often, steps)
    with atomic_write(path) as temporary:
        save_file(encoder.state_dict(), temporary)


@torch.no_grad()
def strangers(model: CompactClipCount, wordnet: Path) -> list[str]:
    """Plurals of WordNet's physical things that resemble no noun the model may have to count."""
    single = {lemma for lemma in lemmas(wordnet) if re.fullmatch("[a-z]{3,}", lemma)}
    words = sorted(word for word in map(plural, single) if len(bpe_ids(word)) <= COMMON_IDS)
    known = torch.cat([model.recognition.bank, encode(model, [GENERIC_PROMPT])])
    parts = [words[start : start + 1000] for start in range(0, len(words), 1000)]
    likeness = torch.cat([(encode(model, part) @ known.T).amax(dim=1) for part in parts])
    return [word for word, value in zip(words, likeness.tolist(), strict=True) if value < STRANGE]


@torch.no_grad()
def continued(bank: Bank, weights: Path) -> CompactClipCount:
    """The network of `weights`; parts that it does not have yet change nothing at first.

    Raises WeightsError if its bank is not `bank`.
    """
    state, metadata = checkpoint.load_state(weights, dtype=torch.float32)
    if metadata.config.bank != bank.nouns:
        raise WeightsError(f"{weights} has another bank of nouns")
    torch.manual_seed(0)
    model = CompactClipCount(tiny_config(bank.nouns))
    for layer in (model.read_colours[-1], model.describe):
        nn.init.zeros_(layer.weight)
    nn.init.zeros_(model.read_colours[-1].bias)
    for name, own in model.state_dict().items():
        if name in state and state[name].shape != own.shape:
            state[name] = _widened(state[name], own.shape)
    model.load_state_dict({**model.state_dict(), **state})
    return _frozen(model)


def _widened(weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """A layer's weight (O, I, ...) with zeros for the inputs that came later."""
    wide = weight.new_zeros(shape)
    wide[:, : weight.shape[1]] = weight
    return wide


@torch.no_grad()
def untrained(bank: Bank, phrase_encoder: Path, seed: int) -> CompactClipCount:
    """Put the towers, the bank and the class names together; the rest is random by `seed`."""
    torch.manual_seed(seed)
    model = CompactClipCount(tiny_config(bank.nouns))
    tower, classifier = load_backbone()
    model.clip.visual.load_state_dict(tower.state_dict())
    model.clip.text.load_state_dict(load_file(phrase_encoder))
    model.recognition.classifier.load_state_dict(classifier.state_dict())
    model.recognition.bank.copy_(encode(model, bank.nouns))
    means = [encode(model, synonyms).mean(dim=0) for synonyms in class_names()]
    model.recognition.class_names.copy_(F.normalize(torch.stack(means), dim=-1))
    return _frozen(model)


def _frozen(model: CompactClipCount) -> CompactClipCount:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(model.pretrained))
    return model.to(memory_format=torch.channels_last)


@torch.no_grad()
def encode(model: CompactClipCount, prompts: Sequence[str]) -> torch.Tensor:
    """The phrase encoder's vectors (P, C), on the model's device."""
    tokens = tokenize(prompts, model.config).to(model.patch_proj.weight.device)
    vectors: torch.Tensor = model.clip.text(tokens)
    return vectors.clone()
