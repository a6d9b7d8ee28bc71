#!/usr/bin/env bash
# Tables 1 to 3 on ixi_stroke with the exact sampler, in bf16 and fp32, and AutoDDPM at strides of 5 to 50 with as many seeds
# of the noise: tables.sh CHECKPOINT SEEDS [OVERRIDE ...]. Each row is finished by itself: a cut loses the one at work.
set -euo pipefail
cd "$(dirname "$0")/../.."
checkpoint=${1:-ixi-small}
seeds=${2:-0,1,2,3}
shift 2 || true

for precision in bf16-mixed 32-true; do
    python -m src.evaluate -m +experiment=ixi_stroke data=packed checkpoint=$checkpoint perceptual=lpips_random trainer.precision=$precision detector=autoddpm seed=$seeds "$@"
    python -m src.evaluate -m +experiment=ixi_stroke data=packed checkpoint=$checkpoint perceptual=lpips_random trainer.precision=$precision detector=anoddpm detector.t=50,100,150,200,250,300 "$@"
    python -m src.evaluate +experiment=ixi_stroke data=packed checkpoint=$checkpoint perceptual=lpips_random trainer.precision=$precision detector=autoddpm detector.use_uncertainty=false "$@"
    python -m src.evaluate +experiment=ixi_stroke data=packed checkpoint=$checkpoint perceptual=lpips_random trainer.precision=$precision detector=autoddpm detector.resample_steps=0 "$@"
    python -m src.evaluate -m +experiment=ixi_stroke data=packed checkpoint=$checkpoint perceptual=lpips_random trainer.precision=$precision detector=autoddpm seed=$seeds sampler.stride=5,10,25,50 "$@"
done
