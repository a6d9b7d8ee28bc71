#!/usr/bin/env bash
# The paper's sampler at several strides on four times the demo's phantoms, whose own are too few to tell 5 % of the Dice.
set -euo pipefail
cd "$(dirname "$0")/../.."
checkpoint=runs/demo/train/default/checkpoints/last.ckpt

python -m src.evaluate -m +experiment=demo name=samplers_phantoms checkpoint=$checkpoint detector=autoddpm data.sources.phantom.train=1 data.sources.phantom.test_healthy=80 data.sources.phantom.test_lesion=160 sampler=ancestral sampler.stride=1,5,10,20,25,50,100 "$@"
python experiments/samplers/choose.py runs/samplers_phantoms/evaluate
