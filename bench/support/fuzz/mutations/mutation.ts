/** How the folder of a version is tampered with. */
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type GraphProto, ModelProto } from '../../../../libs/onnx/gen/onnx.js';
import type { Draw } from '../random.js';

export const modelFile = 'model.onnx';
export const manifestFile = 'heartwood.json';

/** Does something to a version's folder. */
export interface Mutation {
  readonly name: string;
  readonly mutate: (directory: string, draw: Draw) => Promise<void>;
}

type Bytes = (draw: Draw, bytes: Uint8Array) => Uint8Array;

export async function rewrite(file: string, change: (bytes: Uint8Array) => Uint8Array | string): Promise<void> {
  const changed = change(await readFile(file));
  // Files of a version may be hard links, which a write in place would change in both places.
  await rm(file);
  await writeFile(file, changed);
}

/** A change of the bytes of one file of the folder. @param pick which; undefined: the model's */
export function ofBytes(
  name: string,
  pick: (files: readonly string[], draw: Draw) => string | undefined,
  change: Bytes,
): Mutation {
  return {
    name,
    async mutate(directory, draw) {
      const files = (await readdir(directory)).sort();
      const file = pick(files, draw) ?? modelFile;
      await rewrite(join(directory, file), (bytes) => change(draw, bytes));
    },
  };
}

/** A change of the protobuf that leaves it one. */
export function ofGraph(name: string, change: (graph: GraphProto, draw: Draw, model: ModelProto) => void): Mutation {
  return {
    name: `graph: ${name}`,
    mutate: (directory, draw) =>
      rewrite(join(directory, modelFile), (bytes) => {
        const model = ModelProto.decode(bytes);
        change(model.graph!, draw, model);
        return ModelProto.encode(model).finish();
      }),
  };
}
