#!/usr/bin/env bash
# Test the core on each Python from 3.10 to 3.13 that this machine has: 'pip install .' into an empty
# venv, the README's lines of Python from elsewhere, and the core's tests. Arguments: other versions.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1

find_python() {
  for each in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python "python$1"; do
    if "$each" -c 'import venv, ensurepip' 2>/dev/null; then
      echo "$each"
      return
    fi
  done
}

found=0
for version in ${*:-3.10 3.11 3.12 3.13}; do
  python=$(find_python "$version")
  if [ -z "$python" ]; then
    echo "core: no Python $version here, so it is not tested"
    continue
  fi
  found=$((found + 1))
  free=$(df -Pk "$scratch" | awk 'NR == 2 { print int($4 / 1024 / 1024) }')
  if [ "$free" -lt 12 ]; then
    echo "core: $free GiB free in $scratch, so Python $version is not tested. A venv with torch for CUDA needs 12."
    continue
  fi
  echo "core: Python $version, pip install . into an empty venv"
  venv=$scratch/venv
  "$python" -m venv --clear "$venv"
  rm -rf build  # of an earlier wheel, whose files would go into this one
  "$venv/bin/pip" install --quiet . 2> >(grep -v '^WARNING: Location' >&2)
  awk '/^```python$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' README.md >"$scratch/lines.py"
  (cd "$scratch" && "$venv/bin/python" lines.py)
  "$venv/bin/pip" install --quiet pytest pytest-xdist hypothesis 2> >(grep -v '^WARNING: Location' >&2)
  "$venv/bin/pytest" tests/swin tests/cost
done
[ "$found" -gt 0 ] || { echo "core: none of these Pythons is here"; exit 1; }
