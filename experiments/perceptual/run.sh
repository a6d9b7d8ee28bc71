#!/usr/bin/env bash
# Which distance finds most, and what half the resolution costs: AnoDDPM on tuning subjects, each distance alone and in Eq. (9).
# usage: bash experiments/perceptual/run.sh [CHECKPOINT] [T]      AUTODDPM_DATA holds ixi/
# EXPERIMENT=ixi_tuning_shifted NAME=perceptual_trial_shifted before it: slices of other scanners and older patients.
# The rows differ only in their map, so the reconstructions are sampled once.
set -euo pipefail
cd "$(dirname "$0")/../.."
checkpoint=${1:-ixi-small}
t=${2:-200}  # the paper's; of a network on [-1, 1] it would be 331
experiment=${EXPERIMENT:-ixi_tuning}
name=${NAME:-perceptual_trial}

python -m src.evaluate +experiment=$experiment name=$name checkpoint=$checkpoint sampler.stride=25 trainer.precision=bf16-mixed detector=anoddpm detector.t=$t perceptual=none
python -m src.evaluate -m +experiment=$experiment name=$name checkpoint=$checkpoint sampler.stride=25 trainer.precision=bf16-mixed detector=anoddpm detector.t=$t anomaly_map=perceptual,product perceptual=lpips_random,denoiser
python -m src.evaluate -m +experiment=$experiment name=$name checkpoint=$checkpoint sampler.stride=25 trainer.precision=bf16-mixed detector=anoddpm detector.t=$t anomaly_map=perceptual,product perceptual=lpips_vgg,lpips_alex perceptual.scale=1.0,0.5
python -m src.report +experiment=$experiment name=$name report.allow_mixed=true  # runs/NAME/report/measured.csv
