#!/usr/bin/env bash
# The released restoration: run.sh [WEIGHTS]. WEIGHTS: of a GPU, which trains it in nine minutes (experiments/gpu/run.sh
# methods), as those that are released; without them it is trained here, in about six hours on one CPU core. Then thresholds
# from IXI's validation subjects, and what re-sampling is good for. AUTODDPM_DATA holds ixi/. What is finished is kept, the
# file in weights/ too: the same command again goes on. How it does beside others: experiments/methods/run.sh.
# Kept here: runs/restoration_inside/inside.csv.
set -euo pipefail
cd "$(dirname "$0")/../.."
weights=weights/ixi-restoration.safetensors
trained=${1:-runs/ixi_restoration/train/default/checkpoints/last.ckpt}

if [ -f $weights ]; then
    echo "$weights is kept as it is: to make it anew, move it away first"
else
    [ $# != 0 ] || python -m src.train +experiment=ixi_restoration
    new=runs/restoration_thresholds/ixi-restoration.safetensors  # until its thresholds are in it
    mkdir -p runs/restoration_thresholds
    autoddpm export-weights "$trained" $new --half
    python -m src.evaluate +experiment=ixi_stroke name=restoration_thresholds checkpoint=$new detector=restoration
    autoddpm export-weights $new $weights --half  # with its thresholds
fi
python experiments/restoration/inside.py ixi-small ixi-restoration "${AUTODDPM_DATA:-data}/ixi"
