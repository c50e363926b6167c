#!/usr/bin/env bash
# Make or refresh .venv from requirements.txt. Returns at once when nothing has changed since the last time.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf '\nset-up: %s\n' "$*" >&2; exit 1; }

pins=$(cat requirements.txt pyproject.toml | sha256sum | cut -d' ' -f1)
is_ready() { [ "$(cat .venv/.pins 2>/dev/null)" = "$pins" ]; }
is_ready && exit 0

exec 9>.venv.lock
if command -v flock >/dev/null; then flock 9; fi  # two calls at once: the second waits, then finds it done
is_ready && exit 0

# All that can be wrong, before anything long begins.
python=${PYTHON:-$(command -v python3.11 || command -v python3 || true)}
[ -n "$python" ] || fail "no python3 found. Install Python 3.11."
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "$python does not run."
[ "$found" = 3.11 ] || fail "$python is Python $found; this set of packages is proven on 3.11 alone.
  Install Python 3.11, or name it: make PYTHON=/path/to/python3.11 ..."
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python has no venv module. On Debian: apt-get install python3-venv"
if [ ! -d .venv/lib/python3.11/site-packages/mmcv ]; then
  "${CXX:-c++}" --version >/dev/null 2>&1 || fail "no C++ compiler (${CXX:-c++}); mmcv's operators are compiled here. On Debian: apt-get install g++"
  headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  [ -f "$headers/Python.h" ] || fail "no Python headers in $headers. On Debian: apt-get install python3-dev"
  free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024 / 1024) }')
  [ "$free" -ge 6 ] || fail "$free GiB free on this disk; set-up needs 6 (12 where torch comes with CUDA)."
fi

echo "set-up: installing into .venv; every package at the version that requirements.txt pins"
rm -f .venv/.pins
[ -x .venv/bin/pip ] || "$python" -m venv --clear .venv
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip() { .venv/bin/pip "$@" 2> >(grep -v -e '^WARNING: Location' -e DEPRECATION >&2); }

# Of ninja's lines, "[12/77] c++ ...", how far it is; on a terminal alone.
show_files() {
  { grep --line-buffered -oE '\[[0-9]+/[0-9]+\]' || true; } | {
    end=
    while read -r count; do [ ! -t 1 ] || { printf '\rset-up: %s files ' "$count"; end='\n'; }; done
    printf "$end"
  }
}

# A package whose installation was cut off looks installed to pip; only its last file, INSTALLER, says that it is.
for package in .venv/lib/python3.11/site-packages/*.dist-info; do
  [ ! -d "$package" ] || [ -f "$package/INSTALLER" ] || rm -rf "$package"
done

# mmcv is built from source, and its build imports torch: torch and the build tools come first.
pip install --quiet $(grep -E '^(torch|setuptools|wheel|ninja|numpy|psutil)==' requirements.txt)
built_for=$(grep -E '^(torch|mmcv)==' requirements.txt)
if [ "$(cat .venv/.mmcv 2>/dev/null)" != "$built_for" ] || ! .venv/bin/python -c 'import mmcv.ops' 2>/dev/null; then
  echo "set-up: compiling mmcv's C++ operators: 10 minutes on two fast cores, 40 on slow ones. Once: pip keeps what it built"
  log=$(mktemp)
  # pip keeps a build by mmcv's version alone: where torch has changed under it, it must not be used again.
  [ ! -f .venv/.mmcv ] || fresh="--no-cache-dir --force-reinstall --no-deps"
  pip install --verbose ${fresh:-} --no-build-isolation -c requirements.txt "$(grep '^mmcv==' requirements.txt)" 2>&1 | tee "$log" | show_files ||
    fail "mmcv did not build; the end of $log:
$(tail -n 20 "$log")"
  rm -f "$log"
  echo "$built_for" >.venv/.mmcv
fi
pip install --quiet -r requirements.txt
pip install --quiet --no-deps --no-build-isolation --editable .
# At its first import yapf, which mmengine reads configs with, writes its grammar to ~/.cache; of two processes at once, one reads half of it.
.venv/bin/python -c 'import yapf'
echo "$pins" >.venv/.pins
echo "set-up: done"
