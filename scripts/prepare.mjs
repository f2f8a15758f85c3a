// What a checkout needs before its code runs: dependencies as package-lock.json says, and dist/ as new as the sources. Both
// are done only when they are missing or stale, and talk on stderr, so that a command's output stays its own.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');

const wanted = [20, 9];
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < wanted[0] || (major === wanted[0] && minor < wanted[1])) {
  console.error(`heartwood needs Node ${wanted.join('.')} or newer, this is ${process.versions.node}`);
  process.exit(1);
}

/** Installs dependencies and builds, as far as needed. */
export function prepare() {
  if (dependenciesAreStale()) {
    console.error('heartwood: installing dependencies (npm ci) …');
    // The tools that build are development dependencies, which NODE_ENV=production would leave out.
    const flags = ['--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
    // A registry that lacks some other platform's package makes npm ci refuse the lock file; npm install then does.
    if (!npm(['ci', ...flags]) && !npm(['install', '--no-save', ...flags]))
      fail('the dependencies could not be installed');
  }
  if (buildIsStale()) {
    const started = new Date();
    const build = spawnSync(process.execPath, [join(root, 'scripts/build.mjs')], {
      cwd: root,
      stdio: ['ignore', 2, 2],
    });
    if (build.status !== 0) fail('the build failed');
    // Sources saved while the build ran count as newer.
    writeFileSync(join(root, 'dist/.built'), started.toISOString());
  }
}

function npm(parameters) {
  const { status } = spawnSync('npm', parameters, {
    cwd: root,
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32',
  });
  return status === 0;
}

function fail(message) {
  console.error(`heartwood: ${message}`);
  process.exit(1);
}

/** Whether node_modules lacks a package of the lock file, or has another version of it. Platform packages are npm's affair. */
function dependenciesAreStale() {
  const installedFile = join(root, 'node_modules/.package-lock.json');
  if (!existsSync(installedFile)) return true;
  const locked = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(installedFile, 'utf8')).packages;
  return Object.entries(locked).some(
    ([path, { version, optional, devOptional, peer }]) =>
      path !== '' && !optional && !devOptional && !peer && installed[path]?.version !== version,
  );
}

function buildIsStale() {
  const stamp = join(root, 'dist/.built');
  if (!existsSync(stamp)) return true;
  const built = Date.parse(readFileSync(stamp, 'utf8'));
  const newer = (path) => statSync(path).mtimeMs >= built;
  return newer(join(root, 'scripts/build.mjs')) || sourceFiles().some(newer);
}

/** Every TypeScript file and folder of the product (a folder's time tells of files that were removed). */
function sourceFiles() {
  return ['proto', 'libs', 'services', 'test', 'bench'].flatMap((folder) => {
    const top = join(root, folder);
    if (!existsSync(top)) return [];
    const entries = readdirSync(top, { recursive: true, withFileTypes: true });
    const below = entries.filter((entry) => entry.isDirectory() || entry.name.endsWith('.ts'));
    const paths = below.map((entry) => join(entry.parentPath ?? entry.path, entry.name));
    return [top, ...paths.filter((path) => !path.slice(root.length).includes('node_modules'))];
  });
}

/** The test files of the sources, as they are in dist/ (one left over there from a source that is gone is not among them). */
export function builtTests() {
  return sourceFiles()
    .filter((path) => path.endsWith('.test.ts'))
    .map((path) => join(root, 'dist', path.slice(root.length + 1, -3) + '.js'))
    .sort();
}
