import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';

/** Node's word that some server of this process has taken a connection. */
const taken = 'net.server.socket';

/** The bound counts as left behind, and reaching it is told again, once so much of it is free. */
const relieved = 0.9;

/**
 * Bounds the connections of a port: what comes beyond `most` is closed at once, before it costs more than its socket. grpc-js has no such
 * setting and keeps its HTTP/2 servers to itself, so it is done by what Node tells of them.
 * @param full told when a connection is the first to be closed
 * @returns ends the watch
 */
export function limitConnections(port: number, most: number, full: () => void): () => void {
  const open = new Set<Socket>();
  let told = false;
  const watch = (message: unknown): void => {
    const { socket } = message as { readonly socket: Socket };
    if (socket.localPort !== port) return;
    if (open.size < most) {
      open.add(socket);
      socket.once('close', () => {
        open.delete(socket);
        if (open.size <= relieved * most) told = false;
      });
      return;
    }
    socket.destroy();
    if (!told) full();
    told = true;
  };
  subscribe(taken, watch);
  return () => void unsubscribe(taken, watch);
}
