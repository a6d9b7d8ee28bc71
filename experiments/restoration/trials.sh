#!/usr/bin/env bash
# Which loss a restoration is trained with: trainings of 1,000 steps (17 minutes each on one CPU core), on IXI's validation
# subjects with phantom lesions, as they are and shifted: trials.sh [OVERRIDE ...]. AUTODDPM_DATA holds ixi/.
# Last, where AutoDDPM's mask begins with such a network.
# Kept here: the reports' measured.csv as trials.csv, trials_shifted.csv and trials_masks.csv.
set -euo pipefail
cd "$(dirname "$0")/../.."

for weight in 1 9 30; do
    for loss in l1 mse; do
        [ $weight-$loss != 1-mse ] || continue
        training=runs/restoration_trial_${loss}_$weight
        python -m src.train +experiment=ixi_restoration name=restoration_trial_${loss}_$weight hydra.run.dir=$training trainer.max_steps=1000 trainer.val_check_interval=500 model.objective.lesion_weight=$weight model.objective.loss=$loss "$@"
        for data in ixi_tuning ixi_tuning_shifted; do
            python -m src.evaluate +experiment=$data name=restoration_trials_$data checkpoint=$training/checkpoints/last.ckpt detector=restoration
        done
    done
done
mask() { python -m src.evaluate -m +experiment=ixi_tuning_shifted name=restoration_trial_masks checkpoint=ixi-small sampler.stride=10 trainer.precision=bf16-mixed detector=autoddpm_restoration detector.initial.weights=runs/restoration_trial_l1_30/checkpoints/last.ckpt "$@"; }
mask detector.mask_threshold=0.05,0.1,0.2
mask detector.mask_threshold=calibrated mask_false_positive_rate=0.002,0.01,0.05
mask detector.mask_threshold=0.1 detector.use_uncertainty=false
mask detector.mask_threshold=0.1 detector.resample_steps=0
python -m src.report +experiment=ixi_tuning_shifted name=restoration_trial_masks report.allow_mixed=true
for data in ixi_tuning ixi_tuning_shifted; do
    python -m src.report +experiment=$data name=restoration_trials_$data report.allow_mixed=true
done
