import type { TestContext } from 'node:test';
import { agxOrin } from '../../libs/energy/testing/boards.js';
import { moving } from '../../libs/energy/testing/moving-board.js';
import { createLogger } from '../../libs/telemetry/log.js';
import { createRegistry, type Registry } from '../../libs/telemetry/metrics.js';
import { liveServer, type LiveServer } from '../../services/server/testing/live-server.js';

/** A server that has all there is to measure: the meter of an AGX Orin whose values move, an objective, shadowing. */
export async function everythingOn(context: TestContext): Promise<LiveServer & { readonly registry: Registry }> {
  const board = agxOrin(6);
  await moving(board, context);
  const registry = createRegistry();
  const options = {
    energyRoot: board.root,
    energySampleHz: 50,
    latencySlo: [{ model: null, ms: 1000 }],
    shadow: 1,
  };
  const live = await liveServer(options, {}, createLogger('test', 'silent'), registry);
  context.after(() => live.stop());
  return { ...live, registry };
}
