import { connect, createServer, type Socket } from 'node:net';

/** A way to a TCP server that can be made to swallow everything, as a network does that drops packets: nobody is told, nothing is closed. */
export interface SilentProxy {
  readonly port: number;
  /** From now on nothing passes, on the connections that there are and on new ones. */
  silence(): void;
  /** New connections pass again; those from before stay dead. */
  restore(): void;
  close(): void;
}

export function silentProxy(target: number): Promise<SilentProxy> {
  const sockets = new Set<Socket>();
  let silent = false;
  const server = createServer((client) => {
    const upstream = connect(target, '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
    }
    if (silent) return;
    client.pipe(upstream);
    upstream.pipe(client);
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      resolve({
        port: (server.address() as { port: number }).port,
        silence() {
          silent = true;
          for (const socket of sockets) socket.unpipe().pause();
        },
        restore: () => void (silent = false),
        close() {
          for (const socket of sockets) socket.destroy();
          server.close();
        },
      });
    });
  });
}
