// Validators that kubernetes-models compiled from the OpenAPI documents of Kubernetes and of Prometheus' operator.
import {
  PodMonitor,
  PrometheusRule,
  ServiceMonitor,
} from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';
import { DaemonSet, Deployment } from 'kubernetes-models/apps/v1';
import { HorizontalPodAutoscaler } from 'kubernetes-models/autoscaling/v2';
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1';
import { ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount } from 'kubernetes-models/v1';
import type { Rendered } from './helm.js';

const kinds = {
  'v1/ConfigMap': ConfigMap,
  'v1/PersistentVolumeClaim': PersistentVolumeClaim,
  'v1/Pod': Pod,
  'v1/Service': Service,
  'v1/ServiceAccount': ServiceAccount,
  'apps/v1/DaemonSet': DaemonSet,
  'apps/v1/Deployment': Deployment,
  'autoscaling/v2/HorizontalPodAutoscaler': HorizontalPodAutoscaler,
  'networking.k8s.io/v1/NetworkPolicy': NetworkPolicy,
  'policy/v1/PodDisruptionBudget': PodDisruptionBudget,
  'monitoring.coreos.com/v1/PodMonitor': PodMonitor,
  'monitoring.coreos.com/v1/PrometheusRule': PrometheusRule,
  'monitoring.coreos.com/v1/ServiceMonitor': ServiceMonitor,
} as const;

/** Names, where Kubernetes wants a label of the DNS, and everything else that its schema calls a string and its code reads. */
const dnsLabel = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;
const labelValue = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

/** What is wrong with an object, each in a line; nothing where it is as the API server wants it. */
export function faultsOf(object: Rendered): string[] {
  const key = `${object.apiVersion}/${object.kind}`;
  if (!Object.hasOwn(kinds, key)) return [`${key}: expected one of ${Object.keys(kinds).join(', ')}`];
  const kind = kinds[key as keyof typeof kinds];
  const { watched, unread } = watchReads(object);
  const faults: string[] = [];
  try {
    kind.prototype.validate.call(watched);
  } catch (error) {
    faults.push(...(error as Error).message.split(', '));
  }
  faults.push(...unread().map((path) => `${path}: no such field`));
  const { name, labels = {} } = object.metadata;
  if (!dnsLabel.test(name)) faults.push(`metadata/name: expected a label of the DNS, got ${name}`);
  for (const [label, value] of Object.entries(labels)) {
    if (!labelValue.test(value)) faults.push(`metadata/labels/${label}: expected a label's value, got ${value}`);
  }
  return faults.map((fault) => `${object.kind} ${name}: ${fault}`);
}

/**
 * Kubernetes' schemas let unknown fields pass, though its API server warns of them and drops them. A validator reads every field that its
 * schema knows (and every entry of a map), so what it has never read is unknown.
 */
function watchReads(object: object): { watched: object; unread: () => string[] } {
  const visits: { value: object; path: string; read: Set<string> }[] = [];
  const watch = (value: object, path: string): object => {
    const read = new Set<string>();
    const inside = new Map<string, object>();
    visits.push({ value, path, read });
    return new Proxy(value, {
      get(target, key) {
        const found: unknown = Reflect.get(target, key);
        if (typeof key !== 'string') return found;
        read.add(key);
        if (typeof found !== 'object' || found === null) return found;
        if (!inside.has(key)) inside.set(key, watch(found, `${path}/${key}`));
        return inside.get(key);
      },
    });
  };
  const watched = watch(object, '');
  const unread = () =>
    visits.flatMap(({ value, path, read }) =>
      Object.keys(value)
        .filter((key) => !read.has(key))
        .map((key) => `${path}/${key}`),
    );
  return { watched, unread };
}
