#!/usr/bin/env bash
# What is chosen for ixi_stroke, on IXI's validation subjects with phantom lesions: the perceptual distance, and how many
# times are visited. On slices as they are, and as other scanners and older patients give them. t stays the paper's.
set -euo pipefail
cd "$(dirname "$0")/../.."

python -m src.evaluate -m +experiment=ixi_tuning name=samplers_ixi_tuning checkpoint=ixi-small trainer.precision=bf16-mixed detector=autoddpm sampler=ancestral sampler.stride=25,10,5
python -m src.evaluate -m +experiment=ixi_tuning_shifted name=samplers_ixi_tuning_shifted checkpoint=ixi-small trainer.precision=bf16-mixed detector=autoddpm sampler=ancestral sampler.stride=25,10,5
python -m src.evaluate -m +experiment=ixi_tuning name=perceptual_ixi_tuning checkpoint=ixi-small sampler=fast trainer.precision=bf16-mixed detector=autoddpm perceptual=lpips_vgg,lpips_alex,lpips_random,denoiser
python -m src.evaluate -m +experiment=ixi_tuning_shifted name=perceptual_ixi_tuning_shifted checkpoint=ixi-small sampler=fast trainer.precision=bf16-mixed detector=autoddpm perceptual=lpips_vgg,lpips_random
rm -f weights/ixi-small.thresholds.*  # of half the validation subjects: the file itself has those of all
for name in samplers_ixi_tuning perceptual_ixi_tuning; do
    python -m src.report +experiment=ixi_tuning name=$name report.allow_mixed=true  # its measured.csv is kept as tuning_*.csv
    python -m src.report +experiment=ixi_tuning_shifted name=${name}_shifted report.allow_mixed=true
done
