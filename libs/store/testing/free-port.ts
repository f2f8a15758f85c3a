import { once } from 'node:events';
import { createServer } from 'node:net';

/** Below the ports that the system gives out by itself: one of those might be somebody else's by the time that it is wanted. */
const [least, most] = [10_000, 32_000];

/** A TCP port of 127.0.0.1 that is free, for a server that has to be told its port, or comes back to it. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = least + Math.floor(Math.random() * (most - least));
    const probe = createServer().listen(port, '127.0.0.1');
    const free = await once(probe, 'listening').then(
      () => true,
      () => false,
    );
    if (!free) continue;
    probe.close();
    await once(probe, 'close');
    return port;
  }
}
