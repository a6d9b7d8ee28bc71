"""BIDS: which scans of a dataset are predicted, and what a derivative is called."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from scan_files import write_scan, write_small_weights

from autoddpm import cli
from autoddpm.atomic import write_json
from autoddpm.prediction.bids import list_bids, write_description

pytestmark = pytest.mark.usefixtures("one_thread")
VALIDATOR = shutil.which("bids-validator-deno")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects, one with two sessions and two runs; a FLAIR and derivatives among them."""
    root = tmp_path_factory.mktemp("bids")
    write_json(root / "dataset_description.json", {"Name": "toy", "BIDSVersion": "1.10.0"})
    (root / "README").write_text("Generated heads.\n")
    for name in (
        "sub-01/ses-1/anat/sub-01_ses-1_run-01_T1w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_run-02_T1w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
    ):
        write_scan(root / name, seed=len(name))
    derived = root / "derivatives" / "other"
    write_json_of(derived)
    write_scan(derived / "sub-01" / "anat" / "sub-01_desc-other_T1w.nii.gz")
    return root


def write_json_of(folder: Path) -> None:
    folder.mkdir(parents=True)
    about = {"Name": "other", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    write_json(folder / "dataset_description.json", about | {"GeneratedBy": [{"Name": "other"}]})


@pytest.mark.parametrize(
    ("participants", "sessions", "names"),
    [
        ((), (), ["sub-01_ses-1_run-01", "sub-01_ses-1_run-02", "sub-01_ses-2", "sub-02"]),
        (["02"], (), ["sub-02"]),
        (["sub-01"], ["ses-2"], ["sub-01_ses-2"]),
        ((), [1], ["sub-01_ses-1_run-01", "sub-01_ses-1_run-02"]),  # Hydra reads a number
    ],
)
def test_scans_of_the_contrast_are_found_by_label(
    dataset: Path, participants: list[Any], sessions: list[Any], names: list[str]
) -> None:
    assert [scan.name for scan in list_bids(dataset, "T1", participants, sessions).scans] == names


def test_a_subject_without_a_scan_is_said(tmp_path: Path) -> None:
    write_json(tmp_path / "dataset_description.json", {"Name": "a", "BIDSVersion": "1.10.0"})
    names = ("01_T1w.nii.gz", "02_t1w.nii.gz", "03_T1w.NII.GZ", "04_FLAIR.nii.gz", "05_T1w.nii.gz")
    for name in names:
        folder = tmp_path / f"sub-{name[:2]}" / "anat"
        folder.mkdir(parents=True)
        (folder / f"sub-{name}").touch()
    listing = list_bids(tmp_path, "T1")
    assert [scan.name for scan in listing.scans] == ["sub-01", "sub-05"]
    assert {Path(file).name: reason for file, reason in listing.left_out.items()} == {
        "sub-02_t1w.nii.gz": "its name is none of BIDS",
        "sub-03_T1w.NII.GZ": "its name is none of BIDS",
        "sub-04": "has no T1w scan",
    }
    assert not list_bids(tmp_path, "T1", ["01"]).left_out


def test_labels_that_are_not_there_are_named(dataset: Path) -> None:
    with pytest.raises(ValueError, match=r"--participant-label 03: .* has 01, 02"):
        list_bids(dataset, "T1", ["03"])
    with pytest.raises(ValueError, match=r"--session-label 9: .* has 1, 2"):
        list_bids(dataset, "T1", sessions=["9"])
    with pytest.raises(FileNotFoundError, match="no T1w scan of these labels"):
        list_bids(dataset, "T1", ["02"], ["1"])


@pytest.fixture(scope="module")
def derivative(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = write_small_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
    out = tmp_path_factory.mktemp("derivatives") / "autoddpm"
    arguments = [dataset, "-o", out, "--bids", "--weights", weights, "--threshold", 0.05]
    assert cli.main(["predict", *map(str, arguments), "--processes", "0"]) == 0
    return out


def test_a_derivative_has_the_names_of_the_specification(dataset: Path, derivative: Path) -> None:
    about = json.loads((derivative / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative"
    assert about["GeneratedBy"][0]["Name"] == "autoddpm"
    assert about["SourceDatasets"] == [{"URL": dataset.resolve().as_uri()}]
    folder = derivative / "sub-01" / "ses-1" / "anat"
    names = {file.name for file in folder.glob("sub-01_ses-1_run-02_*")}
    assert names == {
        f"sub-01_ses-1_run-02_{end}"
        for end in (
            "space-orig_label-L_desc-autoddpm_mask.nii.gz",
            "space-orig_label-L_desc-autoddpm_mask.json",
            "space-orig_desc-pseudohealthy_T1w.nii.gz",
            "space-orig_desc-pseudohealthy_T1w.json",
            "space-orig_desc-brain_mask.nii.gz",
            "space-orig_desc-brain_mask.json",
            "space-orig_desc-autoddpm_anomalymap.nii.gz",
            "space-orig_desc-autoddpm_anomalymap.json",
            "desc-autoddpm_mosaic.png",
            "desc-autoddpm_report.html",
            "desc-autoddpm_record.json",
        )
    }
    beside = folder / "sub-01_ses-1_run-02_space-orig_label-L_desc-autoddpm_mask.json"
    said = json.loads(beside.read_text())
    assert (said["Type"], said["Threshold"]) == ("Lesion", 0.05)
    assert said["Sources"] == ["bids:raw:sub-01/ses-1/anat/sub-01_ses-1_run-02_T1w.nii.gz"]
    ignored = (derivative / ".bidsignore").read_text().split()
    assert "*_anomalymap.nii.gz" in ignored


def test_two_scans_of_one_subject_have_two_rows(derivative: Path) -> None:
    lines = (derivative / "summary.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [
        *("sub-01_ses-1_run-01", "sub-01_ses-1_run-02", "sub-01_ses-2", "sub-02"),
    ]


def test_another_program_s_derivative_is_left_alone(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_small_weights(tmp_path / "tiny.safetensors")
    arguments = [dataset, "-o", dataset / "derivatives" / "other", "--bids", "--weights", weights]
    assert cli.main(["predict", *map(str, arguments), "--threshold", "0.1"]) == 1
    assert "is a dataset of another program; give another -o" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "words"), [("{", "is no JSON"), ("[]", "describes no dataset")])
def test_a_description_that_is_none_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text(text)
    with pytest.raises(ValueError, match=f"dataset_description.json: {words}.*; correct it"):
        write_description(tmp_path / "out", tmp_path)


def test_nothing_is_described_while_another_process_writes(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_small_weights(tmp_path / "tiny.safetensors")
    out = tmp_path / "out"
    out.mkdir()
    arguments = [dataset, "-o", out, "--bids", "--weights", weights, "--threshold", 0.05]
    with FileLock(out / ".autoddpm.lock"):
        assert cli.main(["predict", *map(str, arguments)]) == 1
    assert "another process" in capsys.readouterr().err
    assert {file.name for file in out.iterdir()} <= {".autoddpm.lock"}


@pytest.mark.slow
@pytest.mark.skipif(VALIDATOR is None, reason="no bids-validator-deno on this machine")
def test_the_validator_finds_no_error(derivative: Path) -> None:
    command = [str(VALIDATOR), str(derivative), "--format", "json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    issues = json.loads(run.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
