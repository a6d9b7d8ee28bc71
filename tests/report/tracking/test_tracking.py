import json
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import wandb
import wandb_workspaces.workspaces as ws
import yaml
from conftest import TINY_TRAINING, Site, Verb
from PIL import Image
from report_runs import BASELINES, DICE, METHOD, SSIM
from wandb.proto.wandb_internal_pb2 import Record

from autoddpm.report.figures.curve import Curve, curves
from autoddpm.report.figures.examples import Choice, Example, Examples, Slice
from autoddpm.report.figures.figure import FigureRows, Kind
from autoddpm.report.read import read_pictures
from autoddpm.report.select import Selection
from autoddpm.report.tables.intervals import Resamples
from autoddpm.report.tables.table import Cell, Table
from autoddpm.report.tracking.wandb_runs import (
    check_tracking,
    in_long_form,
    log_report,
    row_summary,
)
from autoddpm.report.tracking.workspace import EXAMPLES, chart_of, workspace
from autoddpm.runs.row import Row, read_row

SIZE, THRESHOLD, IDS = 16, 0.5, ["phantom/a", "phantom/b"]
INPUT = ("image", "lesion")
SETTINGS = {"wandb": "offline", "note": "Phantoms."}


def write_row(runs: Path, label: str, detector: dict, ssim: float, dice: float | None) -> Row:
    """A finished run folder with two slices; its maps are a function of its SSIM."""
    folder, rng = runs / label, np.random.default_rng(round(1000 * ssim))
    folder.mkdir(parents=True)
    stages = {
        name: rng.random((2, SIZE, SIZE)).astype(np.float32)
        for name in ("reconstruction", "anomaly_map")
    }
    if "mask_threshold" in detector:
        stages["mask"] = rng.random((2, SIZE, SIZE)) > 0.7
    example = {name: np.stack([getattr(one, name) for one in slices()]) for name in INPUT}
    np.savez(folder / "maps.npz", id=np.array(IDS), **example, **stages)
    config = {
        "detector": {"_target_": "x", **detector},
        "sampler": {"stride": 10},
        "checkpoint": "runs/default/checkpoints/last.ckpt",
    }
    (folder / "config.yaml").write_text(
        yaml.safe_dump(config | {"paths": {"runs": "/home/me"}, "seed": 3})
    )
    content = {
        "label": label,
        "detector": detector,
        "metrics": {"healthy/ssim": ssim, "lesion/max_dice": dice},
        "undefined": {} if dice is not None else {"lesion/max_dice": "no lesion slice"},
        "thresholds": {"healthy_fpr5": THRESHOLD},
        "provenance": {
            "data_hash": "d" * 12,
            "weights_hash": "a" * 16,
            "commit": "0123abc",
            "seed": 3,
        },
    }
    (folder / "metrics.json").write_text(json.dumps(content))
    return read_row(folder)


def slices() -> list[Example]:
    rng = np.random.default_rng(0)
    images, lesions = rng.random((2, SIZE, SIZE)), rng.random((2, SIZE, SIZE)) > 0.8
    return [
        Example(i, "large", int(m.sum()), x, m)
        for i, x, m in zip(IDS, images, lesions, strict=True)
    ]


def examples_of(rows: Sequence[Row]) -> Examples:
    """The two slices and what the rows hold of them, read as for a report."""
    choice = Choice([Slice(one.id, one.size_group, one.pixels) for one in slices()])
    return read_pictures(Selection(rows, [], {}, choice, Choice(), []), rows).examples


def curves_of(rows: Sequence[Row]) -> list[Curve]:
    """SSIM and Dice against AnoDDPM's noise level."""
    kinds = {"baselines": Kind(BASELINES.rows(rows), order="t"), "method": Kind(METHOD.rows(rows))}
    return curves(FigureRows("", "", kinds, [SSIM, DICE]), Resamples({}))


def table_of(rows: Sequence[Row], cells: Sequence[Sequence[Cell]]) -> Table:
    return Table("table1", "The noise paradox", "", [SSIM, DICE], rows, cells, ["no lesion slice"])


def records(run: Path) -> list[Record]:
    """What a finished run's .wandb file holds, waiting until it is written to its end."""
    (path,) = run.glob("run-*.wandb")
    for _ in range(100):
        found = list(parse(path.read_bytes()))
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.1)
    raise TimeoutError(f"{path} is not whole after 10 seconds")


def parse(data: bytes) -> Iterator[Record]:
    """The records of a .wandb file: a log in blocks of 32 kB (LevelDB's format) behind seven
    bytes."""
    at, whole = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        if at + 7 + length > len(data):  # not written to its end yet
            return
        whole, at = whole + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(whole)
            whole = b""


def read_run(run: Path) -> SimpleNamespace:
    """An offline run, read back: what it is, its config, its summary and its history."""
    found = SimpleNamespace(folder=run, summary={}, history=[], config={})
    for record in records(run):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.group, found.job, found.name = (
                record.run.run_group,
                record.run.job_type,
                record.run.display_name,
            )
            found.tags = list(record.run.tags)
            found.config |= {u.key: json.loads(u.value_json) for u in record.run.config.update}
        elif kind == "config":
            found.config |= {u.key: json.loads(u.value_json) for u in record.config.update if u.key}
        elif kind == "summary":
            found.summary |= {
                u.key or "/".join(u.nested_key): json.loads(u.value_json)
                for u in record.summary.update
            }
        elif kind == "history":
            found.history.append(
                {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.history.item}
            )
    return found


def offline_runs(folder: Path) -> list[SimpleNamespace]:
    return [read_run(run) for run in sorted(folder.glob("wandb/offline-run-*"))]


def pictures(run: SimpleNamespace, key: str) -> list[np.ndarray]:
    """The images that a run logged under a key, in the order in which they were logged."""
    (line,) = (line for line in run.history if key in line)
    names = next(
        json.loads(item.value_json)
        for record in records(run.folder)
        for item in record.history.item
        if list(item.nested_key) == [key, "filenames"]
    )
    assert line
    return [np.asarray(Image.open(run.folder / "files" / name)) for name in names]


def masks(run: SimpleNamespace, key: str) -> list[dict[str, np.ndarray]]:
    """The masks over those images: {name: (H, W)}."""
    (all_masks,) = (
        json.loads(item.value_json)
        for record in records(run.folder)
        for item in record.history.item
        if list(item.nested_key) == [key, "all_masks"]
    )
    return [
        {
            name: np.asarray(Image.open(run.folder / "files" / mask["path"]))
            for name, mask in one.items()
        }
        for one in all_masks
    ]


def read_table(run: SimpleNamespace, name: str) -> dict:
    (path,) = (run.folder / "files/media/table").glob(f"{name}_*.table.json")
    return json.loads(path.read_text())


@pytest.fixture(autouse=True)
def no_network_and_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Offline, silent, and with a home of its own, which is given back."""
    forget_the_user(monkeypatch, tmp_path / "home")
    return tmp_path / "home"


def forget_the_user(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_DATA_DIR", "WANDB_DIR", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    for name in (
        "HOME",
        "XDG_DATA_HOME",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "WANDB_CACHE_DIR",
        "WANDB_CONFIG_DIR",
    ):
        monkeypatch.setenv(name, str(home))


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A report of AutoDDPM and AnoDDPM at two noise levels, logged once. No test changes it."""
    root = tmp_path_factory.mktemp("tracked")
    folder = root / "report"
    folder.mkdir()
    made = root / "evaluate"
    rows = [
        write_row(
            made,
            "AutoDDPM",
            {"name": "AutoDDPM", "t": 200, "mask_threshold": 0.1},
            0.97,
            0.41,
        ),
        write_row(made, "AnoDDPM (t=50)", {"name": "AnoDDPM", "t": 50}, 0.95, None),
        write_row(made, "AnoDDPM (t=100)", {"name": "AnoDDPM", "t": 100}, 0.88, 0.12),
    ]
    undefined = Cell(None, "–¹", note=1)
    cells = [
        [
            Cell(97.0, "97.00", low=96.0, high=98.5, paper=92.6, paper_text="92.60"),
            Cell(41.0, "41.00", low=30.0, high=50.0),
        ],
        [Cell(95.0, "95.00"), undefined],
    ]
    with pytest.MonkeyPatch.context() as patch:
        forget_the_user(patch, root / "home")
        tables, examples = [table_of(rows[:2], cells)], examples_of(rows)
        said = log_report("demo", tables, rows, curves_of(rows), examples, SETTINGS, folder)
    runs = offline_runs(folder)
    return SimpleNamespace(root=root, folder=folder, rows=rows, cells=cells, said=said, runs=runs)


def run_named(logged: SimpleNamespace, name: str) -> SimpleNamespace:
    (found,) = (run for run in logged.runs if run.name == name)
    return found


# --- what an offline report leaves


def test_a_table_is_read_back_as_paper_ours_and_interval(logged: SimpleNamespace) -> None:
    stored = read_table(run_named(logged, "report demo"), "table1")
    assert stored["columns"] == ["method", "metric", "paper", "ours", "low", "high"]
    assert stored["data"] == [
        ["AutoDDPM", "SSIM", 92.6, 97.0, 96.0, 98.5],
        ["AutoDDPM", "Dice", None, 41.0, 30.0, 50.0],
        ["AnoDDPM (t=50)", "SSIM", None, 95.0, None, None],
        ["AnoDDPM (t=50)", "Dice", None, None, None, None],
    ]


def test_there_is_a_run_per_row_and_one_for_the_report(logged: SimpleNamespace) -> None:
    assert {run.group for run in logged.runs} == {"demo"}
    assert sorted((run.job, run.name, tuple(run.tags)) for run in logged.runs) == [
        ("evaluate", "AnoDDPM (t=100)", ()),
        ("evaluate", "AnoDDPM (t=50)", ("table1",)),
        ("evaluate", "AutoDDPM", ("table1",)),
        ("report", "report demo", ()),
    ]


def test_a_row_carries_its_settings_and_provenance_and_no_path(logged: SimpleNamespace) -> None:
    config = run_named(logged, "AutoDDPM").config
    assert config["detector"]["mask_threshold"] == 0.1
    assert config["sampler"] == {"stride": 10}
    assert config["provenance"]["weights_hash"] == "a" * 16
    assert config["thresholds"] == {"healthy_fpr5": THRESHOLD}
    assert not {"paths", "checkpoint"} & set(config)
    assert "/home/me" not in json.dumps(config)


def test_a_row_s_summary_holds_metrics_and_intervals(logged: SimpleNamespace) -> None:
    summary = run_named(logged, "AutoDDPM").summary
    assert summary["healthy/ssim"] == 0.97
    assert summary["lesion/max_dice_high"] == pytest.approx(0.5)
    assert "healthy/ssim_low" not in run_named(logged, "AnoDDPM (t=100)").summary
    undefined = run_named(logged, "AnoDDPM (t=50)")
    assert not [key for key in undefined.summary if "max_dice" in key]
    assert undefined.config["undefined"] == {"lesion/max_dice": "no lesion slice"}


def test_examples_are_read_back_with_their_masks(logged: SimpleNamespace) -> None:
    stored = np.load(logged.rows[0].folder / "maps.npz")
    run = run_named(logged, "AutoDDPM")
    for n, example in enumerate(slices()):
        assert np.array_equal(pictures(run, "examples/input")[n], (example.image * 255).round())
        assert np.array_equal(
            pictures(run, "examples/reconstruction")[n], (stored["reconstruction"][n] * 255).round()
        )
        for key in EXAMPLES:
            over = masks(run, key)[n]
            assert set(over) == {"lesion", "re-sampled", "flagged"}
            assert np.array_equal(over["lesion"], example.lesion)
            assert np.array_equal(over["re-sampled"], stored["mask"][n])
            assert np.array_equal(over["flagged"], stored["anomaly_map"][n] > THRESHOLD)
    (maskless, _) = masks(run_named(logged, "AnoDDPM (t=50)"), "examples/input")
    assert set(maskless) == {"lesion", "flagged"}


def test_metrics_against_the_noise_level_are_charts(logged: SimpleNamespace) -> None:
    run = run_named(logged, "report demo")
    ssim, dice = (
        read_table(run, f"{name}_against_t_table")["data"]
        for name in ("healthy_ssim", "lesion_max_dice")
    )
    assert ssim[:2] == [[50, 95.0, "AnoDDPM"], [100, 88.0, "AnoDDPM"]]
    assert ssim[2:] == [[50, 97.0, "AutoDDPM"], [100, 97.0, "AutoDDPM"]]
    assert dice[0] == [100, pytest.approx(12.0), "AnoDDPM"]  # at 50 it is undefined
    assert [line[2] for line in dice[1:]] == ["AutoDDPM"] * 2
    drawn = [
        list(u.nested_key)
        for record in records(run.folder)
        for u in record.config.update
        if u.nested_key
    ]
    assert ["_wandb", "visualize", "healthy_ssim_against_t"] in drawn
    assert ["_wandb", "visualize", "lesion_max_dice_against_t"] in drawn


def test_all_files_lie_in_the_report_s_folder(logged: SimpleNamespace) -> None:
    assert not list((logged.root / "home").rglob("artifacts"))
    assert list(logged.folder.glob("wandb/offline-run-*/artifacts/staging/*"))
    assert logged.said == [
        f"W&B, offline. To send it: wandb sync {logged.folder}/wandb/offline-run-*"
    ]


def test_logging_again_replaces_the_runs_of_this_name_only(tmp_path: Path) -> None:
    row = write_row(
        tmp_path / "evaluate", "AnoDDPM (t=50)", {"name": "AnoDDPM", "t": 50}, 0.95, 0.1
    )
    other = tmp_path / "wandb/offline-run-20260101_000000-abcdefgh/run-abcdefgh.wandb"
    other.parent.mkdir(parents=True)
    other.write_text("a training's")
    for name in ("mine", "another"):
        log_report(name, [], [row], [], Examples(), SETTINGS, tmp_path)
    once = {path.name.split("-", 3)[3] for path in tmp_path.glob("wandb/offline-run-*")}
    changed = replace(row, metrics={"healthy/ssim": 0.5})
    log_report("mine", [], [changed], [], Examples(), SETTINGS, tmp_path)
    assert {path.name.split("-", 3)[3] for path in tmp_path.glob("wandb/offline-run-*")} == once
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 5
    assert other.is_file()
    runs = [read_run(p) for p in tmp_path.glob("wandb/offline-run-*") if p != other.parent]
    assert {(run.group, run.summary["healthy/ssim"]) for run in runs if run.job == "evaluate"} == {
        ("mine", 0.5),
        ("another", 0.95),
    }


def test_each_seed_of_a_pooled_row_is_a_run_of_its_own(tmp_path: Path) -> None:
    kinds = [{"name": "AnoDDPM", "t": 50, "seed": seed} for seed in (0, 1)]
    one, two = (
        write_row(tmp_path, f"seed {k['seed']}", k, 0.9 + k["seed"] / 100, None) for k in kinds
    )
    mean = replace(one, metrics={"healthy/ssim": 0.905}, members=(one, two))
    table = table_of([mean], [[Cell(90.5, "90.50", low=90.0, high=91.0), Cell(None, "–¹", note=1)]])
    log_report("seeds", [table], [mean], [], Examples(), SETTINGS, tmp_path)
    runs = [run for run in offline_runs(tmp_path) if run.job == "evaluate"]
    assert sorted(run.summary["healthy/ssim"] for run in runs) == [0.9, 0.91]
    assert all(run.tags == ["table1"] and "healthy/ssim_low" not in run.summary for run in runs)
    assert len({run.name for run in runs}) == 2


def test_a_row_without_maps_is_logged_without_images(tmp_path: Path) -> None:
    row = write_row(
        tmp_path / "evaluate", "AnoDDPM (t=50)", {"name": "AnoDDPM", "t": 50}, 0.95, 0.1
    )
    whole = write_row(tmp_path / "evaluate", "AutoDDPM", {"name": "AutoDDPM"}, 0.97, 0.4)
    (row.folder / "maps.npz").unlink()
    said = log_report("lost", [], [row], [], examples_of([row, whole]), SETTINGS, tmp_path)
    assert any("AnoDDPM (t=50) is not shown" in words and "maps.npz" in words for words in said)
    (run,) = (run for run in offline_runs(tmp_path) if run.job == "evaluate")
    assert run.summary["healthy/ssim"] == 0.95


# --- the parts


def test_baselines_of_another_setting_are_lines_of_their_own(logged: SimpleNamespace) -> None:
    row = logged.rows[1]
    strided = [
        replace(
            row,
            folder=row.folder.parent / str(stride),
            settings=dict(row.settings) | {"sampler.stride": stride},
        )
        for stride in (7, 9)
    ]
    ssim, _ = map(chart_of, curves_of(strided))
    assert {point[2] for point in ssim.points} == {
        f"AnoDDPM [sampler.stride={stride}]" for stride in (7, 9)
    }


def test_a_table_of_differences_has_p_and_gives_rows_no_interval(logged: SimpleNamespace) -> None:
    line = [Cell(-2.0, "-2.00", low=-3.0, high=-1.0, p_value=0.01), Cell(None, "–¹", note=1)]
    table = replace(table_of(logged.rows[1:2], [line]), measured="difference")
    columns, lines = in_long_form(table)
    assert columns == ["method", "metric", "difference", "low", "high", "p_value"]
    assert lines == [
        ["AnoDDPM (t=50)", "SSIM", -2.0, -3.0, -1.0, 0.01],
        ["AnoDDPM (t=50)", "Dice", None, None, None, None],
    ]
    assert row_summary(logged.rows[1], [table]) == {"healthy/ssim": 0.95}


def test_the_workspace_shows_what_is_logged(logged: SimpleNamespace) -> None:
    table = table_of(logged.rows[:2], logged.cells)
    view = workspace("me", "autoddpm", "demo", [table], list(map(chart_of, curves_of(logged.rows))))
    spec = json.dumps(view._to_model().model_dump(by_alias=True, exclude_none=True))
    report = run_named(logged, "report demo")
    for key in ("table1", "healthy_ssim_against_t_table", "lesion_max_dice_against_t_table"):
        assert read_table(report, key)
        assert f'"{key}"' in spec
    for key in EXAMPLES:
        assert pictures(run_named(logged, "AutoDDPM"), key)
        assert f'"{key}"' in spec
    assert "summary:lesion/max_dice" in view.runset_settings.pinned_columns


def test_the_workspace_shows_the_runs_of_one_group_only() -> None:
    name = 'it\'s "mine"'
    (runs,) = workspace("me", "autoddpm", name, [], [])._to_model().spec.section.run_sets
    (condition,) = runs.filters["filters"]
    assert (condition["key"], condition["op"], condition["value"]) == (
        {"section": "run", "name": "group"},
        "=",
        name,
    )


# --- asked for or not


def test_without_being_asked_for_wandb_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert log_report("demo", [], [], [], Examples(), {}, tmp_path) == []
    assert not list(tmp_path.glob("wandb*"))


@pytest.mark.parametrize("module", ["wandb", "wandb_workspaces"])
def test_without_the_package_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"{module}.*pip install -e '.\[wandb\]'"):
        check_tracking("offline")


def test_another_word_than_offline_online_or_null_is_refused() -> None:
    with pytest.raises(ValueError, match="must be offline, online or null"):
        check_tracking(False)


def test_online_without_an_account_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: SimpleNamespace
) -> None:
    def login() -> None:
        raise wandb.errors.UsageError("No API key configured")

    monkeypatch.setattr(wandb, "login", login)
    online = SETTINGS | {"wandb": "online"}
    with pytest.raises(
        ValueError, match=r"No API key configured.*wandb login.*report\.wandb=offline"
    ):
        log_report("demo", [], logged.rows, [], Examples(), online, tmp_path)
    assert not list(tmp_path.glob("wandb/*"))


def test_one_word_sends_the_runs_and_saves_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: SimpleNamespace
) -> None:
    asked, saved, init = [], [], wandb.init

    def init_offline(mode: str, **how):
        asked.append((mode, how["project"]))
        return init(mode="offline", **how)

    monkeypatch.setenv("WANDB_PROJECT", "strokes")
    monkeypatch.setattr(wandb, "login", lambda: True)
    monkeypatch.setattr(wandb, "init", init_offline)
    monkeypatch.setattr(ws.Workspace, "save", lambda view: saved.append(view))
    monkeypatch.setattr(ws.Workspace, "url", "https://there/demo")
    online = SETTINGS | {"wandb": "online"}
    said = log_report("demo", [], logged.rows[1:2], [], Examples(), online, tmp_path)
    assert asked == [("online", "strokes")] * 2
    assert [(view.project, view.name) for view in saved] == [("strokes", "demo: report")]
    assert "https://there/demo" in said[0]


# --- training


def test_a_training_with_wandb_records_settings_and_curves(
    site: Site, tmp_path: Path, verb: Verb, no_network_and_no_home: Path
) -> None:
    paths = [f"paths.runs={tmp_path}", *(path for path in site.paths if "runs" not in path)]
    process = wandb.setup()
    given = (*TINY_TRAINING, *paths, "logger=wandb", "module.lr=1e-3,1e-4")
    outcome = verb("train", "-m", "+experiment=ixi", *given)
    process.finish_all_active_runs()  # as at the end of a process
    assert outcome.code == 0, outcome.err
    runs = [read_run(folder) for folder in tmp_path.glob("ixi/train/*/wandb/offline-run-*")]
    assert sorted(run.config["lr"] for run in runs) == [1e-4, 1e-3]
    for run in runs:
        assert (run.group, run.job) == ("ixi", "train")
        assert run.folder.parents[1].name == run.name.removeprefix("train ")
        assert run.config["composed"]["module"]["lr"] == run.config["lr"]
        assert run.config["composed"]["data"]["batch_size"] == 4
        assert run.config["composed"]["trainer"]["max_steps"] == 4
        assert run.config["model"]["schedule"]["T"] == 1000
        assert len(run.config["data"]["hash"]) >= 12
        steps = [line["trainer/global_step"] for line in run.history if "train/loss" in line]
        assert steps == [0, 1, 2, 3]
        assert len([line for line in run.history if "val/loss" in line]) == 2
    assert not list(no_network_and_no_home.rglob("*.wandb"))
