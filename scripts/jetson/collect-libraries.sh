#!/bin/sh
# collect-libraries.sh BINDING OUT: copies the libraries of CUDA, cuDNN and TensorRT that the providers in a folder need, those included that are
# loaded by their names at run time and that no linker knows of. Fails naming what is missing, or what is still not found.
set -eu
binding=$1
out=$2
where="/usr/local/cuda/lib64 /usr/local/cuda/targets/aarch64-linux/lib /usr/lib/$(uname -m)-linux-gnu"
mkdir -p "$out"

for name in \
  libcudart.so.12 libcublas.so.12 libcublasLt.so.12 libcufft.so.11 libcurand.so.10 libnvrtc.so.12 'libnvrtc-builtins.so.12.*' libnvJitLink.so.12 \
  'libcudnn*.so.9' \
  libnvinfer.so.10 libnvinfer_plugin.so.10 libnvonnxparser.so.10 'libnvinfer_builder_resource.so.10.*'; do
  found=
  for folder in $where; do
    for file in "$folder"/$name; do
      [ -e "$file" ] || continue
      cp -L "$file" "$out/"
      found=yes
    done
    [ -z "$found" ] || break
  done
  if [ -z "$found" ]; then
    echo "collect-libraries: $name: expected in one of $where" >&2
    exit 1
  fi
done

# The driver is the board's: its libraries come when a container starts.
missing=$(LD_LIBRARY_PATH="$out:$binding" ldd "$binding"/* | grep 'not found' | grep -vE 'lib(cuda|cudla|nvdla|nvcu|nvrm|nvos)' || true)
if [ -n "$missing" ]; then
  echo "collect-libraries: nowhere found: $missing" >&2
  exit 1
fi
du -sh "$out" "$binding"
