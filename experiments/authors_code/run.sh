#!/usr/bin/env bash
# Tables 1 to 3 by the authors' first code: run.sh [CHECKPOINT [OVERRIDE ...]].
set -euo pipefail
cd "$(dirname "$0")/../.."
experiment=${EXPERIMENT:-atlas}
checkpoint=${1:-runs/paper/train/default/checkpoints/last.ckpt}
shift || true

python -m src.evaluate -m +experiment=$experiment checkpoint=$checkpoint detector=authors_code_anoddpm anomaly_map=clahe_residual detector.t=51,101,151,201,251,301 "$@"
python -m src.evaluate +experiment=$experiment checkpoint=$checkpoint detector=authors_code "$@"
python -m src.evaluate +experiment=$experiment checkpoint=$checkpoint detector=authors_code detector.use_uncertainty=false "$@"
python -m src.evaluate +experiment=$experiment checkpoint=$checkpoint detector=authors_code detector.resample_steps=0 "$@"
python -m src.report +experiment=$experiment
