"""The console script `autoddpm`: what needs no `conf/`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoddpm import __version__
from autoddpm.home import at_home


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Bad input gives one line on stderr.

    arguments: by default the command line's.

    Returns the exit code: 0, 1 if the input or a scan is bad, 130 after Ctrl-C.
    """
    parsed = _parser().parse_args(arguments)
    try:
        for name, value in vars(parsed).items():
            if isinstance(value, Path):  # a shell leaves `~` in --out=~/maps
                setattr(parsed, name, at_home(value))
        return parsed.run(parsed) or 0
    except Exception as error:
        from autoddpm.launch.reasons import reason, traceback_wanted  # late: it imports Hydra

        if traceback_wanted():
            raise
        print("autoddpm:", " ".join(reason(error).split()), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("autoddpm: stopped; the same command goes on from there", file=sys.stderr)
        return 130


def predict(arguments: argparse.Namespace) -> int:
    # Late, as below: torch takes seconds to import.
    from autoddpm.prediction.command import Asked, predict

    given = vars(arguments)
    names = [name for name in Asked.__dataclass_fields__ if name in given]
    asked = Asked(**{name: given[name] for name in names})
    return predict(asked, _detector_settings(arguments).make)


def _detector_settings(arguments: argparse.Namespace) -> Any:
    from autoddpm.prediction.method import DetectorSettings

    names = ("t", "stride", "perceptual", "seed")
    given = {name: getattr(arguments, name) for name in names}
    return DetectorSettings(arguments.detector, **given)


def export_bundle(arguments: argparse.Namespace) -> None:
    from autoddpm.prediction.export import BundleSettings, export_bundle

    settings = BundleSettings(
        arguments.weights,
        _detector_settings(arguments),
        arguments.false_positive_rate,
        arguments.threshold,
        arguments.licence,
    )
    folder = export_bundle(settings, arguments.folder)
    print(f"{folder}: a MONAI Bundle; its docs/README.md says how to run it")


def import_weights(arguments: argparse.Namespace) -> None:
    # Late, as below: torch takes seconds to import.
    from autoddpm.models.authors_weights import NOTE, import_weights

    written = import_weights(arguments.file, arguments.output)
    print(
        f"{written}: network, [0, 1] range and schedule of the paper's authors. Note that {NOTE}."
    )


def export_weights(arguments: argparse.Namespace) -> None:
    from autoddpm.models.trained import load_checkpoint
    from autoddpm.models.weights_file import (
        SHARD_BYTES,
        known_preparation,
        known_thresholds,
        write_weights,
    )

    trained = load_checkpoint(arguments.checkpoint)
    data = trained.data | {"preparation": known_preparation(trained)}
    trained = replace(trained, thresholds=known_thresholds(trained), data=data)
    for path in write_weights(
        trained, arguments.file, arguments.half, SHARD_BYTES if arguments.split else None
    ):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="autoddpm", description="Anomaly maps of brain MRI, and tools around a weights file."
    )
    parser.add_argument("--version", action="version", version=f"autoddpm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    add_predict(commands)
    add_import_weights(commands)
    add_export_weights(commands)
    add_export_bundle(commands)
    return parser


def add_import_weights(commands: Any) -> None:
    """The command `import-weights`."""
    command = commands.add_parser(
        "import-weights",
        help="convert a checkpoint of the paper's authors",
        description="Convert a checkpoint that the paper's authors' code wrote (a .pt file with "
        "`model_weights`, or these alone as .safetensors) to a weights file. No code in the file "
        "is run, and every weight must find its place.",
    )
    command.add_argument("file", metavar="FILE", type=Path, help="the authors' checkpoint")
    command.add_argument(
        "--output", metavar="FILE.safetensors", type=Path, help="default: FILE with this suffix"
    )
    command.set_defaults(run=import_weights)


def add_export_weights(commands: Any) -> None:
    """The command `export-weights`."""
    command = commands.add_parser(
        "export-weights",
        help="write a checkpoint's averaged weights to a .safetensors file",
        description="Write a checkpoint's averaged weights, with all that is needed to use them "
        "and the thresholds that were calibrated with these very weights, to a .safetensors file.",
    )
    command.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        type=Path,
        help="a .ckpt of training, or a weights file",
    )
    command.add_argument("file", metavar="FILE.safetensors", type=Path)
    command.add_argument(
        "--half", action="store_true", help="round the weights to float16: half the size"
    )
    command.add_argument(
        "--split", action="store_true", help="write several files of at most 16 MiB"
    )
    command.set_defaults(run=export_weights)


def add_export_bundle(commands: Any) -> None:
    """The command `export-bundle`. Its detector has the options of `predict`."""
    command = commands.add_parser(
        "export-bundle",
        help="write weights and their detector as a MONAI Bundle",
        description="Write a MONAI Bundle: metadata.json, inference.json, model.pt, LICENSE and "
        "README.md. It takes prepared slices and gives the maps that autoddpm gives.",
    )
    command.add_argument(
        "weights",
        metavar="WEIGHTS",
        help="a checkpoint, a weights file, ixi-small or ixi-restoration",
    )
    command.add_argument("folder", metavar="FOLDER", type=Path, help="must be new, or empty")
    licence = "licence of the weights, such as cc-by-4.0; released weights state theirs"
    command.add_argument("--licence", default="", metavar="NAME", help=licence)
    _add_method(command)
    command.set_defaults(run=export_bundle)


def add_predict(commands: Any) -> None:
    """The command `predict` and its options, which are those of `prediction.command.Asked`."""
    command = commands.add_parser(
        "predict",
        help="map what is anomalous in a scan, a folder of scans, or a BIDS dataset",
        description="Map what is anomalous in raw T1-weighted scans (.nii, .nii.gz, .mgz). Each "
        "scan is prepared as the weights ask (pip install 'autoddpm[predict]'), and its results "
        "lie on its own grid: anomaly map, mask, pseudo-healthy scan, brain mask, record.json, "
        "report.html, mosaic.png; summary.csv has a row of each. The same command again goes on "
        "after a stop. Nothing is sent or downloaded. For research; not a medical device.",
    )
    add = command.add_argument
    source = "a scan, a folder of scans, or with --bids a BIDS dataset"
    add("source", metavar="SCAN|FOLDER", type=Path, help=source)
    add("-o", "--out", metavar="OUT", type=Path, required=True, help="folder of the results")
    skip = "the scans are in the template's space already (ICBM 2009a symmetric)"
    add("--skip-registration", action="store_true", help=skip)
    mask = "a brain mask of the one scan, on its grid, instead of deepbet's"
    add("--brain-mask", type=Path, metavar="FILE", help=mask)
    bids = "SCAN is a BIDS dataset, OUT a derivative of it"
    add("--bids", dest="is_bids", action="store_true", help=bids)
    labels: dict[str, Any] = {"nargs": "+", "default": [], "metavar": "LABEL"}
    add(
        "--participant-label",
        dest="participants",
        **labels,
        help="these subjects of a BIDS dataset",
    )
    add("--session-label", dest="sessions", **labels, help="these sessions of a BIDS dataset")
    add("--device", default="auto", help="auto (default), cpu, cuda, cuda:N, mps")
    add("--processes", type=int, default=1, help="how many prepare the next scans meanwhile (1)")
    add(
        "--weights",
        default="ixi-restoration",
        metavar="NAME|FILE",
        help="a file, ixi-restoration (default: one call, finds most), or ixi-small (AutoDDPM)",
    )
    margin = "how far beyond the slices that the weights know is mapped (2)"
    add("--margin-mm", type=float, default=2.0, help=margin)
    _add_method(command)
    command.set_defaults(run=predict)


def _add_method(command: argparse.ArgumentParser) -> None:
    """The options that decide what a map is, beside the weights."""
    add = command.add_argument
    detectors = "auto (default: what the weights are for), autoddpm, anoddpm, restoration"
    add("--detector", default="auto", help=detectors)
    add("--t", type=int, default=200, help="noise level of the first reconstruction (200)")
    add(
        "--stride",
        type=int,
        default=5,
        help="noise levels that one step of denoising goes down (5)",
    )
    perceptual = "perceptual distance in AutoDDPM's first map (lpips_vgg)"
    add("--perceptual", default="lpips_vgg", metavar="NAME", help=perceptual)
    add("--seed", type=int, default=0, help="seed of the noise (0)")
    rate = (
        "false-positive rate of the threshold on healthy slices: 0.05, 0.02, 0.01 or 0.002; "
        "unless given 0.05, and 0.002 of a restoration"
    )
    add("--false-positive-rate", type=float, metavar="RATE", help=rate)
    add("--threshold", type=float, help="threshold of the map, instead of a calibrated one")
