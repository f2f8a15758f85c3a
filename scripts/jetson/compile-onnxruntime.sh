#!/bin/sh
# compile-onnxruntime.sh OUT: compiles ONNX Runtime with CUDA and TensorRT on JetPack and lays its Node binding out in a folder.
# By environment: ONNXRUNTIME_VERSION, CUDA_ARCHITECTURES, BUILD_JOBS, NVCC_THREADS, COMPILER_MEMORY_MIB.
set -eu
out=$1
libraries=/usr/lib/$(uname -m)-linux-gnu

apt-get update -q
apt-get install -y -q --no-install-recommends build-essential ca-certificates git ninja-build python3-dev python3-pip
rm -rf /var/lib/apt/lists/*
# ONNX Runtime wants a newer CMake than Ubuntu 22.04 has; PyPI's package is the program itself, for arm64 too.
python3 -m pip install --no-cache-dir 'cmake>=3.28,<4' packaging

git clone --quiet --depth 1 --branch "v$ONNXRUNTIME_VERSION" --recurse-submodules --shallow-submodules \
  https://github.com/microsoft/onnxruntime.git /onnxruntime
cd /onnxruntime
node /jetson/read-tensorrt-environment.mjs js/node/src/session_options_helper.cc

if [ "$COMPILER_MEMORY_MIB" -gt 0 ]; then
  ulimit -v $((COMPILER_MEMORY_MIB * 1024))
fi
export PATH="/usr/local/cuda/bin:$PATH"
./build.sh --config Release --update --build --skip_tests --allow_running_as_root --skip_submodule_sync \
  --cmake_generator Ninja --parallel "$BUILD_JOBS" --nvcc_threads "$NVCC_THREADS" --compile_no_warning_as_error \
  --build_shared_lib --build_nodejs \
  --use_cuda --cuda_home /usr/local/cuda --cudnn_home "$libraries" \
  --use_tensorrt --tensorrt_home "$libraries" \
  --cmake_extra_defines "CMAKE_CUDA_ARCHITECTURES=$CUDA_ARCHITECTURES" onnxruntime_BUILD_UNIT_TESTS=OFF

# The binding looks beside itself for the library, and the library beside itself for its providers.
mkdir -p "$out"
cp -L js/node/bin/napi-v6/linux/*/onnxruntime_binding.node "$out/"
cp -L build/Linux/Release/libonnxruntime.so.1 "$out/"
for provider in shared cuda tensorrt; do
  cp -L "build/Linux/Release/libonnxruntime_providers_$provider.so" "$out/"
done
strip --strip-unneeded "$out"/*
rm -rf /onnxruntime
