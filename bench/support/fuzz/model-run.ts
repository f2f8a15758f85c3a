import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodePng } from '../../../libs/data/image.js';
import type { Repository } from '../../../libs/store/repository.js';
import {
  ModelInferRequest,
  RepositoryIndexRequest,
  RepositoryIndexResponse,
  RepositoryModelLoadRequest,
  RepositoryModelUnloadRequest,
} from '../../../proto/gen/open_inference_grpc.js';
import { healthyModel, transformer } from './methods.js';
import { manifestMutations } from './mutations/manifest.js';
import { modelMutations } from './mutations/model.js';
import { resign } from './mutations/resign.js';
import { drawFor, type Draw } from './random.js';
import { checkHealthy, type Target } from './requests.js';
import { startServer } from './server.js';
import { type Answer, openWire } from './wire.js';

export interface ModelRow {
  readonly isolation: 'thread' | 'process';
  readonly mutation: string;
  readonly mutants: number;
  readonly outcomes: Record<string, number>;
}

export interface ModelRun {
  readonly rows: readonly ModelRow[];
  readonly mutants: number;
  readonly faults: readonly string[];
  readonly hangs: number;
  readonly crashes: number;
  /** Workers that died of a mutant, which a server of processes survives. */
  readonly workersLost: number;
  readonly complaints: readonly string[];
  readonly exitCode: number | null;
}

interface Settings {
  readonly seed: number;
  readonly count: number;
  readonly isolation: 'thread' | 'process';
  log?(line: string): void;
}

interface Outcome {
  readonly mutation: string;
  readonly outcome: string;
  readonly fault?: string;
}

const call = (name: string): string => `/inference.GRPCInferenceService/${name}`;
const refusals = new Set(['INVALID_ARGUMENT', 'FAILED_PRECONDITION', 'NOT_FOUND', 'UNAVAILABLE', 'INTERNAL']);

/**
 * Puts tampered copies of models into the repository of a server, one at a time, and asks for them: each is refused with its reason in the
 * index or answers, while the healthy model goes on. Behind new digests the runtime itself sees them, which takes processes.
 */
export async function fuzzModels(repository: Repository, settings: Settings): Promise<ModelRun> {
  const { count, isolation, log } = settings;
  const image = await encodePng({ data: new Uint8Array(3 * 64).fill(90), width: 8, height: 8, channels: 3 });
  const flags = [
    '--load-control',
    'explicit',
    '--load-model',
    healthyModel,
    '--threads',
    '1',
    '--isolation',
    isolation,
  ];
  const start = async () => {
    const server = await startServer(repository.directory, [...flags, '--workers', '1', '--run-limit-ms', '20000']);
    return { server, target: { port: server.port, wire: openWire(server.port), image } satisfies Target };
  };
  let { server, target } = await start();
  const outcomes: Outcome[] = [];
  const faults: string[] = [];
  const complaints: string[] = [];
  let crashes = 0;
  let workersLost = 0;
  for (let index = 0; index < count; index++) {
    outcomes.push(await tryMutant(target, repository, settings, index));
    await checkHealthy(target).catch((thrown: unknown) => faults.push(`after ${index}: ${String(thrown)}`));
    if (!server.alive()) {
      crashes++;
      complaints.push(`mutant ${index}: ${outcomes.at(-1)?.mutation}`, ...server.complaints.slice(-10));
      workersLost += server.restarts.length;
      target.wire.close();
      ({ server, target } = await start());
    }
    if ((index + 1) % 200 === 0) {
      const resident = (await server.residentMiB()).toFixed(0);
      log?.(
        `${index + 1} models (${isolation}), ${crashes} crashes, ${server.restarts.length} workers lost, ${resident} MiB resident`,
      );
    }
  }
  target.wire.close();
  const exitCode = await server.stop();
  workersLost += server.restarts.length;
  complaints.push(...server.complaints);
  faults.unshift(...outcomes.flatMap(({ fault }) => fault ?? []));
  const hangs = faults.filter((fault) => fault.includes('HANG')).length;
  const rows = rowsOf(outcomes, isolation);
  return { rows, mutants: outcomes.length, faults, hangs, crashes, workersLost, complaints, exitCode };
}

async function tryMutant(
  { wire }: Target,
  repository: Repository,
  settings: Settings,
  index: number,
): Promise<Outcome> {
  const { seed, isolation } = settings;
  const draw = drawFor(seed, 2, index);
  const signed = isolation === 'process' && draw.chance(0.8);
  const ofManifest = signed ? draw.chance(0.1) : draw.chance(0.5);
  const mutation = draw.pick(ofManifest ? manifestMutations : modelMutations);
  const source = draw.pick([transformer, transformer, healthyModel]);
  const name = `mutant-${index}`;
  const folder = join(repository.directory, name);
  const directory = await copyOf(repository, source, name, draw);
  await mutation.mutate(directory, draw);
  if (signed && !ofManifest) await resign(directory);
  const send = (method: string, bytes: Uint8Array): Promise<Answer> =>
    wire.send({ path: call(method), stream: false, messages: [bytes] });
  const outcome = (what: string, fault?: string): Outcome => ({
    mutation: `${signed && !ofManifest ? 'signed, ' : ''}${mutation.name}`,
    outcome: what,
    ...(fault === undefined ? {} : { fault: `mutant ${index}, ${mutation.name}: ${fault}` }),
  });
  try {
    const loaded = await send(
      'RepositoryModelLoad',
      RepositoryModelLoadRequest.encode(RepositoryModelLoadRequest.fromPartial({ modelName: name })).finish(),
    );
    const said = `${loaded.code} ${loaded.details}`;
    if (loaded.code !== 'OK') {
      if (!refusals.has(loaded.code) || /internal error; the log/.test(said)) return outcome(loaded.code, said);
      const index = await send(
        'RepositoryIndex',
        RepositoryIndexRequest.encode(RepositoryIndexRequest.create()).finish(),
      );
      const entry = RepositoryIndexResponse.decode(index.messages[0] ?? new Uint8Array()).models.find(
        (model) => model.name === name,
      );
      // A folder without a version is no model.
      const gone = loaded.details.includes('failed to poll');
      if (!gone && (entry?.state !== 'UNAVAILABLE' || entry.reason === ''))
        return outcome(loaded.code, `no reason in the index: ${said}`);
      const infer = await send('ModelInfer', inferOf(source, name));
      const refused = gone ? 'NOT_FOUND' : 'UNAVAILABLE';
      return outcome(
        `not loaded: ${loaded.code}`,
        infer.code === refused ? undefined : `ModelInfer: ${infer.code} ${infer.details}`,
      );
    }
    const intact = mutation.name.startsWith('manifest') || /config|pinned/.test(mutation.name);
    if (!signed && !intact && !(await unchanged(repository, source, directory)))
      return outcome('loaded', 'loaded against its digests');
    const infer = await send('ModelInfer', inferOf(source, name));
    const proper = ['OK', 'INVALID_ARGUMENT', 'INTERNAL', 'UNAVAILABLE', 'FAILED_PRECONDITION'].includes(infer.code);
    const fault =
      !proper || /internal error; the log/.test(infer.details)
        ? `ModelInfer: ${infer.code} ${infer.details}`
        : undefined;
    return outcome(`loaded, answered ${infer.code}`, fault);
  } finally {
    const bytes = RepositoryModelUnloadRequest.encode(
      RepositoryModelUnloadRequest.fromPartial({ modelName: name }),
    ).finish();
    await send('RepositoryModelUnload', bytes);
    await rm(folder, { recursive: true, force: true });
    await rm(`${directory}.elsewhere`, { force: true });
  }
}

/** Some mutations find nothing to change in a small model. */
async function unchanged(repository: Repository, source: string, directory: string): Promise<boolean> {
  const original = repository.versionDirectory(source, 2);
  const files = Object.keys((await repository.readManifest(source, 2)).files);
  for (const file of files) {
    const [before, after] = await Promise.all([readFile(join(original, file)), readFile(join(directory, file))]);
    if (!before.equals(after)) return false;
  }
  return true;
}

/** The newest version of a model under another name, as its only one. */
async function copyOf(repository: Repository, source: string, name: string, draw: Draw): Promise<string> {
  const directory = join(repository.directory, name, '1');
  await cp(repository.versionDirectory(source, 2), directory, { recursive: true });
  await writeFile(join(repository.directory, name, 'config.pbtxt'), '');
  await writeFile(join(repository.directory, name, 'pinned.json'), draw.chance(0.9) ? '{"version":1}' : '{}');
  const file = join(directory, 'heartwood.json');
  const manifest = JSON.parse(await readFile(file, 'utf8')) as object;
  await writeFile(file, JSON.stringify({ ...manifest, model: name, version: 1, parent: null }));
  return directory;
}

function inferOf(source: string, name: string): Uint8Array {
  const side = source === transformer ? 16 : 8;
  const values = Float32Array.from({ length: 3 * side * side }, (_, at) => Math.sin(at));
  const input = { name: 'pixel_values', datatype: 'FP32', shape: [1n, 3n, BigInt(side), BigInt(side)] };
  const rawInputContents = [Buffer.from(values.buffer)];
  return ModelInferRequest.encode(
    ModelInferRequest.fromPartial({ modelName: name, inputs: [input], rawInputContents }),
  ).finish();
}

function rowsOf(outcomes: readonly Outcome[], isolation: ModelRow['isolation']): ModelRow[] {
  const byMutation = new Map<string, Record<string, number>>();
  for (const { mutation, outcome } of outcomes) {
    const counts = byMutation.get(mutation) ?? {};
    counts[outcome] = (counts[outcome] ?? 0) + 1;
    byMutation.set(mutation, counts);
  }
  return [...byMutation]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([mutation, counts]) => {
      const mutants = Object.values(counts).reduce((sum, each) => sum + each, 0);
      return { isolation, mutation, mutants, outcomes: counts };
    });
}
