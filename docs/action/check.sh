#!/usr/bin/env bash
# One check of the action: TITLE, the highest exit code that passes, the command.
# What it is about is $NAMED, its flags are the words of $FLAGS; nothing of
# either is run as code of the shell. The output goes to the job summary, too.
set -euo pipefail
title=$1 passes=$2
shift 2
read -r -a flags <<< "$(tr '\n' ' ' <<< "${FLAGS:-}")" || true
code=0
output=$(lbcheck "$@" "${flags[@]}" -- "$NAMED" 2>&1) || code=$?
printf '%s\n' "$output"
mark=✅
[ "$code" -eq 0 ] || mark=⚠️
[ "$code" -le "$passes" ] || mark=❌
# A fence that nothing in the output ends.
fence='~~~'
while [[ $output == *"$fence"* ]]; do fence+='~'; done
{
  printf '### %s %s\n\n' "$mark" "$title"
  printf '%s\n%s\n%s\n\n' "$fence" "$output" "$fence"
} >> "$GITHUB_STEP_SUMMARY"
[ "$code" -le "$passes" ] || exit "$code"
