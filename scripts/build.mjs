// Compiles every TypeScript file to dist/, one file to one file. esbuild only strips the types (tsc --noEmit checks them in
// CI), so that a checkout starts within a second of an edit. `--product` leaves out what only tests, benchmarks and debuggers read.
import { build } from 'esbuild';
import { readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const product = process.argv.includes('--product');
const folders = ['proto', 'libs', 'services', ...(product ? [] : ['test', 'bench'])];
const sources = folders.flatMap((folder) => {
  try {
    return (
      readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.d.ts'))
        .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
        // A benchmark with a package.json of its own has its packages beside it.
        .filter((path) => !path.slice(root.length).includes('node_modules'))
        .filter((path) => !product || !/\.test\.ts$|[/\\]testing[/\\]/.test(path.slice(root.length)))
    );
  } catch {
    return [];
  }
});
if (process.argv.includes('--clean')) rmSync(join(root, 'dist'), { recursive: true, force: true });
await build({
  entryPoints: sources,
  outdir: join(root, 'dist'),
  outbase: root,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  sourcemap: !product,
  logLevel: 'warning',
});
