#!/usr/bin/env bash
# One thing changed at a time, on phantoms: run.sh [OVERRIDE ...], after `make demo`, whose network it uses.
set -euo pipefail
cd "$(dirname "$0")/../.."
checkpoint=runs/demo/train/default/checkpoints/last.ckpt
simplex=runs/demo/train/noise-simplex/checkpoints/last.ckpt

python -m src.evaluate -m +experiment=demo name=ablations checkpoint=$checkpoint detector=anoddpm detector.t=50,100,150,200,250,300,400,500 "$@"
python -m src.evaluate -m +experiment=demo name=ablations checkpoint=$checkpoint detector=autoddpm detector.t=100,150,200,250,300,400 "$@"
python -m src.evaluate -m +experiment=demo name=ablations checkpoint=$checkpoint detector=autoddpm detector.t_resample=20,100,150 "$@"
python -m src.evaluate -m +experiment=demo name=ablations checkpoint=$checkpoint detector=autoddpm detector.resample_steps=0,1,2,10 "$@"
python -m src.evaluate -m +experiment=demo name=ablations checkpoint=$checkpoint detector=autoddpm mask_false_positive_rate=0.01,0.02,0.1 "$@"
python -m src.evaluate -m +experiment=demo name=ablations checkpoint=$checkpoint detector=autoddpm detector.mask_threshold=percentile "$@"
python -m src.evaluate -m +experiment=demo name=ablations checkpoint=$checkpoint detector=autoddpm detector.dilation=1,5,7 "$@"
python -m src.evaluate -m +experiment=demo name=ablations checkpoint=$checkpoint detector=autoddpm perceptual=lpips_random,none "$@"
python -m src.evaluate -m +experiment=demo name=ablations checkpoint=$checkpoint detector=autoddpm sampler.stride=5,20,25,50 "$@"
python -m src.evaluate -m +experiment=demo name=ablations checkpoint=$checkpoint detector=autoddpm seed=1,2 "$@"
python -m src.train +experiment=demo noise=simplex
python -m src.evaluate -m +experiment=demo name=ablations checkpoint=$simplex detector=anoddpm detector.t=100,200,300 "$@"
python -m src.evaluate -m +experiment=demo name=ablations checkpoint=$simplex detector=autoddpm "$@"
python -m src.report +experiment=demo name=ablations report.allow_mixed=true
