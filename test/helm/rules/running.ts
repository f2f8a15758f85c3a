import type { IContainer, IPodSpec } from 'kubernetes-models/v1';
import { providers } from '../../../libs/runtime/providers/index.js';
import type { Rendered } from '../helm.js';
import type { Rule } from '../rule.js';
import { specOf, workloadsOf } from '../workloads.js';

const workloadOf = (objects: readonly Rendered[], component: string) =>
  workloadsOf(objects).find((workload) => workload.component === component)!;
const containerOf = (objects: readonly Rendered[], component: string): IContainer =>
  workloadOf(objects, component).containers[0]!.container;

export const limits: Rule = {
  name: 'every container says what CPU and memory it asks for and may take',
  faults: (objects) =>
    workloadsOf(objects).flatMap(({ containers }) =>
      containers.flatMap(({ label, container: { resources } }) =>
        (['requests', 'limits'] as const).flatMap((kind) =>
          ['cpu', 'memory'].filter((of) => !resources?.[kind]?.[of]).map((of) => `${label}: expected ${kind} of ${of}`),
        ),
      ),
    ),
  broken: {
    example: 'plain',
    change: (objects) => delete (containerOf(objects, 'test') as Partial<IContainer>).resources,
  },
};

export const probes: Rule = {
  name: 'what runs on is asked whether it is alive and ready, a service also whether it has started; being alive waits for no model',
  faults: (objects) =>
    workloadsOf(objects).flatMap(({ object, component, containers }) => {
      if (object.kind === 'Pod') return [];
      const wanted = [
        'readinessProbe',
        'livenessProbe',
        ...(component === 'power-mode' ? [] : ['startupProbe']),
      ] as const;
      return containers.flatMap(({ label, container }) => [
        ...wanted
          .filter((probe) => !container[probe as 'livenessProbe'])
          .map((probe) => `${label}: expected a ${probe}`),
        ...(['startupProbe', 'livenessProbe'] as const)
          .filter(
            (probe) =>
              /^(server|pruner)$/.test(component) && !JSON.stringify(container[probe]).includes('heartwood.live'),
          )
          .map((probe) => `${label}: ${probe} depends on more than the process`),
      ]);
    }),
  broken: {
    example: 'tls-and-tokens',
    change: (objects) => {
      const { exec } = containerOf(objects, 'server').livenessProbe!;
      exec!.command = exec!.command!.filter((part) => !part.startsWith('--service'));
    },
  },
};

/** Seconds that a provider is tried for before the ports open; auto tries one after the other. */
const triedFor = ({ args = [] }: IContainer): number => {
  const chosen = args.find((flag) => flag.startsWith('--provider='))?.split('=')[1] ?? 'cpu';
  const tried: readonly string[] = chosen === 'auto' ? Object.keys(providers) : [chosen];
  return Object.entries(providers).reduce(
    (sum, [name, { probeLimitMs }]) => sum + (tried.includes(name) ? probeLimitMs / 1000 : 0),
    0,
  );
};

export const timeToStart: Rule = {
  name: 'a pod may be starting for as long as its provider is tried, and a minute',
  faults: (objects) =>
    workloadsOf(objects).flatMap(({ containers }) =>
      containers.flatMap(({ label, container }) => {
        if (!container.startupProbe) return [];
        const { periodSeconds = 10, failureThreshold = 3 } = container.startupProbe;
        const given = periodSeconds * failureThreshold;
        const needed = triedFor(container) + 60;
        return given >= needed ? [] : [`${label}: gets ${given} s to start and needs ${needed}`];
      }),
    ),
  broken: {
    example: 'jetson-orin',
    change: (objects) => (containerOf(objects, 'server').startupProbe!.failureThreshold = 24),
  },
};

export const noGrpcProbeThroughTls: Rule = {
  name: "the kubelet's own gRPC probe asks only where there is no TLS",
  faults: (objects) =>
    workloadsOf(objects).flatMap(({ containers }) =>
      containers
        .filter(
          ({ container: { args = [] } }) => args.some((flag) => flag.startsWith('--tls-cert=')) && args[0] !== 'health',
        )
        .flatMap(({ label, container }) =>
          (['startupProbe', 'readinessProbe', 'livenessProbe'] as const)
            .filter((probe) => container[probe]?.grpc)
            .map((probe) => `${label}: ${probe} speaks no TLS`),
        ),
    ),
  broken: {
    example: 'tls-and-tokens',
    change: (objects) => Object.assign(containerOf(objects, 'pruner').readinessProbe!, { grpc: { port: 8003 } }),
  },
};

/** Milliseconds of a flag; 0 where it is not given. */
const flagOf = (args: readonly string[] | undefined, name: string): number =>
  Number(args?.find((flag) => flag.startsWith(`--${name}=`))?.split('=')[1] ?? 0);

export const timeToStop: Rule = {
  name: 'a pod gets longer to stop than its drain takes',
  faults: (objects) =>
    workloadsOf(objects).flatMap(({ name, pod, containers }) => {
      const needed = Math.max(
        ...containers.map(({ container: { args } }) => flagOf(args, 'stop-delay-ms') + flagOf(args, 'drain-ms')),
      );
      const given = 1000 * (pod.terminationGracePeriodSeconds ?? 30);
      return given > needed + 2000 ? [] : [`${name}: gets ${given} ms and needs ${needed}`];
    }),
  broken: {
    example: 'plain',
    change: (objects) => (workloadOf(objects, 'server').pod.terminationGracePeriodSeconds = 36),
  },
};

interface Update {
  readonly type: string;
  readonly rollingUpdate?: { readonly maxSurge: number; readonly maxUnavailable: number };
}

export const upgradesWithoutAGap: Rule = {
  name: 'a server goes only when its successor is ready; health says NOT_SERVING for a while before it ends',
  faults: (objects) =>
    workloadsOf(objects)
      .filter(({ component }) => component === 'server')
      .flatMap(({ name, object, containers }) => {
        const { strategy, updateStrategy } = specOf<{ strategy?: Update; updateStrategy?: Update }>(object);
        const rolling = (object.kind === 'DaemonSet' ? updateStrategy : strategy)?.rollingUpdate;
        return [
          ...(rolling && rolling.maxUnavailable === 0 && rolling.maxSurge > 0
            ? []
            : [`${name}: goes before another comes`]),
          ...(flagOf(containers[0]!.container.args, 'stop-delay-ms') > 0 ? [] : [`${name}: stops without a warning`]),
        ];
      }),
  broken: {
    example: 'jetson-orin',
    change: (objects) =>
      delete specOf<{ updateStrategy?: Update }>(workloadOf(objects, 'server').object).updateStrategy,
  },
};

export const oneEmbeddedDatabase: Rule = {
  name: 'without a database of its own there is one pruner at a time',
  faults: (objects) =>
    workloadsOf(objects)
      .filter(({ component }) => component === 'pruner' || component === 'worker')
      .filter(
        ({ containers }) => !(containers[0]!.container.env ?? []).some(({ name }) => name === 'HEARTWOOD_DATABASE'),
      )
      .flatMap(({ name, component, object }) => {
        const { replicas, strategy } = specOf<{ replicas?: number; strategy?: Update }>(object);
        const alone = component === 'pruner' && replicas === 1 && strategy?.type === 'Recreate';
        return alone ? [] : [`${name}: may run beside another`];
      }),
  broken: {
    example: 'plain',
    change: (objects) =>
      Object.assign(workloadOf(objects, 'pruner').object['spec'] as object, { strategy: { type: 'RollingUpdate' } }),
  },
};

export const oneNodeForOneVolume: Rule = {
  name: 'pods that share a volume of one node, or a folder of it, are put together',
  faults: (objects) => {
    const claims = objects.filter(({ kind }) => kind === 'PersistentVolumeClaim');
    const onOneNode = (volume: NonNullable<IPodSpec['volumes']>[number]): boolean => {
      const claim = claims.find(({ metadata }) => metadata.name === volume.persistentVolumeClaim?.claimName);
      const modes = claim && specOf<{ accessModes: string[] }>(claim).accessModes;
      return volume.hostPath !== undefined || modes?.join() === 'ReadWriteOnce';
    };
    return workloadsOf(objects)
      .filter(({ object, pod }) => {
        const repository = pod.volumes?.find(({ name }) => name === 'repository');
        return object.kind === 'Deployment' && repository !== undefined && onOneNode(repository);
      })
      .filter(({ labels, pod }) => {
        const terms = pod.affinity?.podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
        const wanted = terms[0]?.labelSelector?.matchLabels ?? {};
        // Its own label too: the first pod has nobody to be put beside.
        const own = Object.entries(wanted).every(([name, value]) => labels[name] === value);
        return !(own && 'heartwood/repository' in wanted && terms[0]?.topologyKey === 'kubernetes.io/hostname');
      })
      .map(({ name }) => `${name}: may be put on a node without its volume`);
  },
  broken: { example: 'plain', change: (objects) => delete workloadOf(objects, 'server').pod.affinity },
};
