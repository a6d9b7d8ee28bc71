#!/usr/bin/env bash
# `make demo`: phantoms, training, the detectors and the report. What is finished is not done again.
set -euo pipefail
cd "$(dirname "$0")/../.."
checkpoint=runs/demo/train/default/checkpoints/last.ckpt

python -m src.train +experiment=demo
python -m src.evaluate -m +experiment=demo checkpoint=$checkpoint detector=anoddpm detector.t=50,100,150,200,250,300
python -m src.evaluate +experiment=demo checkpoint=$checkpoint detector=autoddpm
python -m src.evaluate +experiment=demo checkpoint=$checkpoint detector=autoddpm detector.use_uncertainty=false
python -m src.evaluate +experiment=demo checkpoint=$checkpoint detector=autoddpm detector.resample_steps=0
python -m src.report +experiment=demo
