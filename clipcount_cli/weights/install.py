"""`download-weights`: sources -> one self-contained, verified file in the weights folder.

The sources are a download or a local file, and CLIP unless the checkpoint brings its own. If no
publisher states the sha256 of a download, that of the first install is remembered.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from clipcount_cli.errors import ClipCountError, DownloadError, UsageError, WeightsError
from clipcount_cli.files import atomic_write
from clipcount_cli.version import __version__
from clipcount_cli.weights import (
    cache,
    checkpoint,
    digests,
    download,
    hub,
    untrusted,
    upstream,
    web,
)
from clipcount_cli.weights.download import Report, fetch
from clipcount_cli.weights.registry import (
    CLIP_NAME,
    DEFAULT_NAME,
    OPENAI_CLIP_SHA256,
    OPENAI_CLIP_URL,
    TABLE,
    WeightsEntry,
)

Say = Callable[[str], None]
_FROM_FILES = "`clipcount download-weights --checkpoint FILE --clip FILE`"
_FROM_CLIP_FILE = "`clipcount download-weights clip --clip FILE`"
_CLIP_BY_HAND = f"download {OPENAI_CLIP_URL} in a browser, then run {_FROM_CLIP_FILE}"
_UNLISTED = WeightsEntry(summary="", licence="unknown")


@dataclass(frozen=True)
class InstallRequest:
    """What to install, from where, and under which name."""

    name: str = DEFAULT_NAME  # a row of the table, or any name together with a source
    install_as: str | None = None  # None: under `name`
    checkpoint: Path | None = None  # a released Lightning checkpoint, or a file of our own
    clip: Path | None = None
    url: str | None = None  # instead of the row's own address
    sha256: str | None = None  # of the checkpoint, or of CLIP if that is all there is
    force: bool = False
    offline: bool = False

    @property
    def entry(self) -> WeightsEntry:
        return TABLE.get(self.name, _UNLISTED)

    @property
    def target_name(self) -> str:
        return self.install_as or self.name

    @property
    def local_file(self) -> Path | None:
        """The main file, if the user gives it."""
        return self.clip if self.entry.holds == "clip" else self.checkpoint


@dataclass(frozen=True)
class _Source:
    path: Path
    sha256: str
    url: str | None = None
    temporary: bool = False  # in the download folder, to be deleted once it is converted

    def as_json(self) -> dict[str, str]:
        source = {"file": self.path.name, "sha256": self.sha256}
        return source if self.url is None else {**source, "url": self.url}


@dataclass(frozen=True)
class _Content:
    imported: upstream.Imported
    sources: list[_Source]
    origin: Mapping[str, Any] = field(default_factory=dict)  # as a file of our own states it


def install(request: InstallRequest, say: Say, report: Report | None = None) -> Path:
    """Install weights and return their file; what is installed already is left alone.

    say: called with notices; report: called with a download's progress.
    Raises WeightsError, DownloadError or UsageError.
    """
    _require_sense(request)
    if request.entry.asset:
        embedded = _local_source(cache.asset(request.entry.asset), request.sha256)
        say(f"{request.name} comes with the package: there is nothing to download")
        return embedded.path
    target = cache.location(request.target_name)
    if _installed_already(request, target, say):  # in a read-only folder, too
        return target
    with cache.lock(say):
        if not _installed_already(request, target, say):
            _install(request, target, say, report)
    return target


def _installed_already(request: InstallRequest, target: Path, say: Say) -> bool:
    if request.force or not target.exists():
        return False
    _require_same(request, target)
    say(f"{request.target_name} is installed already")
    return True


def _install(request: InstallRequest, target: Path, say: Say, report: Report | None) -> None:
    main = _main_source(request, say, report)
    content = _converted(request, main, say, report)
    state, config = content.imported.state, content.imported.config
    try:
        checkpoint.save(state, config, target, _origin(request, content), request.entry.holds)
        digests.write_record(target)
        for source in content.sources:
            _remember(source)
    except ClipCountError as error:
        raise WeightsError(
            str(error), hint=f"choose another folder with the variable {cache.HOME_VARIABLE}"
        ) from error


def _require_sense(request: InstallRequest) -> None:
    if request.url:
        web.require_web_address(request.url)
    given = {"--checkpoint": request.checkpoint, "--url": request.url}
    if request.entry.holds == "clip":
        given["--clip"] = request.clip
        if request.checkpoint:
            raise UsageError(f"{request.name} is CLIP alone", hint="give its file with --clip")
    if len(named := [option for option, value in given.items() if value]) > 1:
        raise UsageError(f"{' and '.join(named)} are two sources for one file", hint="give one")
    if request.sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", request.sha256):
        raise UsageError("--sha256 takes all 64 hexadecimal digits")
    if request.name not in TABLE and not named:
        raise WeightsError(
            f"no weights called {request.name} are known",
            hint=cache.did_you_mean(request.name)
            or f"known are {', '.join(TABLE)}; for others give --url or --checkpoint",
        )
    by_asset = [name for name in (request.name, request.target_name) if _has_asset(name)]
    if by_asset and (named or request.install_as):
        raise UsageError(f"{by_asset[0]} is part of the package", hint="choose another name")
    if request.entry.holds == "model" and request.target_name == CLIP_NAME:
        raise UsageError(f"{CLIP_NAME} is the name of the backbone alone", hint="choose a --name")


def _has_asset(name: str) -> bool:
    return TABLE.get(name, _UNLISTED).asset is not None


def _require_same(request: InstallRequest, target: Path) -> None:
    """Raise UsageError if the request names another source than `target` was made from."""
    try:
        sources = checkpoint.read_metadata(target).origin.get("sources", [])
    except WeightsError as error:
        raise WeightsError(str(error), hint="add --force to install it again") from error
    if request.sha256:
        made_from = sources[0].get("sha256") if sources else "unknown"  # what follows is CLIP
        if request.sha256.lower() != made_from:
            raise UsageError(
                f"{request.target_name} is installed already, made from another file: expected "
                f"sha256 {request.sha256.lower()}, got {made_from}",
                hint="add --force to replace it, or choose a --name",
            )
    if request.url is None and request.local_file is None:
        return
    if request.url and request.url in [source.get("url") for source in sources]:
        return
    if request.local_file:
        given = digests.compute_digest(request.local_file)
        if given in [source.get("sha256") for source in sources]:
            return
    raise UsageError(
        f"other weights are installed as {request.target_name} already",
        hint="add --force to replace them, or choose a --name",
    )


def _main_source(request: InstallRequest, say: Say, report: Report | None) -> _Source:
    if request.local_file is not None:
        return _local_source(request.local_file, request.sha256)
    if (url := request.url or request.entry.url) is None:
        return _clip_source(request, say, report, request.sha256)
    _require_network(request, request.url or request.target_name)
    say(f"downloading {url}")
    published = request.entry.sha256 if url == request.entry.url else None
    return _downloaded(url, request.sha256 or published, report)


def _local_source(path: Path, expected: str | None) -> _Source:
    if not path.is_file():
        raise WeightsError(f"there is no file {path}", hint="check the path")
    actual = digests.compute_digest(path)
    if expected is not None and actual != expected.lower():
        raise WeightsError(
            f"{path} is not the expected file: expected sha256 {expected.lower()}, got {actual}; "
            "it was left as it is"
        )
    return _Source(path, actual)


def _downloaded(
    url: str, expected: str | None, report: Report | None, by_hand: str = download.BY_HAND
) -> _Source:
    """A file from the network, or from an earlier install that stopped after its download."""
    folder = cache.home() / "downloads" / hashlib.sha256(url.encode()).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", PurePosixPath(urlsplit(url).path).name) or "file"
    path = cache.make_folder(folder) / name
    expected = expected or _remembered().get(url)
    if path.exists():
        digest = digests.compute_digest(path)
        if expected in (None, digest):
            return _Source(path, digest, url, temporary=True)
    return _Source(path, fetch(url, path, expected, report, by_hand), url, temporary=True)


def _clip_source(
    request: InstallRequest, say: Say, report: Report | None, expected: str | None = None
) -> _Source:
    """CLIP from the model hub, or OpenAI's own archive if the hub does not deliver."""
    if (cached := hub.cached_clip()) is not None:
        say(f"CLIP is taken from {cached}")
        return _from_hub(cached, expected)
    _require_network(request, "CLIP")
    say("downloading CLIP ViT-B/16")
    try:
        return _from_hub(hub.download_clip(), expected)
    except DownloadError as hub_error:
        try:
            digest = expected or OPENAI_CLIP_SHA256
            return _downloaded(OPENAI_CLIP_URL, digest, report, _CLIP_BY_HAND)
        except DownloadError as error:
            raise DownloadError(f"{hub_error}; {error}", error.hint) from error


def _from_hub(path: Path, expected: str | None) -> _Source:
    source = _local_source(path, expected or _remembered().get(hub.address()))
    return _Source(path, source.sha256, hub.address())


def _require_network(request: InstallRequest, wanted: str) -> None:
    if request.offline or cache.offline():
        why = "--offline was given" if request.offline else "the environment forbids the network"
        from_files = _FROM_CLIP_FILE if request.entry.holds == "clip" else _FROM_FILES
        raise DownloadError(
            f"{wanted} is not on this machine, and {why}",
            hint=f"allow the network, or install from files with {from_files}",
        )


def _converted(request: InstallRequest, main: _Source, say: Say, report: Report | None) -> _Content:
    try:
        if request.entry.holds == "clip":
            return _Content(upstream.import_clip(main.path), [main])
        return _model(request, main, say, report)
    except DownloadError:
        raise  # of CLIP: the head is whole, and waits for the next attempt
    except WeightsError:
        _tidy(main)
        raise


def _model(request: InstallRequest, main: _Source, say: Say, report: Report | None) -> _Content:
    if untrusted.is_safetensors(main.path):
        state, metadata = checkpoint.load_state(main.path)
        if metadata.holds == "clip":
            raise WeightsError(f"{main.path} holds CLIP alone", hint="give it with --clip")
        _require_own_name(request, main.path, metadata.origin)
        return _Content(upstream.Imported(state, metadata.config), [main], metadata.origin)
    contents = untrusted.read_checkpoint(main.path)
    if upstream.brings_own_clip(contents, main.path):
        if request.clip:
            say(f"{main.path.name} brings its own CLIP: {request.clip} is not read")
        return _Content(upstream.import_released(main.path, None, contents), [main])
    clip = _clip_for(request, say, report)
    return _Content(upstream.import_released(main.path, clip.path, contents), [main, clip])


def _require_own_name(request: InstallRequest, path: Path, origin: Mapping[str, Any]) -> None:
    """Raise UsageError if weights trained here would be installed as the authors' model."""
    trained = "started_from" in origin or origin.get("name") != DEFAULT_NAME
    if trained and request.target_name in TABLE:
        raise UsageError(
            f"{path} is not {request.target_name}: it is {origin.get('name', 'of unknown origin')}",
            hint="install it under a name of its own: --name NAME",
        )


def _clip_for(request: InstallRequest, say: Say, report: Report | None) -> _Source:
    if request.clip is not None:
        source = _local_source(request.clip, None)
        if untrusted.is_torchscript(request.clip) and source.sha256 != OPENAI_CLIP_SHA256:
            say(f"{request.clip} is not OpenAI's published archive: only its tensors are read")
        return source
    if (installed := cache.location(CLIP_NAME)).is_file():
        say(f"CLIP is taken from {installed}")
        return _Source(installed, digests.verified_digest(installed))
    return _clip_source(request, say, report)


def _origin(request: InstallRequest, content: _Content) -> dict[str, Any]:
    return {
        "licence": request.entry.licence,
        **content.origin,
        "name": request.target_name,
        "sources": [source.as_json() for source in content.sources],
        "made_by": f"clipcount-cli {__version__}",
    }


def _remember(source: _Source) -> None:
    """Keep the digest of what an address gave, to verify it from now on, and clean up."""
    if source.url is not None:
        known = {**_remembered(), source.url: source.sha256}
        with atomic_write(_sources_file()) as temporary:
            temporary.write_text(json.dumps(known, indent=1, sort_keys=True), encoding="utf-8")
    _tidy(source)


def _tidy(source: _Source) -> None:
    if source.temporary:
        shutil.rmtree(source.path.parent, ignore_errors=True)


def _remembered() -> dict[str, str]:
    try:
        return dict(json.loads(_sources_file().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _sources_file() -> Path:
    return cache.home() / ".sources.json"  # no weights' record: names do not begin with a dot
