"""Python users hand over images in many forms; each is the same image, all else is refused."""

import io
import warnings

import numpy as np
import pytest
import torch
from dot_counter import DotCounter, draw_dots
from PIL import Image

from clipcount_cli.counting.image_like import decode
from clipcount_cli.errors import ImageReadError, UsageError

PIXELS, CENTRES = draw_dots(120, 90, pitch_px=30, size_px=14)


@pytest.fixture
def path(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "dots.png")
    return tmp_path / "dots.png"


FORMS = {
    "path": lambda path: path,
    "text": str,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "PIL": Image.open,
    "array": lambda path: np.asarray(Image.open(path)),
    "HWC tensor": lambda path: torch.tensor(PIXELS),
    "CHW tensor": lambda path: torch.tensor(PIXELS).permute(2, 0, 1),
    "float tensor": lambda path: torch.tensor(PIXELS).permute(2, 0, 1) / 255,
    "half tensor with a gradient": lambda path: (torch.tensor(PIXELS) / 255).requires_grad_(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_image_holds_the_same_pixels(form, path):
    np.testing.assert_array_equal(decode(FORMS[form](path)).pixels, PIXELS)


def test_an_open_file_is_read_from_its_start(path):
    with path.open("rb") as file:
        file.read(10)

        np.testing.assert_array_equal(decode(file).pixels, PIXELS)


def test_what_can_only_be_read_is_read(path):
    class Response:
        def __init__(self):
            self.read = io.BytesIO(path.read_bytes()).read

    np.testing.assert_array_equal(decode(Response()).pixels, PIXELS)


STACK = [draw_dots(120, 90, pitch_px=pitch, size_px=14)[0] for pitch in (30, 40)]


@pytest.fixture
def stack(tmp_path):
    first, *others = map(Image.fromarray, STACK)
    first.save(tmp_path / "stack.tif", save_all=True, append_images=others)
    return tmp_path / "stack.tif"


@pytest.mark.parametrize("form", ["path", "bytes", "BytesIO"])
def test_a_page_of_a_stack_is_chosen_in_every_form_of_a_file(form, stack):
    image = FORMS[form](stack)

    [chosen] = DotCounter().count(image, "dots", page=2)

    assert chosen.count == DotCounter().count(STACK[1], "dots")[0].count


def test_a_channel_is_counted_as_a_gray_image(path):
    green = np.repeat(PIXELS[..., 1:2], 3, axis=2)

    [chosen] = DotCounter().count(path, "dots", channel=2)

    assert chosen.count == DotCounter().count(green, "dots")[0].count


@pytest.mark.parametrize("chosen", [{"page": 0}, {"page": "all"}, {"page": 1.5}, {"channel": "2"}])
def test_what_is_no_page_or_channel_is_refused(stack, chosen):
    with pytest.raises(UsageError, match="there is no"):
        DotCounter().count(stack, "dots", **chosen)


@pytest.mark.parametrize("form", ["PIL", "array", "HWC tensor"])
def test_decoded_pixels_have_no_pages_to_choose_from(path, form):
    with pytest.raises(UsageError, match="page and channel choose from an image file"):
        DotCounter().count(FORMS[form](path), "dots", page=1)


def test_the_hint_of_a_stack_is_worded_for_python(stack):
    with pytest.warns(UserWarning, match=r"counting page 1 of 2 .choose with page."):
        DotCounter().count(stack, "dots")


@pytest.mark.parametrize(
    ("image", "said", "hint"),
    [
        (torch.zeros(1, 9, 9), r"\(1, 9, 9\)", "three channels"),
        (torch.zeros(9, 9), r"\(9, 9\)", "three channels"),
        (torch.zeros(4, 9, 9), r"\(4, 9, 9\)", "alpha"),
        (torch.zeros(2, 3, 9, 9), r"\(2, 3, 9, 9\)", "count_many"),
        (torch.zeros(()), r"\(\)", "channels"),
        (torch.full((3, 9, 9), 200.0), "from 200 to 200", "255"),
        (torch.full((3, 9, 9), -1.5), "from -1.5", "normalisation"),
        (torch.full((3, 9, 9), float("nan")), "nan", "255"),
        (torch.zeros(3, 9, 9, dtype=torch.int64), "int64", "uint8"),
        (None, "NoneType", "path"),
        (7, "int", "tensor"),
        ([PIXELS], "list", "count_many"),
        (b"", "empty", "again"),
        (b"no image", "text", None),
    ],
)
def test_what_is_no_image_is_refused_with_what_to_give(image, said, hint):
    with pytest.raises(ImageReadError, match=said) as refused:
        decode(image)

    assert hint is None or hint in refused.value.hint


def test_a_file_opened_as_text_is_refused(path):
    with path.open(encoding="latin-1") as file, pytest.raises(ImageReadError, match="as text"):
        decode(file)


def test_a_hint_is_readable_below_the_traceback_in_words_of_python():
    with pytest.raises(ImageReadError) as refused:
        DotCounter().count([PIXELS], "dots")

    assert "count_many takes several" in refused.value.__notes__[0]


def test_what_may_be_wrong_is_a_warning_in_words_of_python():
    counter = DotCounter(cookies=0.1)
    large, _ = draw_dots(1600, 1600, pitch_px=400, size_px=200)

    with pytest.warns(UserWarning, match=r'try tiles=2, or tiles="auto"'):
        counter.count(large, "dots")
    with pytest.warns(UserWarning, match="recognizes few of about 12 objects as cookies"):
        counter.count(PIXELS, "cookies")
    with pytest.warns(UserWarning, match='never taught "owls"'):
        counter.count(PIXELS, "owls")


def test_a_count_without_doubts_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        [result] = DotCounter().count(PIXELS, "dots")

    assert result.count == pytest.approx(len(CENTRES), rel=0.05)


@pytest.mark.parametrize("prompts", [None, 3, [None], ["dots", 3], b"dots"])
def test_what_is_no_prompt_is_refused_with_an_example(prompts):
    with pytest.raises(UsageError, match="is not a prompt") as refused:
        DotCounter().count(PIXELS, prompts)

    assert "red apples" in refused.value.hint
