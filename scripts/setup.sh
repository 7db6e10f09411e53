#!/usr/bin/env bash
# Prepare everything to run, test and change the program: system libraries where they are missing
# and may be installed, a virtual environment in .venv, and the package in it.
# Does nothing when it was done before for the same pyproject.toml.
#
#   PYTHON=python3.12       the interpreter for a new .venv (default: the first >= 3.11 found)
#   QT_BINDING=pyside6      the Qt binding (default: pyqt6)
# pip's own settings (PIP_INDEX_URL, PIP_CONSTRAINT, ...) are respected.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly binding="${QT_BINDING:-pyqt6}"
readonly stamp=.venv/.setup-stamp
readonly oldest="3.11"

# shellcheck source=scripts/system.sh
source scripts/system.sh

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "Python $oldest or newer was not found." \
        "Install it (Debian 12, Ubuntu 24.04 or newer: python3), or name one: PYTHON=/path/to/python make setup"
}

make_environment() {
    local python
    python="$(find_python)"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_system_packages "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" ||
            fail "$python cannot make a virtual environment." "Install the package python3-venv, then try again."
    fi
    say "Making .venv with $("$python" --version)"
    "$python" -m venv .venv
}

environment_works() {
    [[ -x .venv/bin/python ]] && .venv/bin/python -c '
import sys
import pip
sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

fingerprint() {
    { cat pyproject.toml scripts/setup.sh; echo "$PWD $binding"; .venv/bin/python --version; } | cksum
}

install_package() {
    say "Installing the program and its tools into .venv (the first time: several GB where torch comes with CUDA)"
    .venv/bin/python -m pip install --disable-pip-version-check --quiet --editable ".[$binding,dev]" ||
        fail "pip could not install the program." "Its message above says why; nothing outside .venv was changed."
    .venv/bin/python -c 'import torchvision' ||
        fail "torch and torchvision in .venv do not fit each other." "Remove .venv and run this again."
}

require_system_packages
environment_works || make_environment
if [[ "$(cat "$stamp" 2>/dev/null)" != "$(fingerprint)" ]]; then
    install_package
    fingerprint >"$stamp"
fi
