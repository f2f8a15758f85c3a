import { encodePng } from '../../../libs/data/image.js';
import type { Repository } from '../../../libs/store/repository.js';
import { median } from '../../../libs/pruning/statistics/quantiles.js';
import { checkHealthy, sendHostile, type Target, type Verdict } from './requests.js';
import { startServer } from './server.js';
import { openWire } from './wire.js';

export interface RequestRun {
  readonly rows: readonly { kind: string; sent: number; codes: Record<string, number> }[];
  readonly sent: number;
  readonly faults: readonly string[];
  readonly hangs: number;
  readonly crashes: number;
  readonly complaints: readonly string[];
  /** Of resident MiB, looked at after every batch. */
  readonly largestMiB: number;
  readonly growth: number;
  readonly exitCode: number | null;
}

export interface RunSettings {
  readonly seed: number;
  readonly count: number;
  log?(line: string): void;
}

const batch = 100;
const together = 8;

/** Sends the requests of a seed in batches; after each of them a well-formed one has to be answered rightly. */
export async function fuzzRequests(repository: Repository, { seed, count, log }: RunSettings): Promise<RequestRun> {
  const image = await encodePng({ data: new Uint8Array(3 * 64).fill(90), width: 8, height: 8, channels: 3 });
  const flags = ['--load-control', 'explicit', '--load-model', '*', '--threads', '1', '--log-level', 'info'];
  let server = await startServer(repository.directory, flags);
  const verdicts: Verdict[] = [];
  const faults: string[] = [];
  const complaints: string[] = [];
  let crashes = 0;
  const resident: number[] = [];
  for (let from = 0; from < count; from += batch) {
    const until = Math.min(count, from + batch);
    // HTTP/2 itself ends a connection on which a thousand calls were cancelled at more than 33 a second.
    const target: Target = { port: server.port, wire: openWire(server.port), image };
    let next = from;
    const work = async (): Promise<void> => {
      while (next < until) verdicts.push(await sendHostile(target, seed, next++));
    };
    await Promise.all(Array.from({ length: together }, work));
    await checkHealthy(target).catch((thrown: unknown) => faults.push(`after request ${until - 1}: ${String(thrown)}`));
    target.wire.close();
    if (!server.alive()) {
      crashes++;
      complaints.push(...server.complaints.slice(-20));
      server = await startServer(repository.directory, flags);
    }
    resident.push(await server.residentMiB());
    if (until % 1000 === 0) log?.(`${until} requests, ${crashes} crashes, ${resident.at(-1)?.toFixed(0)} MiB resident`);
  }
  complaints.push(...server.complaints);
  const exitCode = await server.stop();
  faults.unshift(...verdicts.flatMap(({ fault }) => fault ?? []));
  const hangs = verdicts.filter(({ code }) => code === 'HANG').length;
  return {
    rows: rowsOf(verdicts),
    sent: verdicts.length,
    faults,
    hangs,
    crashes,
    complaints,
    exitCode,
    largestMiB: Math.max(...resident),
    growth: growthOf(resident),
  };
}

/** The median of the last fifth over that of the second: what comes and goes with the collector's turns is no growth. */
function growthOf(resident: readonly number[]): number {
  const fifth = Math.max(1, Math.floor(resident.length / 5));
  return median(resident.slice(-fifth)) / median(resident.slice(resident.length > 1 ? fifth : 0).slice(0, fifth));
}

function rowsOf(verdicts: readonly Verdict[]): RequestRun['rows'] {
  const byKind = new Map<string, Record<string, number>>();
  for (const { kind, code } of verdicts) {
    const codes = byKind.get(kind) ?? {};
    codes[code] = (codes[code] ?? 0) + 1;
    byKind.set(kind, codes);
  }
  return [...byKind]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([kind, codes]) => ({ kind, sent: Object.values(codes).reduce((sum, each) => sum + each, 0), codes }));
}
