import { randomBytes } from 'node:crypto';
import {
  GenericContainer,
  getContainerRuntimeClient,
  Network,
  type StartedNetwork,
  type StartedTestContainer,
  Wait,
  type WaitStrategy,
} from 'testcontainers';
import { connectPruning, type PruningClient } from '../../services/pruner/client.js';
import { connectInference, type InferenceClient } from '../../services/server/client.js';
import { freePort } from '../../libs/store/testing/free-port.js';
import { engineContainer, imageOf, LockedContainer, logOf } from './locked-container.js';

const repository = '/var/lib/heartwood/repository';
const jobs = '/var/lib/heartwood/pruner';

/** The parts, by the names that they have on the network. */
export type Role = 'postgresql' | 'pruner' | 'server' | 'prometheus';

/** Long, for a machine on which everything takes its time. */
const startMs = 300_000;

const prunerFlags = [
  ...['--repository', repository, '--data-directory', jobs],
  ...['--database', 'postgres://heartwood@postgresql/postgres'],
  // Longer than the network is cut off for, and what putting it back takes.
  ...['--lease-seconds', '60'],
];

/** JSON is YAML. */
const prometheusSettings = JSON.stringify({
  global: { scrape_interval: '1s', scrape_timeout: '1s' },
  scrape_configs: [{ job_name: 'heartwood', static_configs: [{ targets: ['server:8002', 'pruner:8004'] }] }],
});

interface Parts {
  readonly network: StartedNetwork;
  readonly volumes: readonly string[];
  readonly containers: Map<Role, StartedTestContainer>;
}

/** A pruner, its PostgreSQL, a server and a Prometheus on a network of their own, with the repository on a volume that the first and third share. */
export class Fleet {
  private constructor(
    private readonly parts: Parts,
    readonly pruning: PruningClient,
    readonly inference: InferenceClient,
    readonly prometheusUrl: string,
  ) {}

  static async start(): Promise<Fleet> {
    const mark = randomBytes(6).toString('hex');
    const [models, files] = [`heartwood-models-${mark}`, `heartwood-jobs-${mark}`];
    const parts: Parts = {
      network: await new Network().start(),
      volumes: [models, files],
      containers: new Map(),
    };
    const start = async (role: Role, container: GenericContainer, wait: WaitStrategy): Promise<void> => {
      container.withNetwork(parts.network).withNetworkAliases(role);
      container.withWaitStrategy(wait).withStartupTimeout(startMs);
      parts.containers.set(role, await container.start());
    };
    // Ports that stay a container's when it is started again; engine-chosen ones would change.
    const [prunerPort, serverPort, prometheusPort] = [await freePort(), await freePort(), await freePort()];
    const pruner = new LockedContainer(imageOf('IMAGE'))
      .withCommand(['pruner', ...prunerFlags])
      .withBindMounts([
        { source: models, target: repository },
        { source: files, target: jobs },
      ])
      .withExposedPorts({ container: 8003, host: prunerPort });
    const server = new LockedContainer(imageOf('IMAGE'))
      .withBindMounts([{ source: models, target: repository }])
      .withExposedPorts({ container: 8001, host: serverPort });
    const prometheus = new GenericContainer(imageOf('PROMETHEUS'))
      .withCopyContentToContainer([{ content: prometheusSettings, target: '/etc/prometheus/prometheus.yml' }])
      .withExposedPorts({ container: 9090, host: prometheusPort });
    try {
      const database = new GenericContainer(imageOf('POSTGRESQL'));
      await start('postgresql', database, Wait.forLogMessage('ready to accept connections'));
      await start('pruner', pruner, Wait.forHealthCheck());
      await start('server', server, Wait.forHealthCheck());
      await start('prometheus', prometheus, Wait.forHttp('/-/ready', 9090));
    } catch (error) {
      const said = await remove(parts);
      throw new Error(`the containers did not start: ${String(error)}\n${said}`, { cause: error });
    }
    return new Fleet(
      parts,
      connectPruning(`127.0.0.1:${prunerPort}`),
      connectInference(`127.0.0.1:${serverPort}`),
      `http://127.0.0.1:${prometheusPort}`,
    );
  }

  id(role: Role): string {
    return this.parts.containers.get(role)!.getId();
  }

  /** The last lines that it wrote. */
  log(role: Role): Promise<string> {
    return logOf(this.id(role));
  }

  /** Starts again a container that has ended; the services' clients then find it where it was. */
  async startAgain(role: Role): Promise<void> {
    await (await engineContainer(this.id(role))).start();
  }

  /** Takes a container off the network without a word to those that talk to it. */
  async cut(role: Role): Promise<void> {
    await (await this.#network()).disconnect({ Container: this.id(role) });
  }

  /** Puts it back under its name. */
  async mend(role: Role): Promise<void> {
    await (await this.#network()).connect({ Container: this.id(role), EndpointConfig: { Aliases: [role] } });
  }

  async stop(): Promise<void> {
    this.pruning.close();
    this.inference.close();
    await remove(this.parts);
  }

  async #network() {
    const { container } = await getContainerRuntimeClient();
    return container.dockerode.getNetwork(this.parts.network.getId());
  }
}

/** Removes all of it, one that did not come up included. @returns the last lines of everyone */
async function remove({ network, volumes, containers }: Parts): Promise<string> {
  const { container } = await getContainerRuntimeClient();
  const filters = { network: [network.getId()] };
  const joined = await container.dockerode.listContainers({ all: true, filters });
  const ids = new Set([...joined.map(({ Id }) => Id), ...[...containers.values()].map((one) => one.getId())]);
  const said: string[] = [];
  for (const id of ids) {
    said.push(await logOf(id));
    await container.getById(id).remove({ force: true, v: true });
  }
  await network.stop();
  for (const name of volumes) await container.dockerode.getVolume(name).remove({ force: true });
  return said.join('\n');
}
