// Builds Dockerfile.jetson where there is neither JetPack nor an Orin: every stage of it runs but the compiling of ONNX Runtime, in whose place
// stands npm's own binding, and the libraries of CUDA and TensorRT are empty files under their names.
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bases } from './base-images.mjs';
import { run } from './shell.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** What JetPack 6 has of the libraries, by folder. */
const libraries = {
  '/usr/local/cuda/lib64': [
    ...['libcudart.so.12', 'libcublas.so.12', 'libcublasLt.so.12', 'libcufft.so.11', 'libcurand.so.10'],
    ...['libnvrtc.so.12', 'libnvrtc-builtins.so.12.6', 'libnvJitLink.so.12'],
  ],
  '/usr/lib/$(uname -m)-linux-gnu': [
    ...['libcudnn.so.9', 'libcudnn_graph.so.9', 'libnvinfer.so.10', 'libnvinfer_plugin.so.10'],
    ...['libnvonnxparser.so.10', 'libnvinfer_builder_resource.so.10.3.0'],
  ],
};

/** @param name of the image that is built; @param heartwood the plain image that it is made from */
export function buildJetsonStandIn(name, heartwood, say) {
  say(`${name}: from Dockerfile.jetson over stand-ins`);
  const folder = mkdtempSync(join(tmpdir(), 'heartwood-jetson-'));
  try {
    const jetpack = 'heartwood-test/jetpack:stand-in';
    const files = Object.entries(libraries).flatMap(([where, names]) => names.map((file) => `${where}/${file}`));
    const lines = [
      `FROM ${heartwood} AS plain`,
      `FROM ${bases.debian}`,
      'COPY --from=plain /app/node_modules/onnxruntime-node/bin/napi-v6/linux /binding',
      `RUN mkdir -p ${Object.keys(libraries).join(' ')} && touch ${files.join(' ')}`,
    ];
    mkdirSync(join(folder, 'jetpack'));
    writeFileSync(join(folder, 'jetpack/Dockerfile'), `${lines.join('\n')}\n`);
    run('docker', ['build', '--tag', jetpack, join(folder, 'jetpack')]);

    const context = join(folder, 'context');
    cpSync(join(root, 'scripts/jetson'), join(context, 'scripts/jetson'), { recursive: true });
    const providers = ['shared', 'cuda', 'tensorrt'].map((kind) => `"$1"/libonnxruntime_providers_${kind}.so`);
    const compile = `set -eu\nmkdir -p "$1"\ncp /binding/*/* "$1"/\ntouch ${providers.join(' ')}\n`;
    writeFileSync(join(context, 'scripts/jetson/compile-onnxruntime.sh'), compile);
    const values = {
      HEARTWOOD_IMAGE: heartwood,
      NODE_IMAGE: bases.node,
      JETPACK_IMAGE: jetpack,
      BASE_IMAGE: bases.debian,
      ARCH: process.arch,
      PROVIDERS: 'cpu',
    };
    const given = Object.entries(values).flatMap(([key, value]) => ['--build-arg', `${key}=${value}`]);
    run('docker', ['build', '--tag', name, ...given, '--file', join(root, 'Dockerfile.jetson'), context]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
