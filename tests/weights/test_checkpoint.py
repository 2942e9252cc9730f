"""Our own file: what it carries, how it is loaded, and what is wrong with a damaged one."""

from __future__ import annotations

import errno
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from clipcount_cli.config import ModelConfig, to_json
from clipcount_cli.errors import ClipCountError, WeightsError
from clipcount_cli.weights import checkpoint
from clipcount_cli.weights.upstream import import_clip

ORIGIN = {"name": "clip", "licence": "MIT"}
BPE_IDS = [49406, 9696, 49407]  # [SOS] coins [EOT]


def rewrite(path, change):
    """Save a file again after `change(tensors, metadata)`."""
    tensors = safetensors.torch.load_file(path)
    metadata = dict(checkpoint.read_header(path).metadata)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def test_file_gives_back_network_configuration_and_origin(weights_file, imported):
    model, metadata = checkpoint.load(weights_file)

    assert metadata.config == imported.config
    assert metadata.origin["sources"] == [{"file": "head.ckpt", "sha256": "0" * 64}]
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, imported.state[name])
        assert tensor.dtype == imported.state[name].dtype


def test_loaded_network_counts(weights_file):
    model, _ = checkpoint.load(weights_file, dtype=torch.float32)
    with torch.inference_mode():
        density = model(torch.rand(1, 3, 384, 384), torch.tensor([BPE_IDS]))

    assert density.shape == (1, 384, 384)
    assert torch.isfinite(density).all()


def test_working_precision_is_chosen_at_loading(weights_file):
    model, _ = checkpoint.load(weights_file, dtype=torch.bfloat16)

    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_tensors_in_the_working_precision_stay_mapped_from_the_file(weights_file):
    model, _ = checkpoint.load(weights_file)

    assert str(weights_file) in Path("/proc/self/maps").read_text()
    assert model is not None


def test_training_on_mapped_weights_does_not_touch_the_file(weights_file):
    before = weights_file.read_bytes()
    model, _ = checkpoint.load(weights_file)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)

    assert weights_file.read_bytes() == before


def test_header_is_read_without_torch(weights_file):
    code = (
        "import sys; from pathlib import Path; from clipcount_cli.weights.cache import resolve\n"
        f"print(resolve(Path({str(weights_file)!r})).name, 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.split() == ["small", "False"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: t.pop("context"), "missing: context"),
        (lambda t, m: t.update(more=torch.zeros(1)), "unexpected: more"),
        (lambda t, m: t.update(context=torch.zeros(3, 128)), "is 3 x 128, should be 2 x 128"),
        (lambda t, m: t["context"].fill_(torch.nan), "NaN or infinity in context"),
        (lambda t, m: t.update(context=t["context"].int()), r"no floating.* context \(I32\)"),
        (lambda t, m: m.pop("clipcount_config"), "holds no configuration"),
        (lambda t, m: m.update(clipcount_format="9"), "format 9"),
        (lambda t, m: m.update(clipcount_config="{"), "configuration cannot be read"),
        (lambda t, m: m.update(clipcount_config='{"hats": 3}'), "does not know: hats"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(weights_file, change, message):
    rewrite(weights_file, change)

    with pytest.raises(WeightsError, match=message):
        checkpoint.load(weights_file)


def reconfigure(path, part=None, **values):
    """Damage values of a file's configuration, or of the `part` of it, and nothing else."""

    def change(_tensors, metadata):
        config = json.loads(metadata["clipcount_config"])
        (config[part] if part else config).update(values)
        metadata["clipcount_config"] = json.dumps(config)

    rewrite(path, change)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heads": 0}, "heads 0 do not divide width 128"),
        ({"heads": 3}, "heads 3 do not divide width 128"),
        ({"heads": "abc"}, "heads is 'abc'"),
        ({"heads": True}, "heads is True"),
        ({"heads": None}, "heads is None"),
        ({"mlp_ratio": math.nan}, "mlp_ratio is nan"),
        ({"readout": "end"}, "readout is 'end'"),
        ({"template": 3}, "template is 3"),
        ({"template": "a photo"}, "template is 'a photo'"),
        ({"template": "{} {"}, "template is '{} {'"),
        ({"antialias": 1}, "antialias is 1"),
        ({"decoder_widths": [64, "b"]}, r"decoder_widths is \(64, 'b'\)"),
        ({"decoder_widths": 64}, "decoder_widths is 64"),
        ({"clip": []}, "ClipConfig is a list"),
        ({"part": "clip", "text_layers": -1}, "text_layers is -1"),
        ({"part": "clip", "image_size_px": 100_000}, "image_size_px is 100000"),
        ({"part": "clip", "vocabulary": [49_408]}, "vocabulary has ids of 49408 or more"),
        ({"part": "clip", "image_layers": "12"}, "image_layers is '12'"),
    ],
)
def test_damaged_value_of_the_configuration_is_named(weights_file, values, message):
    reconfigure(weights_file, **values)

    with pytest.raises(WeightsError, match=rf"small\.safetensors is damaged.*{message}"):
        checkpoint.read_metadata(weights_file)


@pytest.mark.parametrize(
    "values",
    [
        {"dropout": 7},
        {"decoder_widths": [7]},
        {"mlp_ratio": math.inf},
        {"part": "clip", "text_heads": 3},
        {"part": "clip", "patch_size_px": 0},
        {"part": "clip", "image_layers": [1, 2]},
    ],
)
def test_configuration_of_no_possible_network_is_refused(weights_file, values):
    reconfigure(weights_file, **values)

    with pytest.raises(WeightsError, match=r"small\.safetensors describes a network that cannot"):
        checkpoint.load(weights_file)


def test_whole_number_stands_for_a_fraction(weights_file):
    reconfigure(weights_file, mlp_ratio=4)

    assert checkpoint.read_metadata(weights_file).config.mlp_ratio == 4.0


@pytest.mark.parametrize("key", ["clipcount_config", "clipcount_origin"])
@pytest.mark.parametrize("said", ["[]", "null", "3", "[" * 50_000])
def test_configuration_and_origin_have_to_be_tables(weights_file, key, said):
    rewrite(weights_file, lambda t, m: m.update({key: said}))

    with pytest.raises(WeightsError, match=r"small\.safetensors is damaged"):
        checkpoint.read_metadata(weights_file)


def test_many_wrong_tensors_are_counted_not_listed(weights_file):
    rewrite(weights_file, lambda t, m: [t.pop(k) for k in list(t) if k.startswith("decoder")])

    with pytest.raises(WeightsError, match=r"and \d+ more"):
        checkpoint.load(weights_file)


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_cut_off_file_is_refused(weights_file, kept):
    weights_file.write_bytes(weights_file.read_bytes()[:kept])

    with pytest.raises(WeightsError, match=r"small\.safetensors.*damaged"):
        checkpoint.load(weights_file)


@given(st.binary(max_size=64), st.none() | st.binary(max_size=64))
def test_any_bytes_are_refused_by_a_message_and_nothing_else(tmp_path_factory, start, header):
    path = tmp_path_factory.mktemp("any") / "any.safetensors"
    path.write_bytes(start if header is None else len(header).to_bytes(8, "little") + header)

    with pytest.raises(WeightsError, match=r"any\.safetensors"):
        checkpoint.read_metadata(path)


@pytest.mark.parametrize("header", ["[]", "3", '{"a": 1}', '{"__metadata__": 1}', "[" * 50_000])
def test_header_of_another_make_is_refused(tmp_path, header):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())

    with pytest.raises(WeightsError, match=r"odd\.safetensors"):
        checkpoint.read_metadata(path)


def test_missing_file_is_said_so(tmp_path):
    with pytest.raises(WeightsError, match="No such file"):
        checkpoint.load(tmp_path / "none.safetensors")


def test_clip_alone_is_stored_alone_and_does_not_count(clip_file, tmp_path):
    clip, path = import_clip(clip_file), tmp_path / "clip.safetensors"
    checkpoint.save(clip.state, clip.config, path, ORIGIN, holds="clip")

    state, metadata = checkpoint.load_state(path)

    assert metadata.holds == "clip"
    assert all(name.startswith("clip.") for name in state)
    with pytest.raises(WeightsError, match="cannot count"):
        checkpoint.load(path)


def test_full_disk_leaves_the_old_file_and_no_other(weights_file, imported, monkeypatch):
    before = weights_file.read_bytes()

    def no_room(*_args, **_keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", no_room)
    with pytest.raises(ClipCountError, match="no space left"):
        checkpoint.save(imported.state, imported.config, weights_file, ORIGIN)

    assert weights_file.read_bytes() == before
    assert [p.name for p in weights_file.parent.glob("*.safetensors")] == [weights_file.name]


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM")
def test_loading_the_real_size_needs_its_parameters_and_little_more(tmp_path):
    """From fp16 CLIP with an fp32 head, as the released weights are stored."""
    path = write_zeros(tmp_path / "full.safetensors", ModelConfig())
    code = f"""
import torch, open_clip, clipcount_cli.counting.model
from pathlib import Path
from clipcount_cli.weights import checkpoint
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
before = peak()
model, _ = checkpoint.load(Path({str(path)!r}), dtype=torch.float32)
print(peak() - before, sum(p.numel() * p.element_size() for p in model.parameters()))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    above_imports, parameters = map(int, said.stdout.split())

    assert above_imports <= parameters + 100e6


def write_zeros(path, config):
    """A weights file of zeros: a header, and a hole in the disk for the tensors."""
    contents, end = {"__metadata__": checkpoint_metadata(config)}, 0
    for name, shape in checkpoint.expected_shapes(config).items():
        dtype, item_bytes = ("F16", 2) if name.startswith("clip.") else ("F32", 4)
        start, end = end, end + item_bytes * math.prod(shape)
        contents[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(contents).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)
    return path


def checkpoint_metadata(config):
    return {"clipcount_format": "1", "clipcount_config": json.dumps(to_json(config))}
