// node trim-packages.mjs NODE_MODULES: deletes from installed production packages what never runs in an image: binaries of other
// platforms, second copies of libraries, type declarations and source maps. Prints what each cut saved, largest first.
import { lstatSync, readdirSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';

const root = process.argv[2];
if (root === undefined) {
  console.error('trim-packages: expected the node_modules folder as the argument');
  process.exit(2);
}

/** Files and folders below a folder, folders before what is in them. */
function* walk(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    yield { path, name: entry.name, folder: entry.isDirectory() };
    if (entry.isDirectory()) yield* walk(path);
  }
}

function bytesOf(path) {
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status === undefined) return 0;
  if (!status.isDirectory()) return status.size;
  return readdirSync(path).reduce((sum, name) => sum + bytesOf(join(path, name)), 0);
}

const saved = new Map();
function cut(reason, path) {
  saved.set(reason, (saved.get(reason) ?? 0) + bytesOf(path));
  rmSync(path, { recursive: true, force: true });
}

// ONNX Runtime has the binaries of every platform in one package; a layout that is not known is kept whole.
const runtime = join(root, 'onnxruntime-node/bin');
for (const api of readdirSync(runtime)) {
  if (!lstatSync(join(runtime, api, process.platform, process.arch), { throwIfNoEntry: false })) continue;
  for (const platform of readdirSync(join(runtime, api))) {
    for (const arch of readdirSync(join(runtime, api, platform))) {
      if (platform === process.platform && arch === process.arch) continue;
      cut('ONNX Runtime for other platforms', join(runtime, api, platform, arch));
    }
  }
}

// What the code imports are the modules in lib/; these are bundles of the same for browsers.
cut('bundles of echarts', join(root, 'echarts/dist'));
// The digits are read from mnist/src/digits.
cut('the bundle of mnist', join(root, 'mnist/dist'));
// TypeScript's declarations of Node, which a package lists as a dependency.
cut('TypeScript', join(root, '@types'));
cut('TypeScript', join(root, 'echarts/types'));
const kinds = [
  ['TypeScript', /\.[cm]?ts$/],
  ['source maps', /\.[cm]?[jt]s\.map$/],
];
for (const { path, name, folder } of [...walk(root)]) {
  if (folder) continue;
  const kind = kinds.find(([, pattern]) => pattern.test(name));
  if (kind) cut(kind[0], path);
}

const mebibytes = (bytes) => `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
for (const [reason, bytes] of [...saved].sort(([, a], [, b]) => b - a)) console.log(`- ${mebibytes(bytes)}: ${reason}`);
console.log(`${mebibytes(bytesOf(root))} are left in ${relative(process.cwd(), root) || root}`);
