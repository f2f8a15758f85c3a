import { parentPort } from 'node:worker_threads';

/** The worker's end of a carrier. */
export interface HostPort<Request, Reply> {
  onMessage(handle: (request: Request) => void): void;
  post(reply: Reply, transfer: readonly ArrayBuffer[]): void;
  /** Lets go, so that the thread or process ends by itself: terminating it could strike a run. */
  close(): void;
}

/** For the entry of a worker, whatever it runs in. Throws where the file was not started as a worker. */
export function hostPort<Request, Reply>(): HostPort<Request, Reply> {
  const port = parentPort;
  if (port !== null) {
    return {
      onMessage: (handle) => void port.on('message', handle),
      post: (reply, transfer) => port.postMessage(reply, [...transfer]),
      close: () => port.close(),
    };
  }
  if (process.send === undefined) throw new Error('this file runs as a worker only');
  // Ctrl-C in a terminal reaches every process of the group: what is under way ends when the parent has drained, or is gone.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined);
  return {
    onMessage: (handle) => void process.on('message', handle as (message: unknown) => void),
    post: (reply) => void process.send?.(reply),
    close: () => process.disconnect(),
  };
}
