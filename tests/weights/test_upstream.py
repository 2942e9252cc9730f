"""Their names and shapes -> ours, and everything a wrong file is refused for."""

from __future__ import annotations

import argparse
import math
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import standin_weights
import torch
from shrunken import head_state
from standin_weights import CHECKPOINTS, CLIP_SHAPES
from torch import nn

from clipcount_cli.api import load_counter
from clipcount_cli.config import ClipConfig, ModelConfig
from clipcount_cli.errors import WeightsError
from clipcount_cli.weights.checkpoint import expected_shapes
from clipcount_cli.weights.untrusted import (
    is_torchscript,
    read_checkpoint,
    read_torchscript_tensors,
    settings_of,
)
from clipcount_cli.weights.upstream import (
    config_from,
    dead_shapes,
    import_clip,
    import_released,
    live_keys,
    read_clip,
)

HERE = Path("head.ckpt")
CONV = "model.density_decoder.convs.0.0.weight"


@pytest.mark.parametrize("variant", CHECKPOINTS)
def test_every_tensor_of_a_released_checkpoint_has_a_place_or_is_known_to_be_dead(variant):
    config = config_from(CHECKPOINTS[variant]["hyper_parameters"], ClipConfig(), HERE)
    ours = expected_shapes(config)
    expected = {theirs: ours[name] for theirs, name in live_keys(config).items()}
    expected |= dead_shapes(config)

    assert {k: tuple(v) for k, v in CHECKPOINTS[variant]["shapes"].items()} == expected


def test_clip_has_the_keys_and_shapes_of_openai():
    ours = expected_shapes(ModelConfig(), "clip")

    assert ours == {f"clip.{key}": tuple(shape) for key, shape in CLIP_SHAPES.items()}


@pytest.mark.parametrize(
    ("variant", "interaction", "depth", "heads", "prompts"),
    [
        ("released", "hierarchical", 2, 4, 20),
        ("naive", "naive", 2, 8, 20),
        ("add", "add", 0, 4, 20),
        ("frozen", "hierarchical", 2, 4, 0),
    ],
)
def test_hyper_parameters_say_which_network_it_is(
    write_checkpoint, clip_file, variant, interaction, depth, heads, prompts
):
    config = import_released(write_checkpoint(variant=variant), clip_file).config

    assert (config.interaction, config.depth, config.heads) == (interaction, depth, heads)
    assert config.visual_prompts == prompts
    assert config.readout == "released"


def test_tensors_arrive_under_our_names_in_the_precision_they_came_in(imported, clip_state):
    state = imported.state

    assert torch.equal(state["decoder.levels.0.conv.weight"], head_state()[CONV])
    assert torch.equal(state["clip.visual.proj"], clip_state["visual.proj"])
    assert state["clip.visual.proj"].dtype == torch.float16


def test_settings_may_be_a_namespace_with_numpy_numbers(write_checkpoint, clip_file):
    settings = {"decoder_head": np.int64(2), "lr": np.float32(1e-4), "note": "x"}
    path = write_checkpoint(settings=settings, as_namespace=True)

    assert import_released(path, clip_file).config.heads == 2
    assert isinstance(settings_of(read_checkpoint(path), path)["lr"], float)


@pytest.mark.parametrize("key", ["decoder_head", "use_mixed_fim", "vpt_depth"])
def test_setting_the_file_does_not_give_is_never_guessed(write_checkpoint, clip_file, key):
    with pytest.raises(WeightsError, match=f"lacks {key}"):
        import_released(write_checkpoint(settings={key: None}), clip_file)


@pytest.mark.parametrize("odd", ["abc", [4, 4], torch.zeros(3), float("inf")])
def test_setting_that_is_no_number_is_named(write_checkpoint, clip_file, odd):
    path = write_checkpoint(settings={"decoder_head": odd})

    with pytest.raises(WeightsError, match=r"head\.ckpt has decoder_head .* whole number"):
        import_released(path, clip_file)


def test_setting_that_no_network_needs_may_be_anything(write_checkpoint, clip_file):
    path = write_checkpoint(settings={"mean": torch.ones(3), "seed": torch.tensor(7)})

    settings = settings_of(read_checkpoint(path), path)

    assert (settings["mean"], settings["seed"]) == ([1.0, 1.0, 1.0], 7)
    assert import_released(path, clip_file).config.heads == 4


def test_settings_that_describe_no_network_are_refused(write_checkpoint, clip_file):
    path = write_checkpoint(settings={"coop_width": -1})

    with pytest.raises(WeightsError, match=r"head\.ckpt describes a network that cannot be built"):
        import_released(path, clip_file)


def test_checkpoint_without_any_settings_is_refused(tmp_path, clip_file):
    torch.save({"state_dict": head_state()}, tmp_path / "bare.ckpt")

    with pytest.raises(WeightsError, match="no hyper_parameters"):
        import_released(tmp_path / "bare.ckpt", clip_file)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({CONV: None}, f"missing: {CONV}"),
        ({"model.extra": torch.zeros(3)}, "unexpected: model.extra"),
        ({CONV: torch.zeros(2, 2)}, rf"misshapen: {CONV} \(is 2 x 2, should be 64 x 128 x 3 x 3\)"),
        ({CONV: torch.full((64, 128, 3, 3), torch.nan)}, f"NaN or infinity in {CONV}"),
        ({CONV: torch.zeros(64, 128, 3, 3, dtype=torch.int32)}, f"floating-point tensor in {CONV}"),
        ({"model.decoder_ln_pre.weight": None}, "missing: model.decoder_ln_pre.weight"),
        ({"model.patch_emb_pos_embed": torch.zeros(1, 196, 512)}, "patch_emb_pos_embed"),
    ],
)
def test_wrong_tensor_of_a_checkpoint_is_named(write_checkpoint, clip_file, tensors, message):
    with pytest.raises(WeightsError, match=message):
        import_released(write_checkpoint(tensors=tensors), clip_file)


@pytest.mark.parametrize(
    ("key", "tensor", "message"),
    [
        ("visual.ln_post.bias", None, "missing: visual.ln_post.bias"),
        ("visual.conv1.weight", None, "visual.conv1.weight is missing"),
        ("visual.more", torch.zeros(1), "unexpected: visual.more"),
        ("visual.proj", torch.zeros(3, 3), "misshapen: visual.proj"),
        ("visual.proj", torch.full((64, 128), torch.inf), "NaN or infinity in visual.proj"),
    ],
)
def test_wrong_tensor_of_clip_is_named(tmp_path, clip_state, key, tensor, message):
    state = {**clip_state, key: tensor}
    torch.save({k: v for k, v in state.items() if v is not None}, tmp_path / "clip.pt")

    with pytest.raises(WeightsError, match=message):
        read_clip(tmp_path / "clip.pt")


def test_checkpoint_trained_with_its_clip_needs_no_other(write_checkpoint, clip_state):
    state = import_released(write_checkpoint(tensors=with_own_clip(clip_state)))

    assert torch.equal(state.state["clip.visual.proj"], clip_state["visual.proj"].float())


def test_two_versions_of_clip_in_one_checkpoint_are_refused(write_checkpoint, clip_state):
    own = with_own_clip(clip_state)
    own["model.img_encoder.vit.proj"] = own["model.img_encoder.vit.proj"] + 1

    with pytest.raises(WeightsError, match=r"two different versions of CLIP's visual\.proj"):
        import_released(write_checkpoint(tensors=own))


def test_checkpoint_without_clip_asks_for_it(checkpoint_file):
    with pytest.raises(WeightsError, match="no CLIP of its own") as got:
        import_released(checkpoint_file)

    assert "--clip" in (got.value.hint or "")


def test_copies_of_clip_that_are_no_tensors_are_refused(write_checkpoint):
    own = {"model.clip.x": [1], "model.text_encoder.clip_model.x": [2]}

    with pytest.raises(WeightsError, match="two different versions of CLIP's x"):
        import_released(write_checkpoint(tensors=own))


def test_state_dict_of_clip_may_hold_openais_extra_numbers(tmp_path, clip_state):
    extras = {"input_resolution": torch.tensor(32), "vocab_size": torch.tensor(49408)}
    torch.save({**clip_state, **extras}, tmp_path / "clip.pt")

    assert set(read_clip(tmp_path / "clip.pt")) == set(CLIP_SHAPES)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_torchscript_archive_gives_its_tensors(tmp_path, clip_state):
    path = write_torchscript(tmp_path / "ViT-B-16.pt", clip_state)

    imported = import_clip(path)

    assert is_torchscript(path)
    assert imported.config.clip.image_width == 64
    for key, tensor in clip_state.items():
        assert torch.equal(imported.state[f"clip.{key}"], tensor)
        assert imported.state[f"clip.{key}"].dtype == torch.float16


class CreatesAFile:
    """What a malicious pickle does when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_checkpoint_that_would_run_code_is_refused_before_it_runs(tmp_path):
    created = tmp_path / "created"
    settings = argparse.Namespace(decoder_head=CreatesAFile(created))
    torch.save({"state_dict": {}, "hyper_parameters": settings}, tmp_path / "evil.ckpt")

    with pytest.raises(WeightsError, match=r"refused.*mkdir"):
        read_checkpoint(tmp_path / "evil.ckpt")

    assert not created.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_bare_pickle_that_would_run_code_is_refused_before_it_runs(tmp_path, protocol):
    created = tmp_path / "created"
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(CreatesAFile(created), protocol))

    with pytest.raises(WeightsError):
        read_clip(tmp_path / "evil.pt")

    assert not created.exists()


def test_torchscript_archive_that_would_run_code_is_refused_before_it_runs(tmp_path):
    created = tmp_path / "created"
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("evil/data.pkl", pickle.dumps({"a": CreatesAFile(created)}, 2))
        archive.writestr("evil/constants.pkl", b"")

    with pytest.raises(WeightsError, match=r"refused.*mkdir"):
        read_torchscript_tensors(tmp_path / "evil.pt")

    assert not created.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html>", "web page"),
        (b"", "not a PyTorch checkpoint"),
        (b"PK\x03\x04 cut off", "not a PyTorch checkpoint"),
        (b"\x10\0\0\0\0\0\0\0{not json, but }", "not a whole safetensors"),
    ],
)
def test_file_that_is_something_else_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "odd.pt").write_bytes(content)

    with pytest.raises(WeightsError, match=rf"odd\.pt.*{message}"):
        read_clip(tmp_path / "odd.pt")


def test_cut_off_checkpoint_is_refused(write_checkpoint):
    path = write_checkpoint()
    path.write_bytes(path.read_bytes()[:-1000])

    with pytest.raises(WeightsError, match="damaged or cut off"):
        read_checkpoint(path)


def with_own_clip(clip_state):
    """CLIP as a checkpoint trained with `unfreeze_vit` holds it: three times, in float32."""
    clip = {key: tensor.float() for key, tensor in clip_state.items()}
    own = {f"model.clip.{key}": tensor for key, tensor in clip.items()}
    own |= {f"model.text_encoder.clip_model.{key}": tensor for key, tensor in clip.items()}
    visual = {key.removeprefix("visual."): t for key, t in clip.items() if key.startswith("visual")}
    return own | {f"model.img_encoder.vit.{key}": tensor for key, tensor in visual.items()}


def write_torchscript(path, state):
    """A TorchScript archive whose state dict is `state`, with OpenAI's extra numbers."""

    class Node(nn.Module):
        def forward(self, x):
            return x

    root = Node()
    for key, tensor in state.items():
        *parents, leaf = key.split(".")
        node = root
        for parent in parents:
            if not hasattr(node, parent):
                node.add_module(parent, Node())
            node = getattr(node, parent)
        node.register_parameter(leaf, nn.Parameter(tensor))
    root.register_buffer("input_resolution", torch.tensor(32))
    torch.jit.trace(root, torch.zeros(1)).save(str(path))
    return path


def test_recipe_fills_the_position_code_that_the_network_computes():
    from clipcount_cli.counting.model import sinusoid

    torch.testing.assert_close(standin_weights.position_code(196, 512)[0], sinusoid(196, 512))


def test_a_weights_file_of_the_released_model_counts(checkpoint_file, clip_file, tmp_path):
    """As the tests for a GPU build theirs, at a tenth of the width."""
    weights = standin_weights.write_weights(tmp_path / "own", checkpoint_file, clip_file)
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)

    results = load_counter(weights, "cpu", "fp32").count(noise, ["red apples", "birds"])

    assert [math.isfinite(result.count) for result in results] == [True, True]
