"""Small files that would unpack to large ones, or claim to be: refused before they take memory."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from shrunken import clip_tensors

from clipcount_cli.errors import WeightsError
from clipcount_cli.weights import untrusted
from clipcount_cli.weights.upstream import import_clip, import_released

MEGABYTES = 64 << 20


def repack(path: Path, target: Path, **entries: bytes) -> Path:
    """Write an archive again, compressed, with more `entries`."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        for name, content in entries.items():
            new.writestr(name, content)
    return target


def torchscript(folder: Path) -> Path:
    """CLIP as OpenAI publishes it: an archive with code in it."""
    path = folder / "clip.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer PyTorch deprecates TorchScript
        torch.jit.script(Holder(clip_tensors())).save(str(path))
    return path


class Holder(torch.nn.Module):
    """A module with the given tensors under their dotted names."""

    def __init__(self, tensors) -> None:
        super().__init__()
        children: dict[str, dict] = {}
        for name, tensor in tensors.items():
            first, dot, rest = name.partition(".")
            if dot:
                children.setdefault(first, {})[rest] = tensor
            else:
                self.register_buffer(first, tensor)
        for name, held in children.items():
            self.add_module(name, Holder(held))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels


def test_compressed_checkpoint_is_refused(tmp_path, checkpoint_file):
    bomb = repack(checkpoint_file, tmp_path / "bomb.ckpt", extra=bytes(MEGABYTES))

    with pytest.raises(WeightsError, match=r"bomb\.ckpt is refused.*compressed"):
        untrusted.read_checkpoint(bomb)


def test_archive_whose_entries_overlap_is_refused(tmp_path, checkpoint_file):
    path = tmp_path / "overlap.ckpt"
    path.write_bytes(checkpoint_file.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:  # ten more names for the largest entry
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        for number in range(10):
            twin = zipfile.ZipInfo(f"archive/data/{1000 + number}")
            twin.header_offset, twin.CRC = largest.header_offset, largest.CRC
            twin.file_size = twin.compress_size = largest.file_size
            archive.filelist.append(twin)
        archive.writestr("archive/.end", b"")  # or the new names would not be written

    with pytest.raises(WeightsError, match="is refused"):
        untrusted.read_checkpoint(path)


@pytest.mark.parametrize("entry", ["data/0", "data.pkl"])
def test_compressed_numbers_of_a_torchscript_archive_are_refused(tmp_path, entry):
    path = torchscript(tmp_path)
    assert import_clip(path).config.clip.text_layers > 0  # its compressed code is not read
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(bomb, "w") as new:
        for item in old.infolist():
            inflated = item.filename.endswith(f"/{entry}")
            content = old.read(item) + bytes(MEGABYTES) * inflated
            method = zipfile.ZIP_DEFLATED if inflated else zipfile.ZIP_STORED
            new.writestr(item.filename, content, method)

    with pytest.raises(WeightsError, match=r"bomb\.pt is refused"):
        import_clip(bomb)


def test_torchscript_archive_given_as_a_checkpoint_is_named(tmp_path):
    with pytest.raises(WeightsError, match="TorchScript archive") as got:
        untrusted.read_checkpoint(torchscript(tmp_path))

    assert "--clip" in (got.value.hint or "")


def test_tensors_that_repeat_a_few_numbers_are_refused(tmp_path, write_checkpoint, clip_file):
    wide = torch.zeros(1).expand(200_000, 200_000)
    head = write_checkpoint(tensors={"model.patch_feat_proj.weight": wide})
    torch.save({**clip_tensors(), "visual.proj": wide}, tmp_path / "clip.pt")

    with pytest.raises(WeightsError, match="claim"):
        import_released(head, clip_file)
    with pytest.raises(WeightsError, match="claim"):
        import_clip(tmp_path / "clip.pt")


def test_sparse_tensor_is_refused(tmp_path):
    sparse = torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), [1.0], (9, 9))
    torch.save({**clip_tensors(), "visual.proj": sparse}, tmp_path / "clip.pt")

    with pytest.raises(WeightsError, match=r"clip\.pt"):
        import_clip(tmp_path / "clip.pt")


def test_decoder_of_a_million_blocks_is_refused_at_once(write_checkpoint, clip_file):
    head = write_checkpoint("naive", settings={"decoder_depth": 1_000_000})

    with pytest.raises(WeightsError, match=r"cannot be built: it has 1000\d+ layers"):
        import_released(head, clip_file)


def test_pickle_that_asks_for_a_huge_memo_is_refused(tmp_path):
    path = tmp_path / "memo.pt"
    huge = b"\x80\x02Nr" + (2**31 - 1).to_bytes(4, "little") + b"."  # LONG_BINPUT
    assert pickle.loads(b"\x80\x02Nr\1\0\0\0.") is None
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", huge)
        archive.writestr("archive/constants.pkl", b"\x80\x02).")

    with pytest.raises(WeightsError, match=r"memo\.pt"):
        untrusted.read_torchscript_tensors(path)
