#!/usr/bin/env bash
# Rows of Tables 1 to 3 on ixi_stroke, and AutoDDPM at longer strides with the same seeds of the
# noise, the most telling first: tables.sh CHECKPOINT SEEDS AT_ONCE [OVERRIDE ...].  A cut loses the
# rows at work; the same command goes on.
#
# Each row is a process of its own, and AT_ONCE of them run at the same time: while one starts, or
# scores its maps, others have the GPU.  LOGS=DIR keeps what each of them says.
set -euo pipefail
cd "$(dirname "$0")/../.."
checkpoint=${1:-ixi-small}
seeds=${2:-0,1,2,3}
at_once=${3:-1}
shift 3 || set --
export LOGS=${LOGS:-runs/gpu/logs}
mkdir -p "$LOGS"

rows() {  # a seed's strides follow each other: each seed that is done can be compared
    local precision seed stride t
    for precision in bf16-mixed 32-true; do
        for seed in ${seeds//,/ }; do
            for stride in 1 10 5 25 50; do
                echo "trainer.precision=$precision detector=autoddpm seed=$seed sampler.stride=$stride"
            done
        done
        for t in 50 100 150 200 250 300; do
            echo "trainer.precision=$precision detector=anoddpm detector.t=$t"
        done
        echo "trainer.precision=$precision detector=autoddpm detector.use_uncertainty=false"
        echo "trainer.precision=$precision detector=autoddpm detector.resample_steps=0"
    done
}

row() {  # the row's overrides in one word, then those of all rows
    local name=$1 log
    log=$LOGS/row_$(echo "$name" | tr -c 'A-Za-z0-9.\n' _)
    # shellcheck disable=SC2086
    set -- $name "${@:2}"
    if python -m src.evaluate +experiment=ixi_stroke data=packed perceptual=lpips_random "$@" \
        > "$log" 2>&1; then
        echo "$(tail -n 1 "$log" | sed 's/.*INFO\] - //; s/  (.*//')  <- $name"
    else
        echo "NOT FINISHED  <- $name: $(tail -n 1 "$log" | cut -c 1-300)"
        return 1
    fi
}
export -f row

rows | xargs -P "$at_once" -I ROW bash -c 'row "$@"' row ROW checkpoint="$checkpoint" "$@"
