import { internal } from '../errors/error.js';
import type { Attribute, Domain, ElementType, Graph, Initializer, Node, Shape, Tensor, Value } from './ir.js';
import { floatTensor, integerTensor } from './tensor.js';

/** The float type that a graph computes in; float64 is for checking rules where the runtime has the kernels. */
export type FloatType = 'float32' | 'float64';

/** What one output of a node is going to be. */
export interface ValueInfo {
  readonly type: ElementType;
  readonly shape: Shape;
  readonly sequence?: true;
  /** A name by which a caller binds it to memory of its own; default one made of the operator's. (A Value is a ValueInfo, and its name is not meant.) */
  readonly fixedName?: string;
}

/** A node before it has outputs. */
export interface NodeRequest {
  readonly op: string;
  readonly domain?: Domain;
  readonly inputs: readonly (Value | undefined)[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** An optional output that is left out is undefined. */
  readonly outputs: readonly (ValueInfo | undefined)[];
}

/** Stands for an optional output that nobody asked for; ONNX writes it as an empty name. */
const leftOut: Value = { name: '', type: 'float32', shape: [] };

/**
 * Builds a graph node by node. Equal nodes over equal inputs are one node (hash-consing), so transformations may ask for
 * the same sub-expression as often as they like. The operators are functions of `ops/`, which infer the shapes.
 */
export class GraphBuilder {
  private readonly inputs: Value[] = [];
  private readonly initializers = new Map<Value, Initializer>();
  private readonly nodes: Node[] = [];
  private readonly producers = new Map<Value, Node>();
  private readonly interned = new Map<string, readonly Value[]>();
  private readonly names = new Set<string>();
  private counter = 0;

  constructor(
    readonly name: string,
    readonly float: FloatType = 'float32',
  ) {}

  /** A graph input. */
  input(name: string, type: ElementType, shape: Shape): Value {
    const value = this.value(name, { type, shape });
    this.inputs.push(value);
    return value;
  }

  /** A named weight. */
  initializer(name: string, tensor: Tensor): Value {
    const value = this.value(name, { type: tensor.type, shape: tensor.dims });
    this.initializers.set(value, { value, tensor });
    return value;
  }

  /** A constant of the graph's float type; equal constants are one. */
  constant(values: ArrayLike<number> | number, dims: readonly number[] = []): Value {
    const list = typeof values === 'number' ? [values] : values;
    return this.internConstant(floatTensor(this.float, dims, list));
  }

  /** An int64 constant (shapes, axes, indices); a scalar by default for a number, a vector for a list. */
  integers(values: readonly number[] | number, dims?: readonly number[]): Value {
    const list = typeof values === 'number' ? [values] : values;
    return this.internConstant(integerTensor(dims ?? (typeof values === 'number' ? [] : [list.length]), list));
  }

  /** The constant's tensor, if the value is an initializer. */
  tensorOf(value: Value): Tensor | undefined {
    return this.initializers.get(value)?.tensor;
  }

  /** The node that makes a value; undefined for inputs and initializers. */
  producer(value: Value): Node | undefined {
    return this.producers.get(value);
  }

  /** All nodes so far, in topological order. */
  get allNodes(): readonly Node[] {
    return this.nodes;
  }

  /** Adds a node, or finds the equal one that is there. */
  emit(request: NodeRequest): readonly Value[] {
    const { op, domain = '', inputs, attributes = {}, outputs } = request;
    const key = `${domain}:${op}(${inputs.map((v) => v?.name ?? '').join(',')})${attributeKey(attributes)}#${outputs.length}`;
    const known = this.interned.get(key);
    if (known) return known;
    const index = this.counter++;
    const values = outputs.map((info, i) =>
      info ? this.value(info.fixedName ?? `${op}_${index}${i ? `_${i}` : ''}`, info) : leftOut,
    );
    const node: Node = { op, domain, name: `${op}_${index}`, inputs, outputs: values, attributes };
    this.nodes.push(node);
    for (const value of values) if (value !== leftOut) this.producers.set(value, node);
    this.interned.set(key, values);
    return values;
  }

  /** A node with one output. */
  emitOne(request: Omit<NodeRequest, 'outputs'> & { readonly output: ValueInfo }): Value {
    const [value] = this.emit({ ...request, outputs: [request.output] });
    if (!value) throw internal(`${request.op} has no output`);
    return value;
  }

  /** Gives a value the name by which a caller fetches it (an Identity node, removed by no pass). */
  named(name: string, value: Value): Value {
    const output = this.value(name, value);
    const node: Node = { op: 'Identity', domain: '', name, inputs: [value], outputs: [output], attributes: {} };
    this.nodes.push(node);
    this.producers.set(output, node);
    return output;
  }

  /** The graph of these outputs: only the nodes, initializers and inputs that they need (inputs all, unless `pruneInputs`). */
  build(outputs: readonly Value[], options: { pruneInputs?: boolean } = {}): Graph {
    const needed = new Set<Value>(outputs);
    const kept: Node[] = [];
    for (let i = this.nodes.length - 1; i >= 0; i--) {
      const node = this.nodes[i]!;
      if (!node.outputs.some((v) => needed.has(v))) continue;
      kept.push(node);
      for (const v of node.inputs) if (v) needed.add(v);
    }
    return {
      name: this.name,
      inputs: options.pruneInputs ? this.inputs.filter((v) => needed.has(v)) : [...this.inputs],
      outputs: [...outputs],
      initializers: [...this.initializers.values()].filter((i) => needed.has(i.value)),
      nodes: kept.reverse(),
    };
  }

  private internConstant(tensor: Tensor): Value {
    if (tensor.data.kind !== 'inline') throw internal('a constant lies in memory');
    const key = `constant:${tensor.type}[${tensor.dims.join(',')}]${Buffer.from(tensor.data.bytes).toString('base64')}`;
    const known = this.interned.get(key);
    if (known) return known[0]!;
    const value = this.initializer(`constant_${this.counter++}`, tensor);
    this.interned.set(key, [value]);
    return value;
  }

  private value(name: string, info: ValueInfo): Value {
    if (this.names.has(name)) throw internal(`graph ${this.name} has two values called ${name}`);
    this.names.add(name);
    const { type, shape, sequence } = info;
    return { name, type, shape: [...shape], ...(sequence ? { sequence } : {}) };
  }
}

function attributeKey(attributes: Readonly<Record<string, Attribute>>): string {
  return Object.keys(attributes)
    .sort()
    .map((name) => `${name}=${JSON.stringify(attributes[name])}`)
    .join(';');
}
