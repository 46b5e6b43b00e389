#!/usr/bin/env bash
# Runs for a machine with a GPU that is there for a quarter of an hour, the most valuable ones first:
#
#   1. DHMBPO on the hopper and on the half-cheetah, several seeds as processes that share the GPU
#   2. further seeds of STEVE at its released sizes
#   3. how long a step takes with 1, 2, 4 and 8 processes on the GPU
#
#   OUT=results bash benchmarks/device.sh          # again with the same OUT: every run goes on where it was
#
# Everything is written to $OUT as it becomes known: one table of all episodes so far (episodes.csv), one of times
# (scaling.csv), and what the processes printed (log.txt). Runs are kept in $RUNS. After $SECONDS_LEFT seconds all
# processes are asked to save what they have and to end. All names below can be set in the environment; PRESETS="" leaves
# out the first part, STEVE="" the second, SCALING="" the third.
set -u -f

OUT=${OUT:?the folder for results}
RUNS=${RUNS:-runs/device}
PYTHON=${PYTHON:-python}
SECONDS_LEFT=${SECONDS_LEFT:-540}
SEEDS=${SEEDS:-0 1 2 3 4 5 6 7}
PRESETS=${PRESETS-dhmbpo/hopper dhmbpo/halfcheetah}
STEPS=${STEPS:-50000}
SET=${SET:-train.eval_every=5000 train.checkpoint_seconds=30}
STEVE=${STEVE-steve/halfcheetah}
STEVE_SEEDS=${STEVE_SEEDS:-1 2 3}
STEVE_SET=${STEVE_SET:-train.steps=100000 train.capacity=100000 train.eval_every=5000 train.eval_episodes=1}
SCALING=${SCALING-1 2 4 8}
SCALING_STEPS=${SCALING_STEPS:-2000}
SCALING_SET=${SCALING_SET:-train.random_steps=1000 train.eval_episodes=0}
SCALING_PRESET=${SCALING_PRESET:-dhmbpo/halfcheetah}

END=$((SECONDS + SECONDS_LEFT))
mkdir -p "$OUT" "$RUNS"

left() { echo $((END - SECONDS)); }

# share COUNT: processes share the memory of the GPU, without anything else to agree on.
share() { export XLA_PYTHON_CLIENT_MEM_FRACTION=$("$PYTHON" -c "print(round(0.9 / $1, 3))"); }

# start DIR PRESET SEED SETTING...: train in the background, or go on with what is there.
start() {
    local dir=$1 preset=$2 seed=$3
    shift 3
    if [ -d "$dir/checkpoints" ] && [ -n "$(ls -A "$dir/checkpoints")" ]; then
        "$PYTHON" -m foretell resume "$dir" --quiet >>"$OUT/log.txt" 2>&1 &
    else
        "$PYTHON" -m foretell train "$preset" --seed "$seed" --out "$dir" --overwrite --quiet --set "$@" \
            >>"$OUT/log.txt" 2>&1 &
    fi
}

# collect: one table of the episodes of all runs so far; a table that is being read is never half written.
collect() {
    {
        echo "run,episode,env_steps,kind,return,length,wall_seconds"
        find "$RUNS" -name episodes.csv | sort | while read -r table; do
            local name=${table#"$RUNS"/}
            "$PYTHON" - "$table" "${name%/episodes.csv}" <<'PY'
import csv, sys

names = ("episode", "env_steps", "kind", "return", "length", "wall_seconds")
with open(sys.argv[1], newline="") as file:
    for row in csv.DictReader(file):
        print(sys.argv[2], *(row[name] for name in names), sep=",")
PY
        done
    } >"$OUT/episodes.csv.new" && mv "$OUT/episodes.csv.new" "$OUT/episodes.csv"
}

# finish: until all processes have ended or time is up; then they save what they have.
finish() {
    local next=$((SECONDS + 20)) pid
    while [ -n "$(jobs -pr)" ] && [ "$(left)" -gt 0 ]; do
        sleep 1
        if [ "$SECONDS" -ge "$next" ]; then
            collect
            next=$((SECONDS + 20))
        fi
    done
    for pid in $(jobs -pr); do kill -TERM "$pid"; done
    wait
    collect
}

enough() { [ "$(left)" -gt 0 ] || { echo "time is up before: $1"; exit 0; }; }

# 1 ------------------------------------------------------------------------------------------------------------------
for preset in $PRESETS; do
    enough "$preset"
    share "$(wc -w <<<"$SEEDS")"
    for seed in $SEEDS; do start "$RUNS/${preset//\//-}/$seed" "$preset" "$seed" train.steps="$STEPS" $SET; done
    echo "$preset, seeds $SEEDS, $(left) s left"
    finish
done

# 2 ------------------------------------------------------------------------------------------------------------------
if [ -n "$STEVE" ]; then
    enough "$STEVE"
    share "$(wc -w <<<"$STEVE_SEEDS")"
    for seed in $STEVE_SEEDS; do start "$RUNS/${STEVE//\//-}/$seed" "$STEVE" "$seed" $STEVE_SET; done
    echo "$STEVE, seeds $STEVE_SEEDS, $(left) s left"
    finish
fi

# 3 ------------------------------------------------------------------------------------------------------------------
[ -f "$OUT/scaling.csv" ] || echo "processes,steps,seconds" >"$OUT/scaling.csv"
for count in $SCALING; do
    grep -q "^$count," "$OUT/scaling.csv" && continue
    enough "$count processes"
    share "$count"
    rm -rf "$RUNS/scaling-$count"
    began=$(date +%s.%N)
    for seed in $(seq "$count"); do
        start "$RUNS/scaling-$count/$seed" "$SCALING_PRESET" "$seed" train.steps="$SCALING_STEPS" $SCALING_SET
    done
    finish
    took=$("$PYTHON" -c "import time; print(round(time.time() - $began, 1))")
    [ "$(left)" -gt 0 ] && echo "$count,$SCALING_STEPS,$took" >>"$OUT/scaling.csv"
done
echo "done, $(left) s left"
