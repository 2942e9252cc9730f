"""What the tests of `clipcount batch` share."""

import pytest
from photo_folders import save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")
