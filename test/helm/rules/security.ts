import type { IContainer, IPodSpec } from 'kubernetes-models/v1';
import type { Rendered } from '../helm.js';
import type { Rule } from '../rule.js';
import { ofKind, privilegedComponent, type Workload, workloadsOf } from '../workloads.js';

/** The user and group of the image. */
const user = 10001;

const unprivileged = (objects: readonly Rendered[]): Workload[] =>
  workloadsOf(objects).filter(({ component }) => component !== privilegedComponent);

const find = (objects: readonly Rendered[], component: string): Workload =>
  workloadsOf(objects).find((workload) => workload.component === component)!;
const containerOf = (objects: readonly Rendered[], component: string): IContainer =>
  find(objects, component).containers[0]!.container;

export const nobodyIsPrivileged: Rule = {
  name: 'only the power mode, which is off unless asked for, is privileged or in a namespace of the node',
  faults: (objects) =>
    unprivileged(objects).flatMap(({ name, pod, containers }) => [
      ...(['hostPID', 'hostIPC', 'hostNetwork'] as const)
        .filter((field) => pod[field])
        .map((field) => `${name}: ${field}`),
      ...containers
        .filter(({ container }) => container.securityContext?.privileged)
        .map(({ label }) => `${label}: privileged`),
      ...containers
        .filter(({ container }) => (container.securityContext?.capabilities?.add ?? []).length > 0)
        .map(({ label }) => `${label}: adds capabilities`),
    ]),
  broken: {
    example: 'plain',
    change: (objects) => Object.assign(containerOf(objects, 'server').securityContext!, { privileged: true }),
  },
};

export const nobodyIsRoot: Rule = {
  name: `pods run as user and group ${user}, under the runtime's seccomp profile`,
  faults: (objects) =>
    unprivileged(objects).flatMap(({ name, pod: { securityContext: is } }) => {
      const wanted = { runAsUser: user, runAsGroup: user, fsGroup: user, runAsNonRoot: true } as const;
      const wrong = Object.entries(wanted).filter(([field, value]) => is?.[field as keyof typeof wanted] !== value);
      return [
        ...wrong.map(([field, value]) => `${name}: expected ${field} ${value}`),
        ...(is?.seccompProfile?.type === 'RuntimeDefault' ? [] : [`${name}: expected seccomp RuntimeDefault`]),
      ];
    }),
  broken: {
    example: 'plain',
    change: (objects) =>
      delete (find(objects, 'pruner').pod.securityContext as { seccompProfile?: object }).seccompProfile,
  },
};

export const nothingToGain: Rule = {
  name: 'containers have a read-only root, no capability, and no way to more',
  faults: (objects) =>
    unprivileged(objects).flatMap(({ containers }) =>
      containers.flatMap(({ label, container: { securityContext: is } }) => [
        ...(is?.readOnlyRootFilesystem === true ? [] : [`${label}: expected readOnlyRootFilesystem`]),
        ...(is?.allowPrivilegeEscalation === false ? [] : [`${label}: expected allowPrivilegeEscalation false`]),
        ...(is?.capabilities?.drop?.join() === 'ALL' ? [] : [`${label}: expected to drop ALL capabilities`]),
        ...(is?.runAsUser === undefined || is.runAsUser === user ? [] : [`${label}: runs as ${is.runAsUser}`]),
      ]),
    ),
  broken: {
    example: 'postgres-and-workers',
    change: (objects) =>
      Object.assign(containerOf(objects, 'worker').securityContext!, { readOnlyRootFilesystem: false }),
  },
};

/** What a release may see of its node: the folder of the repository, where it is one, and /sys. */
export const onlySysOfTheNode: Rule = {
  name: "of the node a pod sees /sys, read-only, and the repository's folder",
  faults: (objects) =>
    workloadsOf(objects).flatMap(({ name, pod, containers }) =>
      (pod.volumes ?? []).flatMap(({ name: volume, hostPath }) => {
        if (!hostPath || (volume === 'repository' && hostPath.path === '/var/lib/heartwood/repository')) return [];
        if (hostPath.path !== '/sys') return [`${name}: mounts ${hostPath.path} of the node`];
        return containers.flatMap(({ label, container: { volumeMounts = [] } }) =>
          volumeMounts
            .filter((mount) => mount.name === volume && !mount.readOnly)
            .map(() => `${label}: may write to /sys`),
        );
      }),
    ),
  broken: {
    example: 'jetson-orin',
    change: (objects) => {
      const mounts = containerOf(objects, 'server').volumeMounts!;
      Object.assign(
        mounts.find(({ name }) => name === 'sys')!,
        { readOnly: false },
      );
    },
  },
};

export const noTokens: Rule = {
  name: 'no pod has a token for the API server, nor the addresses of Services in its environment',
  faults: (objects) => [
    ...ofKind(objects, 'ServiceAccount')
      .filter((account) => account['automountServiceAccountToken'] !== false)
      .map(({ metadata }) => `ServiceAccount ${metadata.name}: mounts its token`),
    ...workloadsOf(objects).flatMap(({ name, pod }) =>
      (['automountServiceAccountToken', 'enableServiceLinks'] as const)
        .filter((field) => pod[field] !== false)
        .map((field) => `${name}: expected ${field} false`),
    ),
  ],
  broken: {
    example: 'plain',
    change: (objects) => delete (find(objects, 'test').pod as Partial<IPodSpec>).automountServiceAccountToken,
  },
};
