#!/usr/bin/env bash
# A C++ compiler that parses torch's headers once instead of once for each file. setup.sh builds mmcv with it, as CXX.
#
# The first call precompiles the headers, with exactly the flags of that call: a header of other flags would be ignored in silence.
# Calls that come meanwhile compile without it. If the compiler refuses the header, one line says so and the build goes on without.
# Environment: PRECOMPILED, an empty folder for this build; REAL_CXX, the compiler.
set -euo pipefail
header=$PRECOMPILED/torch_headers.h

arguments=("$@")
compiles=
source=
flags=()
while [ $# -gt 0 ]; do
  case $1 in
    -c) compiles=yes ;;
    -o) object=$2; shift ;;
    -MF) dependencies=$2; shift ;;
    -MMD) ;;
    *.cpp) source=$1 ;;
    *) flags+=("$1") ;;
  esac
  shift
done
if [ -z "$compiles" ] || [ -z "$source" ]; then
  exec "$REAL_CXX" "${arguments[@]}"
fi
flags+=(-g0 -w)  # debug symbols alone would double the time

precompile() {
  printf '#include <torch/types.h>\n#include <vector>\n' >"$header"
  : >"$PRECOMPILED/empty.cpp"
  if "$REAL_CXX" "${flags[@]}" -x c++-header "$header" -o "$header.gch" 2>"$PRECOMPILED/log" &&
    "$REAL_CXX" "${flags[@]}" -include "$header" -Werror=invalid-pch -c "$PRECOMPILED/empty.cpp" -o /dev/null 2>>"$PRECOMPILED/log"; then
    touch "$PRECOMPILED/usable"
  else
    rm -f "$header.gch"
    echo "set-up: $REAL_CXX cannot use a precompiled header, so mmcv compiles several times slower: $(head -n 1 "$PRECOMPILED/log")"
  fi
}

if mkdir "$PRECOMPILED/begun" 2>/dev/null; then
  precompile
fi
if [ -e "$PRECOMPILED/usable" ]; then
  flags+=(-include "$header")
fi
exec "$REAL_CXX" ${dependencies:+-MMD -MF "$dependencies"} "${flags[@]}" -c "$source" -o "$object"
