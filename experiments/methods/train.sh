#!/usr/bin/env bash
# Trains the one-call rivals on IXI's healthy slices: 10,000 steps of 8 each, half of the slices as other scanners give
# them, as ixi-small's. Overrides go to all of them: bash experiments/methods/train.sh trainer=gpu. What is finished is
# not done again.
set -euo pipefail
cd "$(dirname "$0")/../.."

for rival in ixi_dae ixi_vae ixi_cevae ixi_pddpm ixi_cddpm_without_encoder; do
    training=runs/$rival/train/default  # one folder, whatever the overrides are: run.sh looks there
    python -m src.train +experiment=$rival hydra.run.dir=$training "$@"
    touch $training/finished
done
