#!/usr/bin/env bash
# The released restoration, from the slices to what was chosen by: about six hours of training on one CPU core, then rows
# on IXI's validation subjects with phantom lesions, as they are and shifted. AUTODDPM_DATA holds ixi/. What is finished
# is kept, the file in weights/ too: the same command again goes on. How it does beside others: experiments/methods/run.sh.
# Kept here: measured.csv of the two reports, as masks.csv and masks_shifted.csv, and inside.csv.
set -euo pipefail
cd "$(dirname "$0")/../.."
weights=weights/ixi-restoration.safetensors
fast="sampler=fast trainer.precision=bf16-mixed"

if [ -f $weights ]; then
    echo "$weights is kept as it is: to make it anew, move it away first"
else
    python -m src.train +experiment=ixi_restoration
    autoddpm export-weights runs/ixi_restoration/train/default/checkpoints/last.ckpt $weights --half
fi

for data in ixi_tuning ixi_tuning_shifted; do
    row() { python -m src.evaluate -m +experiment=$data name=restoration_masks_$data "$@"; }
    row checkpoint=ixi-restoration detector=restoration postprocess=none,median5
    row checkpoint=ixi-restoration detector=restoration anomaly_map=residual,brighter_ssim
    row checkpoint=ixi-small detector=autoddpm_restoration detector.mask_threshold=0.05,0.1,0.2 $fast
    row checkpoint=ixi-small detector=autoddpm_restoration detector.mask_threshold=calibrated mask_false_positive_rate=0.002,0.01,0.05 $fast
    row checkpoint=ixi-small detector=autoddpm_restoration detector.use_uncertainty=false $fast
    row checkpoint=ixi-small detector=autoddpm_restoration detector.resample_steps=0 $fast
    python -m src.report +experiment=$data name=restoration_masks_$data report.allow_mixed=true
done
python experiments/restoration/inside.py ixi-small ixi-restoration "${AUTODDPM_DATA:-data}/ixi"  # what re-sampling is good for: runs/restoration_inside/inside.csv

rm -f weights/ixi-restoration.thresholds.* weights/ixi-small.thresholds.*  # of half the validation subjects: the files are to have those of all
python -m src.evaluate +experiment=ixi_stroke name=methods_ixi_stroke checkpoint=ixi-restoration detector=restoration  # calibrates on all of them
autoddpm export-weights $weights $weights --half  # the thresholds are in the file now
rm -f weights/ixi-restoration.thresholds.*
