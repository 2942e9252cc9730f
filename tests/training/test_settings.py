"""config.json of a run: what an earlier version wrote is still understood."""

from __future__ import annotations

import json

import pytest

from clipcount_cli.config import RECIPES, Recipe
from clipcount_cli.errors import TrainingError
from clipcount_cli.training.run_folder import RunFolder
from clipcount_cli.training.settings import read_settings

# Hyper-parameters as version 0.1.0 wrote them; their values are no defaults.
OF_0_1_0 = json.loads("""{"interaction": "naive", "tuning": "full", "contrast": "none",
"readout": "released", "heads": 8, "depth": 3, "visual_prompts": 11, "prompted_layers": 12,
"context_tokens": 3, "dropout": 0.2, "drop_path": 0.3, "epochs": 7, "contrast_epochs": 1,
"batch": 5, "learning_rate": 0.001, "beta1": 0.8, "beta2": 0.9, "weight_decay": 0.01,
"schedule": "step", "warmup_share": 0.04, "step_epochs": 50, "step_factor": 0.5,
"clip_norm": 2.5, "average": 0.9,
"freeze_norms": false, "sigma_px": 4.0, "target_side_px": 96, "count_doubles": false,
"mask": "loss", "mask_share": 0.7, "density_loss": "squared", "density_weight": 9.0,
"count_weight": 0.2, "contrast_weight": 0.3, "negative_weight": 0.4, "tau": 0.08,
"contrast_empty": true,
"occupied_above": 0.15, "absent_prompts": 2, "class_mosaic_share": 0.21, "mosaic_share": 0.06,
"changed_share": 0.5, "zoom": 0.3, "shift": 0.1, "seed": 4}""")


def written(tmp_path, **changes) -> RunFolder:
    run: dict[str, object] = {
        "data": "/data",
        "part": None,
        "init": "tiny",
        "recipe": "paper",
        "precision": "fp32",
    }
    run |= {"data_sha256": "0" * 64, "device": "cpu", "world_size": 1, "trained_parameters": 9}
    (tmp_path / "config.json").write_text(json.dumps({**run, "train": {**OF_0_1_0, **changes}}))
    return RunFolder(tmp_path)


def test_a_run_of_version_0_1_0_keeps_each_of_its_settings(tmp_path):
    train = read_settings(written(tmp_path)).train

    assert (train.warmup_fraction, train.grad_clip, train.ema_decay) == (0.04, 2.5, 0.9)
    assert (train.mask_keep_fraction, train.occupied_threshold) == (0.7, 0.15)
    assert (train.class_mosaic_prob, train.mosaic_prob, train.augment_prob) == (0.21, 0.06, 0.5)
    assert (train.scale, train.translate, train.count_duplicates) == (0.3, 0.1, False)
    assert (train.density_loss, train.freeze_norms, train.seed) == ("mse", False, 4)
    assert train.tiles == RECIPES[Recipe.default].tiles


@pytest.mark.parametrize(
    ("former", "now"), [("squared", "mse"), ("entropy", "bce"), *[("bce",) * 2]]
)
def test_a_loss_has_kept_its_meaning_under_its_new_name(tmp_path, former, now):
    assert read_settings(written(tmp_path, density_loss=former)).train.density_loss == now


def test_a_setting_that_no_version_had_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="colour_share"):
        read_settings(written(tmp_path, colour_share=0.5))
