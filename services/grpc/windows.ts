import type { ServerHttp2Session } from 'node:http2';
import type { CallLayer } from './call-layer.js';

/** Bytes that a stream, and a connection, may send ahead of our reading; a frame of a message. HTTP/2's own are 64 KiB and 16 KiB. */
const streamWindow = 1024 * 1024;
export const connectionWindow = 4 * 1024 * 1024;
const frame = 256 * 1024;

/**
 * Widens the windows of each connection at its first call: HTTP/2's 64 KiB for all streams together make every tensor of some
 * hundred kilobytes wait for a dozen round trips through the event loop, the more so the more requests share the connection.
 */
export function widenWindows(): CallLayer {
  const widened = new WeakSet<object>();
  return (call, { stream }) => {
    const session = stream.session as ServerHttp2Session | undefined;
    if (session && !widened.has(session) && !session.destroyed) {
      widened.add(session);
      session.settings({ initialWindowSize: streamWindow, maxFrameSize: frame });
      session.setLocalWindowSize(connectionWindow);
    }
    return call as ReturnType<CallLayer>;
  };
}
