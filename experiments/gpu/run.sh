#!/usr/bin/env bash
# What to do with fifteen minutes of a GPU: run.sh STAGE[=SECONDS] ...
# of check, speed, train and tables (README.md).
#
#   OUT=DIR            what is to be brought back: at most eight small files (runs/gpu/out)
#   WORK=DIR           all else: from here the same command goes on (runs/gpu)
#   PACK=FILE          the packed slices, of experiments/gpu/pack.py (data/packed.npz)
#   PYTHON=FILE        (python3)
#   SPEED=FILE         train, tables: what the stage speed wrote (speed.json in WORK)
#   BEGIN=FILE         train: weights to begin from, of an earlier call
#   CHECKPOINT=FILE    tables: whose (the network just trained, else ixi-small)
#   AT_ONCE=N          tables: rows at the same time (3 of the paper's network, 8 of others; CPU: 1)
#   STAGE_SCALE=tiny   the same commands in seconds on a CPU, on slices of 32 pixels
set -uo pipefail
cd "$(dirname "$0")/../.."
declare -A seconds=([check]=75 [speed]=140 [train]=230 [tables]=150)  # each stage's limit
for argument in "$@"; do
    stage=${argument%%=*}
    [ -n "$stage" ] && [ -n "${seconds[$stage]:-}" ] ||
        { echo "run.sh: no stage $stage: check, speed, train or tables" >&2; exit 2; }
    case $argument in
        *=*) seconds[$stage]=${argument#*=} ;;
    esac
    [[ ${seconds[$stage]} =~ ^[1-9][0-9]*$ ]] ||
        { echo "run.sh: $argument: a stage's seconds are a whole number" >&2; exit 2; }
done

work=$(realpath -m "${WORK:-runs/gpu}") out=$(realpath -m "${OUT:-runs/gpu/out}")
pack=${PACK:-data/packed.npz} speed=${SPEED:-$work/speed.json}
mkdir -p "$work/bin" "$work/logs" "$out"
exec > >(tee -a "$out/log.txt") 2>&1
writer=$!
printf '#!/bin/sh\nexec "%s" "$@"\n' "$(command -v "${PYTHON:-python3}")" > "$work/bin/python"
chmod +x "$work/bin/python"
export PATH=$work/bin:$PATH PYTHONUNBUFFERED=1 PYTHONPATH="$PWD/.site:$PWD/src:$PWD:${PYTHONPATH:-}"
unset PYTHONDONTWRITEBYTECODE  # a second process is to start faster than the first
cores=$(env -u OMP_NUM_THREADS nproc)
has_gpu=$([ -e /dev/nvidiactl ] || command -v nvidia-smi > /dev/null && echo yes || true)

small=() training=() evaluation=(trainer=gpu) seeds=0,1,2,3 start=30 report=35
if [ "${STAGE_SCALE:-full}" = tiny ]; then
    small=(data.size=32 trainer=cpu)
    training=(model=tiny trainer.val_check_interval=50 data.batch_size=4 module.warmup_steps=5)
    training+=(callbacks.last.every_minutes=0.05 callbacks.export.every_minutes=0.05)
    training+=(callbacks.throughput.every_minutes=0.05)
    evaluation=() seeds=0,1 start=40
fi

limited() {  # seconds, then a command: what it has written by then counts
    timeout --signal=INT --kill-after=5 "$@"
}

clock() {  # seconds, as trainer.max_time takes them
    printf '00:00:%02d:%02d' $(($1 / 60)) $(($1 % 60))
}

setup() {  # the packages that came along as wheels
    local began=$SECONDS
    if [ -d .whl ] && [ ! -f .site/whole ]; then
        python -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
            --target .site .whl/*.whl && touch .site/whole
    fi
    echo "=== packages: $((SECONDS - began)) s, $(python --version), $cores cores"
}

check() {
    local failed=0 sameness files
    limited "$1" python experiments/gpu/sameness.py "$pack" "${CHECKPOINT:-ixi-small}" \
        > "$work/logs/sameness" 2>&1 &
    sameness=$!
    mapfile -t files < <(grep -rl --include='test_*.py' '^ *pytest\.mark\.gpu' tests)
    set -- "$1" $([ "$cores" -lt 4 ] || python -c 'import xdist; print("-n 4")' 2> /dev/null)
    limited "$1" python -m pytest -m gpu -q -p no:cacheprovider "${@:2}" "${files[@]}" \
        > "$work/logs/tests" 2>&1 || failed=1
    wait $sameness || failed=1
    tail -n 25 "$work/logs/tests"
    grep -v -i warn "$work/logs/sameness" | tail -n 4
    [ -n "$has_gpu" ] || echo "no GPU here: the tests that need one were skipped"
    return $failed
}

speed() {
    local failed=0
    limited "$1" python experiments/gpu/speed.py "$work/speed.json" || failed=1
    cp "$work/speed.json" "$out/" || failed=1
    return $failed
}

train() {
    local most=$(($1 - start)) began=$SECONDS limit=$1 failed=0 chosen=() given
    if [ $most -lt 5 ]; then
        echo "train: $1 s are too few: its start and end take $start"
        return 1
    fi
    read -ra chosen <<< "$(python experiments/gpu/choice.py "$speed" train $most)"
    set -- paths.packed="$pack" paths.runs="$work/runs" hydra.run.dir="$work/train"
    set -- "$@" "${small[@]}" "${training[@]}" callbacks.export.path="$out/ixi-paper.safetensors"
    [ -z "${BEGIN:-}" ] || set -- "$@" begin_from="$BEGIN" "data.test=[]"  # as pack.py --train
    given=("$@")
    set -- "$@" trainer.max_time="$(clock $most)" "${chosen[@]}"
    limited "$limit" python -m src.train +experiment=ixi_paper "$@" || failed=1
    most=$((most - (SECONDS - began)))
    if [ $failed = 1 ] && [ ! -f "$work/train/checkpoints/last.ckpt" ] && [ $most -ge 30 ]; then
        echo "train: once more, without what was measured to be fast"
        set -- "${given[@]}" trainer.max_time="$(clock $most)"
        failed=0 limit=$((limit - (SECONDS - began)))
        limited "$limit" python -m src.train +experiment=ixi_paper "$@" || failed=1
    fi
    # for the tables, which leave thresholds beside them, and for a call with an empty OUT
    mkdir -p "$work/weights"
    cp -u "$out"/ixi-paper*.safetensors "$work/weights/" 2> /dev/null ||
        cp "$work"/weights/ixi-paper*.safetensors "$out/" || failed=1
    cat "$work"/train/csv/version_*/metrics.csv > "$out/train.csv" || failed=1
    python experiments/gpu/progress.py "$out/train.csv" "$work/train/train.log"
    return $failed
}

tables() {
    local limit=$1 began=$SECONDS failed=0 checkpoint=${CHECKPOINT:-} at_once=${AT_ONCE:-}
    local chosen=() batch=135 left
    if [ -z "$checkpoint" ] && ls "$work"/weights/ixi-paper*.safetensors > /dev/null 2>&1; then
        checkpoint=$work/weights/ixi-paper.safetensors
    fi
    checkpoint=${checkpoint:-ixi-small}
    case $checkpoint in
        *paper*) at_once=${at_once:-3} batch=45 ;;
    esac
    [ -n "$has_gpu" ] || { at_once=${at_once:-1}; batch=auto; }
    at_once=${at_once:-8}
    if [ -n "$has_gpu" ]; then
        read -ra chosen <<< "$(python experiments/gpu/choice.py "$speed" tables "$limit")"
    fi
    set -- paths.packed="$pack" paths.runs="$work/runs"
    left=$((limit - report))
    OMP_NUM_THREADS=$((cores > at_once ? cores / at_once : 1)) LOGS=$work/logs limited $left \
        bash experiments/gpu/tables.sh "$checkpoint" "$seeds" "$at_once" \
        "$@" "${small[@]}" "${evaluation[@]}" data.eval_batch_size=$batch "${chosen[@]}" || failed=1
    left=$((limit - (SECONDS - began)))
    left=$((left > 10 ? left : 10))
    limited $left bash experiments/gpu/report.sh "$work/runs" "$cores" || failed=1
    set -- "$work"/runs/ixi_stroke/report
    cp "$1/measured.csv" "$out/" || failed=1
    cat "$1"/table[123].md "$1"/table[123]_differences.md "$1/fewer_calls.md" > "$out/tables.md"
    cp "$work/weights/ixi-paper.thresholds.json" "$out/" 2> /dev/null
    cat "$1/fewer_calls.md" || failed=1
    return $failed
}

setup
status=0 said=()
for argument in "$@"; do
    stage=${argument%%=*} began=$SECONDS
    echo "=== $stage, at most ${seconds[$stage]} s"
    if "$stage" "${seconds[$stage]}"; then ended="done"; else ended="NOT DONE"; status=1; fi
    took="$((SECONDS - began)) s of ${seconds[$stage]}"
    said+=("$(printf '%-8s %-9s %s' "$stage" "$ended" "$took")")
done
echo "=== in $((SECONDS)) s"
printf '%s\n' "${said[@]}"
find "$out" -type f -printf '%f %s\n' | sort | awk '
    { print "    " $1 ": " int($2 / 1024) " KiB"; n++ }
    $2 > 16 * 2^20 { print "    TOO LARGE to be brought back" }
    END { if (n > 8) print "    TOO MANY FILES to be brought back" }'
exec >&- 2>&-
wait $writer  # the last lines are the ones that count
exit $status
