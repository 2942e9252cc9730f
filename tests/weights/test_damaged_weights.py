"""Weights that are not as they were written do not count, wherever the damage is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from PIL import Image
from typer.testing import CliRunner

from clipcount_cli.cli import app
from clipcount_cli.errors import WeightsError
from clipcount_cli.weights import cache, checkpoint, digests


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("image") / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def count(image: Path, weights: object):
    options = ["--device", "cpu", "--precision", "fp32", "--weights", str(weights)]
    return CliRunner().invoke(app, ["count", str(image), "coins", *options])


def overwrite(path: Path, offset: int, content: bytes = b"\1\2\3\4") -> None:
    """Change bytes in place, as a bad disk does: neither the size nor the time changes."""
    before = path.stat()
    with path.open("rb+") as file:
        file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def install(home: Path, weights: Path, name: str = "mine") -> Path:
    home.mkdir(exist_ok=True)
    path = Path(shutil.copy(weights, home / f"{name}.safetensors"))
    digests.write_record(path)
    return path


@pytest.mark.parametrize("offset", [-4, -4096, -50_000])
def test_four_overwritten_bytes_of_installed_weights_are_not_counted_with(
    home, image, weights_file, offset
):
    path = install(home, weights_file)
    sound = count(image, "mine")
    overwrite(path, offset)

    result = count(image, "mine")

    assert sound.exit_code == 0, sound.stderr
    assert (result.exit_code, result.stdout) == (1, "")
    assert "mine.safetensors is damaged" in " ".join(result.stderr.split())
    assert "download-weights mine --force" in " ".join(result.stderr.split())


def test_damaged_file_is_found_without_a_record_beside_it(image, weights_file):
    overwrite(weights_file, -4)

    result = count(image, weights_file)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "is damaged" in " ".join(result.stderr.split())


def test_damaged_embedded_weights_ask_for_another_installation(
    image, weights_file, tmp_path, monkeypatch
):
    package = tmp_path / "assets"
    package.mkdir()
    shutil.copy(weights_file, package / "tiny.safetensors")
    monkeypatch.setattr(cache, "asset", lambda name: package / name)
    overwrite(package / "tiny.safetensors", -4)

    result = count(image, "tiny")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "install clipcount-cli again" in " ".join(result.stderr.split())


def test_damaged_number_of_the_configuration_is_found(weights_file):
    start = weights_file.read_bytes().index(b"mlp_ratio")
    overwrite(weights_file, start + len('mlp_ratio\\": '), b"5")

    with pytest.raises(WeightsError, match="damaged"):
        checkpoint.load_state(weights_file)


def test_recorded_digest_is_compared_where_a_file_has_none_of_its_own(weights_file):
    tensors = safetensors.torch.load_file(weights_file)
    metadata = dict(checkpoint.read_header(weights_file).metadata)
    del metadata["clipcount_sha256"]
    safetensors.torch.save_file(tensors, weights_file, metadata)
    digests.write_record(weights_file)
    checkpoint.load_state(weights_file)

    overwrite(weights_file, -4)

    with pytest.raises(WeightsError, match="expected sha256"):
        checkpoint.load_state(weights_file)


def test_other_weights_in_the_place_of_installed_ones_are_found(home, weights_file):
    path = install(home, weights_file)
    state, metadata = checkpoint.load_state(path)
    changed = {name: tensor * 2 for name, tensor in state.items()}
    checkpoint.save(changed, metadata.config, path, metadata.origin)

    with pytest.raises(WeightsError, match="expected sha256"):
        checkpoint.load_state(path)


def test_digest_in_a_row_is_that_of_the_file(image, weights_file):
    result = CliRunner().invoke(
        app,
        [
            *("batch", str(image), "--csv", "-", "--prompt", "coins", "--device", "cpu"),
            *("--precision", "fp32", "--weights", str(weights_file)),
        ],
    )

    row = result.stdout.splitlines()[1]
    assert row.endswith(f"small@{digests.compute_digest(weights_file)[:8]}")


def test_record_that_cannot_be_read_is_as_good_as_none(weights_file):
    for text in ("", "{", "[]", '{"sha256": 3}', '{"sha256": "short"}'):
        weights_file.with_suffix(".json").write_text(text)

        assert digests.read_record(weights_file) is None


def test_record_of_an_earlier_version_is_read(weights_file):
    sha256 = digests.compute_digest(weights_file)
    record = {"sha256": sha256, "size_bytes": 1, "modified_ns": 2}
    weights_file.with_suffix(".json").write_text(json.dumps(record))

    assert digests.verified_digest(weights_file) == sha256


def test_weights_of_the_package_are_as_they_were_packed():
    embedded = cache.asset("tiny.safetensors")

    assert digests.read_record(embedded) == digests.verified_digest(embedded)


def test_training_does_not_start_from_damaged_weights(home, weights_file, tmp_path):
    from clipcount_cli.config import Recipe
    from clipcount_cli.training.start import start_from

    path = install(home, weights_file)
    overwrite(path, -4)

    with pytest.raises(WeightsError, match="damaged"):
        start_from("mine", Recipe.default, {}, ["coins"])


def test_file_that_describes_more_layers_than_any_network_has_is_refused_at_once(weights_file):
    def deepen(**values):
        tensors = safetensors.torch.load_file(weights_file)
        metadata = dict(checkpoint.read_header(weights_file).metadata)
        config = json.loads(metadata["clipcount_config"])
        config["clip"].update(values.pop("clip", {}))
        metadata["clipcount_config"] = json.dumps({**config, **values})
        safetensors.torch.save_file(tensors, weights_file, metadata)

    for values in (
        {"depth": 10**9, "interaction": "naive"},
        {"decoder_widths": [8] * 100_000},
        {"clip": {"text_layers": 10**9}},
        {"clip": {"image_layers": 10**9}},
        {"clip": {"image_layers": [1, 1, 10**9, 1]}},
    ):
        deepen(**values)
        with pytest.raises(WeightsError, match=r"cannot be built: it has [0-9]+ layers"):
            checkpoint.load(weights_file)
        with pytest.raises(WeightsError, match=r"cannot be built: it has [0-9]+ layers"):
            checkpoint.load_state(weights_file)


def test_sealed_zeros_are_not_left_in_a_file(weights_file):
    header = checkpoint.read_header(weights_file)

    assert header.metadata["clipcount_sha256"] != digests.UNSEALED["clipcount_sha256"]
    with pytest.raises(ValueError, match="not written to be sealed"):
        digests.seal(weights_file)
