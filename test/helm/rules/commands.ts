import type { IContainer } from 'kubernetes-models/v1';
import { refusals } from '../command-line.js';
import type { Rendered } from '../helm.js';
import type { Rule } from '../rule.js';
import { privilegedComponent, workloadsOf } from '../workloads.js';

/** The arguments that a container's process gets: `$(NAME)` is the variable, of a field of the resources 2. */
function argumentsOf({ args = [], env = [] }: IContainer, given: readonly string[] = args): string[] {
  return given.map((argument) =>
    argument.replace(/\$\((\w+)\)/g, (text, wanted: string) => {
      const variable = env.find(({ name }) => name === wanted);
      return variable?.value ?? (variable?.valueFrom?.resourceFieldRef ? '2' : text);
    }),
  );
}

/** Folders and files that a flag names; of each the path. */
const pathFlags = /^--(?:repository|data-directory|tls-[a-z-]+|auth-token-file|energy-root)=(\/.*)$/;

export const commandLines: Rule = {
  name: 'the command line takes the arguments of every container and probe',
  faults: (objects) =>
    workloadsOf(objects)
      .filter(({ component }) => component !== privilegedComponent)
      .flatMap(({ containers }) =>
        containers.flatMap(({ label, container }) => {
          const variables = new Set((container.env ?? []).map(({ name }) => name));
          const probes = (['startupProbe', 'readinessProbe', 'livenessProbe'] as const).flatMap((probe) => {
            const asked = container[probe]?.exec?.command;
            if (!asked) return [];
            const [program, ...args] = asked;
            return program === 'heartwood'
              ? refusals(args, new Set())
              : [`${probe}: expected heartwood, got ${program}`];
          });
          return [...refusals(argumentsOf(container), variables), ...probes].map((fault) => `${label}: ${fault}`);
        }),
      ),
  broken: {
    example: 'plain',
    change: (objects) => first(objects, 'server').args!.push('--wokers=2'),
  },
};

export const paths: Rule = {
  name: 'what a flag names lies in a volume that is mounted',
  faults: (objects) =>
    workloadsOf(objects).flatMap(({ containers }) =>
      containers.flatMap(({ label, container: { args = [], volumeMounts = [] } }) =>
        args.flatMap((argument) => {
          const path = pathFlags.exec(argument)?.[1];
          const inside = ({ mountPath }: { mountPath: string }) =>
            path === mountPath || path!.startsWith(`${mountPath}/`) || mountPath.startsWith(`${path}/`);
          return path === undefined || volumeMounts.some(inside)
            ? []
            : [`${label}: nothing is mounted for ${argument}`];
        }),
      ),
    ),
  broken: {
    example: 'tls-and-tokens',
    change: (objects) => (first(objects, 'server').volumeMounts = []),
  },
};

const first = (objects: readonly Rendered[], component: string): IContainer =>
  workloadsOf(objects).find((workload) => workload.component === component)!.containers[0]!.container;
