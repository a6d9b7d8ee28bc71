#!/usr/bin/env bash
# A row of every method: run.sh [DDPM [RESTORATION [OVERRIDE ...]]]. DDPM, RESTORATION: their weights (ixi-small and
# ixi-restoration). EXPERIMENT=ixi_tuning_shifted to choose by, ixi_stroke (the default) to report. The one-call rivals are
# those of train.sh; one that is not trained is named and left out. What is finished is not made again.
set -euo pipefail
cd "$(dirname "$0")/../.."
experiment=${EXPERIMENT:-ixi_stroke}
ddpm=${1:-ixi-small}
restoration=${2:-ixi-restoration}
shift $(($# < 2 ? $# : 2))

trained() {
    [ -e "$1" ] || { echo "left out: $1 is not there"; false; }
}

python -m src.evaluate -m +experiment=$experiment checkpoint=$ddpm detector=anoddpm detector.t=50,100,150,200,250,300 "$@"
python -m src.evaluate -m +experiment=$experiment checkpoint=$ddpm detector=autoddpm,thor,one_step,andi,mhd,repaint_oracle "$@"
python -m src.evaluate -m +experiment=$experiment checkpoint=$restoration detector=restoration postprocess=none,median5 "$@"
python -m src.evaluate +experiment=$experiment checkpoint=$ddpm detector=autoddpm_restoration detector.initial.weights=$restoration "$@"

dae=runs/ixi_dae/train/default/checkpoints/last.ckpt
vae=runs/ixi_vae/train/default/checkpoints/last.ckpt
cevae=runs/ixi_cevae/train/default/checkpoints/last.ckpt
pddpm=runs/ixi_pddpm/train/default/checkpoints/last.ckpt
cddpm=runs/ixi_cddpm_without_encoder/train/default/checkpoints/last.ckpt
if trained $dae; then
    python -m src.evaluate +experiment=$experiment checkpoint=$dae detector=dae "$@"
fi
if trained $vae; then
    python -m src.evaluate -m +experiment=$experiment checkpoint=$vae detector=vae detector.combi=false,true "$@"
fi
if trained $cevae; then
    python -m src.evaluate -m +experiment=$experiment checkpoint=$cevae detector=vae detector.combi=false,true "$@"
fi
if trained $pddpm; then
    python -m src.evaluate +experiment=$experiment checkpoint=$pddpm detector=pddpm "$@"
fi
if trained $cddpm; then
    python -m src.evaluate +experiment=$experiment checkpoint=$cddpm detector=pddpm "$@"
fi
python -m src.report +experiment=$experiment report.allow_mixed=true  # VAE and ceVAE are one family, and so are the last two
