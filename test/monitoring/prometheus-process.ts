import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';

/** Why there is no Prometheus to run; false where there is one. */
export const missing =
  spawnSync('prometheus', ['--version']).status === 0 ? false : 'prometheus is not installed (Debian: prometheus)';

/** A series with its value now, as the API of Prometheus answers. */
export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface RunningPrometheus {
  query(expression: string): Promise<Sample[]>;
  /** The `data` of another call of its HTTP API. */
  get(path: string, parameters: Record<string, string>): Promise<unknown>;
}

/** Runs Prometheus, with a look at `target` (host:port) and at the rules every second, until the test ends. */
export async function prometheus(
  context: TestContext,
  target: string,
  ruleFiles: readonly string[],
): Promise<RunningPrometheus> {
  const folder = mkdtempSync(join(tmpdir(), 'heartwood-prometheus-'));
  const config = join(folder, 'prometheus.yml');
  // JSON is YAML.
  writeFileSync(
    config,
    JSON.stringify({
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
      rule_files: ruleFiles,
      scrape_configs: [{ job_name: 'heartwood', static_configs: [{ targets: [target] }] }],
    }),
  );
  const child = spawn(
    'prometheus',
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      '--web.listen-address=127.0.0.1:0',
      '--enable-feature=exemplar-storage',
      '--log.format=json',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  context.after(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill();
      await once(child, 'exit');
    }
    rmSync(folder, { recursive: true, force: true });
  });
  const address = await addressOf(child.stderr);
  const get = async (path: string, parameters: Record<string, string>): Promise<unknown> => {
    const response = await fetch(`http://${address}/api/v1/${path}?${new URLSearchParams(parameters).toString()}`);
    const answer = (await response.json()) as { status: string; error?: string; data: unknown };
    if (answer.status !== 'success') throw new Error(`${path} ${JSON.stringify(parameters)}: ${answer.error}`);
    return answer.data;
  };
  return {
    get,
    async query(expression) {
      const { result } = (await get('query', { query: expression })) as {
        result: { metric: Record<string, string>; value: [number, string] }[];
      };
      return result.map(({ metric, value: [, value] }) => ({ metric, value: Number(value) }));
    },
  };
}

/** The port that it took, and that it is ready, are in its log. */
async function addressOf(log: NodeJS.ReadableStream): Promise<string> {
  const said: string[] = [];
  let address: string | undefined;
  const lines = createInterface({ input: log });
  for await (const line of lines) {
    said.push(line);
    const entry = JSON.parse(line) as { msg?: string; address?: string };
    if (entry.msg === 'Listening on') address = entry.address;
    if (entry.msg?.startsWith('Server is ready') && address !== undefined) {
      log.resume();
      return address;
    }
  }
  throw new Error(`prometheus ended before it was ready: ${said.slice(-3).join('; ')}`);
}
