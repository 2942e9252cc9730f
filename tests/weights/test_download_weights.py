"""`clipcount download-weights` as a user types it: from files, from a server, and what it keeps."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from loopback import DRIVE_PAGE, serving
from safetensors.torch import load_file, save_file
from shrunken import clip_tensors
from typer.testing import CliRunner

from clipcount_cli.cli import app
from clipcount_cli.weights import checkpoint, hub, install
from clipcount_cli.weights.registry import TABLE, WeightsEntry


def run(*arguments: object):
    return CliRunner().invoke(app, ["download-weights", *map(str, arguments)])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def said(result) -> str:
    """What the user read, with the lines of a narrow terminal joined."""
    return " ".join(result.stderr.split())


@pytest.fixture
def hub_clip(clip_file, monkeypatch):
    """A model hub that gives CLIP, and counts how often it is asked."""
    asked = []
    monkeypatch.setattr(hub, "download_clip", lambda: asked.append(1) or clip_file)
    return asked


@pytest.fixture
def drive(checkpoint_file, monkeypatch):
    """The authors' address, served on loopback behind the page for large files."""
    with serving(checkpoint_file.read_bytes(), page=DRIVE_PAGE) as server:
        row = WeightsEntry("", "MIT", url=f"{server.base}/uc?id=17D")
        monkeypatch.setitem(TABLE, "clip-count", row)
        yield server


def test_clip_that_no_server_gives_is_reported_in_one_line_with_the_way_out(home, monkeypatch):
    with serving(status=404) as openai:
        monkeypatch.setattr(install, "OPENAI_CLIP_URL", openai.url)
        result = run("clip")

    lines = result.stderr.splitlines()
    assert result.exit_code == 1
    assert [line.partition(":")[0] for line in lines[-2:]] == ["error", "hint"]
    assert "the hub is out of reach" in lines[-2]
    assert f"{openai.url} returned 404" in lines[-2]
    assert "`clipcount download-weights clip --clip FILE`" in lines[-1]
    assert len(lines) <= 3


def test_mistyped_name_is_guessed():
    result = run("clip-cuont")

    assert "did you mean clip-count?" in said(result)


def read_only(monkeypatch):
    """Refuse every change of a file, as a shared folder does, root or not."""

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    for name in ("mkdir", "unlink", "replace", "touch"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr("tempfile.mkstemp", refuse)
    plain = os.open

    def open_to_read(path, flags, *args, **kwargs):
        return (
            refuse() if flags & (os.O_WRONLY | os.O_RDWR) else plain(path, flags, *args, **kwargs)
        )

    monkeypatch.setattr(os, "open", open_to_read)


def test_what_a_read_only_folder_holds_is_there(home, checkpoint_file, clip_file, monkeypatch):
    run("--checkpoint", checkpoint_file, "--clip", clip_file)
    read_only(monkeypatch)

    for arguments in ([], ["--list"], ["--check"], ["--info", "clip-count"]):
        result = run(*arguments)
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    "arguments", [["--force"], ["--name", "other"], ["--remove", "clip-count"]]
)
def test_read_only_folder_is_reported_with_the_variable(
    home, checkpoint_file, clip_file, monkeypatch, arguments, exists
):
    if exists:
        run("--checkpoint", checkpoint_file, "--clip", clip_file)
    read_only(monkeypatch)

    result = run("--checkpoint", checkpoint_file, "--clip", clip_file, *arguments)

    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "CLIPCOUNT_HOME" in said(result) or "--remove" in arguments


def test_files_at_hand_become_one_file_whose_path_is_the_answer(home, checkpoint_file, clip_file):
    result = run("--checkpoint", checkpoint_file, "--clip", clip_file)

    path = home / "clip-count.safetensors"
    assert result.exit_code == 0
    assert result.stdout == f"{path}\n"
    origin = checkpoint.read_metadata(path).origin
    assert [s["sha256"] for s in origin["sources"]] == [digest(checkpoint_file), digest(clip_file)]
    assert "MIT" in origin["licence"]
    checkpoint.load(path)


def test_default_downloads_the_head_and_clip_and_keeps_only_the_result(home, drive, hub_clip):
    result = run()

    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{home / 'clip-count.safetensors'}\n"
    assert drive.asked[-1][0].startswith("/confirmed")
    assert list((home / "downloads").iterdir()) == []
    checkpoint.load(home / "clip-count.safetensors")


def test_what_is_installed_is_not_downloaded_again_unless_forced(home, drive, hub_clip):
    run()
    requests = len(drive.asked)

    assert run().exit_code == 0
    assert len(drive.asked) == requests

    assert run("--force").exit_code == 0
    assert len(drive.asked) > requests


def test_digest_of_the_first_install_is_required_from_then_on(home, drive, hub_clip):
    first = hashlib.sha256(drive.content).hexdigest()
    run()
    run("--remove", "clip-count")
    drive.content, drive.etag = drive.content + b" ", '"second"'

    result = run()

    assert result.exit_code == 1
    assert f"expected sha256 {first}" in said(result)
    assert "--sha256" in said(result)
    assert not (home / "clip-count.safetensors").exists()


def test_weights_called_sources_do_not_disturb_the_digests(home, drive, hub_clip, kept_weights):
    run()
    run("mine", "--checkpoint", kept_weights, "--name", "sources")
    run("--remove", "sources")
    drive.content, drive.etag = drive.content + b" ", '"second"'

    result = run("--force")

    assert result.exit_code == 1
    assert "expected sha256" in said(result)


def test_whole_head_is_kept_while_clip_cannot_be_had(home, drive, clip_file, monkeypatch):
    with serving(status=503) as openai:
        monkeypatch.setattr(install, "OPENAI_CLIP_URL", openai.url)
        assert run().exit_code == 1
    requests = len(drive.asked)

    result = run("--clip", clip_file)

    assert result.exit_code == 0, result.stderr
    assert len(drive.asked) == requests


def test_openais_own_file_stands_in_for_a_hub_out_of_reach(home, tmp_path, monkeypatch):
    torch.save(clip_tensors(), tmp_path / "clip.pt")
    with serving((tmp_path / "clip.pt").read_bytes()) as server:
        monkeypatch.setattr(install, "OPENAI_CLIP_URL", server.url)
        monkeypatch.setattr(install, "OPENAI_CLIP_SHA256", digest(tmp_path / "clip.pt"))
        result = run("clip")

    assert result.exit_code == 0, result.stderr
    assert checkpoint.read_metadata(home / "clip.safetensors").holds == "clip"


def test_clip_installed_alone_serves_the_model_offline(home, checkpoint_file, hub_clip):
    assert run("clip").stdout == f"{home / 'clip.safetensors'}\n"

    result = run("--checkpoint", checkpoint_file, "--offline")

    assert result.exit_code == 0, result.stderr
    assert len(hub_clip) == 1


@pytest.mark.parametrize(
    ("name", "way_out"),
    [("clip-count", "--checkpoint FILE --clip FILE"), ("clip", "clip --clip FILE")],
)
@pytest.mark.parametrize("switch", ["--offline", "CLIPCOUNT_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_uses_no_network_and_names_the_way_out(
    name, way_out, switch, drive, hub_clip, monkeypatch
):
    if switch != "--offline":
        monkeypatch.setenv(switch, "1")

    result = run(name, *(["--offline"] if switch == "--offline" else []))

    assert result.exit_code == 1
    assert f"download-weights {way_out}`" in said(result)
    assert drive.asked == []
    assert hub_clip == []


def test_trained_weights_are_installed_from_an_address_under_a_name(home, kept_weights):
    with serving(kept_weights.read_bytes()) as server:
        result = run("mine", "--url", server.url, "--sha256", digest(kept_weights))

    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{home / 'mine.safetensors'}\n"
    assert checkpoint.read_metadata(home / "mine.safetensors").origin["licence"] == "MIT"


def test_download_cut_off_for_good_goes_on_at_the_next_call(home, kept_weights):
    content = kept_weights.read_bytes()
    with serving(content, cuts=[1000, 0]) as server:
        assert run("mine", "--url", server.url).exit_code == 1
        result = run("mine", "--url", server.url)

    assert result.exit_code == 0, result.stderr
    assert server.offsets[-1] == "bytes=1000-"


def test_two_processes_download_once(home, kept_weights):
    may_answer = threading.Event()
    with serving(kept_weights.read_bytes(), held_back=may_answer) as server:
        command = [sys.executable, "-m", "clipcount_cli", "download-weights", "mine"]
        command = [*command, "--url", server.url]
        processes = [
            subprocess.Popen(
                command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        answer_when_one_waits(processes, may_answer)
        outputs = [process.stdout.read() for process in processes]

    assert [process.wait() for process in processes] == [0, 0]
    assert outputs == [f"{home / 'mine.safetensors'}\n"] * 2
    assert len(server.asked) == 1


def test_wrong_digest_of_a_file_at_hand_leaves_it_as_it_is(checkpoint_file, clip_file):
    result = run("--checkpoint", checkpoint_file, "--clip", clip_file, "--sha256", "0" * 64)

    assert result.exit_code == 1
    assert f"got {digest(checkpoint_file)}" in said(result)
    assert checkpoint_file.exists()


def test_another_name_stands_beside_the_first(home, checkpoint_file, clip_file):
    for name in ("one", "two"):
        result = run("--checkpoint", checkpoint_file, "--clip", clip_file, "--name", name)
        assert result.exit_code == 0, result.stderr

    assert sorted(path.stem for path in home.glob("*.safetensors")) == ["one", "two"]


def test_other_weights_under_a_taken_name_need_force(write_checkpoint, checkpoint_file, clip_file):
    other = write_checkpoint(variant="naive")
    run("--checkpoint", checkpoint_file, "--clip", clip_file)

    assert run("--checkpoint", checkpoint_file, "--clip", clip_file).exit_code == 0
    assert run("--checkpoint", other, "--clip", clip_file).exit_code == 2
    assert run("--checkpoint", other, "--clip", clip_file, "--force").exit_code == 0


@pytest.fixture
def trained_here(kept_weights, tmp_path):
    """What `train` leaves: weights whose origin says what they were trained from."""
    state, metadata = checkpoint.load_state(kept_weights)
    origin = {"name": "trained from tiny", "licence": "MIT", "started_from": {"name": "tiny"}}
    path = tmp_path / "best.safetensors"
    checkpoint.save(state, metadata.config, path, origin)
    return path


@pytest.mark.parametrize("name", [[], ["clip-count"], ["--name", "clip-count"]])
def test_weights_trained_here_are_not_installed_as_the_authors(home, trained_here, name):
    result = run(*name, "--checkpoint", trained_here)

    assert result.exit_code == 2
    assert "is not clip-count: it is trained from tiny" in said(result)
    assert "--name NAME" in said(result)
    assert list(home.glob("*.safetensors")) == []


def test_weights_trained_here_are_listed_as_what_they_are(home, trained_here):
    assert run("--checkpoint", trained_here, "--name", "mine").exit_code == 0

    origin = checkpoint.read_metadata(home / "mine.safetensors").origin
    assert (origin["name"], origin["started_from"]) == ("mine", {"name": "tiny"})
    listed = run("--list").stdout
    assert "trained from tiny" in listed


def test_downloaded_weights_that_need_a_name_are_not_downloaded_again(home, trained_here):
    with serving(trained_here.read_bytes()) as server:
        refused = run("--url", server.url)
        accepted = run("mine", "--url", server.url)

    assert (refused.exit_code, accepted.exit_code) == (2, 0)
    assert len(server.asked) == 1


def test_copy_of_the_installed_authors_model_needs_no_name(
    home, tmp_path, checkpoint_file, clip_file, monkeypatch
):
    run("--checkpoint", checkpoint_file, "--clip", clip_file)
    monkeypatch.setenv("CLIPCOUNT_HOME", str(tmp_path / "another"))

    result = run("--checkpoint", home / "clip-count.safetensors")

    assert result.exit_code == 0, result.stderr


def test_digest_is_compared_with_what_is_installed_already(home, checkpoint_file, clip_file):
    run("--checkpoint", checkpoint_file, "--clip", clip_file)
    right, wrong = digest(checkpoint_file), digest(clip_file)

    assert run("--sha256", right.upper()).exit_code == 0
    for arguments in (["--sha256", wrong], ["--checkpoint", checkpoint_file, "--sha256", wrong]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert f"expected sha256 {wrong}, got {right}" in said(result)


def test_digest_is_not_taken_on_trust_where_the_source_is_unknown(home, weights_file):
    header = checkpoint.read_header(weights_file)
    home.mkdir()
    unsigned = {**header.metadata, "clipcount_origin": "{}"}
    save_file(load_file(weights_file), home / "clip-count.safetensors", unsigned)

    result = run("--sha256", "0" * 64)

    assert result.exit_code == 2
    assert "got unknown" in said(result)
    assert "add --force" in said(result)


def test_digest_is_compared_with_the_embedded_weights():
    result = run("tiny", "--sha256", "0" * 64)

    assert result.exit_code == 1
    assert "is not the expected file" in said(result)


def test_refused_file_installs_nothing(home, write_checkpoint, clip_file):
    bad = write_checkpoint(tensors={"model.decoder_norm.bias": None})

    result = run("--checkpoint", bad, "--clip", clip_file)

    assert result.exit_code == 1
    assert "missing: model.decoder_norm.bias" in said(result)
    assert list(home.glob("*.safetensors")) == []


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"state_dict": None}, "has no state_dict"),
        ({"state_dict": {0: torch.zeros(1)}}, "a key in it is of type int"),
        ({0: torch.zeros(1)}, "a key in it is of type int"),
        ({"state_dict": {}, "hyper_parameters": 3}, "has no hyper_parameters"),
    ],
)
def test_checkpoint_of_another_make_is_refused_by_name(tmp_path, clip_file, contents, message):
    torch.save(contents, tmp_path / "odd.ckpt")

    result = run("--checkpoint", tmp_path / "odd.ckpt", "--clip", clip_file)

    assert result.exit_code == 1
    assert "odd.ckpt" in said(result)
    assert message in said(result)


def damage_heads(path: Path) -> None:
    """Write a weights file again with a configuration that no network has."""
    metadata = dict(checkpoint.read_header(path).metadata)
    config = {**json.loads(metadata["clipcount_config"]), "heads": 0}
    save_file(load_file(path), path, {**metadata, "clipcount_config": json.dumps(config)})


def test_file_with_a_damaged_configuration_is_not_installed(home, weights_file):
    damage_heads(weights_file)

    result = run("mine", "--checkpoint", weights_file)

    assert result.exit_code == 1
    assert "heads 0 do not divide" in said(result)
    assert list(home.glob("*.safetensors")) == []


def test_check_finds_a_damaged_configuration(home, weights_file):
    damage_heads(weights_file)
    home.mkdir()
    weights_file.rename(home / "mine.safetensors")

    result = run("mine", "--check")

    assert result.exit_code == 1
    assert result.stdout == "mine\tdamaged\n"


def test_clip_with_numbered_tensors_is_refused(tmp_path):
    torch.save({0: torch.zeros(1)}, tmp_path / "odd.pt")

    result = run("clip", "--clip", tmp_path / "odd.pt")

    assert result.exit_code == 1
    assert "a key in it is of type int" in said(result)


@pytest.mark.parametrize("damaged_byte", [0, 46])  # signature, first file's name
def test_archive_whose_list_of_files_is_damaged_is_refused(tmp_path, damaged_byte):
    torch.save(clip_tensors(), tmp_path / "clip.pt")
    content = bytearray((tmp_path / "clip.pt").read_bytes())
    content[content.index(b"PK\1\2") + damaged_byte] = 0xFF
    (tmp_path / "clip.pt").write_bytes(content)

    result = run("clip", "--clip", tmp_path / "clip.pt")

    assert result.exit_code == 1
    assert "clip.pt is not a PyTorch checkpoint, or is damaged" in said(result)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_archive_openai_did_not_publish_is_announced(tmp_path, checkpoint_file):
    path = tmp_path / "ViT-B-16.pt"
    torch.jit.trace(torch.nn.Identity(), torch.zeros(1)).save(str(path))

    result = run("--checkpoint", checkpoint_file, "--clip", path)

    assert "not OpenAI's published archive" in said(result)
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["unheard-of"], 1, "no weights called unheard-of are known"),
        (["mine", "--url", "ftp://host/file"], 2, "not an http or https address"),
        (["mine", "--url", "http://host/file", "--checkpoint", "x"], 2, "two sources"),
        (["--sha256", "123"], 2, "all 64 hexadecimal digits"),
        (["clip", "--checkpoint", "x"], 2, "give its file with --clip"),
        (["--checkpoint", "none.ckpt", "--clip", "none.pt"], 1, "there is no file none.ckpt"),
        (["--checkpoint", "x", "--name", "tiny"], 2, "part of the package"),
        (["--checkpoint", "x", "--name", "clip"], 2, "the backbone alone"),
        (["--checkpoint", "x", "--name", "../x"], 2, "cannot name weights"),
        (["--remove", "tiny"], 2, "part of the package"),
        (["--remove", "mine"], 1, "hint: nothing that can be removed is installed"),
        (["--list", "--check"], 2, "exclude each other"),
    ],
)
def test_request_that_makes_no_sense_says_why(arguments, exit_code, message):
    result = run(*arguments)

    assert message in said(result)
    assert result.exit_code == exit_code


def test_tiny_needs_no_download():
    result = run("tiny", "--offline")

    assert result.exit_code == 0
    assert Path(result.stdout.strip()).name == "tiny.safetensors"


def test_list_shows_what_can_be_had_and_what_is_here(checkpoint_file, clip_file):
    run("--checkpoint", checkpoint_file, "--clip", clip_file, "--name", "mine")

    lines = [line.split() for line in run("--list").stdout.splitlines() if line.strip()]

    states = {line[0]: " ".join(line[1:3]) for line in lines}
    assert states["clip-count"] == "not installed"
    assert states["mine"].startswith("installed")


def test_check_finds_the_damaged_one(home, checkpoint_file, clip_file):
    run("--checkpoint", checkpoint_file, "--clip", clip_file, "--name", "mine")
    assert run("mine", "--check").stdout == "mine\tok\n"

    with (home / "mine.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    result = run("mine", "--check")

    assert result.exit_code == 1
    assert result.stdout == "mine\tdamaged\n"
    assert "expected sha256" in said(result)


def test_what_a_killed_installation_left_is_removed_by_the_next(home, checkpoint_file, clip_file):
    home.mkdir()
    (home / ".tmp-k7x_.safetensors").write_bytes(b"half a file")

    run("--checkpoint", checkpoint_file, "--clip", clip_file)

    assert not list(home.glob(".tmp-*"))


def test_remove_takes_the_file_and_its_record(home, checkpoint_file, clip_file):
    run("--checkpoint", checkpoint_file, "--clip", clip_file, "--name", "mine")

    assert run("--remove", "mine").stdout == f"{home / 'mine.safetensors'}\n"
    assert [path.name for path in home.glob("mine*")] == []


def test_record_beside_the_file_holds_its_sha256(home, checkpoint_file, clip_file):
    run("--checkpoint", checkpoint_file, "--clip", clip_file)

    recorded = json.loads((home / "clip-count.json").read_text())
    assert recorded["sha256"] == digest(home / "clip-count.safetensors")


def answer_when_one_waits(processes, may_answer) -> None:
    """Let the server answer once one of the processes says that it waits for the other."""

    def listen(process) -> None:
        for line in process.stderr:
            if "waiting for another" in line:
                break
        may_answer.set()  # at the latest when one of them has ended
        process.stderr.read()

    for process in processes:
        threading.Thread(target=listen, args=(process,), daemon=True).start()
    may_answer.wait(60)
