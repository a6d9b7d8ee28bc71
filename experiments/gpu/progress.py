"""How far a training came: its last validations, and what share of the device's speed it had.

python experiments/gpu/progress.py CSV LOG
"""

import csv
import sys
from pathlib import Path

SHOWN = 3


def main(table: str, log: str) -> None:
    lines = (
        list(csv.DictReader(Path(table).read_text().splitlines())) if Path(table).is_file() else []
    )
    validations = [line for line in lines if line.get("val/loss") not in (None, "", "val/loss")]
    print(f"{'step':>8}  validation loss")
    for line in validations[-SHOWN:]:
        print(f"{line['step']:>8}  {float(line['val/loss']):.5f}")
    said = Path(log).read_text().splitlines() if Path(log).is_file() else []
    for line in [line for line in said if "slices a second" in line][-SHOWN:]:
        print(line.split("] - ")[-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
