import type { Catalog } from './catalog.js';

/**
 * What health says of models and versions: `MODEL/VERSION` could take a request when it is loaded, `MODEL` when the version that a
 * request without one goes to is.
 */
export function healthOf(catalog: Catalog): ReadonlyMap<string, boolean> {
  const states = new Map<string, boolean>();
  for (const { model, version, state } of catalog.list()) {
    const ready = state.kind === 'ready';
    states.set(`${model}/${version}`, ready);
    if (catalog.default(model) === version || !states.has(model)) states.set(model, ready);
  }
  return states;
}
