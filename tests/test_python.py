"""The package in Python, without `conf/`."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import autoddpm
from autoddpm import AnoDDPM, AutoDDPM, detect_images, load_model

IMAGES = torch.rand(2, 1, 128, 128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "command", ["import autoddpm", "from autoddpm.cli import _parser as p; p()"]
)
def test_neither_import_nor_help_imports_torch(command: str) -> None:
    late = "{'torch', 'numpy', 'hydra'}"
    code = f"{command}; import sys; print(sorted({late} & {{*sys.modules}}))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    for name in autoddpm.PUBLIC:
        assert callable(getattr(autoddpm, name))
        assert name in dir(autoddpm)
    with pytest.raises(AttributeError, match="no attribute 'Unet'"):
        _ = autoddpm.Unet


@pytest.mark.slow
def test_slices_are_mapped_with_the_paper_s_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # no conf/ here
    detector = AutoDDPM(load_model("ixi-small"), t=2, t_resample=1, mask_threshold="percentile")
    made = detect_images(detector, IMAGES)
    assert made.anomaly_map.shape == IMAGES.shape
    assert made.calls.tolist() == [detector.most_calls] * 2
    assert {"mask", "initial_map"} <= {*made.stages}
    alone = detect_images(detector, IMAGES[1:])
    torch.testing.assert_close(alone.anomaly_map, made.anomaly_map[1:], atol=1e-4, rtol=0)
    baseline = detect_images(AnoDDPM(detector.model, t=2), IMAGES[:1], ["one"])
    assert baseline.calls.tolist() == [2]


@pytest.mark.parametrize(
    ("images", "ids", "said"),
    [
        (IMAGES[0, 0], None, r"images: \(128, 128\) torch.float32, must be \(B, C, \*space\)"),
        (2 * IMAGES, None, r"in \[0, 1\]"),
        (IMAGES.double(), None, "torch.float64"),
        (IMAGES, ["one"], "ids: 1 names of 2 images"),
    ],
)
def test_images_that_are_none_are_refused(images: torch.Tensor, ids: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        detect_images(object(), images, ids)  # type: ignore[arg-type]
