# shellcheck shell=sh
# Sourced by the commands in this folder, with `root` set to the checkout: a .venv that holds what a lock file names.
# When there is nothing to do it starts no other program than cmp; the work itself is done by environment.py.

# suitable PROGRAM: is it a Python that is new enough and can make virtual environments?
# Only running it tells: a name on the PATH may be a shim with nothing behind it, and Debian ships venv apart.
suitable() {
    "$1" -I -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

# Sets `python`, or fails.
find_python() {
    for python in python3.14 python3.13 python3.12 python3 "${HOME:-}"/.pyenv/versions/*/bin/python3; do
        suitable "$python" && return 0
    done
    python=$(uv python find --no-project --no-python-downloads '>=3.12' 2>/dev/null) && suitable "$python"
}

# prepare LOCKFILE: .venv holds a copy of every lock file it was filled from, and `unfinished` while it is being filled.
prepare() {
    if [ -x "$root/.venv/bin/python" ] && [ ! -e "$root/.venv/unfinished" ] && cmp -s "$root/$1" "$root/.venv/$1"; then
        return 0
    fi
    if ! find_python; then
        cat >&2 <<'TEXT'
codex-proxy needs Python 3.12 or newer with venv, and found none: neither python3.14 ... python3.12 or python3 on the PATH,
nor in ~/.pyenv/versions, nor through uv. Install one (Debian, Ubuntu: python3-venv too) and run this again.
TEXT
        exit 1
    fi
    "$python" -I "$root/scripts/environment.py" "$1" >&2
}
