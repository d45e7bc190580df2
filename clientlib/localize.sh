#!/bin/bash
# localize.sh OUTPUT.a INPUT.a...: one archive with one object, of which only simbdp_* can be seen.
set -euo pipefail
out=$1
shift
object=$out.o
ld -r -o "$object" --whole-archive "$@"
objcopy --wildcard --keep-global-symbol='simbdp_*' "$object"
rm -f "$out"
ar rcs "$out" "$object"
rm -f "$object"
