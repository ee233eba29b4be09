#!/usr/bin/env bash
# Set up everything that `make demo` and `make test` need; a second call returns at once.
#   scripts/setup.sh demo    Python packages, a broker
#   scripts/setup.sh test    the same, and PostgreSQL, and the servers of MinIO, dstack and SkyPilot
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-demo}

# (1) A Python that is new enough.
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "whetstone: expected Python 3.11 or newer with venv, got $("$python" --version 2>&1). Set PYTHON=/path/to/python3.11." >&2
    exit 1
fi

# (2) Servers from the distribution: install them where we may, else print the one line to run.
has() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }
wanted=""
has mosquitto || wanted="$wanted mosquitto"
if [ "$purpose" = test ]; then
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || has initdb || wanted="$wanted postgresql"
    # An RTSP server, and a C compiler for the shim that cuts the power.
    has gst-launch-1.0 || wanted="$wanted gstreamer1.0-tools"
    compgen -G '/usr/lib/*/girepository-1.0/GstRtspServer-1.0.typelib' >/dev/null || \
        wanted="$wanted gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-rtsp python3-gi"
    # gdppay, through which frames leave a pipeline.
    compgen -G '/usr/lib/*/gstreamer-1.0/libgstgdp.so' >/dev/null || wanted="$wanted gstreamer1.0-plugins-bad"
    has gcc || wanted="$wanted gcc libc6-dev"
    has ip || wanted="$wanted iproute2"
    # A host to rent by SSH, on loopback.
    has sshd || wanted="$wanted openssh-server"
    has ssh || wanted="$wanted openssh-client"
    # systemd-analyze, which checks the unit file.
    has systemd-analyze || wanted="$wanted systemd"
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null || wanted="$wanted python3-venv"
if [ -n "$wanted" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "whetstone: installing$wanted with apt"
        apt-get update -qq
        # A policy that says no keeps the packages from starting servers of their own.
        DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $wanted >/dev/null
    else
        echo "whetstone: please run:  sudo apt-get install -y$wanted" >&2
        case "$purpose$wanted" in
            demo*python3-venv*) exit 1 ;;
            demo*) echo "whetstone: going on without it: the demo's broker will be amqtt" >&2 ;;
            *) exit 1 ;;
        esac
    fi
fi

# (3) Python packages, pinned; the stamp is the hash of what decides them.
stamp=.venv/.whetstone-$(cat pyproject.toml constraints.txt scripts/setup.sh | sha256sum | cut -c1-16)
extras=cloud,edge,plc,dev
# The tests of the sellers' adapters need the sellers' SDKs.
[ "$purpose" != test ] || { stamp=$stamp-test; extras=$extras,pai,modelarts; }
if [ ! -e "$stamp" ] && [ ! -e "$stamp-test" ]; then
    echo "whetstone: installing Python packages into .venv (torch alone is about 6 GB; some minutes)"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[$extras]" \
        --config-settings editable_mode=compat
    # ultralytics asks for opencv-python, whose full wheel needs libGL and overwrites the headless one.
    .venv/bin/python -m pip uninstall -q -y opencv-python
    .venv/bin/python -m pip install -q --disable-pip-version-check --force-reinstall --no-deps \
        "$(grep '^opencv-python-headless==' constraints.txt)"
    touch "$stamp"
fi

# (4) MinIO's real server for the tests, where Go can build it.
if [ "$purpose" = test ]; then
    scripts/minio.sh
fi

# (5) The real servers of the engines that rent for us, for their adapters' tests.
if [ "$purpose" = test ]; then
    scripts/engines.sh dstack skypilot
fi
