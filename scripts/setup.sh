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
if [ "${1:-}" = --test ] && ! command -v node >/dev/null; then missing+=(nodejs); fi
if [ "${1:-}" = --test ] && ! command -v npm >/dev/null; then missing+=(npm); fi

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing by apt: ${missing[*]} (a minute or so)"
    export DEBIAN_FRONTEND=noninteractive
    if [[ " ${missing[*]} " == *" mosquitto "* ]] && [ -d /run/systemd/system ]; then
      say "the simulated plant starts a broker of its own: Debian's mosquitto service is masked"
      systemctl mask --quiet mosquitto || true
    fi
    log=$(mktemp)
    if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
      tail -n 20 "$log" >&2
      [[ " ${missing[*]} " != *" python3"* ]] ||
        stop "apt could not install ${missing[*]}; the reason stands above"
      say "apt could not install ${missing[*]} (the reason stands above); what needs them will say so"
    fi
    rm -f "$log"
    python=$(find_python) || stop "no Python 3.11 to 3.13 found after the install; set PYTHON=/path/to/python3"
  elif [ -z "${python:-}" ] || [[ " ${missing[*]} " == *" python3-venv "* ]]; then
    stop "missing: ${missing[*]}. Install them (Debian: sudo apt-get install ${missing[*]}) and call again."
  else
    say "missing: ${missing[*]}. Steps that need them will say so (Debian: sudo apt-get install ${missing[*]})."
  fi
fi

# --- servers of other makes, for the tests ---------------------------------------------------
if [ "${1:-}" = --test ] && has_node; then
  stamp=tests/node/node_modules/.installed
  want=$({ cat tests/node/package-lock.json; node --version; } | sha256sum | cut -d' ' -f1)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
    say "installing the servers of other makes into tests/node by npm (half a minute or so)"
    if (cd tests/node && npm ci --loglevel=error >&2); then
      printf '%s\n' "$want" > "$stamp"
    else
      say "npm could not install them; the tests that need them will say so"
    fi
  fi
fi

# --- the virtual environment -----------------------------------------------------------------
stamp=.venv/.installed
want=$({ cat requirements-dev.lock pyproject.toml; pwd; } | sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then exit 0; fi

if command -v uv >/dev/null; then
  say "installing the pinned packages into .venv with uv"
  [ -x .venv/bin/python ] || uv venv --quiet --python "$python" .venv
  export VIRTUAL_ENV=$PWD/.venv
  # Compiled now, as pip does: a process that has to compile what it imports takes twice as long.
  uv pip sync --require-hashes --compile-bytecode requirements-dev.lock
  uv pip install --quiet --no-deps --no-build-isolation -e .
else
  say "installing the pinned packages into .venv with pip (a minute or two)"
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  .venv/bin/python -m pip install --disable-pip-version-check --progress-bar on \
    --no-deps --require-hashes -r requirements-dev.lock |
    { grep -E --line-buffered '^(Installing|Successfully)' || true; } | cut -c1-120
  .venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
fi
printf '%s\n' "$want" > "$stamp"
say "ready"
