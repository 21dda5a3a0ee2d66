#!/usr/bin/env bash
# Pins every dependency with hashes, for Python 3.11 to 3.13 on every platform, without index addresses.
set -euo pipefail
cd "$(dirname "$0")/.."
compile=(uv pip compile --quiet --universal --python-version 3.11 --generate-hashes
         --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock")
"${compile[@]}" pyproject.toml -o requirements.lock
"${compile[@]}" pyproject.toml --extra dev -c requirements.lock -o requirements-dev.lock
