import type { IContainer, IPodSpec, IService } from 'kubernetes-models/v1';
import type { Rendered } from './helm.js';

export type Labels = Readonly<Record<string, string>>;

/** What runs pods: a Deployment, a DaemonSet, or the test's Pod. */
export interface Workload {
  readonly object: Rendered;
  /** "Deployment edge-heartwood-server". */
  readonly name: string;
  readonly component: string;
  readonly selector: Labels | undefined;
  readonly labels: Labels;
  readonly pod: IPodSpec;
  /** Its containers, with the name that a fault calls them by. */
  readonly containers: readonly { readonly label: string; readonly container: IContainer }[];
}

/** The one workload that is root on its nodes, and off unless asked for. */
export const privilegedComponent = 'power-mode';

interface Template {
  readonly metadata: { readonly labels: Labels };
  readonly spec: IPodSpec;
}

export function workloadsOf(objects: readonly Rendered[]): Workload[] {
  return objects.flatMap((object) => {
    if (object.kind === 'Pod') {
      const spec = object['spec'] as IPodSpec;
      return [workload(object, undefined, { metadata: { labels: object.metadata.labels ?? {} }, spec })];
    }
    if (object.kind !== 'Deployment' && object.kind !== 'DaemonSet') return [];
    const { selector, template } = object['spec'] as { selector: { matchLabels: Labels }; template: Template };
    return [workload(object, selector.matchLabels, template)];
  });
}

function workload(object: Rendered, selector: Labels | undefined, { metadata, spec }: Template): Workload {
  const name = `${object.kind} ${object.metadata.name}`;
  const all = [...(spec.initContainers ?? []), ...spec.containers];
  return {
    object,
    name,
    component: metadata.labels['app.kubernetes.io/component'] ?? '',
    selector,
    labels: metadata.labels,
    pod: spec,
    containers: all.map((container) => ({ label: `${name}, container ${container.name}`, container })),
  };
}

export const ofKind = (objects: readonly Rendered[], ...kinds: string[]): Rendered[] =>
  objects.filter(({ kind }) => kinds.includes(kind));

export const specOf = <T>(object: Rendered): T => object['spec'] as T;
export const serviceSpec = (object: Rendered) => specOf<NonNullable<IService['spec']>>(object);

/** Whether all of a selector's labels are there. An empty selector, which matches everything, is nobody's intention here. */
export function matches(selector: Labels | undefined, labels: Labels | undefined): boolean {
  const wanted = Object.entries(selector ?? {});
  return wanted.length > 0 && wanted.every(([name, value]) => labels?.[name] === value);
}
