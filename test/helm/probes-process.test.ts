/** The rendered command lines and probes as processes: what the kubelet would start and ask, with the volumes as folders of this machine. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { IContainer, IProbe } from 'kubernetes-models/v1';
import { makeAuthority, withoutOpenssl } from '../../services/grpc/testing/certificates.js';
import { render, root, withoutHelm } from './helm.js';
import { workloadsOf } from './workloads.js';

const program = fileURLToPath(new URL('../../services/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'heartwood-pods-'));
const children = new Set<ChildProcess>();
after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

interface Ended {
  readonly code: number | null;
  readonly said: string;
}

function start(args: readonly string[]): {
  child: ChildProcess;
  ended: Promise<Ended>;
  line: (event: string) => Promise<unknown>;
} {
  const environment = { PATH: process.env['PATH'], HOME: folder };
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: environment });
  children.add(child);
  let said = '';
  const lines: Record<string, unknown>[] = [];
  const waiting = new Set<() => void>();
  for (const stream of [child.stdout, child.stderr])
    createInterface({ input: stream }).on('line', (text) => {
      said += `${text}\n`;
      if (text.startsWith('{')) lines.push(JSON.parse(text) as Record<string, unknown>);
      for (const wake of waiting) wake();
    });
  const ended = once(child, 'close').then(([code]) => {
    children.delete(child);
    for (const wake of waiting) wake();
    return { code: code as number | null, said };
  });
  const line = (event: string) =>
    new Promise<unknown>((resolve, reject) => {
      const look = (): void => {
        const found = lines.find((one) => one['event'] === event);
        if (found === undefined && children.has(child)) return;
        waiting.delete(look);
        if (found === undefined) reject(new Error(`it ended before its ${event}: ${said}`));
        else resolve(found);
      };
      waiting.add(look);
      look();
    });
  return { child, ended, line };
}

/** A container with its volumes as folders, and with free ports. */
class Pod {
  readonly #mounts: readonly (readonly [path: string, folder: string])[];

  constructor(
    readonly container: IContainer,
    volumes: string,
  ) {
    this.#mounts = (container.volumeMounts ?? []).map(({ name, mountPath }) => {
      mkdirSync(join(volumes, name), { recursive: true });
      return [mountPath, join(volumes, name)] as const;
    });
  }

  /** An argument as it is on this machine. */
  here(argument: string): string {
    const place = [...this.#mounts, ['/app', root] as const].find(
      ([path]) => argument.includes(`=${path}/`) || argument.endsWith(`=${path}`),
    );
    const moved = place ? argument.replace(`=${place[0]}`, `=${place[1]}`) : argument;
    return moved.replace('$(CPU_LIMIT)', '1');
  }

  args(): string[] {
    return [...(this.container.args ?? []), '--host=127.0.0.1', '--port=0', '--metrics-port=0'].map((one) =>
      this.here(one),
    );
  }

  /** Asks as the kubelet does; the exit code of the answer. */
  async ask(probe: IProbe | undefined, port: number): Promise<number | null> {
    const command = probe?.exec?.command?.slice(1) ?? [
      'health',
      `--address=127.0.0.1:0`,
      `--service=${probe!.grpc!.service}`,
    ];
    return (await this.health(command, port)).code;
  }

  /** The same of several, one after the other: each is a process. */
  async askAll(probes: readonly (IProbe | undefined)[], port: number): Promise<(number | null)[]> {
    const codes: (number | null)[] = [];
    for (const probe of probes) codes.push(await this.ask(probe, port));
    return codes;
  }

  async health(command: readonly string[], port: number): Promise<Ended> {
    const address = `--address=127.0.0.1:${port}`;
    return start(command.map((one) => (one.startsWith('--address=') ? address : this.here(one)))).ended;
  }
}

/** A pod of an example. Draining takes long, so that it can be asked meanwhile. */
async function podOf(
  example: string,
  component: string,
): Promise<{ pod: Pod; test: readonly string[]; volumes: string }> {
  const objects = await render(example, { 'server.stopDelayMs': 600_000 });
  const containerOf = (wanted: string, name: string) =>
    workloadsOf(objects)
      .find((workload) => workload.component === wanted)!
      .containers.find(({ container }) => container.name === name)!.container;
  const volumes = join(folder, `${example}-${component}`);
  return {
    pod: new Pod(containerOf(component, component), volumes),
    test: containerOf('test', component).args!,
    volumes,
  };
}

const probesOf = ({ container: { startupProbe, readinessProbe, livenessProbe } }: Pod) => [
  startupProbe,
  readinessProbe,
  livenessProbe,
];

test(
  'a server starts by its arguments, is found well, and stays alive while it drains',
  { skip: withoutHelm },
  async () => {
    const { pod, test: asked } = await podOf('plain', 'server');
    const { child, line } = start(pod.args());
    const { grpcPort } = (await line('ready')) as { grpcPort: number };
    assert.deepEqual(await pod.askAll(probesOf(pod), grpcPort), [0, 0, 0]);
    assert.equal((await pod.health(asked, grpcPort)).code, 0);

    child.kill('SIGTERM');
    await line('stopping');
    assert.deepEqual(await pod.askAll(probesOf(pod), grpcPort), [0, 1, 0]);
    child.kill('SIGKILL');
  },
);

const mutualTls = async (): Promise<void> => {
  const { pod, test: asked, volumes } = await podOf('tls-and-tokens', 'server');
  const clients = makeAuthority(folder, 'clients');
  const given = { tls: makeAuthority(folder, 'servers').issue('server'), probe: clients.issue('probe') };
  for (const [volume, { cert, key }] of Object.entries(given)) {
    cpSync(cert, join(volumes, volume, 'tls.crt'));
    cpSync(key, join(volumes, volume, 'tls.key'));
  }
  cpSync(clients.cert, join(volumes, 'client-ca', 'ca.crt'));
  writeFileSync(join(volumes, 'auth', 'tokens'), 'a-token-that-is-long-enough\n');

  const { child, line, ended } = start(pod.args());
  const { grpcPort } = (await line('ready')) as { grpcPort: number };
  assert.deepEqual(await pod.askAll(probesOf(pod), grpcPort), [0, 0, 0]);
  assert.equal((await pod.health(asked, grpcPort)).code, 0);
  const stranger = asked.filter((flag) => !/^--tls-(cert|key)/.test(flag));
  assert.equal((await pod.health(stranger, grpcPort)).code, 1, 'a probe without a certificate is let in');
  child.kill('SIGKILL');
  await ended;
};
test('with mutual TLS and tokens the probes have what they need', { skip: withoutHelm || withoutOpenssl }, mutualTls);

test('a pruner starts by its arguments, is found well, and ends as it is told', { skip: withoutHelm }, async () => {
  const { pod } = await podOf('plain', 'pruner');
  const { child, line, ended } = start(pod.args());
  const { grpcPort } = (await line('ready')) as { grpcPort: number };
  assert.deepEqual(await pod.askAll(probesOf(pod), grpcPort), [0, 0, 0]);
  child.kill('SIGTERM');
  assert.equal((await ended).code, 0);
});
