"""What all tests share: no network, and the authors' network filled to give recorded figures."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # two processes of two threads wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded; also for processes of tests

import pytest
import standin_weights
from hypothesis import HealthCheck, settings

from clipcount_cli.counting.counter import Counter
from clipcount_cli.weights.checkpoint import empty_model
from clipcount_cli.weights.upstream import import_released

# A busy machine fails no property: neither a slow example nor slowly drawn inputs are a fault.
# Every run tries the same examples; `pytest --hypothesis-profile random` looks for further ones.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("random", PATIENT)
settings.register_profile("same", PATIENT, derandomize=True)
settings.load_profile("same")

LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Fail whatever would reach another machine, in this process."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            assert host.startswith(LOOPBACK), f"a test reached for {host}"
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(scope="session")
def standin_clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """CLIP ViT-B/16 under OpenAI's keys, written once per run and removed after it: 600 MB."""
    path = standin_weights.write_clip(tmp_path_factory.mktemp("clip") / "clip.safetensors")
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def released_counter(standin_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Counter:
    """The authors' full-size network in float32; seconds to make."""
    checkpoint = tmp_path_factory.mktemp("released") / "released.ckpt"
    imported = import_released(standin_weights.write_checkpoint(checkpoint), standin_clip)
    model = empty_model(imported.config)
    state = {name: tensor.float() for name, tensor in imported.state.items()}
    model.load_state_dict(state, assign=True)
    return Counter(model, "released", "0" * 64, "fp32")
