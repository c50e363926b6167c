#!/usr/bin/env bash
# Make or refresh .venv from requirements.txt. Returns at once when nothing has changed since.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf '\nset-up: %s\n' "$*" >&2; exit 1; }

pins=$(cat requirements.txt pyproject.toml | sha256sum | cut -d' ' -f1)
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }
in_venv=
is_ready() {
  in_venv=$(version_of .venv/bin/python 2>/dev/null) || true  # empty where it is gone or does not run
  [ "$in_venv" = 3.11 ] && [ "$(cat .venv/.pins 2>/dev/null)" = "$pins" ]
}
is_ready && exit 0

exec 9>.venv.lock
if command -v flock >/dev/null; then flock 9; fi  # two calls at once: the second waits for the first
is_ready && exit 0

# All that can be wrong, before anything long begins.
python=${PYTHON:-$(command -v python3.11 || command -v python3 || true)}
[ -n "$python" ] || fail "no python3 found. Install Python 3.11."
found=$(version_of "$python") || fail "$python does not run."
[ "$found" = 3.11 ] || fail "$python is Python $found. This set of packages is proven on 3.11 alone.
  Install Python 3.11, or name it: make PYTHON=/path/to/python3.11 ..."
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python has no venv module. On Debian: apt-get install python3-venv"
compiler=${CXX:-c++}
if [ "$in_venv" != 3.11 ] || [ ! -d .venv/lib/python3.11/site-packages/mmcv ]; then
  "$compiler" --version >/dev/null 2>&1 || fail "no C++ compiler ($compiler). mmcv's operators are compiled here. On Debian: apt-get install g++"
  headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  [ -f "$headers/Python.h" ] || fail "no Python headers in $headers. On Debian: apt-get install python3-dev"
  free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024 / 1024) }')
  [ "$free" -ge 6 ] || fail "$free GiB free on this disk. Set-up needs 6 (12 where torch comes with CUDA)."
fi

echo "set-up: into .venv, every package at the version that requirements.txt pins"
rm -f .venv/.pins
if [ -e .venv/bin ] && [ "$in_venv" != 3.11 ]; then
  echo "set-up: the Python of .venv is ${in_venv:-gone or broken}, not 3.11, so .venv is made anew"
fi
[ "$in_venv" = 3.11 ] && [ -x .venv/bin/pip ] || "$python" -m venv --clear .venv
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
pip() { .venv/bin/pip "$@" 2> >(grep -v -e '^WARNING: Location' -e DEPRECATION >&2); }

# Print a line of progress for each tenth of TOTAL lines of input: show_tenths WHAT TOTAL.
# Lines that begin with "set-up:" are passed on.
show_tenths() {
  local done=0 line
  while IFS= read -r line; do
    case $line in set-up:*) echo "$line"; continue ;; esac
    done=$((done + 1))
    [ $((10 * done / $2)) -eq $((10 * (done - 1) / $2)) ] || echo "set-up: $1, $done of $2"
  done
}

# A package whose installation was cut off looks installed to pip. Only its last file, INSTALLER, says that it is.
for package in .venv/lib/python3.11/site-packages/*.dist-info; do
  [ ! -d "$package" ] || [ -f "$package/INSTALLER" ] || rm -rf "$package"
done

# mmcv is built from source, and its build imports torch: torch and the build tools come first.
echo "set-up: torch, some 200 MB (3 GB where it comes with CUDA)"
pip install --quiet --no-compile $(grep -E '^(torch|setuptools|wheel|ninja|numpy|psutil)==' requirements.txt)

# A wheel of mmcv holds for one torch. pip's own cache does not tell torches apart, so it is not used.
mmcv=$(grep '^mmcv==' requirements.txt)
torch=$(.venv/bin/python -c 'import torch; print(torch.__version__)')
key=$mmcv-torch$torch
wheels=${XDG_CACHE_HOME:-$HOME/.cache}/sparsevit3d/mmcv/$key
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

build_mmcv() {
  echo "set-up: compiling mmcv's C++ operators, 77 files, some 4 minutes on two cores. Once: the wheel is kept in $wheels"
  mkdir "$scratch/headers"
  # The compiler parses torch's headers once instead of 77 times, see the script.
  CXX=$PWD/scripts/cxx_with_precompiled_torch.sh REAL_CXX=$compiler PRECOMPILED=$scratch/headers MAX_JOBS=$(nproc) \
    pip wheel --verbose --no-cache-dir --no-deps --no-build-isolation --wheel-dir "$scratch/wheel" "$mmcv" 2>&1 |
    tee "$scratch/mmcv.log" | { grep --line-buffered -oE '\[[0-9]+/77\]|set-up: .*' || true; } | show_tenths "files of mmcv compiled" 77 ||
    fail "mmcv did not build. The end of its log:
$(tail -n 20 "$scratch/mmcv.log")"
  mkdir -p "$wheels"
  mv "$scratch"/wheel/mmcv-*.whl "$wheels"
}

install_mmcv() {
  pip install --quiet --force-reinstall --no-deps "$wheels"/mmcv-*.whl && is_working
}

is_working() { .venv/bin/python scripts/check_mmcv.py >"$scratch/check.log" 2>&1; }
is_installed() { [ "$(cat .venv/.mmcv 2>/dev/null)" = "$key" ]; }
has_wheel() { ls "$wheels"/mmcv-*.whl >/dev/null 2>&1; }

has_wheel || is_installed || build_mmcv

grep -v '^mmcv==' requirements.txt >"$scratch/others.txt"
others=$(grep -c == "$scratch/others.txt")
echo "set-up: $others other packages, some 800 MB, 3 minutes on two cores"
pip install --no-compile --progress-bar off -r "$scratch/others.txt" 2>&1 | tee "$scratch/pip.log" |
  sed -u -n -e '/^Installing collected/ s/.*/set-up: unpacking them/p' -e '/^\(Collecting\|Processing\|Requirement already\)/p' |
  show_tenths "packages fetched" "$others" ||
  fail "pip failed. The end of its log:
$(tail -n 20 "$scratch/pip.log")"

if ! is_installed || ! is_working; then
  if ! { has_wheel && install_mmcv; }; then
    echo "set-up: mmcv as it was kept does not work with torch $torch, so it is built anew"
    rm -rf "$wheels" "$scratch/headers"
    build_mmcv
    install_mmcv || fail "mmcv was built, but does not work: $(tail -n 1 "$scratch/check.log")"
  fi
  echo "$key" >.venv/.mmcv
fi
pip install --quiet --no-deps --no-build-isolation --editable .
# At its first import yapf, which mmengine reads configs with, writes its grammar to ~/.cache. Of two
# processes at once, one would read half of it.
.venv/bin/python -c 'import yapf'
echo "$pins" >.venv/.pins
echo "set-up: done in $SECONDS s"
