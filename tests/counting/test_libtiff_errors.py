"""What libtiff finds wrong becomes our message, and stderr holds nothing else."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from image_files import tiff
from PIL import Image

from clipcount_cli.counting.images import read_image
from clipcount_cli.errors import ImageReadError

NOISE = np.random.default_rng(6).integers(0, 256, (60, 80), dtype=np.uint8)
needs_dynamic_libtiff = pytest.mark.skipif(
    sys.platform == "win32", reason="Pillow is linked statically with libtiff"
)


def damaged(compression: str) -> bytes:
    """A compressed TIFF whose pixel data are overwritten in the middle."""
    stream = io.BytesIO()
    mode = "1" if "ccitt" in compression or "group" in compression else "L"
    Image.fromarray(NOISE).convert(mode).save(stream, "TIFF", compression=compression)
    data = bytearray(stream.getvalue())
    middle = len(data) // 2
    data[middle : middle + 60] = np.random.default_rng(7).bytes(60)
    return bytes(data)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "group4"])
@needs_dynamic_libtiff
def test_damaged_pixel_data_are_refused_in_libtiffs_words_and_not_printed(compression, capfd):
    with pytest.raises(ImageReadError, match=r"a\.tif is broken: ") as caught:
        read_image(io.BytesIO(damaged(compression)), "a.tif")

    assert "decoder error" not in str(caught.value)
    assert capfd.readouterr().err == ""


@needs_dynamic_libtiff
def test_libtiff_reports_to_its_own_handler_again_afterwards(capfd):
    with pytest.raises(ImageReadError):
        read_image(io.BytesIO(damaged("tiff_lzw")))

    with pytest.raises(OSError, match=r"decoder error|-2"):  # as newer and older Pillow say
        Image.open(io.BytesIO(damaged("tiff_lzw"))).load()
    assert capfd.readouterr().err != ""


@pytest.mark.parametrize("kind", ["damaged", "many channels", "torn"])
@needs_dynamic_libtiff
def test_quiet_stderr_holds_the_error_alone(tmp_path, kind):
    path = tmp_path / "a.tif"
    channels = tiff(np.zeros((9, 9, 8), np.uint8), photometric=1, tags={338: [0] * 7})
    written = {
        "damaged": damaged("group4"),
        "many channels": channels.getvalue(),
        "torn": damaged("tiff_lzw")[:-30],
    }
    path.write_bytes(written[kind])
    command = [sys.executable, "-m", "clipcount_cli", "count", str(path), "dots", "-q"]

    done = subprocess.run([*command, "--channel", "9"], capture_output=True, text=True)

    assert done.returncode == 1
    first, *others = done.stderr.splitlines()
    assert first.startswith(f"error: {path}")
    assert all(line.startswith("hint: ") for line in others)
