#!/usr/bin/env bash
# Every detector with every anomaly map: run.sh [CHECKPOINT [OVERRIDE ...]]. Each is sampled once: maps are made anew.
set -euo pipefail
cd "$(dirname "$0")/../.."
experiment=${EXPERIMENT:-atlas}
checkpoint=${1:-runs/paper/train/default/checkpoints/last.ckpt}
shift || true

python -m src.evaluate -m +experiment=$experiment checkpoint=$checkpoint detector=anoddpm detector.t=50,100,150,200,250,300 "$@"
python -m src.evaluate -m +experiment=$experiment checkpoint=$checkpoint detector=anoddpm detector.t=50,100,150,200,250,300 anomaly_map=clahe_residual,norm95_residual,perceptual,product,residual_product,ssim,brighter_residual,brighter_perceptual,brighter_product,brighter_ssim "$@"
python -m src.evaluate +experiment=$experiment checkpoint=$checkpoint detector=autoddpm "$@"
python -m src.evaluate +experiment=$experiment checkpoint=$checkpoint detector=autoddpm detector.use_uncertainty=false "$@"
python -m src.evaluate -m +experiment=$experiment checkpoint=$checkpoint detector=autoddpm anomaly_map=clahe_residual,norm95_residual,perceptual,product,ssim,brighter_residual,brighter_perceptual,brighter_product,brighter_ssim "$@"
python -m src.evaluate -m +experiment=$experiment checkpoint=$checkpoint detector=autoddpm detector.use_uncertainty=false anomaly_map=clahe_residual,norm95_residual,perceptual,product,ssim,brighter_residual,brighter_perceptual,brighter_product,brighter_ssim "$@"
python -m src.report +experiment=$experiment
