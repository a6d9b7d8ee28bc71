"""The console script `autoddpm`: what needs no `conf/`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from autoddpm import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Bad input gives one line on stderr.

    arguments: by default the command line's.

    Returns the exit code: 0, or 1 if the input is bad.
    """
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except (ValueError, OSError) as error:
        print("autoddpm:", " ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


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
        prog="autoddpm", description="AutoDDPM and AnoDDPM: tools around a weights file."
    )
    parser.add_argument("--version", action="version", version=f"autoddpm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

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

    command = commands.add_parser(
        "export-weights",
        help="write a checkpoint's averaged weights to a .safetensors file",
        description="Write a checkpoint's averaged weights, with all that is needed to use them "
        "and the thresholds that were calibrated with these very weights, to a .safetensors file.",
    )
    command.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=Path, help="a .ckpt of training, or a weights file"
    )
    command.add_argument("file", metavar="FILE.safetensors", type=Path)
    command.add_argument(
        "--half", action="store_true", help="round the weights to float16: half the size"
    )
    command.add_argument("--split", action="store_true", help="several files of at most 16 MiB")
    command.set_defaults(run=export_weights)
    return parser
