import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Graph } from '../onnx/ir.js';
import { writeModel } from '../onnx/write.js';
import type { Runtime, Session, SessionOptions } from './runtime.js';

/**
 * A session of a graph that is not to be kept: its file (with hard links to the weights it refers to) lies in `workDirectory`, which
 * should be on the file system of the weights, until the session is disposed of.
 */
export async function loadGraph(
  runtime: Runtime,
  graph: Graph,
  workDirectory: string,
  options: SessionOptions = {},
): Promise<Session> {
  await mkdir(workDirectory, { recursive: true });
  const folder = await mkdtemp(join(workDirectory, 'graph-'));
  const remove = () => rm(folder, { recursive: true, force: true });
  try {
    const file = join(folder, 'model.onnx');
    await writeModel(graph, file);
    const session = await runtime.load(file, options);
    return {
      inputs: session.inputs,
      outputs: session.outputs,
      run: session.run.bind(session),
      allocate: session.allocate.bind(session),
      instances: session.instances,
      get provider() {
        return session.provider;
      },
      broken: session.broken,
      runTimed: session.runTimed.bind(session),
      runLate: session.runLate.bind(session),
      check: session.check.bind(session),
      async dispose() {
        await session.dispose();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}
