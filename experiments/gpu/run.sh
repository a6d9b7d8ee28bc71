#!/usr/bin/env bash
# What to do with fifteen minutes of a GPU: run.sh STAGE[=SECONDS] ...
# of check, speed, train, methods and tables (README.md).
#
#   OUT=DIR            what is to be brought back: at most eight small files (runs/gpu/out)
#   WORK=DIR           all else: from here the same command goes on (runs/gpu)
#   PACK=FILE          the packed slices, of experiments/gpu/pack.py (data/packed.npz)
#   PYTHON=FILE        (python3)
#   SPEED=FILE         train, tables: what the stage speed wrote (speed.json in WORK)
#   BEGIN=FILE         train: weights to begin from, of an earlier call
#   DENOISER=FILE      methods: weights on [0, 1] whose denoiser the restoration begins with (ixi-small)
#   CHECKPOINT=FILE    tables: whose (the network just trained, else ixi-small)
#   AT_ONCE=N          tables: rows at the same time (3 of the paper's network, 8 of others; CPU: 1)
#   STAGE_SCALE=tiny   the same commands in seconds on a CPU, on slices of 32 pixels
set -uo pipefail
cd "$(dirname "$0")/../.."
declare -A seconds=([check]=150 [speed]=140 [train]=230 [methods]=500 [tables]=150)  # the limits
for argument in "$@"; do
    stage=${argument%%=*}
    [ -n "$stage" ] && [ -n "${seconds[$stage]:-}" ] ||
        { echo "run.sh: no stage $stage: check, speed, train, methods or tables" >&2; exit 2; }
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

small=() training=() network=() restorer=() evaluation=(trainer=gpu) seeds=0,1,2,3 report=35
others=(+ending=time data=packed trainer=gpu data.batch_size=32)
start=20 end=12  # a training's seconds before its first step, at best, and after its last
if [ "${STAGE_SCALE:-full}" = tiny ]; then
    small=(data.size=32 trainer=cpu)
    network=(model=tiny)
    restorer=(trainer=cpu begin_from=null "model.unet.channels=[8,8]" "model.unet.attention_levels=[false,false]")
    restorer+=(model.unet.num_head_channels=8 model.unet.norm_num_groups=4)
    training=(trainer.val_check_interval=50 data.batch_size=4 module.warmup_steps=5)
    training+=(callbacks.last.every_minutes=0.05 callbacks.export.every_minutes=0.05)
    training+=(callbacks.throughput.every_minutes=0.05)
    others=(+ending=time data=packed) evaluation=() seeds=0,1
fi

limited() {  # seconds, then a command: what it has written by then counts
    # In the background a shell has its commands ignore this signal: they would be killed instead.
    timeout --signal=INT --kill-after=5 "$1" env --default-signal=INT "${@:2}"
}

keep() {  # small files, all of which are brought back as one
    mkdir -p "$work/results"
    { [ $# = 0 ] || cp "$@" "$work/results/"; } && tar -czf "$work/results.tar.gz" -C "$work/results" . &&
        cp "$work/results.tar.gz" "$out/"
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
    local failed=0 sameness files threads=$((cores > 6 ? cores / 6 : 1))
    OMP_NUM_THREADS=$threads limited "$1" python experiments/gpu/sameness.py "$pack" "${CHECKPOINT:-ixi-small}" \
        > "$work/logs/sameness" 2>&1 &
    sameness=$!
    mapfile -t files < <(grep -rl --include='test_*.py' '^ *pytest\.mark\.gpu' tests)
    set -- "$1" $([ "$cores" -lt 4 ] || python -c 'import xdist; print("-n 4")' 2> /dev/null)
    OMP_NUM_THREADS=$threads limited "$1" python -m pytest -m gpu -vv -p no:cacheprovider "${@:2}" "${files[@]}" \
        > "$work/logs/tests" 2>&1 || failed=1
    wait $sameness || failed=1
    tail -n 25 "$work/logs/tests"
    grep -v -i warn "$work/logs/sameness" | tail -n 4
    [ -n "$has_gpu" ] || echo "no GPU here: the tests that need one were skipped"
    return $failed
}

speed() {
    # Straight to OUT, line by line; WORK has it for the stages that follow.
    limited "$1" python experiments/gpu/speed.py $(($(date +%s) + $1 - 5)) \
        "$out/speed.json" "$work/speed.json"
}

fit() {  # network, the folder of its weights, its limit, the most of it to train, until when, overrides
    local name=$1 weights=$2 limit=$3 most=$4 until=$5
    set -- paths.packed="$pack" paths.runs="$work/runs" hydra.run.dir="$work/$name" \
        "${small[@]}" "${training[@]}" callbacks.export.path="$weights/$name.safetensors" "${@:6}"
    limited "$limit" python -m src.train "$@" \
        trainer.max_time="\${until:$most,$until}"
}

train() {  # the paper's network; what `speed` chose is tried first
    local limit=$1 name=ixi-paper most=$(($1 - start)) until=$(($(date +%s) + $1 - end))
    local began=$SECONDS failed=0 folder=$work/ixi-paper chosen=()
    read -ra chosen <<< "$(python experiments/gpu/choice.py "$speed" train $(($1 - start)))"
    set -- +experiment=ixi_paper "${network[@]}"
    [ -z "${BEGIN:-}" ] || set -- "$@" begin_from="$BEGIN" "data.test=[]"  # as pack.py --train
    if [ $most -lt 5 ]; then
        echo "$name: $limit s are too few: its start and end take $start or more"
        return 1
    fi
    if [ -f "$folder/ended" ] && [ "$limit" -le "$(cat "$folder/ended")" ]; then
        echo "$name: it has ended; with more than $(cat "$folder/ended") s it goes on"
    else
        fit "$name" "$out" "$limit" $most $until "$@" "${chosen[@]}" || failed=1
        local passed=$((SECONDS - began))
        if [ $failed = 1 ] && [ ! -f "$folder/checkpoints/last.ckpt" ] &&
            [ $((most - passed)) -ge 30 ]; then
            echo "$name: once more, as takes the least memory, and not compiled"
            failed=0
            fit "$name" "$out" $((limit - passed)) $((most - passed)) $until "$@" \
                callbacks.acceleration.{fused_attention=true,compile=false} || failed=1
        fi
        [ $failed = 1 ] || echo "$limit" > "$folder/ended"
    fi
    # for the tables, which leave thresholds beside them, and for a call with an empty OUT
    mkdir -p "$work/weights"
    cp -u "$out/$name"*.safetensors "$work/weights/" 2> /dev/null ||
        cp "$work/weights/$name"*.safetensors "$out/" || failed=1
    cat "$folder"/csv/version_*/metrics.csv > "$work/$name.csv" || failed=1
    keep "$work/$name.csv" || failed=1
    python experiments/gpu/progress.py "$work/$name.csv" "$folder/train.log"
    return $failed
}

methods() {  # at the same time: each of these small networks alone would leave most of a GPU idle
    local limit=$1 most=$(($1 - start)) until=$(($(date +%s) + $1 - end)) failed=0 name where
    local rivals=(ixi-dae ixi-vae ixi-cevae) processes=() names=() folder
    if [ $most -lt 5 ]; then
        echo "methods: $limit s are too few: their start and end take $start or more"
        return 1
    fi
    [ -z "${DENOISER:-}" ] || restorer+=(begin_from="$DENOISER")
    mkdir -p "$work/rivals"
    for name in ixi-restoration ixi-restoration-seed1 ixi-small-seed1 "${rivals[@]}"; do
        where=$out
        case $name in
            ixi-restoration) set -- +experiment=ixi_restoration_gpu "${restorer[@]}" ;;
            ixi-restoration-seed1) set -- +experiment=ixi_restoration_gpu "${restorer[@]}" seed=1 ;;
            ixi-small-seed1)
                set -- +experiment=ixi_release "${others[@]}" "${network[@]}" seed=1 ;;
            *)
                set -- +experiment=${name//-/_} "${others[@]}"
                where=$work/rivals ;;
        esac
        OMP_NUM_THREADS=2 fit "$name" "$where" "$limit" $most $until "$@" \
            > "$work/logs/$name" 2>&1 &
        processes+=($!) names+=("$name")
    done
    for name in "${!names[@]}"; do
        wait "${processes[name]}" && continue
        echo "NOT FINISHED: ${names[name]}: $(tail -n 3 "$work/logs/${names[name]}")"
        failed=1
    done
    tar -cf "$out/rivals.tar" -C "$work/rivals" . || failed=1
    for name in "${names[@]}"; do
        folder=$work/$name
        cat "$folder"/csv/version_*/metrics.csv > "$work/$name.csv" || continue
        keep "$work/$name.csv"
        echo "--- $name"
        python experiments/gpu/progress.py "$work/$name.csv" "$folder/train.log"
    done
    for folder in "$work"/ixi-restoration*/pictures; do
        [ ! -d "$folder" ] || cp -r "$folder" "$work/results/$(basename "$(dirname "$folder")")_pictures"
    done
    keep
    return $failed
}

tables() {
    local limit=$1 began=$SECONDS failed=0 checkpoint=${CHECKPOINT:-} at_once=${AT_ONCE:-}
    local chosen=() batch=135 left
    if [ -z "$checkpoint" ] && ls "$work"/weights/ixi-paper*.safetensors > /dev/null 2>&1; then
        checkpoint=$work/weights/ixi-paper.safetensors
    fi
    checkpoint=${checkpoint:-ixi-small}
    if [ -z "$has_gpu" ]; then
        at_once=${at_once:-1} batch=auto
    elif [[ $checkpoint = *paper* ]]; then
        at_once=${at_once:-3} batch=45
    fi
    at_once=${at_once:-8}
    if [ -n "$has_gpu" ]; then
        read -ra chosen <<< "$(python experiments/gpu/choice.py "$speed" tables "$limit")"
    fi
    set -- paths.packed="$pack" paths.runs="$work/runs"
    left=$((limit - report))
    OMP_NUM_THREADS=$((cores > at_once ? cores / at_once : 1)) LOGS=$work/logs limited $left \
        bash experiments/gpu/tables.sh "$checkpoint" "$seeds" "$at_once" \
        "$@" "${small[@]}" "${evaluation[@]}" data.eval_batch_size=$batch "${chosen[@]}" || failed=1
    # What the rows say of themselves, before there are tables: these take longest.
    tar -cf "$work/rows.tar" --exclude='*.npz' -C "$work/runs/ixi_stroke" evaluate &&
        keep "$work/rows.tar" || failed=1
    left=$((limit - (SECONDS - began)))
    left=$((left > 10 ? left : 10))
    limited $left bash experiments/gpu/report.sh "$work/runs" "$cores" || failed=1
    set -- "$work"/runs/ixi_stroke/report
    cat "$1"/table[123].md "$1"/table[123]_differences.md "$1/fewer_calls.md" > "$work/tables.md"
    cat "$1/fewer_calls.md" || failed=1
    set -- "$1/measured.csv" "$work/tables.md"
    [ ! -f "$work/weights/ixi-paper.thresholds.json" ] ||
        set -- "$@" "$work/weights/ixi-paper.thresholds.json"
    keep "$@" || failed=1
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
