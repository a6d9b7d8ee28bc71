#!/usr/bin/env bash
# A row of every method: run.sh [DDPM [RESTORATION [OVERRIDE ...]]]. DDPM, RESTORATION: their weights (ixi-small and
# ixi-restoration). EXPERIMENT=ixi_tuning_shifted to choose by, ixi_stroke (the default) to report. The one-call rivals are
# those of train.sh, in WEIGHTS (runs/methods_weights); what is not trained is named and left out. What is finished is not made again.
# Kept here: measured.csv of the report on ixi_stroke, as tuning.csv that on ixi_tuning_shifted, and dice_by_seconds.png.
set -euo pipefail
cd "$(dirname "$0")/../.."
experiment=${EXPERIMENT:-ixi_stroke}
weights=${WEIGHTS:-runs/methods_weights}
ddpm=${1:-ixi-small}
restoration=${2:-ixi-restoration}
shift $(($# < 2 ? $# : 2))
fast="sampler=fast trainer.precision=bf16-mixed"  # of those that call a network many times: as the other tables

row() { python -m src.evaluate -m +experiment=$experiment name=methods_$experiment "$@"; }
left_out() { echo "left out: $1 is not there"; }

row checkpoint=$ddpm detector=anoddpm detector.t=50,200,300 $fast "$@"
row checkpoint=$ddpm detector=autoddpm detector.resample_steps=0,5 $fast "$@"
row checkpoint=$ddpm detector=autoddpm anomaly_map=brighter_residual $fast "$@"  # the map of restoration's rows
row checkpoint=$ddpm detector=anoddpm detector.t=200 anomaly_map=brighter_residual $fast "$@"
row checkpoint=$ddpm detector=one_step anomaly_map=residual,brighter_residual $fast "$@"
row checkpoint=$ddpm detector=thor,andi,repaint_oracle $fast "$@"  # the first two have a map of their own
row checkpoint=$ddpm detector=mhd sampler.stride=25 trainer.precision=bf16-mixed "$@"  # ten reconstructions a slice

if [ -e "$restoration" ] || [ -e "weights/$restoration.safetensors" ]; then
    row checkpoint=$restoration detector=restoration postprocess=none,median5 "$@"
    row checkpoint=$restoration detector=restoration anomaly_map=residual,brighter_ssim "$@"
    row checkpoint=$ddpm detector=autoddpm_restoration detector.initial.weights=$restoration $fast "$@"
    row checkpoint=$ddpm detector=autoddpm_restoration detector.initial.weights=$restoration detector.use_uncertainty=false $fast "$@"
    row checkpoint=$ddpm detector=autoddpm_restoration detector.initial.weights=$restoration detector.resample_steps=0 $fast "$@"
else
    left_out $restoration
fi
for model in dae vae cevae pddpm cddpm_without_encoder; do
    file=$weights/ixi-$model.safetensors
    [ -e "$file" ] || { left_out "$file"; continue; }
    case $model in
        dae) detector=dae ;;
        vae | cevae) detector="vae detector.combi=false,true" ;;
        *) detector=pddpm ;;
    esac
    row checkpoint=$file detector=$detector anomaly_map=residual,brighter_residual "$@"
done
python -m src.report +experiment=$experiment name=methods_$experiment report.allow_mixed=true  # VAE and ceVAE are one family, and so are the last two
