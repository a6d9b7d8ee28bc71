#!/usr/bin/env bash
# Figure 5 (the report draws it): run.sh [CHECKPOINT [OVERRIDE ...]]; EXPERIMENT=ixi_stroke or demo for another test set.
set -euo pipefail
cd "$(dirname "$0")/../.."
experiment=${EXPERIMENT:-atlas}
checkpoint=${1:-runs/paper/train/default/checkpoints/last.ckpt}
shift || true

python -m src.evaluate +experiment=$experiment checkpoint=$checkpoint detector=autoddpm "$@"
python -m src.report +experiment=$experiment
