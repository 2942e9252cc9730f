"""scripts/tiny/colours.py: which colours a picture certainly lacks, and that words are learned."""

import colorsys
import dataclasses

import numpy as np
import tiny.colours
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes.nouns import ANY
from small_models import SMALL_COMPACT, small_compact
from tiny.colours import HUES, NO_COLOUR, colour_labels, is_grey, missing, teach_colours
from torch import nn

from clipcount_cli.config import BPE_ROWS
from clipcount_cli.counting.prompts import tokenize

CLEAR = {
    "red": 0,
    "orange": 30,
    "yellow": 55,
    "green": 120,
    "blue": 225,
    "purple": 280,
    "pink": 330,
}


def painted(hue, saturation, value, ground=128):
    """Grey, with one square of a colour."""
    pixels = np.full((288, 288, 3), ground, np.uint8)
    colour = colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)
    pixels[40:72, 40:72] = np.round(np.array(colour) * 255)
    return pixels


@given(
    colour=st.sampled_from(sorted(CLEAR)),
    turn=st.integers(-5, 5),
    saturation=st.floats(0.4, 1),
    value=st.floats(0.4, 1),
    ground=st.integers(0, 255),
)
def test_a_colour_that_is_seen_is_never_called_missing(colour, turn, saturation, value, ground):
    pixels = painted(CLEAR[colour] + turn, saturation, value, ground)

    assert colour not in missing(pixels)


def test_a_picture_in_one_colour_lacks_the_others():
    assert {"red", "yellow", "pink"} <= set(missing(painted(225, 1, 1)))
    assert {"blue", "green", "purple"} <= set(missing(painted(0, 1, 1)))


@given(ground=st.integers(0, 255), noise=st.integers(0, 30))
def test_a_grey_picture_lacks_every_colour(ground, noise):
    grey = np.random.default_rng(noise).integers(-noise, noise + 1, (288, 288, 1)) + ground
    pixels = np.repeat(np.clip(grey, 0, 255), 3, axis=2).astype(np.uint8)

    assert is_grey(pixels)
    assert set(missing(pixels)) == set(HUES)
    assert not is_grey(painted(225, 1, 1, ground))


def test_labels_are_some_dots_of_each_colour_in_cells():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 288, (30, 2)).astype(np.float32)

    labels = colour_labels({"red": points[:20], NO_COLOUR: points[20:]}, image=3, most=5, rng=rng)

    assert [label[3] for label in labels] == [ANY.index("red")] * 5 + [-1] * 5
    cells = {(int(y) // 4, int(x) // 4) for x, y in points.tolist()}
    assert all(label[0] == 3 and label[1:3] in cells for label in labels)


class Words(nn.Module):
    """A stand-in for the phrase encoder: words have vectors of their own, phrases sums of them."""

    def __init__(self, width):
        super().__init__()
        self.rows = nn.Embedding(BPE_ROWS, width)

    def forward(self, tokens):
        return nn.functional.normalize(self.rows(tokens).sum(dim=1), dim=-1)


def test_words_are_taught_what_they_look_like(monkeypatch):
    monkeypatch.setattr(tiny.colours, "TEACHING_STEPS", 200)
    torch.manual_seed(0)
    clip = dataclasses.replace(SMALL_COMPACT.clip, embed_dim=128)
    config = dataclasses.replace(SMALL_COMPACT, clip=clip, colour_channels=8)
    model = small_compact(config)
    model.clip.text = Words(config.clip.embed_dim)
    pixels = torch.stack([torch.from_numpy(painted(hue, 0.9, 0.9)) for hue in CLEAR.values()])
    windows = pixels.permute(0, 3, 1, 2)[..., :96, :96].contiguous()
    labels = [torch.tensor([[0, 14, 14, ANY.index(name)]]) for name in CLEAR]

    teach_colours(model, list(zip(windows.split(1), labels, strict=True)))

    with torch.no_grad():
        keys = model.colour_match.keys(windows.float() / 127.5 - 1)
        for size in ("", "large "):
            words = model.clip.text(tokenize([size + name for name in CLEAR], config))
            matches = [model.colour_match(keys, word.expand(len(keys), -1)) for word in words]
            inside = torch.stack(matches)[:, :, 0, 14, 14]
            assert inside.argmax(dim=1).tolist() == list(range(len(CLEAR)))
            assert (inside.topk(2).values.diff() < -0.1).all()
