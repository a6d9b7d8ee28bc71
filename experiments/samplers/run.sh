#!/usr/bin/env bash
# Quality against network calls: run.sh CHECKPOINT [OVERRIDE ...]; EXPERIMENT=ixi_stroke or demo. Finished rows are kept.
set -euo pipefail
cd "$(dirname "$0")/../.."
experiment=${EXPERIMENT:-demo}
checkpoint=${1:-runs/demo/train/default/checkpoints/last.ckpt}
shift || true

python -m src.evaluate -m +experiment=$experiment name=samplers_$experiment checkpoint=$checkpoint detector=autoddpm sampler=ancestral sampler.stride=1,2,5,10,20,25,50,100 "$@"
python -m src.evaluate -m +experiment=$experiment name=samplers_$experiment checkpoint=$checkpoint detector=autoddpm sampler=ddim sampler.stride=5,10,20,25,50,100 "$@"
python -m src.evaluate -m +experiment=$experiment name=samplers_$experiment checkpoint=$checkpoint detector=autoddpm sampler=dpm_solver sampler.stride=10,20,25,50,100 "$@"
python experiments/samplers/choose.py runs/samplers_$experiment/evaluate
