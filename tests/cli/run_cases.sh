#!/bin/sh
# Runs the cases of one file against the command and compares what came out.
#
#     run_cases.sh MMFUSE FILE.cases          UPDATE=1 rewrites expected/*.out
#
# A case is a block of lines; blank lines and lines that begin with # mean nothing:
#
#     case NAME
#     run  COMMAND     a line for the shell in a fresh folder with a copy of data/; several allowed,
#                      the last one is judged
#     exit CODE        default 0
#     out  PIECE       stdout contains this text
#     err  PIECE       stderr contains this text
#     not  PIECE       neither contains it
#     exact            stdout is expected/NAME.out
#     quiet            stderr is empty
set -u
program=$1 file=$2
here=$(cd "$(dirname "$0")" && pwd)
PATH=$(cd "$(dirname "$program")" && pwd):$PATH
SHARED=${MMFUSE_SHARED:-$here/../../../shared}
export PATH SHARED LC_ALL=C
unset NO_COLOR MMFUSE_CPU
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
name= n_cases=0 n_failed=0

complain() {
    echo "FAILED $name: $1"
    failed=1
}

judge() {
    [ -n "$name" ] || return 0
    n_cases=$((n_cases + 1))
    [ "$code" = "$want" ] || complain "exit code $code, expected $want"
    if [ $exact = 1 ]; then
        if [ -n "${UPDATE:-}" ]; then
            cp "$work/out" "$here/expected/$name.out"
        else
            diff -u "$here/expected/$name.out" "$work/out" || complain "stdout differs"
        fi
    fi
    [ $quiet = 0 ] || [ ! -s "$work/err" ] || complain "stderr is not empty"
    while IFS= read -r check; do
        piece=${check#????}
        case $check in
        out*) grep -qF -e "$piece" "$work/out" || complain "stdout lacks: $piece" ;;
        err*) grep -qF -e "$piece" "$work/err" || complain "stderr lacks: $piece" ;;
        not*) ! cat "$work/out" "$work/err" | grep -qF -e "$piece" || complain "found: $piece" ;;
        esac
    done <"$work/checks"
    if [ $failed = 1 ]; then
        n_failed=$((n_failed + 1))
        sed 's/^/  stdout: /' "$work/out" | head -40
        sed 's/^/  stderr: /' "$work/err" | head -40
    fi
    name=
}

while IFS= read -r line; do
    rest=${line#* }
    while [ "${rest# }" != "$rest" ]; do rest=${rest# }; done
    case $line in
    '' | '#'*) ;;
    case*)
        judge
        name=$rest code=none want=0 exact=0 quiet=0 failed=0
        : >"$work/checks"
        rm -rf "$work/box" && mkdir "$work/box" && cp "$here"/data/* "$work/box"
        ;;
    run*)
        (cd "$work/box" && eval "$rest") >"$work/out" 2>"$work/err" </dev/null
        code=$?
        ;;
    exit*) want=$rest ;;
    out* | err* | not*) printf '%.3s %s\n' "$line" "$rest" >>"$work/checks" ;;
    exact) exact=1 ;;
    quiet) quiet=1 ;;
    *) echo "$file: cannot read: $line" && exit 2 ;;
    esac
done <"$file"
judge
echo "$((n_cases - n_failed)) passed, $n_failed failed"
[ "$n_failed" = 0 ] && [ "$n_cases" -gt 0 ]
