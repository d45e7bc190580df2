# shellcheck shell=bash
# How far a script is, for those that source this: a bar on a terminal, a line a step in logs, nothing with quiet=1. It is cleared
# before anything else is printed, and when the script ends.

quiet=${quiet:-}
bar_began=$SECONDS

bar() { # bar TEXT DONE TOTAL: over what was drawn before; TOTAL 0: not known, then the time since the step began is shown
    [ -z "$quiet" ] && [ -t 2 ] || return 0
    local columns line fill=""
    columns=$(stty size <&2 2>/dev/null | cut -d' ' -f2) || true # at each drawing: it may have been resized
    [ "${columns:-0}" -gt 0 ] || columns=80
    if [ "$3" -gt 0 ]; then
        local done_=$(($2 < $3 ? $2 : $3))
        printf -v fill '%*s' $((done_ * 20 / $3)) ''
        printf -v line '%s [%-20s] %3d%% %d of %d' "$1" "${fill// /#}" $((done_ * 100 / $3)) "$done_" "$3"
    else
        printf -v line '%s %d s' "$1" $((SECONDS - bar_began))
    fi
    printf '\r%-*s\r' $((columns - 1)) "${line:0:columns-1}" >&2 # characters, not bytes
}

bar_clear() {
    [ -z "$quiet" ] && [ -t 2 ] || return 0
    local columns
    columns=$(stty size <&2 2>/dev/null | cut -d' ' -f2) || true
    printf '\r%*s\r' $((${columns:-80} - 1)) '' >&2
}

say() { # say STEP: a line that begins one
    bar_began=$SECONDS
    [ -z "$quiet" ] || return 0
    bar_clear
    if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then printf '\033[1m== %s\033[0m\n' "$*"; else printf '== %s\n' "$*"; fi
}

bar_while() { # bar_while TEXT COMMAND...: its exit code; the time it takes is shown
    local text=$1 pid code=0
    shift
    "$@" &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        bar "$text" 0 0
        sleep 0.2
    done
    wait "$pid" || code=$?
    bar_clear
    return $code
}
