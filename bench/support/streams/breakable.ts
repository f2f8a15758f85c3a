/** A connection that can be torn in the middle, as a network does it: a proxy whose sockets are destroyed. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface Breakable {
  readonly address: string;
  /** Destroys what is connected, and takes no more. */
  tear(): void;
}

export async function breakable(target: string): Promise<Breakable> {
  const [host, port] = target.split(':');
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    const other = connect({ host: host!, port: Number(port) });
    for (const each of [socket, other]) {
      sockets.add(each);
      each.on('error', () => undefined);
      each.on('close', () => [socket, other].forEach((either) => either.destroy()));
    }
    socket.pipe(other).pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    tear() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
