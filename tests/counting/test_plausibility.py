"""What is said of a count that may be wrong, and when nothing is said."""

import pytest

from clipcount_cli.config import MAX_TILES, ModelConfig
from clipcount_cli.counting.plausibility import (
    generic_prompt,
    more_tiles,
    name_notice,
    size_notice,
)
from clipcount_cli.weights.cache import resolve
from clipcount_cli.weights.checkpoint import read_metadata


@pytest.mark.parametrize(
    ("shorter_px", "tiles", "brief"),
    [
        (3030, 1, "shrunk 8x, try --tiles 4"),
        (1536, 1, "shrunk 4x, try --tiles 2"),
        (1500, 1, "shrunk 4x, try --tiles 2"),
        (3030, 2, "shrunk 4x, try --tiles 4"),
        (12000, 1, "shrunk 31x, try --tiles 16"),
    ],
)
def test_from_about_fourfold_shrinking_on_a_larger_view_is_named(shorter_px, tiles, brief):
    notice = size_notice(shorter_px, tiles, 384)

    assert notice.brief == brief
    assert "--tiles auto" in str(notice)


@pytest.mark.parametrize(("shorter_px", "tiles"), [(384, 1), (1200, 1), (3030, 4), (30000, 16)])
def test_an_image_that_is_shrunk_little_or_as_far_as_can_be_has_no_notice(shorter_px, tiles):
    assert size_notice(shorter_px, tiles, 384) is None


def test_a_name_that_fits_few_of_the_objects_is_doubted():
    notice = name_notice("tiny", "cookies", 12.3, 231.4, larger=2)

    assert str(notice) == (
        "tiny recognizes few of about 231 objects as cookies; "
        'if they are cookies, try "objects", another name, or --tiles 2'
    )
    assert notice.brief == "few of about 231 objects recognized as cookies"


def test_no_larger_view_is_named_once_there_is_none():
    notice = name_notice("tiny", "cookies", 12.3, 231.4, more_tiles(900, MAX_TILES, 384))

    assert str(notice).endswith('if they are cookies, try "objects" or another name')


@pytest.mark.parametrize(("count", "generic"), [(25, 100), (0, 2.9), (0, 0), (40, 30)])
def test_a_name_is_not_doubted_if_it_fits_many_or_little_is_there(count, generic):
    assert name_notice("tiny", "cookies", count, generic, larger=2) is None


def test_the_embedded_weights_have_a_generic_prompt():
    assert generic_prompt(read_metadata(resolve("tiny").path).config) == "objects"


@pytest.mark.parametrize(("taught", "prompt"), [((), None), (("objects", "dots"), "objects")])
def test_only_weights_that_learned_a_generic_prompt_have_one(taught, prompt):
    assert generic_prompt(ModelConfig(taught=taught)) == prompt
