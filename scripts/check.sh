#!/usr/bin/env bash
# Every check of the project, all of them even where one fails; the tests come last, so that the
# last line is pytest's. Arguments go to pytest.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
PATH="$PWD/.venv/bin:$PATH"

failed=()

check() {
    local name=$1
    shift
    printf '== %s\n' "$name"
    "$@" || failed+=("$name")
}

check "ruff check" ruff check .
check "ruff format" ruff format --check --quiet .
check "mypy" mypy --strict src
check "import-linter" lint-imports --no-logo
check "npe2 validate" npe2 validate --imports napari-fossiledit
((${#failed[@]})) && printf 'Failed before the tests: %s\n' "${failed[*]}" >&2

[[ "${1:-}" == --no-tests ]] && exit $((${#failed[@]} > 0))

printf '== pytest\n'
# Tests make and remove many thousand small files and folders, in memory where it has room for them:
# disks were seen to take 3 ms for each folder.
memory=/dev/shm
if [[ -w $memory ]] && (($(df --output=avail -k "$memory" | tail -n 1) > 8 * 1024 * 1024)); then
    TMPDIR=$(mktemp -d "$memory/fossiledit-tests-XXXXXX")
    export TMPDIR
    # A test reads as another user.
    chmod 755 "$TMPDIR"
    trap 'rm -rf "$TMPDIR"' EXIT
fi
# File by file and in their order: windows come last in every process (tests/conftest.py).
pytest -q --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
tests=$?
exit $((tests != 0 ? tests : ${#failed[@]} > 0))
