# shellcheck shell=bash
# Sourced: the libraries that Qt and OpenGL need from a Debian or Ubuntu, and how to get them.

# Xvfb gives a screen where there is none; the others are what Qt's xcb platform and a software
# OpenGL load at run time.
readonly system_packages=(
    fonts-dejavu-core libdbus-1-3 libegl1 libfontconfig1 libgl1 libgl1-mesa-dri libglib2.0-0
    libglx-mesa0 libx11-xcb1 libxcb-cursor0 libxcb-glx0 libxcb-icccm4 libxcb-image0
    libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xkb1
    libxkbcommon-x11-0 xauth xvfb
)

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "$1"
    say "$2"
    exit 1
}

# Which of the named packages are not installed. Ubuntu 24.04 renamed some to NAMEt64.
missing_packages() {
    local installed name
    # dpkg-query fails as soon as one name is unknown, and still prints the others.
    installed=" $(dpkg-query -W -f '${db:Status-Abbrev}${Package} ' "$@" "${@/%/t64}" 2>/dev/null || true)"
    for name in "$@"; do
        [[ "$installed" == *"ii $name "* || "$installed" == *"ii ${name}t64 "* ]] || echo "$name"
    done
}

# Runs a command as root without asking for a password, or fails.
as_root() {
    if [[ "$(id -u)" == 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

install_system_packages() {
    command -v apt-get >/dev/null && as_root true || return 1
    say "Installing with apt-get: $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null >&2 || true
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" </dev/null >&2
}

require_system_packages() {
    command -v dpkg-query >/dev/null || return 0
    local missing
    mapfile -t missing < <(missing_packages "${system_packages[@]}")
    ((${#missing[@]})) || return 0
    install_system_packages "${missing[@]}" && return 0
    say "These system packages are missing and could not be installed from here:"
    say "    sudo apt-get install ${missing[*]}"
    say "Going on without them: the window, or tests that open one, may not start."
}
