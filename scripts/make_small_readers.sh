#!/bin/sh
# Readers of 12, 6, 4 and 3 layers, to see what the bundled one's layers are worth (docs/models.md):
# about two hours and a quarter on two cores, after scripts/make_models.sh.
#   scripts/make_small_readers.sh DATA BUILD
# What is made lies in BUILD/small; the figures are in BUILD/small/layers.json.
set -eu
data=$1 build=$2 out=$2/small
mkdir -p "$out"
people="--train $data/korquad1/train.json --train $build/klue-train.json"

# round 6: people's questions after the made ones
odqa build-index "$data/kowiki/kowiki-20k.jsonl.xz" --indexes-dir "$build/indexes"
# shellcheck disable=SC2086
odqa train negatives $people \
    --index "$build/indexes/kowiki-20k" --per-question 3 --output "$build/negatives.jsonl"
# shellcheck disable=SC2086
odqa train reader --model "$build/reader-ko-5" --output "$build/reader-ko-6" \
    $people \
    --negatives "$build/negatives.jsonl" --config configs/train/reader-ko-6.yaml

[ -d "$out/start" ] ||
    python scripts/add_layers.py "$build/reader-ko-6" "$build/e5-small-ko" "$out/start"
odqa train reader --model "$out/start" --output "$out/made-12" --train "$build/made.json" \
    --config configs/train/reader-ko-5.yaml --set layers=12 --set loop.seed=31 \
    --set loop.learning_rate=1.5e-4 --max-minutes 16
# shellcheck disable=SC2086
odqa train reader --model "$out/made-12" --output "$out/reader-12" $people \
    --negatives "$build/negatives.jsonl" \
    --config configs/train/reader-ko-6.yaml --set layers=12 --set loop.seed=32 --max-minutes 29

student() {  # FROM LAYERS MINUTES
    # shellcheck disable=SC2086
    odqa train reader --model "$1" --output "$out/reader-$2" --train "$build/made.json" $people \
        --config configs/train/reader-small.yaml --set layers="$2" \
        --set teacher.model="$out/reader-12" --max-minutes "$3"
}
student "$out/reader-12" 6 11
student "$out/reader-6" 4 7
student "$out/reader-6" 3 6
for layers in 12 6 4 3; do
    odqa train export "$out/reader-$layers" --output "$out/exported-$layers"
done
python scripts/bench_layers.py "$data/korquad1/dev.json" "$build/e5-small-ko" \
    reader-ko "$out/exported-12" "$out/exported-6" "$out/exported-4" "$out/exported-3" \
    --also "$build/klue-dev.json" --output "$out/layers.json"
