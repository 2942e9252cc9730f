"""What all tests share: the authors' network, filled so that recorded figures can be reproduced."""

from __future__ import annotations

import pytest
import standin_weights

from clipcount_cli.counting.counter import Counter


@pytest.fixture(scope="session")
def released_counter(tmp_path_factory: pytest.TempPathFactory) -> Counter:
    """The authors' full-size network in float32, with `recipe`'s weights; 10 s to make."""
    from clipcount_cli.counting.model import ClipCount
    from clipcount_cli.weights.upstream import import_released

    folder = tmp_path_factory.mktemp("released")
    clip = standin_weights.write_clip(folder / "clip.safetensors")
    imported = import_released(standin_weights.write_checkpoint(folder / "released.ckpt"), clip)
    clip.unlink()  # 600 MB
    model = ClipCount(imported.config)
    model.load_state_dict({name: tensor.float() for name, tensor in imported.state.items()})
    return Counter(model, "released", "0" * 64, "fp32")
