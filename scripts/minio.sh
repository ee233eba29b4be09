#!/usr/bin/env bash
# Build MinIO's server from its published Go module into .tools/; a second call returns at once.
# Its packages are archived, so the object store tests build it themselves.
set -euo pipefail
cd "$(dirname "$0")/.."
module=github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
stamp=.tools/minio-${module##*-}
if [ -x .tools/minio ] && [ -e "$stamp" ]; then
    exit 0
fi
if ! command -v go >/dev/null; then
    message="whetstone: MinIO's server is not tested: no Go (1.24 or newer) to build it with"
    if [ -n "${CI:-}" ]; then
        echo "$message; in CI it must be" >&2
        exit 1
    fi
    echo "$message" >&2
    exit 0
fi
echo "whetstone: building MinIO's server with $(go version | cut -d' ' -f3) (some minutes)"
mkdir -p .tools
GOBIN="$PWD/.tools" GOFLAGS=-buildvcs=false go install "$module"
touch "$stamp"
