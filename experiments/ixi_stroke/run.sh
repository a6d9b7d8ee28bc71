#!/usr/bin/env bash
# The small network on IXI, then Tables 1 to 3 and fairness on the semi-synthetic stroke set. AUTODDPM_DATA holds ixi/ and ixi_stroke/.
# For two CPU cores: every tenth time, and bf16 (recorded in each row; leave it out for fp32).
set -euo pipefail
cd "$(dirname "$0")/../.."
checkpoint=runs/ixi/train/default/checkpoints/last.ckpt

python -m src.train +experiment=ixi
python -m src.evaluate +experiment=ixi_stroke checkpoint=$checkpoint perceptual=lpips_random sampler.stride=10 trainer.precision=bf16-mixed detector=autoddpm
python -m src.evaluate +experiment=ixi_stroke checkpoint=$checkpoint perceptual=lpips_random sampler.stride=10 trainer.precision=bf16-mixed detector=autoddpm detector.use_uncertainty=false
python -m src.evaluate +experiment=ixi_stroke checkpoint=$checkpoint perceptual=lpips_random sampler.stride=10 trainer.precision=bf16-mixed detector=autoddpm detector.resample_steps=0
python -m src.evaluate -m +experiment=ixi_stroke checkpoint=$checkpoint perceptual=lpips_random sampler.stride=10 trainer.precision=bf16-mixed detector=anoddpm detector.t=50,100,150,200,250,300
EXPERIMENT=ixi_stroke bash experiments/fairness/run.sh $checkpoint perceptual=lpips_random sampler.stride=10 trainer.precision=bf16-mixed
