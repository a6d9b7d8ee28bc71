#!/usr/bin/env bash
# Trains the one-call rivals on IXI's healthy slices: 10,000 steps of 8 each, half of the slices as other scanners give
# them, as ixi-small's. Overrides go to all of them: bash experiments/methods/train.sh trainer=gpu. What is finished is
# not done again.
set -euo pipefail
cd "$(dirname "$0")/../.."

train() {
    training=runs/$1/train/default  # one folder, whatever the overrides are: run.sh looks there
    python -m src.train +experiment=$1 hydra.run.dir=$training "${@:2}"
    touch $training/finished
}

train ixi_dae "$@"
train ixi_vae "$@"
train ixi_cevae "$@"
train ixi_pddpm "$@"
train ixi_cddpm_without_encoder "$@"
