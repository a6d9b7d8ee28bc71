#!/usr/bin/env bash
# Table 3: run.sh [CHECKPOINT [OVERRIDE ...]]; EXPERIMENT=ixi_stroke or demo for another test set. Finished rows are kept.
set -euo pipefail
cd "$(dirname "$0")/../.."
experiment=${EXPERIMENT:-atlas}
checkpoint=${1:-runs/paper/train/default/checkpoints/last.ckpt}
shift || true

python -m src.evaluate +experiment=$experiment checkpoint=$checkpoint detector=autoddpm "$@"
python -m src.evaluate +experiment=$experiment checkpoint=$checkpoint detector=autoddpm detector.use_uncertainty=false "$@"
python -m src.evaluate +experiment=$experiment checkpoint=$checkpoint detector=autoddpm detector.resample_steps=0 "$@"
python -m src.report +experiment=$experiment
