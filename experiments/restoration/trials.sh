#!/usr/bin/env bash
# Which loss a restoration is trained with: trainings of 1,000 steps (17 minutes each on one CPU core), on IXI's validation
# subjects with phantom lesions, as they are and shifted: trials.sh [OVERRIDE ...]. AUTODDPM_DATA holds ixi/.
# Kept here: the reports' measured.csv as trials.csv and trials_shifted.csv.
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
for data in ixi_tuning ixi_tuning_shifted; do
    python -m src.report +experiment=$data name=restoration_trials_$data report.allow_mixed=true
done
