#!/usr/bin/env bash
# Run the demo, on a virtual screen where there is none. Arguments go to `fossiledit demo`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run=(.venv/bin/fossiledit demo --out demo-output "$@")
if [[ "$(uname -s)" != Linux || -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]]; then
    exec "${run[@]}"
elif command -v xvfb-run >/dev/null; then
    # Nobody could close a window on a virtual screen, so none is left open on it. The screen is
    # for the pictures: OpenGL needs one, and Qt's "offscreen" platform has no OpenGL.
    export QT_QPA_PLATFORM=xcb
    exec xvfb-run --auto-servernum --server-args="-screen 0 1600x1000x24" "${run[@]}" --no-gui
fi
exec "${run[@]}" --no-gui
