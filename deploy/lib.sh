# shellcheck shell=bash
# What deploy/run, deploy/test and .ci/run share. Sourced, with the current directory at the top of
# the tree. shellcheck cannot see who sets $program.
# shellcheck disable=SC2154

# A headline; bold where somebody looks.
say()
{
    if [ -t 1 ]; then
        printf '\033[1m==> %s\033[0m\n' "$*"
    else
        printf '==> %s\n' "$*"
    fi
}

die()
{
    printf '%s: %s\n' "$program" "$*" >&2
    exit 1
}

# Runs a command and shows what it wrote only if it fails.
quietly()
{
    local log status=0
    log=$(mktemp)
    "$@" </dev/null >"$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        cat "$log" >&2
    fi
    rm -f "$log"
    return "$status"
}

# configure DIRECTORY OPTION…: a build directory with these options, whatever it was before. One that
# another version of meson made, or that was moved, is made anew.
configure()
{
    local directory=$1
    shift
    if [ -f "$directory/build.ninja" ] &&
        quietly meson setup --reconfigure "$directory" "$@" 2>/dev/null; then
        return
    fi
    rm -rf "$directory"
    quietly meson setup "$directory" "$@" || die "meson setup $directory failed (see above)"
}
