#!/usr/bin/env bash
# Sets up everything that SmartOps needs: system packages (by apt, as root on Debian), a virtual
# environment in .venv, the pinned packages. Idempotent, and quick when nothing is to be done.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[2m[setup]\033[0m %s\n' "$*" >&2; }
stop() { printf '[setup] %s\n' "$*" >&2; exit 2; }

# --- system packages -------------------------------------------------------------------------
find_python() {
  local name
  for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
    [ -n "$name" ] && command -v "$name" >/dev/null &&
      "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null &&
      { command -v "$name"; return; }
  done
  return 1
}
has_chromium() { [ -n "${SMARTOPS_BROWSER_EXECUTABLE:-}" ] || command -v chromium >/dev/null ||
  command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; }
has_mariadb() { command -v mariadbd >/dev/null || [ -x /usr/sbin/mariadbd ] ||
  [ -n "${SMARTOPS_TEST_MYSQL_URL:-}" ]; }
has_mosquitto() { command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ]; }
has_chromedriver() { command -v chromedriver >/dev/null; }
has_ip() { command -v ip >/dev/null || [ -x /usr/sbin/ip ]; }
has_mbpoll() { command -v mbpoll >/dev/null; }
has_node() { command -v node >/dev/null && command -v npm >/dev/null; }
has_mariadb_client() { command -v mariadb-dump >/dev/null && command -v mariadb-binlog >/dev/null; }

missing=()
python=$(find_python) || missing+=(python3 python3-venv)
if [ -n "${python:-}" ] && [ ! -x .venv/bin/python ] && ! command -v uv >/dev/null &&
   ! "$python" -c 'import ensurepip' 2>/dev/null; then missing+=(python3-venv); fi
has_chromium || missing+=(chromium fonts-dejavu-core)
has_mosquitto || missing+=(mosquitto)
if [ "${1:-}" = --test ] && ! has_mariadb; then missing+=(mariadb-server-core mariadb-client-core); fi
if [ "${1:-}" = --test ] && ! has_mariadb_client; then missing+=(mariadb-client); fi
if [ "${1:-}" = --test ] && ! has_chromedriver; then missing+=(chromium-driver); fi
if [ "${1:-}" = --test ] && ! has_mbpoll; then missing+=(mbpoll); fi
if [ "${1:-}" = --test ] && ! has_ip; then missing+=(iproute2); fi
if [ "${1:-}" = --test ] && ! command -v node >/dev/null; then missing+=(nodejs); fi
if [ "${1:-}" = --test ] && ! command -v npm >/dev/null; then missing+=(npm); fi

by_apt() {
  say "installing by apt: ${missing[*]} (a minute or so)"
  export DEBIAN_FRONTEND=noninteractive
  if [[ " ${missing[*]} " == *" mosquitto "* ]] && [ -d /run/systemd/system ]; then
    say "the simulated plant starts a broker of its own: Debian's mosquitto service is masked"
    systemctl mask --quiet mosquitto || true
  fi
  local log
  log=$(mktemp)
  if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    [ -z "$needs_python" ] || stop "apt could not install ${missing[*]}; the reason stands above"
    say "apt could not install ${missing[*]} (the reason stands above); what needs them will say so"
  fi
  rm -f "$log"
}

needs_python=
[[ " ${missing[*]-} " != *" python3-venv "* ]] || needs_python=yes
packages_by_apt=
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    packages_by_apt=yes
  elif [ -n "$needs_python" ]; then
    stop "missing: ${missing[*]}. Install them (Debian: sudo apt-get install ${missing[*]}) and call again."
  else
    say "missing: ${missing[*]}. Steps that need them will say so (Debian: sudo apt-get install ${missing[*]})."
  fi
fi

# --- servers of other makes, for the tests ---------------------------------------------------
servers_by_npm() {
  has_node || return 0
  local stamp=tests/node/node_modules/.installed want
  want=$({ cat tests/node/package-lock.json; node --version; } | sha256sum | cut -d' ' -f1)
  [ "$(cat "$stamp" 2>/dev/null)" != "$want" ] || return 0
  say "installing the servers of other makes into tests/node by npm (half a minute or so)"
  if (cd tests/node && npm ci --loglevel=error >&2); then
    printf '%s\n' "$want" > "$stamp"
  else
    say "npm could not install them; the tests that need them will say so"
  fi
}

# --- the virtual environment -----------------------------------------------------------------
lock=requirements-dev.lock

with_uv() {
  local uv index
  uv=$(command -v uv) || {
    uv=.venv/bin/uv
    [ -x .venv/bin/python ] || "$python" -m venv .venv || return 1
    [ -x "$uv" ] || .venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps \
      --require-hashes -r <(awk '/^uv==/ { on = 1 } on; on && !/\\$/ { exit }' "$lock") >&2 || return 1
    index=${PIP_INDEX_URL:-$(.venv/bin/python -m pip config get global.index-url 2>/dev/null)} || true
    [ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
  }
  say "installing the pinned packages into .venv with uv (half a minute or so)"
  [ -x .venv/bin/python ] || "$uv" venv --quiet --python "$python" .venv || return 1
  export VIRTUAL_ENV=$PWD/.venv
  # Compiled now, as pip does: a process that has to compile what it imports takes twice as long.
  "$uv" pip sync --quiet --require-hashes --compile-bytecode "$lock" &&
    "$uv" pip install --quiet --no-deps --no-build-isolation -e .
}

with_pip() {
  say "installing the pinned packages into .venv with pip (some minutes)"
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  .venv/bin/python -m pip install --disable-pip-version-check --progress-bar on \
    --no-deps --require-hashes -r "$lock" |
    { grep -E --line-buffered '^(Installing|Successfully)' || true; } | cut -c1-120
  .venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
}

environment() {
  local stamp=.venv/.installed want
  want=$({ cat "$lock" pyproject.toml; pwd; } | sha256sum | cut -d' ' -f1)
  if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then return; fi
  with_uv || with_pip
  printf '%s\n' "$want" > "$stamp"
  say "ready"
}

# --- all of it, what does not need the other at the same time ----------------------------------
if [ -n "$packages_by_apt" ] && [ -n "$needs_python" ]; then
  by_apt
  packages_by_apt=
  python=$(find_python) || stop "no Python 3.11 to 3.13 found after the install; set PYTHON=/path/to/python3"
fi
{
  [ -z "$packages_by_apt" ] || by_apt
  [ "${1:-}" != --test ] || servers_by_npm
} &
beside=$!
trap 'wait "$beside" || true' EXIT
environment
wait "$beside"
