import { HeartwoodError } from '../../../libs/errors/error.js';
import type { InferenceClient } from '../../server/client.js';
import type { Child } from './child.js';

/** Waits until the server, which polls the repository by itself, answers for these versions. */
export async function waitForVersions(
  client: InferenceClient,
  server: Child,
  model: string,
  versions: readonly number[],
  signal: AbortSignal,
): Promise<void> {
  let ended: string | undefined;
  void server.ended.then((how) => (ended = how));
  const deadline = performance.now() + 60_000;
  for (const version of versions) {
    while (!(await client.modelReady(model, version).catch(() => false))) {
      signal.throwIfAborted();
      if (ended !== undefined) throw new HeartwoodError('UNAVAILABLE', ended);
      if (performance.now() > deadline) {
        throw new HeartwoodError(
          'DEADLINE_EXCEEDED',
          `the server did not take up version ${version} of ${model} within a minute`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
