import type { INetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1';
import type { Rendered } from '../helm.js';
import type { Rule } from '../rule.js';
import { type Labels, matches, ofKind, serviceSpec, specOf, type Workload, workloadsOf } from '../workloads.js';

const running = (objects: readonly Rendered[]): Workload[] =>
  workloadsOf(objects).filter(({ object }) => object.kind !== 'Pod');
const selected = (objects: readonly Rendered[], selector: Labels | undefined): Workload[] =>
  running(objects).filter(({ labels }) => matches(selector, labels));
const called = ({ kind, metadata }: Rendered) => `${kind} ${metadata.name}`;

/** The selector of pods in an object, where it has one. */
function podSelector(object: Rendered): Labels | undefined {
  if (object.kind === 'Service') return serviceSpec(object).selector;
  if (object.kind === 'NetworkPolicy')
    return specOf<{ podSelector: { matchLabels: Labels } }>(object).podSelector.matchLabels;
  return specOf<{ selector: { matchLabels: Labels } }>(object).selector.matchLabels;
}

export const selectors: Rule = {
  name: 'every selector picks the pods of one workload',
  faults: (objects) => [
    ...running(objects)
      .filter(({ selector, labels }) => !matches(selector, labels))
      .map(({ name }) => `${name}: does not select its own pods`),
    ...ofKind(objects, 'Deployment', 'DaemonSet', 'Service', 'NetworkPolicy', 'PodDisruptionBudget', 'PodMonitor')
      .filter((object) => selected(objects, podSelector(object)).length !== 1)
      .map((object) => `${called(object)}: selects ${selected(objects, podSelector(object)).length} workloads`),
    ...ofKind(objects, 'ServiceMonitor')
      .filter((object) => {
        const services = ofKind(objects, 'Service').filter(({ metadata }) =>
          matches(podSelector(object), metadata.labels),
        );
        return services.length !== 1;
      })
      .map((object) => `${called(object)}: does not select one Service`),
    ...ofKind(objects, 'HorizontalPodAutoscaler')
      .filter((object) => {
        const { kind, name } = specOf<{ scaleTargetRef: { kind: string; name: string } }>(object).scaleTargetRef;
        return !ofKind(objects, kind).some(({ metadata }) => metadata.name === name);
      })
      .map((object) => `${called(object)}: scales what is not there`),
  ],
  broken: {
    example: 'plain',
    change: (objects) => {
      const { selector } = serviceSpec(ofKind(objects, 'Service')[0]!);
      delete selector!['app.kubernetes.io/component'];
    },
  },
};

const portsOf = ({ containers }: Workload) => containers.flatMap(({ container }) => container.ports ?? []);

export const ports: Rule = {
  name: 'Services, probes, monitors and network policies name ports that containers have',
  faults: (objects) => {
    const has = (workload: Workload, port: unknown) =>
      portsOf(workload).some(({ name, containerPort }) => name === port || containerPort === port);
    const faults: string[] = [];
    const check = (object: string, workloads: readonly Workload[], wanted: readonly unknown[]) => {
      for (const workload of workloads)
        for (const port of wanted)
          if (!has(workload, port)) faults.push(`${object}: ${workload.name} has no port ${String(port)}`);
    };
    for (const object of ofKind(objects, 'Service')) {
      const { selector, ports: served = [] } = serviceSpec(object);
      const wanted = served.map(({ targetPort, port }) => targetPort ?? port);
      check(called(object), selected(objects, selector), wanted);
    }
    for (const object of ofKind(objects, 'PodMonitor')) {
      const endpoints = specOf<{ podMetricsEndpoints: { port: string }[] }>(object).podMetricsEndpoints;
      const wanted = endpoints.map(({ port }) => port);
      check(called(object), selected(objects, podSelector(object)), wanted);
    }
    for (const object of ofKind(objects, 'ServiceMonitor')) {
      const services = ofKind(objects, 'Service').filter(({ metadata }) =>
        matches(podSelector(object), metadata.labels),
      );
      const names = services.flatMap((service) => (serviceSpec(service).ports ?? []).map(({ name }) => name));
      for (const { port } of specOf<{ endpoints: { port: string }[] }>(object).endpoints)
        if (!names.includes(port)) faults.push(`${called(object)}: its Service has no port ${port}`);
    }
    for (const object of ofKind(objects, 'NetworkPolicy')) {
      const { ingress = [] } = specOf<NonNullable<INetworkPolicy['spec']>>(object);
      const wanted = ingress.flatMap((rule) => (rule.ports ?? []).map(({ port }) => port));
      const open = selected(objects, podSelector(object));
      check(called(object), open, wanted);
      for (const workload of open)
        for (const { containerPort } of portsOf(workload))
          if (!wanted.includes(containerPort)) faults.push(`${called(object)}: closes port ${containerPort}`);
    }
    for (const workload of running(objects))
      for (const { label, container } of workload.containers)
        for (const probe of ['startupProbe', 'readinessProbe', 'livenessProbe'] as const) {
          const asked = container[probe];
          const address = asked?.exec?.command?.find((part) => part.startsWith('--address='));
          const port = asked?.grpc?.port ?? asked?.httpGet?.port ?? (address && Number(address.split(':').at(-1)));
          if (port !== undefined) check(`${label}, ${probe}`, [workload], [port]);
        }
    return faults;
  },
  broken: {
    example: 'plain',
    change: (objects) => (serviceSpec(ofKind(objects, 'Service')[0]!).ports![0]!.targetPort = 'http'),
  },
};

/** Of what the operator makes by hand, by the names that the examples use. */
const madeByHand: Readonly<Record<string, readonly string[]>> = {
  Secret: [
    'heartwood-server-tls',
    'heartwood-clients-ca',
    'heartwood-probe-tls',
    'heartwood-tokens',
    'heartwood-pruner-tls',
    'heartwood-database',
  ],
  PersistentVolumeClaim: ['checkpoints'],
};

export const references: Rule = {
  name: 'every Secret, ConfigMap, claim, account and volume that is named is there, and every volume is mounted',
  faults: (objects) => {
    const there = (kind: string, name: string) =>
      (madeByHand[kind] ?? []).includes(name) || ofKind(objects, kind).some(({ metadata }) => metadata.name === name);
    return workloadsOf(objects).flatMap(({ name, pod, containers }) => {
      const named: [string, string | undefined][] = [
        ['ServiceAccount', pod.serviceAccountName],
        ...(pod.volumes ?? []).flatMap(
          ({ secret, configMap, persistentVolumeClaim }): [string, string | undefined][] => [
            ['Secret', secret?.secretName],
            ['ConfigMap', configMap?.name],
            ['PersistentVolumeClaim', persistentVolumeClaim?.claimName],
          ],
        ),
        ...containers.flatMap(({ container: { env = [] } }) =>
          env.flatMap(({ valueFrom }): [string, string | undefined][] => [
            ['Secret', valueFrom?.secretKeyRef?.name],
            ['ConfigMap', valueFrom?.configMapKeyRef?.name],
          ]),
        ),
      ];
      const volumes = (pod.volumes ?? []).map((volume) => volume.name);
      const mounts = containers.flatMap(({ container }) => container.volumeMounts ?? []);
      return [
        ...named
          .filter(([kind, reference]) => reference !== undefined && !there(kind, reference))
          .map(([kind, reference]) => `${name}: no ${kind} ${reference}`),
        ...mounts.filter((mount) => !volumes.includes(mount.name)).map((mount) => `${name}: no volume ${mount.name}`),
        ...volumes
          .filter((volume) => !mounts.some((mount) => mount.name === volume))
          .map((volume) => `${name}: volume ${volume} is not mounted`),
        ...containers.flatMap(({ label, container: { volumeMounts = [] } }) =>
          volumeMounts
            .filter(({ mountPath }, index) => volumeMounts.findIndex((other) => other.mountPath === mountPath) < index)
            .map(({ mountPath }) => `${label}: two mounts at ${mountPath}`),
        ),
      ];
    });
  },
  broken: {
    example: 'plain',
    change: (objects) => ((ofKind(objects, 'PersistentVolumeClaim')[0]!.metadata as { name: string }).name = 'other'),
  },
};

/** What a release is found by later; https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/ */
const common = ['name', 'instance', 'component', 'version', 'part-of', 'managed-by'].map(
  (label) => `app.kubernetes.io/${label}`,
);

export const labels: Rule = {
  name: "every object has Kubernetes' common labels, and is in the release's namespace",
  faults: (objects) =>
    objects.flatMap((object) => [
      ...common
        .filter((label) => !object.metadata.labels?.[label])
        .map((label) => `${called(object)}: expected the label ${label}`),
      ...(object.metadata.namespace === 'models' ? [] : [`${called(object)}: expected the release's namespace`]),
    ]),
  broken: {
    example: 'plain',
    change: (objects) => delete (objects[0]!.metadata.labels as Record<string, string>)['app.kubernetes.io/component'],
  },
};
