"""What may be wrong with a count stands in its row: shrunk too far, chosen tiles, not a number."""

import csv
from dataclasses import replace

import pytest
import torch
from photo_folders import batch, draw
from small_models import SMALL, SMALL_CLIP, save_small, small_model

from clipcount_cli.counting.counter import Counter
from clipcount_cli.counting.prompts import bpe_ids
from clipcount_cli.weights import checkpoint


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_small(tmp_path_factory.mktemp("weights") / "small.safetensors", readout="eot")


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_photo_shrunk_fourfold_says_so_in_its_row_alone(weights, tmp_path):
    draw(tmp_path / "photos" / "large.png", 1600, 1536)
    draw(tmp_path / "photos" / "small.png")

    result = batch(weights, tmp_path / "photos", "--prompt", "dots", "--csv", tmp_path / "out.csv")

    assert result.exit_code == 0
    assert [(row["image"], row["message"]) for row in rows(tmp_path / "out.csv")] == [
        ("large.png", "shrunk 4x, try --tiles 2"),
        ("small.png", ""),
    ]


def test_automatic_tiles_say_what_was_chosen(weights, tmp_path):
    draw(tmp_path / "photos" / "small.png")

    result = batch(
        weights, tmp_path / "photos", "--prompt", "dots", "--tiles", "auto",
        "--csv", tmp_path / "out.csv",
    )  # fmt: skip

    [row] = rows(tmp_path / "out.csv")
    assert result.exit_code == 0
    assert row["message"] == "tiles 1"


@pytest.mark.parametrize(
    ("prompt", "seen", "doubted"),
    [
        ("dots", ["objects"], True),
        ("objects", ["objects"], False),
        ("white dots", ["objects"], True),
        ("white dots", ["objects", "dots"], False),  # dots are there, but none is white
        ("old dots", ["objects", "dots"], True),  # not a word that these weights leave out
    ],
)
def test_a_name_that_fits_few_objects_is_doubted_in_its_row(
    tmp_path, monkeypatch, prompt, seen, doubted
):
    knowing = save_small(
        tmp_path / "knowing.safetensors",
        readout="eot",
        taught=("dots", "objects"),
        clip=replace(SMALL_CLIP, vocabulary=()),
        attribute_ids=tuple(bpe_ids("white")),
    )
    densities = Counter.densities

    def of_what_is_seen(self, features, text):  # the untrained network answers every prompt alike
        known = [torch.isclose(text, self.encode_prompts([name])).all(1) for name in seen]
        return densities(self, features, text) * torch.stack(known).any(0)[:, None, None]

    monkeypatch.setattr(Counter, "densities", of_what_is_seen)
    draw(tmp_path / "photos" / "small.png")

    batch(knowing, tmp_path / "photos", "--prompt", prompt, "--csv", tmp_path / "out.csv")

    [row] = rows(tmp_path / "out.csv")
    assert row["message"].endswith(f"objects recognized as {prompt}") == doubted


@pytest.mark.parametrize("extra", [[], ["--heatmaps", "{folder}/maps"]])
def test_a_count_that_is_not_a_number_is_a_failed_row(extra, tmp_path):
    model = small_model(SMALL)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(1e30)
    weights = tmp_path / "overflowing.safetensors"
    checkpoint.save(model, SMALL, weights, {"name": "overflowing", "licence": "MIT"})
    draw(tmp_path / "photos" / "small.png")

    result = batch(
        weights, tmp_path / "photos", "--prompt", "dots", "--csv", tmp_path / "out.csv",
        "--json-lines", tmp_path / "out.jsonl",
        *(word.format(folder=tmp_path) for word in extra),
    )  # fmt: skip

    [row] = rows(tmp_path / "out.csv")
    assert result.exit_code == 3
    assert (row["status"], row["count"]) == ("failed", "")
    assert "--precision fp32" in row["message"]
    assert "NaN" not in (tmp_path / "out.jsonl").read_text()
