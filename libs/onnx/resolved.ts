import { readFileSync } from 'node:fs';
import type { Graph, Tensor } from './ir.js';

/** The graph with every external tensor's bytes read in: two graphs of the same content are deeply equal, wherever it lies. */
export function resolved(graph: Graph): Graph {
  const tensor = (each: Tensor): Tensor => {
    if (each.data.kind === 'inline')
      return { ...each, data: { kind: 'inline', bytes: Uint8Array.from(each.data.bytes) } };
    const { file, offset, length } = each.data;
    return {
      ...each,
      data: { kind: 'inline', bytes: Uint8Array.from(readFileSync(file).subarray(offset, offset + length)) },
    };
  };
  return {
    ...graph,
    initializers: graph.initializers.map((each) => ({ ...each, tensor: tensor(each.tensor) })),
    nodes: graph.nodes.map((node) => ({
      ...node,
      attributes: Object.fromEntries(
        Object.entries(node.attributes).map(([name, attribute]) => [
          name,
          attribute.kind === 'tensor' ? { ...attribute, value: tensor(attribute.value) } : attribute,
        ]),
      ),
    })),
  };
}
