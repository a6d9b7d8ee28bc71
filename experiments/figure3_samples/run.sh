#!/usr/bin/env bash
# Figure 3: run.sh ATLAS_2: a page with healthy and lesion slices, and one with the 20 artefacts.
set -euo pipefail
cd "$(dirname "$0")/../.."
raw=${1:-ATLAS_2}

python -m src.prepare +experiment=atlas paths.raw=$raw
python -m src.prepare +experiment=atlas paths.raw=$raw preparation.volumes.artefacts=only paths.atlas=data/atlas_artefacts
