#!/usr/bin/env bash
# Tables 1 and 2, Figure 4: run.sh [CHECKPOINT [OVERRIDE ...]]; EXPERIMENT=ixi_stroke or demo for another test set. Finished rows are kept.
set -euo pipefail
cd "$(dirname "$0")/../.."
experiment=${EXPERIMENT:-atlas}
checkpoint=${1:-runs/paper/train/default/checkpoints/last.ckpt}
shift || true

python -m src.evaluate -m +experiment=$experiment checkpoint=$checkpoint detector=anoddpm detector.t=50,100,150,200,250,300 "$@"
python -m src.evaluate +experiment=$experiment checkpoint=$checkpoint detector=autoddpm "$@"
python -m src.report +experiment=$experiment
