#!/usr/bin/env bash
# What is chosen for ixi_stroke, on IXI's validation subjects with phantom lesions: the perceptual distance, and t.
set -euo pipefail
cd "$(dirname "$0")/../.."

python -m src.evaluate -m +experiment=ixi_tuning checkpoint=ixi-small sampler=fast trainer.precision=bf16-mixed detector=autoddpm perceptual=lpips_vgg,lpips_alex,lpips_random,denoiser
python -m src.evaluate -m +experiment=ixi_tuning checkpoint=ixi-small sampler=fast trainer.precision=bf16-mixed perceptual=lpips_vgg detector=autoddpm detector.t=150,250,300
python -m src.evaluate +experiment=ixi_tuning checkpoint=ixi-small sampler=fast trainer.precision=bf16-mixed perceptual=lpips_vgg detector=autoddpm detector.t_resample=100
python -m src.evaluate -m +experiment=ixi_tuning checkpoint=ixi-small sampler=fast trainer.precision=bf16-mixed perceptual=lpips_vgg detector=anoddpm detector.t=100,200,300
rm -f weights/ixi-small.thresholds.*  # of half the validation subjects: the file itself has those of all
python -m src.report +experiment=ixi_tuning report.allow_mixed=true  # its measured.csv is experiments/ixi_stroke/tuning.csv
