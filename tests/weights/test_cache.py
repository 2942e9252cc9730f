"""What a weights name means, given what is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcount_cli.errors import UsageError, WeightsError
from clipcount_cli.weights import cache, checkpoint, digests
from clipcount_cli.weights.upstream import import_clip


@pytest.fixture(autouse=True)
def embedded(tmp_path, kept_weights, monkeypatch):
    """Stand in for the package's own model."""
    monkeypatch.setattr(cache, "asset", lambda name: Path(shutil.copy(kept_weights, tmp_path)))


@pytest.fixture
def installed_as(home, kept_weights):
    """Copy a model into the weights folder under a name."""

    def install(name: str) -> Path:
        home.mkdir(exist_ok=True)
        return Path(shutil.copy(kept_weights, home / f"{name}.safetensors"))

    return install


def test_default_is_tiny_with_the_reason_where_nothing_is_installed():
    resolved = cache.resolve(None)

    assert resolved.name == "tiny"
    assert resolved.notice == "using tiny, as clip-count is not installed (choose with --weights)"


def test_default_is_clip_count_with_the_reason_once_it_is_installed(installed_as):
    path = installed_as("clip-count")

    resolved = cache.resolve(None)

    assert (resolved.path, resolved.name) == (path, "clip-count")
    assert "installed" in (resolved.notice or "")


def test_choice_that_was_made_is_not_explained(installed_as):
    installed_as("clip-count")

    assert cache.resolve("tiny").notice is None
    assert cache.resolve("clip-count").notice is None


def test_installed_name_is_found(installed_as):
    path = installed_as("my-model.v2")

    assert cache.resolve("my-model.v2") == cache.ResolvedWeights(path, "my-model.v2")


def test_file_is_found_and_named_after_its_stem(weights_file):
    assert cache.resolve(str(weights_file)) == cache.ResolvedWeights(weights_file, "small")


def test_known_name_that_is_not_installed_names_the_command():
    with pytest.raises(WeightsError, match="clip-count are not installed") as got:
        cache.resolve("clip-count")

    assert got.value.hint == "run `clipcount download-weights clip-count`"


def test_unknown_name_lists_what_is_at_hand(installed_as):
    installed_as("mine")

    with pytest.raises(WeightsError, match="no weights called yours") as got:
        cache.resolve("yours")

    assert "tiny, mine" in (got.value.hint or "")


@pytest.mark.parametrize("path", [Path("none"), "folder/none", "none.safetensors"])
def test_path_that_does_not_exist_is_said_to_be_a_path(path):
    with pytest.raises(WeightsError, match="does not exist"):
        cache.resolve(path)


def test_clip_alone_is_refused_with_what_it_is_for(home, clip_file):
    clip = import_clip(clip_file)
    home.mkdir()
    checkpoint.save(clip.state, clip.config, home / "clip.safetensors", {}, holds="clip")

    with pytest.raises(WeightsError, match="holds CLIP alone") as got:
        cache.resolve("clip")

    assert "train --init clip" in (got.value.hint or "")


def test_folder_comes_into_being_with_the_first_install_only(home):
    cache.resolve(None)
    cache.inventory()

    assert not home.exists()


def test_folder_is_the_platforms_cache_where_none_is_chosen(monkeypatch):
    monkeypatch.delenv("CLIPCOUNT_HOME")

    assert cache.home().name in {"clipcount", "Cache"}


def test_folder_that_cannot_be_made_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CLIPCOUNT_HOME", str(tmp_path / "file" / "home"))

    with pytest.raises(WeightsError) as got, cache.lock(print):
        pass

    assert "CLIPCOUNT_HOME" in (got.value.hint or "")


@pytest.mark.parametrize("variable", ["CLIPCOUNT_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize(("value", "expected"), [("1", True), ("true", True), ("0", False)])
def test_environment_says_whether_the_network_may_be_used(monkeypatch, variable, value, expected):
    monkeypatch.setenv(variable, value)

    assert cache.offline() is expected


@given(st.text())
def test_name_never_leads_out_of_the_folder(name):
    try:
        location = cache.location(name)
    except UsageError:
        return
    assert location.parent == cache.home()
    assert location.resolve().parent == cache.home().resolve()


def test_undamaged_weights_verify(installed_as):
    digests.write_record(installed_as("mine"))

    assert dict(cache.verify()) == {"tiny": None, "mine": None}


def test_changed_byte_is_found_by_its_hash(installed_as):
    path = installed_as("mine")
    digests.write_record(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    fault = dict(cache.verify("mine"))["mine"]

    assert "expected sha256" in str(fault)
    assert "--force" in (fault.hint or "")
    assert path.exists()
