"""`autoddpm predict`: scans in their real layouts in, results on their own grids out."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from conftest import Verb
from scan_files import LESION, affine_of, as_axes, head, write_scan, write_small_weights

import autoddpm
from autoddpm import cli
from autoddpm.prediction import prepared as preparing
from autoddpm.prediction import run as running
from autoddpm.prediction.command import Asked, predict
from autoddpm.prediction.detect import Detected, detect_scans, device_of
from autoddpm.prediction.method import DetectorSettings, method_of
from autoddpm.prediction.prepared import Failed, Preparation, Prepared, attempted, prepare
from autoddpm.prediction.result import NOTICE, result
from autoddpm.prediction.scans import list_scans
from autoddpm.preparation import cutting
from autoddpm.preparation.cutting import Steps
from autoddpm.preparation.volume import Source, read_volume

pytestmark = pytest.mark.usefixtures("one_thread")
RESULTS = {
    *("anomaly_map.nii.gz", "mask.nii.gz", "pseudo_healthy.nii.gz", "brain_mask.nii.gz"),
    *("mosaic.png", "report.html", "record.json"),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def run(*arguments: str | Path) -> int:
    return cli.main(["predict", *map(str, arguments)])


def ask(source: Path, out: Path, weights: Path, *more: str | Path) -> int:
    return run(source, "-o", out, "--weights", weights, "--threshold", "0.05", *more)


def values(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "record.json").read_text())


def summary(out: Path) -> dict[str, dict[str, str]]:
    with (out / "summary.csv").open() as file:
        return {row["scan"]: row for row in csv.DictReader(file)}


def test_a_scan_s_results_lie_on_its_own_grid(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = write_scan(tmp_path / "a.nii.gz", scaled=True, differing=True)
    assert ask(scan, tmp_path / "out", weights) == 0
    folder, source = tmp_path / "out" / "a", nibabel.load(scan)
    assert {file.name for file in folder.iterdir()} == RESULTS
    kinds = {"anomaly_map": np.float32, "mask": np.uint8, "pseudo_healthy": np.float32}
    for name, kind in (kinds | {"brain_mask": np.uint8}).items():
        made = nibabel.load(folder / f"{name}.nii.gz")
        assert (made.shape, made.get_data_dtype()) == (source.shape, kind)
        np.testing.assert_array_equal(made.get_sform(), source.get_sform())
        np.testing.assert_array_equal(made.get_qform(), source.get_qform())
        assert np.isfinite(np.asarray(made.dataobj)).all()
    anomaly_map, mask = values(folder / "anomaly_map.nii.gz"), values(folder / "mask.nii.gz")
    assert 0 < np.count_nonzero(anomaly_map) < anomaly_map.size / 2
    assert not mask[anomaly_map == 0].any()
    np.testing.assert_array_equal(
        values(folder / "brain_mask.nii.gz") > 0, np.asarray(source.dataobj) > 0
    )
    changed = values(folder / "pseudo_healthy.nii.gz") != np.asarray(source.dataobj, np.float32)
    assert changed.any()
    said = record(folder)
    assert said["notice"] == NOTICE
    assert said["coverage"]["known"] == [5, 6, 7, 8, 9]
    assert said["coverage"]["margin"] == [3, 4, 10, 11]
    voxel = abs(np.linalg.det(source.affine[:3, :3])) / 1000
    assert said["results"]["flagged_ml"] == pytest.approx(mask.sum() * voxel, rel=1e-4)
    assert {"read", "slices", "detection", "way back", "writing"} <= set(said["seconds"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiny knows slices 5:10 alone")
    assert lines[1] == NOTICE
    assert float(summary(tmp_path / "out")["a"]["flagged_ml"]) == said["results"]["flagged_ml"]


def test_what_is_covered_is_said_and_the_rest_is_0(tmp_path: Path, weights: Path) -> None:
    scan = write_scan(tmp_path / "a.nii", axes="RAS")
    assert ask(scan, tmp_path / "out", weights, "--margin-mm", "0") == 0
    made = nibabel.load(tmp_path / "out" / "a" / "anomaly_map.nii.gz")
    planes = np.flatnonzero(np.asarray(made.dataobj).any(axis=(0, 1)))
    assert planes.tolist() == [5, 6, 7, 8, 9]
    assert b"coverage slices 5-9" in made.header["descrip"].item()


@pytest.mark.parametrize("axes", ["LAS", "PSR"])
def test_one_scan_has_one_map_however_it_is_stored(
    tmp_path: Path, weights: Path, axes: str
) -> None:
    files = [write_scan(tmp_path / "a.nii.gz", axes="RAS")]
    files.append(write_scan(tmp_path / "b.mgz", axes=axes))
    maps = []
    for file in files:
        assert ask(file, tmp_path / "out", weights) == 0
        image = nibabel.load(tmp_path / "out" / file.name[0] / "anomaly_map.nii.gz")
        maps.append(np.asarray(nibabel.as_closest_canonical(image).dataobj))
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-5)


def test_a_scan_has_the_same_map_alone_and_among_others(tmp_path: Path) -> None:
    weights = write_small_weights(tmp_path / "w" / "ddpm.safetensors", "tiny")
    folder = tmp_path / "scans"
    for seed in range(3):
        write_scan(folder / f"{seed}.nii", seed)
    alone = shutil.copy(folder / "1.nii", tmp_path / "renamed.nii")
    settings = DetectorSettings("anoddpm", t=20, stride=10)

    def ask_anoddpm(source: Path, out: str, **more: Any) -> int:
        asked = Asked(source, tmp_path / out, str(weights), threshold=0.1, processes=0, **more)
        return predict(asked, settings.make, lambda text: None)

    assert ask_anoddpm(folder, "many") == 0
    assert ask_anoddpm(Path(alone), "one") == 0
    many = values(tmp_path / "many" / "1" / "anomaly_map.nii.gz")
    one = values(tmp_path / "one" / "renamed" / "anomaly_map.nii.gz")
    assert many.max() > 0
    np.testing.assert_allclose(many, one, atol=1e-5)
    other = values(tmp_path / "many" / "2" / "anomaly_map.nii.gz")
    assert np.abs(other - one).max() > 0.01


def test_a_batch_across_scans_changes_no_map(tmp_path: Path, weights: Path) -> None:
    method = method_of(str(weights), DetectorSettings().make, threshold=0.1)
    how = Preparation(method.steps, method.size)
    scans = [attempted((write_scan(tmp_path / f"{s}.nii", s), None, how)) for s in range(3)]
    ready = [scan for scan in scans if isinstance(scan, Prepared)]
    assert len(ready) == 3
    together = detect_scans(method.detector, ready, device_of("cpu"), at_once=7)
    for scan, found in zip(ready, together, strict=True):
        (alone,) = detect_scans(method.detector, [scan], device_of("cpu"))
        assert len(found.maps) == len(scan.slices)
        np.testing.assert_allclose(found.maps, alone.maps, atol=1e-5)


def test_a_broken_scan_is_named_and_the_others_go_on(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "scans", tmp_path / "out"
    for name in ("a.nii.gz", "deep/b.nii.gz", "c.nii.gz", "d_FLAIR.nii.gz"):
        write_scan(folder / name)
    content = (folder / "a.nii.gz").read_bytes()
    (folder / "a.nii.gz").write_bytes(content[: len(content) // 2])
    nan = as_axes(np.where(head() > 0, head(), np.nan).astype(np.float32), affine_of(), "LAS")
    nibabel.save(nan, folder / "c.nii.gz")
    assert ask(folder, out, weights, "--processes", "0") == 1
    rows = summary(out)
    assert list(rows) == ["a", "c", "deep/b"]
    assert "a.nii.gz: is not whole; download or convert it again" in rows["a"]["error"]
    assert "voxels are NaN" in rows["c"]["error"]
    assert (rows["deep/b"]["error"], set((out / "deep" / "b").glob("*"))) != ("", set())
    said = capsys.readouterr().out
    assert "left out: " in said
    assert "its name says FLAIR, and not T1w" in said
    assert said.splitlines()[-1].startswith("failed: c: ")
    # Mended, and done again: what was finished is not.
    before = (out / "deep" / "b" / "record.json").stat().st_mtime_ns
    write_scan(folder / "a.nii.gz")
    write_scan(folder / "c.nii.gz", seed=1)
    assert ask(folder, out, weights, "--processes", "0") == 0
    assert "finished already: 1" in capsys.readouterr().out
    assert (out / "deep" / "b" / "record.json").stat().st_mtime_ns == before
    assert all(row["error"] == "" for row in summary(out).values())


def test_no_scan_of_a_folder_is_dropped_unsaid(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "scans"
    for name in ("a.NII.GZ", "a_seg.nii.gz", "b.nrrd", "notes.txt", "c.mgh"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    elsewhere.mkdir()
    (elsewhere / "d.nii").touch()
    (folder / "linked").symlink_to(elsewhere, target_is_directory=True)
    listing = list_scans(folder, tmp_path / "out", "T1")
    assert [scan.name for scan in listing.scans] == ["a", "c", "linked/d"]
    said = {Path(file).name: reason for file, reason in listing.left_out.items()}
    assert said["a_seg.nii.gz"] == "its name says that it is a mask"
    assert said["scans"].startswith("1 other files are not read: b.nrrd; this is a volume")


@pytest.mark.parametrize(
    "error", [TypeError("no such cut"), KeyError("z"), IndexError(), OSError()]
)
def test_any_error_of_one_scan_is_that_scan_s(
    error: Exception, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_scan(tmp_path / "scans" / f"{name}.nii", seed=len(name))
    read = preparing.read_volume

    def sometimes(source: Source) -> Any:
        if source.name == "a.nii":
            raise error
        return read(source)

    monkeypatch.setattr(preparing, "read_volume", sometimes)
    assert ask(tmp_path / "scans", tmp_path / "out", weights, "--processes", "0") == 1
    rows = summary(tmp_path / "out")
    assert "a.nii: cannot be prepared" in rows["a"]["error"]
    assert rows["b"]["error"] == ""


def test_a_map_that_cannot_be_brought_back_is_a_reason(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_scan(tmp_path / "scans" / f"{name}.nii")
    results = iter([RuntimeError("no room")])

    def sometimes(*given: Any) -> Any:
        for error in results:
            raise error
        return result(*given)

    monkeypatch.setattr(running, "result", sometimes)
    assert ask(tmp_path / "scans", tmp_path / "out", weights, "--processes", "0") == 1
    rows = summary(tmp_path / "out")
    assert "a.nii: its map cannot be brought back (no room)" in rows["a"]["error"]
    assert rows["b"]["error"] == ""


def test_a_record_of_another_program_is_left_alone(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, record = write_scan(tmp_path / "a.nii"), tmp_path / "out" / "a" / "record.json"
    record.parent.mkdir(parents=True)
    record.write_text("[1]")
    assert ask(scan, tmp_path / "out", weights) == 1
    assert "record.json: is no record of autoddpm; give another -o" in capsys.readouterr().err


def test_a_stop_loses_nothing_that_is_finished(tmp_path: Path, weights: Path) -> None:
    for seed in range(2):
        write_scan(tmp_path / "scans" / f"{seed}.nii", seed)
    asked = Asked(tmp_path / "scans", tmp_path / "out", str(weights), threshold=0.05, processes=0)
    lines: list[str] = []

    def stop(text: str) -> None:
        lines.append(text)
        if text.startswith("[1/2]"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(asked, DetectorSettings().make, stop)
    assert "min left" in lines[-1]
    assert set(summary(tmp_path / "out")) == {"0"}
    left = tmp_path / "out" / "1" / ".77-deadbeef.mask.nii.gz"  # of a kill
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half")
    lines.clear()
    assert predict(asked, DetectorSettings().make, lines.append) == 0
    assert "finished already: 1" in lines
    assert {file.name for file in left.parent.iterdir()} == RESULTS


def test_results_of_other_settings_or_scans_are_left_alone(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, out = write_scan(tmp_path / "1" / "T1.nii"), tmp_path / "out"
    assert ask(scan, out, weights) == 0
    before = (out / "T1" / "record.json").read_bytes()
    assert ask(scan, out, weights, "--margin-mm", "0") == 1
    assert "another margin_mm (margin_mm was 2.0, now it would be 0.0)" in capsys.readouterr().err
    other = write_scan(tmp_path / "2" / "T1.nii", seed=5)
    assert ask(other, out, weights) == 1
    assert "is of another scan called T1, or " in capsys.readouterr().err
    assert (out / "T1" / "record.json").read_bytes() == before


def test_summary_keeps_the_finished_scans_of_other_calls(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, broken = tmp_path / "out", tmp_path / "c.nii"
    broken.write_bytes(b"no scan")
    assert ask(write_scan(tmp_path / "a.nii"), out, weights) == 0
    first = summary(out)["a"]
    assert ask(broken, out, weights) == 1
    assert ask(write_scan(tmp_path / "b.nii", seed=5), out, weights) == 0
    assert list(summary(out)) == ["a", "b"]
    assert summary(out)["a"] == first
    (out / "summary.csv").write_text("mine,0\n")
    assert ask(tmp_path / "a.nii", out, weights) == 1
    assert "summary.csv: is no summary of autoddpm" in capsys.readouterr().err
    assert (out / "summary.csv").read_text() == "mine,0\n"


def test_a_result_that_was_deleted_is_made_again(tmp_path: Path, weights: Path) -> None:
    scan, out = write_scan(tmp_path / "a.nii"), tmp_path / "out"
    for _ in range(2):
        assert ask(scan, out, weights) == 0
        assert {file.name for file in (out / "a").iterdir()} == RESULTS
        (out / "a" / "mask.nii.gz").unlink()


def test_a_brain_mask_of_one_s_own_is_used(tmp_path: Path, weights: Path) -> None:
    scan = write_scan(tmp_path / "a.nii.gz")
    source = nibabel.load(scan)
    own = (np.asarray(source.dataobj) > 480).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(own, source.affine), tmp_path / "own.nii.gz")
    assert ask(scan, tmp_path / "out", weights, "--brain-mask", tmp_path / "own.nii.gz") == 0
    folder = tmp_path / "out" / "a"
    np.testing.assert_array_equal(values(folder / "brain_mask.nii.gz"), own)
    assert "brain:given" in record(folder)["preparation"]["done"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.nii"], "nowhere.nii: there is no such file or folder"),
        (["notes.txt"], r"notes.txt: is no .nii.gz, .nii, .mgz, .mgh file"),
        (["a.nii", "--device", "tpu"], "device tpu: must be auto, cpu, cuda"),
        (["a.nii", "--device", "mps"], "device mps: this machine has no GPU of Apple"),
        (["a.nii", "--device", "cuda:97"], "device cuda:97: this machine has"),
        (["a.nii", "--brain-mask", "no.nii"], "--brain-mask no.nii: there is no such file"),
        (["folder", "--brain-mask", "a.nii"], "is of one scan, and folder is a folder"),
        (["folder"], "both a; leave one out"),
        (["a.nii", "--bids"], "a.nii: is no BIDS dataset"),
        (["a.nii", "--participant-label", "01"], "need --bids"),
        (["a.nii", "--margin-mm", "-1"], "must be 0 or more"),
        (["a.nii", "--threshold", "nan"], "--threshold nan: must be a number of 0 or more"),
        (["a.nii", "--skip-registration"], "scans are not registered for these weights"),
        (["folder", "--out", "."], "-o .: holds the scans of folder; give a folder of its own"),
        (
            ["a.nii", "--detector", "autoddpm"],
            "needs weights of a DDPM, as --weights ixi-small; these are of a Restoration",
        ),
        (["a.nii", "--detector", "fly"], "--detector fly: must be auto, autoddpm"),
    ],
)
def test_bad_input_is_one_line_before_any_work(
    tmp_path: Path,
    weights: Path,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_scan(Path("a.nii"))
    Path("notes.txt").write_text("no scan")
    write_scan(Path("folder/a.nii"))
    write_scan(Path("folder/a.nii.gz"))
    assert ask(Path(arguments[0]), Path("out"), weights, *arguments[1:]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not Path("out").exists()


def test_python_gets_nibabel_images_and_a_record(tmp_path: Path, weights: Path) -> None:
    scan = write_scan(tmp_path / "a.nii.gz", scaled=True)
    from_file = autoddpm.predict(scan, str(weights), threshold=0.05)
    in_memory = autoddpm.predict(nibabel.load(scan), str(weights), threshold=0.05)
    np.testing.assert_array_equal(
        np.asarray(from_file.anomaly_map.dataobj), np.asarray(in_memory.anomaly_map.dataobj)
    )
    assert from_file.record["results"] == in_memory.record["results"]
    assert set(from_file.images) == {"anomaly_map", "mask", "pseudo_healthy", "brain_mask"}
    assert ask(scan, tmp_path / "out", weights) == 0
    said = record(tmp_path / "out" / "a")
    assert said.keys() - from_file.record.keys() == {"scan"}
    for key in ("program", "settings", "weights"):
        assert from_file.record[key] == said[key]


def test_an_image_in_memory_without_an_orientation_is_refused(weights: Path) -> None:
    image = nibabel.Nifti1Image(head(), affine_of())
    image.set_sform(None, 0)
    with pytest.raises(ValueError, match="its header states no orientation"):
        autoddpm.predict(image, str(weights), threshold=0.05)


def test_a_scan_that_vanishes_is_a_reason_and_the_others_go_on(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_scan(tmp_path / "scans" / f"{name}.nii")
    detect = running.detect_scans

    def late(*arguments: Any) -> Any:
        (tmp_path / "scans" / "a.nii").unlink(missing_ok=True)
        return detect(*arguments)

    monkeypatch.setattr(running, "detect_scans", late)
    assert ask(tmp_path / "scans", tmp_path / "out", weights, "--processes", "0") == 1
    rows = pd.read_csv(tmp_path / "out" / "summary.csv").set_index("scan")
    assert "a.nii: is no longer there" in rows["error"]["a"]
    assert (tmp_path / "out" / "b" / "record.json").is_file()


def test_the_verb_of_the_checkout_does_the_same(tmp_path: Path, weights: Path, verb: Verb) -> None:
    scan = write_scan(tmp_path / "a.nii.gz")
    assert ask(scan, tmp_path / "cli", weights) == 0
    common = (f"checkpoint={weights}", "detector=restoration", "perceptual=none")
    out = tmp_path / "verb"
    done = verb("predict", *common, f"scan={scan}", f"out={out}", "prediction.threshold=0.05")
    assert (done.code, done.err) == (0, "")
    ours, theirs = (tmp_path / one / "a" for one in ("cli", "verb"))
    assert record(ours)["settings"] == record(theirs)["settings"]
    for name in ("anomaly_map", "mask"):
        np.testing.assert_array_equal(
            values(ours / f"{name}.nii.gz"), values(theirs / f"{name}.nii.gz")
        )
    refused = verb("predict", *common, f"out={out}")
    assert (refused.code, refused.err) == (
        1,
        "predict: scan: none given; say scan=... (see --help)\n",
    )


def test_a_scan_that_does_not_show_the_slice_is_refused(tmp_path: Path, weights: Path) -> None:
    data = head()
    data[:, :, :11] = 0
    nibabel.save(as_axes(data, affine_of(), "LAS"), tmp_path / "a.nii")
    assert ask(tmp_path / "a.nii", tmp_path / "out", weights) == 1
    error = summary(tmp_path / "out")["a"]["error"]
    assert "slice 5 is empty" in error
    assert "The weights know slices 5 to 9 alone" in error


def test_slices_that_a_scan_lacks_are_named(tmp_path: Path, weights: Path) -> None:
    data = head()
    data[:, :, :7] = 0
    nibabel.save(as_axes(data, affine_of(), "LAS"), tmp_path / "a.nii")
    assert ask(tmp_path / "a.nii", tmp_path / "out", weights) == 0
    said = record(tmp_path / "out" / "a")
    assert said["coverage"]["absent"] == [3, 4, 5, 6]
    assert said["coverage"]["known"] == [7, 8, 9]
    assert "slices 3, 4, 5, 6 are not in the scan: no map there" in said["warnings"]


def test_slices_above_a_scan_s_end_are_named_too(tmp_path: Path, weights: Path) -> None:
    write = nibabel.Nifti1Image(head()[:, :, :8], affine_of())
    nibabel.save(write, tmp_path / "a.nii")
    made = autoddpm.predict(tmp_path / "a.nii", str(weights), threshold=0.05)
    assert made.record["coverage"]["known"] == [5, 6, 7]
    assert "slices 8, 9 are not in the scan: no map there" in made.record["warnings"]


def test_a_brain_that_cannot_be_registered_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register(*_: Any) -> np.ndarray:
        raise RuntimeError("itk::ERROR:\n  all samples map outside")

    monkeypatch.setattr(cutting, "register", register)
    how = Preparation(Steps(n4=False, brain_mask="nonzero", register=True), 32)
    scan, empty = write_scan(tmp_path / "a.nii", axes="RAS"), tmp_path / "own.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros_like(head()), affine_of()), empty)
    for mask, words in (
        (None, "a.nii: cannot be prepared (itk::ERROR: all samples map outside); look at it"),
        (empty, "a.nii: its brain mask is 0 everywhere; give another"),
    ):
        made = attempted((scan, mask, how))
        assert isinstance(made, Failed)
        assert words in made.reason


@pytest.mark.slow
def test_scans_are_prepared_in_a_process_beside(tmp_path: Path, weights: Path) -> None:
    for seed in range(2):
        write_scan(tmp_path / "scans" / f"{seed}.nii", seed)
    assert ask(tmp_path / "scans", tmp_path / "beside", weights, "--processes", "1") == 0
    assert ask(tmp_path / "scans", tmp_path / "here", weights, "--processes", "0") == 0
    for seed in range(2):
        both = [
            values(tmp_path / one / str(seed) / "anomaly_map.nii.gz") for one in ("beside", "here")
        ]
        np.testing.assert_allclose(*both, atol=1e-5)


@pytest.mark.parametrize("axes", ["LAS", "PSR", "RAI"])
def test_a_spot_is_where_the_map_says(tmp_path: Path, axes: str) -> None:
    """With a perfect reconstruction, the way of a whole prediction is exact to 1.5 mm."""
    weights = write_small_weights(tmp_path / "w.safetensors", size=48)
    method = method_of(str(weights), DetectorSettings().make, threshold=0.3)
    how = Preparation(method.steps, method.size)
    files = [
        write_scan(tmp_path / f"{healthy}.nii.gz", axes=axes, healthy=healthy)
        for healthy in (False, True)
    ]
    ill, healthy = (prepare(read_volume(Source(file)), how) for file in files)
    detected = Detected(np.abs(ill.images - healthy.images), healthy.images, 0)
    made = result(nibabel.load(files[0]), ill, detected, method)
    flagged = np.argwhere(np.asarray(made.mask.dataobj))
    found = (made.mask.affine @ [*flagged.mean(0), 1])[:3]
    assert np.linalg.norm(found - (affine_of() @ [*LESION, 1])[:3]) < 1.5
    results = made.record["results"]
    assert results["components"] == 1
    assert (
        results["largest_ml"]
        == results["flagged_ml"]
        == pytest.approx(4 / 3 * np.pi * 0.027, rel=0.4)
    )
    spot = tuple(flagged.T)
    at_spot = np.asarray(made.pseudo_healthy.dataobj)[spot]
    before, after = (nibabel.load(file).get_fdata()[spot].mean() for file in files)
    assert before < 250
    assert at_spot.mean() == pytest.approx(after, abs=60)
