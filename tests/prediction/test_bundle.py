"""`autoddpm export-bundle`: a MONAI Bundle that gives the same map."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, verify_metadata, verify_net_in_out
from PIL import Image
from scan_files import SLICES, STEPS, write_small_weights

from autoddpm import cli
from autoddpm.data.image_file import write_picture
from autoddpm.data.preprocess import preprocess
from autoddpm.detectors.detector import detect_images
from autoddpm.detectors.perceptual import LPIPS
from autoddpm.models.trained import load_checkpoint
from autoddpm.prediction.bundle import ReadSlice, WriteMap
from autoddpm.prediction.export import as_config, card_licence
from autoddpm.prediction.method import DetectorSettings

pytestmark = pytest.mark.usefixtures("one_thread")
FILES = {
    "LICENSE",
    "configs/inference.json",
    "configs/metadata.json",
    "configs/metadata.schema.json",
    "docs/README.md",
    "models/model.pt",
}
ASKED = ("--licence", "cc-by-4.0", "--threshold", "0.05")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = {"slices": SLICES, "steps": STEPS | {"window": "slice"}, "modality": "T1"}
    folder = tmp_path_factory.mktemp("weights")
    return write_small_weights(folder / "tiny.safetensors", "tiny", preparation=made)


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slices")
    for seed in range(3):
        image = np.random.default_rng(seed).random((40, 36))
        write_picture(folder / f"{seed}.png", image)
    return folder


def export(*arguments: str | Path) -> int:
    return cli.main(["export-bundle", *map(str, arguments)])


def anoddpm(weights: Path, folder: Path) -> Path:
    settings = ("--detector", "anoddpm", "--t", "30", "--stride", "10")
    assert export(weights, folder, *settings, *ASKED) == 0
    return folder


def test_monai_accepts_the_metadata_without_a_network(weights: Path, tmp_path: Path) -> None:
    configs = anoddpm(weights, tmp_path / "bundle") / "configs"
    found = {str(file.relative_to(configs.parent)) for file in configs.parent.rglob("*.*")}
    assert found | {"LICENSE"} == FILES
    assert "cc-by-4.0" in (configs.parent / "LICENSE").read_text()
    asked = [str(configs / name) for name in ("metadata.json", "metadata.schema.json")]
    verify_metadata(*asked)
    broken = json.loads((configs / "metadata.json").read_text())
    del broken["network_data_format"]["inputs"]["image"]["num_channels"]
    (configs / "metadata.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="'num_channels' is a required property"):
        verify_metadata(*asked)


def parser_of(bundle: Path, slices: Path, maps: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.json")
    parser.read_meta(bundle / "configs" / "metadata.json")
    places = {"bundle_root": bundle, "dataset_dir": slices, "output_dir": maps}
    parser.update({name: str(place) for name, place in places.items()})
    parser["device"] = "cpu"
    return parser


def expected(detector: Any, slices: Path) -> dict[str, torch.Tensor]:
    """The maps of our own way, by name of the slice."""
    files = sorted(slices.iterdir())
    seen = [preprocess(image_of(file), None, 32).image for file in files]
    made = detect_images(detector, torch.from_numpy(np.stack(seen))[:, None])
    return dict(zip([file.stem for file in files], made.anomaly_map, strict=True))


def image_of(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file), dtype=np.float32)


def test_a_bundle_gives_the_same_maps(weights: Path, slices: Path, tmp_path: Path) -> None:
    bundle, maps = anoddpm(weights, tmp_path / "bundle"), tmp_path / "maps"
    parser_of(bundle, slices, maps).get_parsed_content("run")
    own = DetectorSettings("anoddpm", t=30, stride=10).make(load_checkpoint(weights).model)
    for name, wanted in expected(own, slices).items():
        np.testing.assert_array_equal(np.load(maps / f"{name}_map.npy"), wanted[0].numpy())
        mask = image_of(maps / f"{name}_mask.png") > 0
        np.testing.assert_array_equal(mask, wanted[0].numpy() > 0.05)
        assert mask.any()


def test_all_of_a_detector_comes_back(weights: Path) -> None:
    detector: Any = DetectorSettings(t=30, stride=10, perceptual="lpips_random", seed=3).make(
        load_checkpoint(weights).model
    )
    detector.mask_threshold, detector.t_resample, detector.resample_steps = 0.0, 20, 2
    load = {"_target_": "autoddpm.load_model", "path": str(weights)}
    stored = json.dumps({"detector": as_config(detector, detector.model), "model": load})
    again = ConfigParser(json.loads(stored)).get_parsed_content("detector")
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    first, second = (detect_images(one, image) for one in (detector, again))
    assert again is not detector
    assert first.stages["mask"].any()
    assert torch.equal(first.anomaly_map, second.anomaly_map)


def test_monai_s_own_check_of_the_network_passes(weights: Path, tmp_path: Path) -> None:
    bundle = anoddpm(weights, tmp_path / "bundle")
    meta, config = (str(bundle / "configs" / name) for name in ("metadata.json", "inference.json"))
    asked = {"device": "cpu", "bundle_root": str(bundle)}
    verify_net_in_out("network", meta, config, **asked)
    asked["_meta_#network_data_format#outputs#pred#num_channels"] = 2
    with pytest.raises(ValueError, match="output channel number `1` doesn't match: `2`"):
        verify_net_in_out("network", meta, config, **asked)


def test_nothing_is_overwritten(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    anoddpm(weights, tmp_path / "there")  # it was empty
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert export(weights, tmp_path / "there", *ASKED) == 1
    assert "there: is there already and not empty" in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


def test_a_bundle_that_cannot_be_is_refused_before_writing(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(weights, tmp_path / "a", "--threshold", "0.1") == 1
    assert "nobody says under which licence" in capsys.readouterr().err
    assert export(weights, tmp_path / "a", "--licence", "x", "--detector", "anoddpm") == 1
    assert "holds no threshold" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_slice_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((32, 32)))
    with pytest.raises(ValueError, match=r"flat.npy: every pixel is 0"):
        ReadSlice(32)({"image": str(tmp_path / "flat.npy")})
    np.save(tmp_path / "negative.npy", np.random.default_rng(0).normal(size=(32, 32)))
    with pytest.raises(ValueError, match=r"negative.npy: its values reach far below 0"):
        ReadSlice(32)({"image": str(tmp_path / "negative.npy")})
    with pytest.raises(ValueError, match=r"negative.npy: reaches from -.*their scan's 98th"):
        ReadSlice(32, window=False)({"image": str(tmp_path / "negative.npy")})


def test_a_map_that_is_there_is_kept(tmp_path: Path) -> None:
    item = {"pred": torch.rand(1, 4, 4), "file": "a/s.nii.gz"}
    WriteMap(tmp_path, 0.5)(item)
    assert {file.name for file in tmp_path.iterdir()} == {"s_map.npy", "s_mask.png"}
    with pytest.raises(ValueError, match=r"s_map.npy: is there already"):
        WriteMap(tmp_path, 0.5)(item)


def test_no_path_of_this_machine_goes_into_a_bundle() -> None:
    lpips = LPIPS.__new__(LPIPS)
    lpips.weights = "/here/alone.pth"
    assert as_config(lpips, None) == {"_target_": "autoddpm.detectors.perceptual.LPIPS"}


def test_weights_of_one_s_own_have_no_licence_of_ours(weights: Path) -> None:
    assert card_licence(str(weights)) == ""
