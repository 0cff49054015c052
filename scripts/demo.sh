#!/usr/bin/env bash
# The main job on the embedded data: what is in it, which fusion wins, and the winner as a file that predicts.
set -euo pipefail
cd "$(dirname "$0")/.."
mmfuse=build/release/mmfuse
data=data/digits-views.npz
folder=build/demo

step() {
    printf '\n$ mmfuse %s\n' "$*"
    "$mmfuse" "$@"
}

step info "$data"
# Every structure, by models that are done in seconds; without --models, compare takes all that fit.
models=only,early-concat,joint-concat,weighted,lf-dnn,tfn,lmf,gmu,mmtm,gcn,attention
models+=,late-mean,late-weighted,late-learned,late-vote,late-soft-vote,late-max,late-product,late-stacking
step compare "$data" --models "$models" --seeds 3 --epochs 40 --patience 6 --folder "$folder"
winner=$(sed -n 's/.*"best_fusion": *"\([^"]*\)".*/\1/p' "$folder/results.json" | head -n 1)
step train "$data" --model "$winner" -o "$folder/winner.mmf" --epochs 40 --patience 6
step eval "$folder/winner.mmf" "$data"
printf '\n$ mmfuse predict %s %s --part test | head -n 4\n' "$folder/winner.mmf" "$data"
"$mmfuse" predict "$folder/winner.mmf" "$data" --part test | sed -n 1,4p
printf '\nThe model: %s (%s bytes). Results of every trial: %s/results.csv\n' \
    "$folder/winner.mmf" "$(stat -c %s "$folder/winner.mmf")" "$folder"
