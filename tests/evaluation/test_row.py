"""One row of a table: its files, its numbers, its thresholds, and that a stop, a batch or a process
changes nothing."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, SIZE, TINY_AUTODDPM, Site, Verb, make_site, single_thread, write_stroke
from lightning import Trainer
from scipy.ndimage import median_filter
from sklearn.metrics import average_precision_score

from autoddpm.data.datamodule import SliceDataModule
from autoddpm.datasets.ixi import ixi
from autoddpm.datasets.ixi_stroke import ixi_stroke
from autoddpm.detectors.anoddpm import AnoDDPM
from autoddpm.detectors.anomaly_map import product, residual
from autoddpm.detectors.authors_code import AuthorsCodeAnoDDPM
from autoddpm.detectors.autoddpm import AutoDDPM
from autoddpm.detectors.detector import detect
from autoddpm.detectors.perceptual import DenoiserFeatures
from autoddpm.detectors.repaint_oracle import RepaintOracle
from autoddpm.detectors.thor import THOR
from autoddpm.diffusion.sampler import Ancestral
from autoddpm.evaluation.detect import Bench
from autoddpm.evaluation.row import RowSettings, evaluate
from autoddpm.metrics.localization import HEALTHY_FPRS
from autoddpm.models.model import Trained
from autoddpm.models.trained import load_checkpoint
from autoddpm.models.weights_file import write_weights

pytestmark = pytest.mark.usefixtures("one_thread")

KEYS = {
    "healthy/ssim",
    "healthy/mse",
    "calls_per_slice",
    "seconds_per_slice",
    *(f"healthy/fpr@healthy_fpr{rate}" for rate in (0.2, 1, 2, 5)),
    *(f"all/{key}" for key in ("auprc", "max_dice", "dice@healthy_fpr5", "slice_auroc")),
    *(f"all/{key}" for key in ("slice_auprc", "max_slice_dice")),
    *(f"lesion/{key}" for key in ("slice_dice", "slice_dice@healthy_fpr5", "aupimo")),
    *(
        f"lesion/{key}@healthy_fpr{rate}"
        for key in ("lesion_f1", "count_difference", "volume_difference", "dice_gap")
        for rate in (0.2, 1, 2, 5)
    ),
    *(f"lesion/sensitivity@{number}fp" for number in (1, 2)),
    *(
        f"lesion/{key}{group}"
        for key in (
            "auprc",
            "max_dice",
            "grid_dice",
            "best_threshold",
            *(f"dice@healthy_fpr{rate}" for rate in (0.2, 1, 2, 5)),
        )
        for group in ("", "/small", "/medium", "/large")
    ),
}
FILES = {"config.yaml", "maps.npz", "metrics.json", "slices.csv"}
FLOATS = (
    "image",
    "anomaly_map",
    "reconstruction",
    "initial_map",
    "initial_reconstruction",
    "stitched",
)


class Laboratory:
    """A checkpoint of its own, so that its thresholds are its own, and rows made with it."""

    def __init__(
        self, folder: Path, site: Site, checkpoint: Path, stroke: Path | None = None
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.site = folder, site
        self.stroke = stroke or site.folder / "data" / "ixi_stroke"
        self.checkpoint = Path(shutil.copy(checkpoint, folder / "last.ckpt"))

    def data(self, batch: int = 3) -> SliceDataModule:
        ixis = partial(ixi, self.site.folder / "data" / "ixi")
        sources = {"ixi": ixis, "ixi_stroke": partial(ixi_stroke, self.stroke)}
        roles: dict[str, Any] = {"train": [], "calibrate": ["ixi"], "test": ["ixi_stroke"]}
        prepared = self.site.folder / "prepared"
        return SliceDataModule(
            sources, **roles, size=SIZE, prepared=prepared, eval_batch_size=batch
        )

    def detector(
        self, trained: Trained, kind: Callable[..., Any] = AutoDDPM, **settings: Any
    ) -> Any:
        own = {"t_resample": 20, "resample_steps": 2} if kind is AutoDDPM else {}
        anomaly_map = settings.pop("anomaly_map", residual)
        parts = trained.model, Ancestral(stride=10), DenoiserFeatures(), anomaly_map
        return kind(*parts, **{"t": 30, **own} | settings)

    def row(
        self, name: str, kind: Callable[..., Any] = AutoDDPM, batch: int = 3, **settings: Any
    ) -> dict[str, Any]:
        trained = load_checkpoint(self.checkpoint)
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            precision=settings.pop("precision", "32-true"),
        )
        postprocess = settings.pop("postprocess", "none")
        built = self.detector(trained, kind, **settings)
        kept = self.folder / "reconstructions"
        bench = Bench(trained, self.data(batch), trainer, kept, postprocess)
        with single_thread():
            return evaluate(built, bench, None, self.folder / name, RowSettings(config="a: 1\n"))

    def maps(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.folder / name / "maps.npz") as archive:
            return dict(archive)

    def thresholds(self) -> list[dict[str, Any]]:
        return json.loads(self.checkpoint.with_suffix(".thresholds.json").read_text())


@pytest.fixture
def laboratory(tmp_path: Path, site: Site, checkpoint: Path) -> Laboratory:
    return Laboratory(tmp_path / "lab", site, checkpoint)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, site: Site, checkpoint: Path) -> Laboratory:
    """A laboratory with the finished row of AutoDDPM, `whole`, which no test changes."""
    laboratory = Laboratory(tmp_path_factory.mktemp("done"), site, checkpoint)
    laboratory.row("whole")
    return laboratory


@pytest.fixture
def detected(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ids of every batch that a detector is run on (AutoDDPM runs AnoDDPM for its first
    stage)."""
    batches: list[list[str]] = []
    original = AnoDDPM.reconstruct

    def counted(self: AnoDDPM, batch: Any, first: Any = None) -> Any:
        batches.append(list(batch.id))
        return original(self, batch, first)

    monkeypatch.setattr(AnoDDPM, "reconstruct", counted)
    return batches


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """The metrics of a row that must repeat themselves."""
    return {key: value for key, value in row["metrics"].items() if key != "seconds_per_slice"}


def assert_same_maps(
    found: dict[str, np.ndarray], expected: dict[str, np.ndarray], atol: float = 0
) -> None:
    """Floats to `atol`, all else exactly, and seconds not at all."""
    for name in expected.keys() - {"seconds"}:
        if expected[name].dtype == np.float32:
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=atol, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


# what a row consists of


def test_a_row_has_its_files_and_nothing_half_done(done: Laboratory) -> None:
    folder = done.folder / "whole"
    assert {path.name for path in folder.iterdir()} == FILES
    assert (folder / "config.yaml").read_text() == "a: 1\n"
    assert {path.name for path in done.folder.iterdir()} - {"last.thresholds.lock"} == {
        "last.ckpt",
        "last.thresholds.json",
        "reconstructions",
        "whole",
    }


def test_a_calibration_keeps_what_is_typical_of_its_slices(done: Laboratory) -> None:
    entries = json.loads((done.folder / "last.thresholds.json").read_text())
    kept = {json.dumps(entry["healthy"]) for entry in entries}
    assert len(kept) == 2  # of the first stage, and of the last
    for text in kept:
        healthy = json.loads(text)
        assert healthy["slices"] == 3
        assert sum(healthy["histogram"]) == pytest.approx(1)
        low, middle, high = healthy["reconstruction_error"]
        assert 0 < low <= middle <= high < 1


def test_metrics_json_holds_every_key_and_says_how_it_was_made(done: Laboratory) -> None:
    row = json.loads((done.folder / "whole" / "metrics.json").read_text())
    assert row.keys() == {"label", "detector", "metrics", "undefined", "thresholds", "provenance"}
    assert row["label"] == "AutoDDPM"
    assert row["detector"]["name"] == "AutoDDPM"
    assert (
        row["detector"].items()
        >= {"t": 30, "t_resample": 20, "resample_steps": 2, "dilation": 3}.items()
    )
    assert row["detector"]["mask_threshold"] == row["thresholds"]["mask_threshold"]
    assert row["metrics"].keys() == KEYS
    others = ("per_slice", "count_difference")
    fractions = {k: v for k, v in row["metrics"].items() if not any(one in k for one in others)}
    assert all(0 <= value <= 1 for value in fractions.values())
    assert row["undefined"] == {}
    provenance = row["provenance"]
    assert provenance["weights_hash"] == load_checkpoint(done.checkpoint).weights_hash
    assert provenance["sampler"] == {"name": "Ancestral", "stride": 10}
    assert (provenance["perceptual"], provenance["precision"], provenance["size"]) == (
        "denoiser",
        "32-true",
        SIZE,
    )
    assert provenance.keys() >= {
        "data_hash",
        "commit",
        "seed",
        "device",
        "versions",
        "date",
        "weights_step",
        "noise",
    }


def test_maps_npz_holds_every_stage_of_every_slice(done: Laboratory) -> None:
    maps = done.maps("whole")
    assert maps["id"].tolist() == sorted(maps["id"].tolist())
    assert len(maps["id"]) == 9
    assert maps.keys() == {"id", "lesion", "mask", "calls", "seconds", *FLOATS}
    assert all(maps[name].dtype == np.float32 for name in FLOATS)
    assert maps["lesion"].dtype == maps["mask"].dtype == bool
    assert all(
        values.shape == (9, SIZE, SIZE)
        for name, values in maps.items()
        if name not in ("id", "calls", "seconds")
    )
    outside = ~maps["mask"]
    assert np.array_equal(maps["reconstruction"][outside], maps["image"][outside])
    assert np.array_equal(
        maps["stitched"], np.where(outside, maps["image"], maps["initial_reconstruction"])
    )


def test_slices_csv_has_a_line_per_slice_with_what_is_defined(done: Laboratory) -> None:
    slices, maps = pd.read_csv(done.folder / "whole" / "slices.csv"), done.maps("whole")
    assert slices["id"].tolist() == maps["id"].tolist()
    assert slices["subject"].tolist() == [f"IXI{500 + int(i[-3:])}" for i in slices["id"]]
    assert slices["lesion_pixels"].tolist() == maps["lesion"].sum((1, 2)).tolist()
    assert slices["size_group"].value_counts().to_dict() == {
        "healthy": 3,
        "small": 2,
        "medium": 2,
        "large": 2,
    }
    healthy = slices["size_group"] == "healthy"
    for columns, defined in (
        (["ssim", "mse"], healthy),
        (["dice@healthy_fpr5", "max_dice"], ~healthy),
    ):
        assert (slices[columns].notna().to_numpy() == defined.to_numpy()[:, None]).all()
    assert (slices["calls"] == np.where(maps["mask"].any((1, 2)), 3 + 2 * 2, 3)).all()
    assert (slices["seconds"] > 0).all()


def test_an_upper_bound_has_the_lesion_for_its_mask_and_says_so(laboratory: Laboratory) -> None:
    row = laboratory.row("oracle", RepaintOracle, t_resample=20, resample_steps=2)
    maps = laboratory.maps("oracle")
    assert np.array_equal(maps["mask"], maps["lesion"])
    outside = ~maps["lesion"]
    assert np.array_equal(maps["reconstruction"][outside], maps["image"][outside])
    assert row["provenance"]["sees_lesion"] is True
    assert "upper bound" in row["label"]


class Blind(AnoDDPM):
    """AnoDDPM that fails if it is shown a lesion."""

    def reconstruct(self, batch: Any, first: Any = None) -> Any:
        assert not hasattr(batch, "lesion")
        return super().reconstruct(batch, first)

    def anomaly_map(self, batch: Any, made: Any) -> Any:
        assert not hasattr(batch, "lesion")
        return super().anomaly_map(batch, made)


def test_no_other_detector_is_shown_a_lesion(laboratory: Laboratory) -> None:
    assert "sees_lesion" not in laboratory.row("blind", Blind)["provenance"]


def thor(model: Any, sampler: Any, distance: Any, _: Any, t: int, harmonise: list[int]) -> THOR:
    return THOR(model, sampler, distance, t=t, harmonise=harmonise)


def test_a_row_with_a_list_of_numbers_is_found_again(laboratory: Laboratory) -> None:
    row = laboratory.row("thor", thor, harmonise=[20, 5])
    assert row["detector"]["harmonise"] == [20, 5]
    assert laboratory.maps("thor").keys() >= {"map_at_20", "map_at_5", "map_at_0"}
    assert laboratory.row("thor", thor, harmonise=[20, 5]) == row
    with pytest.raises(ValueError, match=r"harmonise \[20, 5\], now it would be \[20\]"):
        laboratory.row("thor", thor, harmonise=[20])


def test_the_numbers_of_a_row_are_those_of_its_own_maps(done: Laboratory) -> None:
    row = json.loads((done.folder / "whole" / "metrics.json").read_text())
    metrics, maps = row["metrics"], done.maps("whole")
    slices = pd.read_csv(done.folder / "whole" / "slices.csv")
    ill = maps["lesion"].any((1, 2))
    scores, lesion = maps["anomaly_map"][ill], maps["lesion"][ill]
    assert metrics["lesion/auprc"] == pytest.approx(
        average_precision_score(lesion.ravel(), scores.ravel()), rel=1e-9
    )
    flagged = scores > row["thresholds"]["healthy_fpr5"]
    dice = 2 * (flagged & lesion).sum() / (flagged.sum() + lesion.sum())
    assert metrics["lesion/dice@healthy_fpr5"] == pytest.approx(dice, rel=1e-9)
    rate = (maps["anomaly_map"][~ill] > row["thresholds"]["healthy_fpr5"]).mean()
    assert metrics["healthy/fpr@healthy_fpr5"] == pytest.approx(rate, rel=1e-9)
    assert metrics["healthy/ssim"] == pytest.approx(slices["ssim"].mean(), rel=1e-6)
    assert metrics["healthy/mse"] == pytest.approx(slices["mse"].mean(), rel=1e-6)
    assert metrics["calls_per_slice"] == slices["calls"].mean()


# thresholds


def test_a_threshold_is_the_least_with_at_most_5_percent_fpr(
    done: Laboratory,
) -> None:
    (mask, *others, final) = done.thresholds()
    assert [entry["conditions"]["false_positive_rate"] for entry in others] == [0.002, 0.01, 0.02]
    trained = load_checkpoint(done.checkpoint)
    (batch,) = list(done.data().loader("calibrate"))
    detection = detect(done.detector(trained, mask_threshold=mask["threshold"]), batch)
    for maps, threshold in (
        (detection.stages["initial_map"], mask["threshold"]),
        (detection.anomaly_map, final["threshold"]),
    ):
        values = maps.double().numpy()
        assert (values > threshold * (1 + 1e-6)).mean() <= 0.05
        assert (values > threshold * (1 - 1e-6) - 1e-12).mean() > 0.05
    assert mask["conditions"]["false_positive_rate"] == 0.05


def test_a_threshold_is_of_the_slices_it_was_calibrated_on(done: Laboratory) -> None:
    data = done.data()
    assert data.hash("calibrate") != data.hash("test")
    known = {entry["conditions"]["data_hash"] for entry in done.thresholds()}
    assert known == {data.hash("calibrate")}


def test_thresholds_are_kept_by_the_checkpoint_and_used_again(
    laboratory: Laboratory, detected: list[list[str]]
) -> None:
    first = laboratory.row("a", AnoDDPM)
    assert [len(batch) for batch in detected] == [3, 3, 3, 3]
    assert len(laboratory.thresholds()) == len(HEALTHY_FPRS)
    detected.clear()
    shutil.rmtree(laboratory.folder / "a")
    second = laboratory.row("b", AnoDDPM)
    assert detected == []  # its reconstructions are kept too
    assert numbers(first) == numbers(second)
    assert first["thresholds"] == second["thresholds"]
    assert first["thresholds"]["mask_threshold"] is None


@pytest.mark.parametrize("is_in_weights", [False, True])
def test_thresholds_under_a_former_name_are_found(
    is_in_weights: bool, laboratory: Laboratory
) -> None:
    first = laboratory.row("a", AuthorsCodeAnoDDPM)
    kept = laboratory.checkpoint.with_suffix(".thresholds.json")
    before = kept.read_text().replace("AuthorsCodeAnoDDPM", "OfficialV0AnoDDPM")
    assert "OfficialV0AnoDDPM" in before
    kept.write_text(before)
    if is_in_weights:
        trained = replace(load_checkpoint(laboratory.checkpoint), thresholds=json.loads(before))
        (laboratory.checkpoint,) = write_weights(trained, laboratory.folder / "old.safetensors")
        kept = laboratory.checkpoint.with_suffix(".thresholds.json")
    assert laboratory.row("b", AuthorsCodeAnoDDPM)["thresholds"] == first["thresholds"]
    assert (kept.read_text() if kept.is_file() else "") == ("" if is_in_weights else before)


def test_the_mask_s_threshold_is_shared_with_the_ablations(
    laboratory: Laboratory, detected: list[list[str]]
) -> None:
    rows = [
        laboratory.row("full"),
        laboratory.row("stitching", resample_steps=0),
        laboratory.row("no_uncertainty", use_uncertainty=False),
    ]
    assert [row["label"] for row in rows] == [
        "AutoDDPM",
        "AutoDDPM (w/o re-sampling)",
        "AutoDDPM (w/o uncertainty)",
    ]
    assert len({row["thresholds"]["mask_threshold"] for row in rows}) == 1
    assert len({row["thresholds"]["healthy_fpr5"] for row in rows}) == 3
    assert len(laboratory.thresholds()) == 1 + 3 * len(HEALTHY_FPRS)
    assert sum(batch[0].startswith("ixi/") for batch in detected) == 1
    assert sum(batch[0].startswith("ixi_stroke/") for batch in detected) == 3
    full, stitching = laboratory.maps("full"), laboratory.maps("stitching")
    assert np.array_equal(full["mask"], stitching["mask"])
    assert np.array_equal(full["stitched"], stitching["reconstruction"])


def test_a_median_follows_the_last_map_and_has_own_thresholds(
    laboratory: Laboratory, detected: list[list[str]]
) -> None:
    plain = laboratory.row("plain")
    detected.clear()
    smooth = laboratory.row("smooth", postprocess="median5")
    assert detected == []
    before, after = laboratory.maps("plain"), laboratory.maps("smooth")
    for one, other in zip(before["anomaly_map"], after["anomaly_map"], strict=True):
        assert np.array_equal(median_filter(one, 5, mode="nearest"), other)
    assert np.array_equal(before["initial_map"], after["initial_map"])
    assert np.array_equal(before["mask"], after["mask"])
    found, mask = smooth["thresholds"], plain["thresholds"]["mask_threshold"]
    assert found["mask_threshold"] == mask
    assert found["healthy_fpr5"] != plain["thresholds"]["healthy_fpr5"]
    assert [row["provenance"]["postprocess"] for row in (plain, smooth)] == ["none", "median5"]
    with pytest.raises(ValueError, match="finished row with postprocess median5, now it would be"):
        laboratory.row("smooth")


def test_another_postprocess_is_refused_by_name(laboratory: Laboratory) -> None:
    with pytest.raises(ValueError, match="postprocess=median3: must be none or median5"):
        laboratory.row("a", postprocess="median3")


# rows that share reconstructions


def test_a_row_that_differs_in_its_map_costs_no_network_call(
    laboratory: Laboratory, detected: list[list[str]], tmp_path: Path
) -> None:
    laboratory.row("plain", AnoDDPM)
    laboratory.row("full")
    changed = {"product": (AnoDDPM, {"anomaly_map": product})}
    changed["without"] = (AutoDDPM, {"use_uncertainty": False})
    detected.clear()
    reread = {name: laboratory.row(name, kind, **own) for name, (kind, own) in changed.items()}
    assert detected == []
    alone = Laboratory(tmp_path / "alone", laboratory.site, laboratory.checkpoint)
    for name, (kind, own) in changed.items():
        one, sampled = reread[name], alone.row(name, kind, **own)
        assert detected
        assert numbers(one) == pytest.approx(numbers(sampled), rel=1e-6)
        for key in ("healthy_fpr1", "healthy_fpr5"):
            assert one["thresholds"][key] == pytest.approx(sampled["thresholds"][key], rel=1e-6)
        assert sampled["provenance"]["reconstructions_of"] is None
        assert {"hash", "commit", "versions"} <= {*one["provenance"]["reconstructions_of"]}
        assert one["metrics"]["seconds_per_slice"] > 0


def test_a_row_of_other_reconstructions_samples_its_own(
    laboratory: Laboratory, detected: list[list[str]]
) -> None:
    laboratory.row("a", AnoDDPM)
    detected.clear()
    row = laboratory.row("b", AnoDDPM, t=20)
    assert row["provenance"]["reconstructions_of"] is None
    assert sum(map(len, detected)) == 3 + 9
    assert len(laboratory.thresholds()) == 2 * len(HEALTHY_FPRS)


def test_a_damaged_reconstruction_is_named_and_may_be_deleted(
    laboratory: Laboratory, detected: list[list[str]]
) -> None:
    laboratory.row("a", AnoDDPM)
    path = next(laboratory.folder.glob("reconstructions/*/*.npz"))
    path.write_bytes(path.read_bytes()[:1000])
    detected.clear()
    with pytest.raises(ValueError, match=rf"{path}: damaged .*delete it"):
        laboratory.row("b", AnoDDPM, anomaly_map=product)
    path.unlink()
    laboratory.row("b", AnoDDPM, anomaly_map=product)
    assert len(detected) == 1


def test_a_precision_that_the_maps_cannot_have_is_refused(laboratory: Laboratory) -> None:
    words = r"trainer\.precision=bf16-true: an evaluation takes 32-true"
    with pytest.raises(ValueError, match=words):
        laboratory.row("row", AnoDDPM, precision="bf16-true")


# finished and interrupted rows


def test_a_finished_row_is_not_computed_again(done: Laboratory, detected: list[list[str]]) -> None:
    files = {path: path.stat().st_mtime_ns for path in (done.folder / "whole").iterdir()}
    row = done.row("whole")
    assert row == json.loads((done.folder / "whole" / "metrics.json").read_text())
    assert detected == []
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_two_processes_at_the_same_row_make_it_once(
    laboratory: Laboratory, detected: list[list[str]]
) -> None:
    with ThreadPoolExecutor(2) as both:
        first, second = both.map(lambda _: laboratory.row("row", AnoDDPM), range(2))
    assert first == second
    names = [name for batch in detected for name in batch]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("content", ["{}", "[]", '{"label": "x"', '{"label": "x", "metrics": {}}'])
def test_a_row_of_another_format_is_refused_by_name(content: str, laboratory: Laboratory) -> None:
    (laboratory.folder / "row").mkdir(parents=True)
    (laboratory.folder / "row" / "metrics.json").write_text(content)
    with pytest.raises(ValueError, match=r"row/metrics.json .*Delete the folder and evaluate"):
        laboratory.row("row", AnoDDPM)


def test_a_finished_row_under_a_former_name_is_recognised(
    laboratory: Laboratory, detected: list[list[str]]
) -> None:
    first = laboratory.row("row", AuthorsCodeAnoDDPM)
    path = laboratory.folder / "row" / "metrics.json"
    before = path.read_text().replace("AuthorsCodeAnoDDPM", "OfficialV0AnoDDPM")
    path.write_text(before.replace("authors_code", "official_v0"))
    detected.clear()
    assert laboratory.row("row", AuthorsCodeAnoDDPM) == first
    assert detected == []


def test_a_finished_row_of_something_else_is_refused(
    laboratory: Laboratory, detected: list[list[str]], tmp_path: Path
) -> None:
    laboratory.row("row", AnoDDPM)
    finished = (laboratory.folder / "row" / "metrics.json").read_bytes()
    detected.clear()

    def refused(key: str, **settings: Any) -> None:
        with pytest.raises(ValueError, match=rf"row holds a finished row with {key} .*name="):
            laboratory.row("row", AnoDDPM, **settings)

    refused("t", t=20)
    stroke, other = laboratory.stroke, write_stroke(tmp_path / "other", ["healthy", "large"])
    laboratory.stroke = other
    refused("data_hash")
    laboratory.stroke = stroke
    content = torch.load(laboratory.checkpoint)
    content["state_dict"]["model.denoiser.conv_in.conv.bias"] += 1
    torch.save(content, laboratory.checkpoint)
    refused("weights_hash")
    assert detected == []
    assert (laboratory.folder / "row" / "metrics.json").read_bytes() == finished


class PowerCutError(Exception):
    pass


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the power fail when a detector is given its n-th batch from now."""

    def arm(n: int) -> None:
        left = [n]

        def failing(original: Callable[..., Any]) -> Callable[..., Any]:
            def reconstruct(self: Any, batch: Any, first: Any = None) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    raise PowerCutError
                return original(self, batch, first)

            return reconstruct

        for kind in (AnoDDPM, AutoDDPM):
            monkeypatch.setattr(kind, "reconstruct", failing(kind.reconstruct))

    return arm


# Both stages on healthy slices are two batches, both on the test set three each.
@pytest.mark.parametrize("nth", [2, 7])
def test_an_interrupted_row_goes_on_and_ends_like_a_whole_one(
    nth: int,
    laboratory: Laboratory,
    done: Laboratory,
    cut: Callable[[int], None],
    detected: list[list[str]],
) -> None:
    cut(nth)
    with pytest.raises(PowerCutError):
        laboratory.row("row")
    assert not (laboratory.folder / "row" / "metrics.json").exists()
    before = [tuple(batch) for batch in detected]
    detected.clear()
    row = laboratory.row("row")
    after = [tuple(batch) for batch in detected]
    tests = [batch for batch in before + after if batch[0].startswith("ixi_stroke/")]
    assert len(tests) == len(set(tests)) == 3
    whole = json.loads((done.folder / "whole" / "metrics.json").read_text())
    assert numbers(row) == numbers(whole)
    assert row["thresholds"] == whole["thresholds"]
    assert_same_maps(laboratory.maps("row"), done.maps("whole"))
    assert {path.name for path in (laboratory.folder / "row").iterdir()} == FILES


def test_an_interrupted_row_takes_no_maps_of_other_data(
    laboratory: Laboratory, cut: Callable[[int], None], tmp_path: Path
) -> None:
    cut(4)
    with pytest.raises(PowerCutError):
        laboratory.row("row", AnoDDPM)
    groups = ["healthy"] * 3 + ["large"] * 6
    laboratory.stroke = write_stroke(tmp_path / "other", groups)  # the same names, other slices
    laboratory.row("row", AnoDDPM)
    fresh = Laboratory(
        tmp_path / "fresh", laboratory.site, laboratory.checkpoint, laboratory.stroke
    )
    fresh.row("row", AnoDDPM)
    assert_same_maps(laboratory.maps("row"), fresh.maps("row"))


# sameness


def test_the_batch_size_changes_nothing(laboratory: Laboratory, done: Laboratory) -> None:
    row = laboratory.row("row", batch=1)
    whole = json.loads((done.folder / "whole" / "metrics.json").read_text())
    assert numbers(row) == pytest.approx(numbers(whole), abs=1e-6)
    assert row["thresholds"] == pytest.approx(whole["thresholds"], rel=1e-4)
    assert_same_maps(laboratory.maps("row"), done.maps("whole"), atol=1e-5)


# what is undefined


def test_what_is_undefined_is_null_with_a_reason_and_never_nan(
    site: Site, checkpoint: Path, tmp_path: Path
) -> None:
    stroke = write_stroke(tmp_path / "stroke", ["small", "small"])
    laboratory = Laboratory(tmp_path / "lab", site, checkpoint, stroke)
    row = laboratory.row("row", AnoDDPM)
    text = (laboratory.folder / "row" / "metrics.json").read_text()
    assert "NaN" not in text
    assert json.loads(text) == row
    null = {key for key, value in row["metrics"].items() if value is None}
    absent = ("/medium", "/large", "all/slice_auroc", "all/slice_auprc", "lesion/aupimo")
    assert null == {key for key in KEYS if key.startswith("healthy/") or key.endswith(absent)}
    assert row["undefined"].keys() == null
    for reason in row["undefined"].values():
        assert reason.startswith(("no lesion slice in", "no healthy slice in"))


# two processes


@pytest.mark.slow
def test_two_processes_give_one_s_numbers_even_with_few_slices(
    verb: Verb, checkpoint: Path, tmp_path: Path
) -> None:
    site = make_site(tmp_path, val=1)
    rows, kept = {}, {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        path = shutil.copy(checkpoint, folder / "last.ckpt")
        command = [
            "+experiment=ixi_stroke",
            f"checkpoint={path}",
            *TINY_AUTODDPM,
            *site.paths,
            f"paths.runs={folder}",
            "data.eval_batch_size=2",
        ]
        if processes == 1:
            assert verb("evaluate", *command).code == 0
        else:
            command += ["trainer.devices=2", "trainer.strategy=ddp"]
            ended = subprocess.run(
                [sys.executable, "-m", "src.evaluate", *command],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=600,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            assert ended.returncode == 0, ended.stderr
        (run,) = folder.glob("ixi_stroke/evaluate/*")
        rows[processes] = json.loads((run / "metrics.json").read_text())
        assert not list(run.glob("parts*"))
        with np.load(run / "maps.npz") as maps:
            kept[processes] = dict(maps)
            assert len(maps["id"]) == 9
    assert kept[1]["id"].tolist() == kept[2]["id"].tolist()
    same = (kept[1]["mask"] == kept[2]["mask"]).all((1, 2))
    assert np.mean(kept[1]["mask"] != kept[2]["mask"]) < 1e-4
    for name in ("anomaly_map", "reconstruction"):
        np.testing.assert_allclose(kept[2][name][same], kept[1][name][same], atol=1e-4)
    assert numbers(rows[2]) == pytest.approx(numbers(rows[1]), abs=1e-6)
    assert rows[2]["thresholds"] == pytest.approx(rows[1]["thresholds"], rel=1e-4)
