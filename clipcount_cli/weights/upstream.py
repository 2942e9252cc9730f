"""The authors' checkpoint (songrise/CLIP-Count) and OpenAI's CLIP -> our tensors and configuration.

Two tables map their modules to ours, and list those of theirs that have no effect. Everything
in a file has to be expected, present, of the right shape and finite: the authors' own loader
accepts any file in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcount_cli.config import ClipConfig, Interaction, ModelConfig
from clipcount_cli.errors import WeightsError
from clipcount_cli.weights import untrusted
from clipcount_cli.weights.checkpoint import (
    expected_shapes,
    require_finite,
    require_shapes,
)

if TYPE_CHECKING:
    from torch import Tensor

# Their module or tensor (after "model.") -> ours; a name without a dot at the end is one tensor.
HEAD = {
    "text_encoder.learnable_context": "context",
    "img_encoder.visual_prompt": "image_tower.prompts",
    "img_encoder.vpt_proj.": "image_tower.prompt_proj.",
    "img_encoder.vpt_norm.": "image_tower.norm.",
    "patch_feat_proj.": "patch_proj.",
    "patch_feat_proj_contrast.": "contrast_proj.",
    "decoder_norm.": "interaction_norm.",
    "density_decoder.final_conv.0.": "decoder.readout.",
    "density_decoder.pyradim_conv.0.": "decoder.fine_proj.",
    "density_decoder.pyradim_conv.1.": "decoder.fine_norm.",
}
# The same inside "fim_blocks.I." -> "interaction.I."
BLOCK = {
    "conv0.": "upsample_conv.",
    "norm0.": "norm_self.",
    "selfattn.qkv.": "self_attention.qkv.",
    "selfattn.proj.": "self_attention.proj.",
    "attn.wv.": "read_text.value.",
    "attn.proj.": "read_text.proj.",
    "norm2.": "norm_mlp.",
    "mlp.fc1.": "mlp.fc1.",
    "mlp.fc2.": "mlp.fc2.",
}
# The same inside "density_decoder.convs.I." -> "decoder.levels.I."
LEVEL = {"0.": "conv.", "1.": "norm."}

POSITION_CODE = "model.patch_emb_pos_embed"  # fixed, so the network computes it
# A checkpoint trained with `unfreeze_vit` holds CLIP three times over.
OWN_CLIP = ("model.img_encoder.vit.", "model.text_encoder.clip_model.", "model.clip.")
# Numbers beside the parameters in CLIP files; the shapes imply them.
CLIP_EXTRAS = frozenset({"input_resolution", "context_length", "vocab_size", "attn_mask"})

_RIGHT_CLIP = "give OpenAI's CLIP ViT-B/16 with --clip, as an archive, state dict or safetensors"
_HEAD_WIDTH = 64  # channels of one attention head in every CLIP


@dataclass(frozen=True)
class Imported:
    """Tensors under our names, in the precision they came in, and the network they belong to."""

    state: Mapping[str, Tensor]
    config: ModelConfig


def brings_own_clip(checkpoint: Mapping[str, Any], path: Path) -> bool:
    """Whether the Lightning checkpoint read from `path` holds the CLIP it was trained with."""
    return any(key.startswith(OWN_CLIP) for key in untrusted.state_of(checkpoint, path))


def import_released(
    checkpoint_path: Path,
    clip_path: Path | None = None,
    checkpoint: Mapping[str, Any] | None = None,
) -> Imported:
    """Turn a released Lightning checkpoint, with CLIP from a file or its own, into our tensors.

    checkpoint: the file's contents, if they have been read already.
    Raises WeightsError naming what is missing, unexpected, misshapen or not finite.
    """
    if checkpoint is None:
        checkpoint = untrusted.read_checkpoint(checkpoint_path)
    state = untrusted.state_of(checkpoint, checkpoint_path)
    untrusted.require_own_bytes(state, checkpoint_path)
    settings = untrusted.settings_of(checkpoint, checkpoint_path)
    if brings_own_clip(checkpoint, checkpoint_path):
        clip = _own_clip(state, checkpoint_path)
    elif clip_path is not None:
        clip = read_clip(clip_path)
    else:
        raise WeightsError(f"{checkpoint_path} holds no CLIP of its own", hint=_RIGHT_CLIP)
    config = config_from(settings, clip_config(clip, clip_path or checkpoint_path), checkpoint_path)
    head = {key: tensor for key, tensor in state.items() if not key.startswith(OWN_CLIP)}
    renamed = _rename_head(head, config, checkpoint_path)
    return Imported({**_prefixed(clip), **renamed}, config)


def read_clip(path: Path) -> dict[str, Tensor]:
    """Read CLIP's tensors under OpenAI's keys, from any file it is published as, and check them.

    A TorchScript archive, a state dict, or safetensors (open_clip's, or one installed here).
    """
    if untrusted.is_torchscript(path):
        raw = untrusted.read_torchscript_tensors(path)
    elif untrusted.is_safetensors(path):
        raw = untrusted.read_safetensors(path)
    else:
        raw = untrusted.read_checkpoint(path)
    untrusted.require_own_bytes(raw, path)
    if raw and all(key.startswith("clip.") for key in raw):
        raw = {key.removeprefix("clip."): tensor for key, tensor in raw.items()}
    return _checked_clip(raw, path)


def import_clip(path: Path) -> Imported:
    """CLIP alone, as tensors under our names."""
    clip = read_clip(path)
    return Imported(_prefixed(clip), ModelConfig(clip=clip_config(clip, path)))


def clip_config(clip: Mapping[str, Tensor], path: Path) -> ClipConfig:
    """Read CLIP's dimensions from its tensors, which are all there is to go by."""
    try:
        patch = clip["visual.conv1.weight"]
        grid_side = round((len(clip["visual.positional_embedding"]) - 1) ** 0.5)
        text_width = len(clip["ln_final.weight"])
        return ClipConfig(
            embed_dim=clip["text_projection"].shape[1],
            image_size_px=grid_side * patch.shape[-1],
            image_layers=_layers(clip, "visual.transformer.resblocks."),
            image_width=patch.shape[0],
            patch_size_px=patch.shape[-1],
            context_length=len(clip["positional_embedding"]),
            text_width=text_width,
            text_heads=max(1, text_width // _HEAD_WIDTH),
            text_layers=_layers(clip, "transformer.resblocks."),
        )
    except KeyError as error:
        raise WeightsError(
            f"{path} is not CLIP: {error.args[0]} is missing", _RIGHT_CLIP
        ) from error
    except (AttributeError, IndexError, TypeError) as error:
        raise WeightsError(
            f"{path} is not CLIP: its tensors have odd shapes", _RIGHT_CLIP
        ) from error


def config_from(settings: Mapping[str, Any], clip: ClipConfig, path: Path) -> ModelConfig:
    """The network that a checkpoint's hyper-parameters describe; what they leave out is refused.

    The code's defaults differ from the released checkpoint's values, so none is assumed.
    """

    def value_of(key: str) -> Any:
        if settings.get(key) is None:
            raise WeightsError(
                f"{path} lacks {key} in its hyper_parameters, and it must not be guessed",
                hint=untrusted.AS_WRITTEN,
            )
        return settings[key]

    def number(key: str) -> int:
        try:
            return int(value_of(key))
        except (ValueError, TypeError, OverflowError) as error:
            raise WeightsError(
                f"{path} has {key} {value_of(key)!r} in its hyper_parameters, not a whole number",
                hint=untrusted.AS_WRITTEN,
            ) from error

    interaction: Interaction = "add"
    if value_of("use_mixed_fim"):
        interaction = "hierarchical"
    elif value_of("use_fim"):
        interaction = "naive"
    prompted = bool(value_of("use_vpt"))
    heads = number("decoder_head")
    if heads < 1 or clip.embed_dim % heads:
        raise WeightsError(f"{path} has decoder_head {heads}, which does not divide its width")
    depth = {"hierarchical": 2, "add": 0}.get(interaction)
    return ModelConfig(
        clip=clip,
        width=clip.embed_dim,
        heads=heads,
        interaction=interaction,
        depth=number("decoder_depth") if depth is None else depth,
        visual_prompts=number("vpt_width") if prompted else 0,
        prompted_layers=number("vpt_depth") if prompted else 0,
        context_tokens=number("coop_width") if value_of("use_coop") else 0,
        readout="released",
    )


def live_keys(config: ModelConfig) -> dict[str, str]:
    """Their key -> ours, for every tensor outside CLIP that `config`'s network has."""
    theirs_of = {ours: theirs for theirs, ours in _module_pairs(config)}
    keys: dict[str, str] = {}
    for ours in expected_shapes(config):
        if ours.startswith("clip."):
            continue
        module, dot, leaf = ours.rpartition(".")
        whole = ours in theirs_of
        keys["model." + (theirs_of[ours] if whole else theirs_of[module + dot] + leaf)] = ours
    return keys


def dead_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Their tensors that never reach a count: each has to be in the file, and none is kept."""
    width = config.width
    shapes: dict[str, tuple[int, ...]] = {POSITION_CODE: (1, config.clip.grid_side**2, width)}
    vectors, matrices = ["decoder_ln_pre"], []
    for block in range(config.depth):
        vectors.append(f"fim_blocks.{block}.norm1")  # before cross-attention to a single token,
        matrices += [
            f"fim_blocks.{block}.attn.wq",
            f"fim_blocks.{block}.attn.wk",
        ]  # which ignores it
    if config.interaction == "hierarchical":
        vectors.append("decoder_norm")  # computed, but the decoder reads the blocks' outputs
        shapes["model.fim_blocks.0.conv0.weight"] = (width, width, 3, 3)  # runs before upsampling,
        shapes["model.fim_blocks.0.conv0.bias"] = (width,)  # and block 0 does not upsample
    for module in vectors:
        shapes.update({f"model.{module}.{leaf}": (width,) for leaf in ("weight", "bias")})
    for module in matrices:
        shapes[f"model.{module}.weight"] = (width, width)
        shapes[f"model.{module}.bias"] = (width,)
    return shapes


def _module_pairs(config: ModelConfig) -> Iterator[tuple[str, str]]:
    yield from HEAD.items()
    for block in range(config.depth):
        for theirs, ours in BLOCK.items():
            yield f"fim_blocks.{block}.{theirs}", f"interaction.{block}.{ours}"
    for level in range(4):  # of the hierarchical decoder; the others have two
        for theirs, ours in LEVEL.items():
            yield f"density_decoder.convs.{level}.{theirs}", f"decoder.levels.{level}.{ours}"


def _rename_head(head: Mapping[str, Any], config: ModelConfig, path: Path) -> dict[str, Tensor]:
    ours = expected_shapes(config, where=path)
    keys = live_keys(config)
    expected = {theirs: ours[name] for theirs, name in keys.items()} | dead_shapes(config)
    require_shapes(expected, _shapes(head, path), path)
    require_finite(head, path)
    return {name: head[theirs] for theirs, name in keys.items()}


def _own_clip(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Gather the CLIP inside a checkpoint, whose copies must agree."""
    visual, text, whole = OWN_CLIP
    copies = [_under(state, whole), _under(state, text)]
    copies.append({f"visual.{key}": tensor for key, tensor in _under(state, visual).items()})
    clip: dict[str, Tensor] = {}
    for copy in copies:
        for key, tensor in copy.items():
            if key in clip and not _same(clip[key], tensor):
                raise WeightsError(f"{path} holds two different versions of CLIP's {key}")
            clip[key] = tensor
    return _checked_clip(clip, path)


def _checked_clip(raw: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    clip = {key: tensor for key, tensor in raw.items() if key not in CLIP_EXTRAS}
    config = ModelConfig(clip=clip_config(clip, path))
    expected = expected_shapes(config, "clip", path)
    require_shapes(_under(expected, "clip."), _shapes(clip, path), path)
    require_finite(clip, path)
    return clip


def _under(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found = {key: value for key, value in state.items() if key.startswith(prefix)}
    return {key.removeprefix(prefix): value for key, value in found.items()}


def _prefixed(clip: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"clip.{key}": tensor for key, tensor in clip.items()}


def _shapes(state: Mapping[str, Any], path: Path) -> dict[str, tuple[int, ...]]:
    if odd := [key for key, tensor in state.items() if not _holds_floats(tensor)]:
        raise WeightsError(f"{path} holds no floating-point tensor in {odd[0]}")
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def _holds_floats(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _same(one: Any, other: Any) -> bool:
    import torch

    if one is other:
        return True
    tensors = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
    return tensors and one.shape == other.shape and torch.equal(one, other)


def _layers(clip: Mapping[str, Any], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in clip if key.startswith(prefix)})
