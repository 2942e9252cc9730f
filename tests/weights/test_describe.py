"""What `download-weights --info` prints of weights."""

from __future__ import annotations

import re

from small_models import save_small
from typer.testing import CliRunner

from clipcount_cli.cli import app
from clipcount_cli.weights import cache, checkpoint
from clipcount_cli.weights.describe import info_lines


def info(*words: str) -> list[str]:
    result = CliRunner().invoke(app, ["download-weights", "--info", *words], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_info_shows_what_people_look_for_and_with_verbose_all_there_is():
    short, full = info("tiny"), info("tiny", "-v")

    keys = [line.partition(":")[0] for line in short if not line.startswith(" ")]
    assert keys == [
        *("file", "size", "sha256", "holds", "parameters", "licence"),
        *("origin", "configuration", "taught"),
    ]
    assert all(len(line) <= 80 for line in short[1:])
    taught = checkpoint.read_metadata(cache.find("tiny")).config.taught
    words = " ".join(" ".join(short).split()).partition(" words: ")[2]
    assert words.split(", ") == list(taught)
    assert {"  training 1:", "  clip:", "  width: 128"} <= set(full)


def test_info_names_the_files_that_weights_were_made_from(tmp_path):
    model, metadata = checkpoint.load(save_small(tmp_path / "small.safetensors"))
    sources = [{"file": "a.ckpt"}, {"file": "b.pt", "url": "https://host/b.pt"}]
    origin = {"name": "mine", "made_by": "a test", "sources": sources}
    checkpoint.save(model.state_dict(), metadata.config, tmp_path / "mine.safetensors", origin)

    told = " ".join(info(str(tmp_path / "mine.safetensors")))

    assert "origin: mine, made by a test, from a.ckpt and https://host/b.pt" in told


def test_parameters_are_those_of_the_network_without_its_fixed_tensors():
    model, _ = checkpoint.load(cache.find("tiny"))

    printed = dict(line.split(": ", 1) for line in info_lines("tiny") if ": " in line)

    held = sum(parameter.numel() for parameter in model.parameters())
    assert printed["parameters"] == f"{held:,}"
    assert any(True for _ in model.buffers())
    card = cache.find("tiny").with_name("MODEL_CARD.md").read_text(encoding="utf-8")
    millions = re.search(r"Parameters, file \| ([\d.]+) million", card)
    assert millions
    assert float(millions[1]) == round(held / 1e6, 1)
