#!/usr/bin/env bash
# What to do with fifteen minutes of a GPU: run.sh STAGE [STAGE ...] with check, speed, train, tables (README.md).
#
#   OUT=DIR            what is brought back: small files (runs/gpu)
#   PACK=FILE          the packed slices, of experiments/gpu/pack.py (data/packed.npz)
#   PYTHON=FILE        (python3)
#   SECONDS_OF=N       how long a stage may take (check 100, speed 160, train 270, tables 180)
#   BEGIN=FILE         train: weights to begin from, of an earlier call
#   CHECKPOINT=FILE    tables: whose (ixi-small)
#   STAGE_SCALE=tiny   the same commands in seconds on a CPU, on slices of 32 pixels
set -uo pipefail
cd "$(dirname "$0")/../.."
export OUT=${OUT:-runs/gpu} PYTHONPATH="$PWD:$PWD/src:${PYTHONPATH:-}" PYTHONUNBUFFERED=1
pack=${PACK:-data/packed.npz}
mkdir -p "$OUT/bin"
printf '#!/bin/sh\nexec "%s" "$@"\n' "$(command -v "${PYTHON:-python3}")" > "$OUT/bin/python"
chmod +x "$OUT/bin/python"
PATH=$(cd "$OUT/bin" && pwd):$PATH
small=() training=() evaluation=(trainer=gpu) seeds=0,1,2,3
if [ "${STAGE_SCALE:-full}" = tiny ]; then
    small=(data.size=32 trainer=cpu)
    training=(model=tiny trainer.val_check_interval=50 data.batch_size=4 module.warmup_steps=5 callbacks.export.every_minutes=0.05 callbacks.throughput.every_minutes=0.05)
    evaluation=(sampler.stride=50) seeds=0,1
fi

limited() {  # seconds, then a command: what it has written by then counts
    timeout --signal=INT --kill-after=20 "$@"
}

check() {
    local failed=0
    limited "${SECONDS_OF:-100}" python -m pytest -m gpu -q -p no:cacheprovider tests 2>&1 | tail -n 15 || failed=1
    limited 60 python experiments/gpu/sameness.py "$pack" "${CHECKPOINT:-ixi-small}" || failed=1
    return $failed
}

speed() {
    limited "${SECONDS_OF:-160}" python experiments/gpu/speed.py "$OUT/speed.json"
}

train() {
    local seconds=${SECONDS_OF:-270} failed=0
    set -- paths.packed="$pack" paths.runs="$OUT/runs" "${small[@]}" "${training[@]}" ${BEGIN:+begin_from="$BEGIN"}
    set -- "$@" trainer.max_time="00:00:$(printf '%02d:%02d' $((seconds / 60)) $((seconds % 60)))"
    rm -rf "$OUT"/runs/ixi_paper
    limited $((seconds + 60)) python -m src.train +experiment=ixi_paper "$@" || failed=1
    cp "$OUT"/runs/ixi_paper/train/*/export/*.safetensors "$OUT/" || failed=1
    return $failed
}

tables() {
    local failed=0
    set -- paths.packed="$pack" paths.runs="$OUT/runs"
    limited "${SECONDS_OF:-180}" bash experiments/gpu/tables.sh "${CHECKPOINT:-ixi-small}" "$seeds" "$@" "${small[@]}" "${evaluation[@]}" || failed=1
    python -m src.report +experiment=ixi_stroke report.resamples=1000 report.allow_mixed=true "$@" || failed=1
    cp "$OUT"/runs/ixi_stroke/report/measured.csv "$OUT"/runs/ixi_stroke/report/table1.md "$OUT/" || failed=1
    return $failed
}

status=0
for stage in "$@"; do
    case $stage in
        check | speed | train | tables) ;;
        *) echo "run.sh: no stage $stage: check, speed, train or tables" >&2; exit 2 ;;
    esac
    began=$SECONDS
    "$stage" && ended=0 || ended=1
    status=$((status + ended))
    echo "=== $stage: exit $ended, $((SECONDS - began)) s"
done
exit $status
