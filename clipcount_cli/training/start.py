"""What a training starts from: CLIP with a fresh head, or weights that count already.

[start.py] -> step.py -> loop.py. Recipe, ablation and weights may require different networks:
what can be changed is reported, what cannot is refused.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clipcount_cli.config import RECIPES, ModelConfig, Recipe, TrainConfig
from clipcount_cli.counting.compact import build_model
from clipcount_cli.counting.model import ClipCount
from clipcount_cli.counting.prompts import bpe_ids, disjoint_prompts, untaught
from clipcount_cli.data.samples import Sample
from clipcount_cli.errors import UsageError, WeightsError
from clipcount_cli.weights import cache, checkpoint
from clipcount_cli.weights.registry import CLIP_NAME

CLIP_TEMPLATE = "a photo of {}"  # where no context is learned, as the paper's ablation words it
# Fields that TrainConfig and ModelConfig share: set by a recipe or option, or by the weights.
_SHARED = tuple(
    f.name
    for f in dataclasses.fields(TrainConfig)
    if f.name in {g.name for g in dataclasses.fields(ModelConfig)}
)


@dataclass(frozen=True)
class Start:
    """A network before its first step, and how it came to be."""

    model: ClipCount
    config: TrainConfig  # as resolved with the weights
    origin: Mapping[str, Any]
    dtypes: Mapping[str, torch.dtype]  # of the tensors that were read, to be saved as they came
    notices: tuple[str, ...] = ()


def start_from(
    init: str, recipe: Recipe, given: Mapping[str, Any], prompts: Sequence[str]
) -> Start:
    """Build the network to train; given: the options a user chose, which no weights overrule.

    prompts: those of the training images; words that a small vocabulary lacks get rows of
    their own. Raises WeightsError if the weights are missing or damaged, UsageError if they clash.
    """
    if init == CLIP_NAME:
        return _from_clip(recipe, given)
    return _from_weights(cache.resolve(init), recipe, given, prompts)


def choose_trained(model: ClipCount, config: TrainConfig) -> None:
    """Let gradients reach what learns: all, or what stands beside CLIP."""
    for name, parameter in model.named_parameters():
        learns = config.tuning == "full" or not name.startswith(model.pretrained)
        if config.contrast == "patches" and name.startswith("clip."):
            learns &= name.startswith("clip.visual.")  # the text is fixed in this ablation
        parameter.requires_grad_(learns)


def _from_clip(recipe: Recipe, given: Mapping[str, Any]) -> Start:
    path = cache.installed().get(CLIP_NAME)
    if path is None:
        raise WeightsError(
            "CLIP ViT-B/16 is not installed",
            hint="run `clipcount download-weights clip`, or start from the small model in the "
            "package: --init tiny",
        )
    with cache.with_repair_hint(path):
        state, metadata = checkpoint.load_state(path)
    config = dataclasses.replace(RECIPES[recipe], **given)
    torch.manual_seed(config.seed)
    model = build_model(model_config(metadata.config, config))
    model.load_state_dict(state, strict=False)
    return Start(model, config, _origin(CLIP_NAME, metadata.origin), _dtypes(state))


def _from_weights(
    weights: cache.ResolvedWeights,
    recipe: Recipe,
    given: Mapping[str, Any],
    prompts: Sequence[str],
) -> Start:
    with cache.with_repair_hint(weights.path):
        state, metadata = checkpoint.load_state(weights.path)
    theirs = metadata.config
    config = _as_weights(RECIPES[recipe], theirs, given)
    wanted = model_config(theirs, config)
    notices = [
        f"{weights.name} has {name} {getattr(theirs, name)}, this training uses "
        f"{getattr(wanted, name)}"
        for name in ("readout", "template", "heads", "interaction")
        if getattr(theirs, name) != getattr(wanted, name)
    ]
    if theirs.clip.compact or (config.tuning == "full" and config.contrast != "patches"):
        wanted, state = with_words(wanted, state, prompts)
    elif words := untaught(wanted, prompts):
        notices.append(
            "the text tower does not learn in this training, so words that "
            f"{weights.name} does not know will all mean the same to it: {', '.join(words)} "
            "(--tuning full teaches them)"
        )
    torch.manual_seed(config.seed)
    model = build_model(wanted)
    own = model.state_dict()
    checkpoint.require_shapes(
        {name: tuple(own[name].shape) for name in own if name in state},
        {name: tuple(tensor.shape) for name, tensor in state.items() if name in own},
        weights.path,
    )
    if fresh := sorted({name.split(".")[0] for name in own if name not in state}):
        notices.append(
            f"starts from nothing, as {weights.name} does not have it: {', '.join(fresh)}"
        )
    model.load_state_dict({name: t for name, t in state.items() if name in own}, strict=False)
    return Start(
        model, config, _origin(weights.name, metadata.origin), _dtypes(state), tuple(notices)
    )


def _as_weights(recipe: TrainConfig, theirs: ModelConfig, given: Mapping[str, Any]) -> TrainConfig:
    """The recipe for a network that exists: its shape stays, unless an option changes it."""
    kept = {name: getattr(theirs, name) for name in _SHARED if name != "readout"}
    if theirs.clip.compact:  # pretrained towers: what counts is beside them
        tuning = "frozen"
    elif theirs.clip.convolutional:
        tuning = "full"
    else:
        tuning = "prompts" if theirs.visual_prompts else "frozen"
    # Weights without visual prompts have no place to put them: their number is not recovered.
    kept["visual_prompts"] = theirs.visual_prompts or recipe.visual_prompts
    config = dataclasses.replace(recipe, **{**kept, "tuning": tuning, **given})
    if theirs.clip.convolutional and config.tuning == "prompts":
        raise UsageError(
            "--tuning prompts needs a vision transformer, and these weights have a convolutional "
            "image tower",
            hint="use --tuning full or --tuning frozen",
        )
    return config


def model_config(base: ModelConfig, config: TrainConfig) -> ModelConfig:
    """The network that `config` describes, in everything else like `base`."""
    changes = {name: getattr(config, name) for name in _SHARED}
    if config.tuning != "prompts":
        changes["visual_prompts"] = 0
    if config.contrast == "patches":  # the text is CLIP's own, read where CLIP reads it
        changes |= {"context_tokens": 0, "template": CLIP_TEMPLATE, "readout": "eot"}
    return dataclasses.replace(base, **changes)


def one_class_notice(config: TrainConfig, samples: Sequence[Sample], init: str) -> str | None:
    """What to report if no image can be queried for something that it does not show."""
    if not config.absent_prompts or not all(sample.truth for sample in samples):
        return None
    pairs = itertools.combinations({sample.prompt for sample in samples}, 2)
    if any(disjoint_prompts(first, second) for first, second in pairs):
        return None
    danger = "not learn" if init == CLIP_NAME else "forget"
    return (
        f"the training images have only one class, so the model may {danger} to count near 0 where "
        "objects are absent: add images of another class, or without objects, to prevent it"
    )


def with_words(
    config: ModelConfig, state: Mapping[str, Tensor], prompts: Iterable[str]
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Give each BPE id that `prompts` need and the vocabulary lacks a row of its own.

    Until now they shared row 0, and the new rows begin as copies of it.
    """
    known, prompts = config.clip.vocabulary, list(prompts)
    if config.taught:
        words = {word.lower() for prompt in prompts for word in prompt.split()}
        config = dataclasses.replace(config, taught=tuple(sorted({*config.taught, *words})))
    ids = {i for prompt in prompts for i in bpe_ids(config.template.format(prompt))}
    new = tuple(sorted(ids - set(known)))
    if not known or not new:
        return config, dict(state)
    name = "clip.token_embedding.weight"
    table = torch.cat([state[name], state[name][:1].expand(len(new), -1)])
    clip = dataclasses.replace(config.clip, vocabulary=(*known, *new))
    return dataclasses.replace(config, clip=clip), {**state, name: table}


def _origin(name: str, origin: Mapping[str, Any]) -> dict[str, Any]:
    from clipcount_cli.version import __version__

    return {
        "name": f"trained from {name}",
        "licence": origin.get("licence", ""),
        "started_from": {"name": name, **origin},
        "created_by": f"clipcount-cli {__version__}",
    }


def _dtypes(state: Mapping[str, Tensor]) -> dict[str, torch.dtype]:
    return {name: tensor.dtype for name, tensor in state.items()}
