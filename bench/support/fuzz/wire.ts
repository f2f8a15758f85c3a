/** Calls whose messages are bytes, so that they can be anything. */
import { type CallOptions, Client, credentials, status } from '@grpc/grpc-js';

/** What became of a request: a name of gRPC's, or of what was seen where no status came. */
export interface Answer {
  readonly code: string;
  readonly details: string;
  readonly messages: readonly Uint8Array[];
}

export interface Sending {
  readonly path: string;
  /** Whether client and server may send several messages. */
  readonly stream: boolean;
  readonly messages: readonly Uint8Array[];
  readonly deadlineMs?: number;
  readonly cancelAfterMs?: number;
  /** Ends the call itself after so many answers: of those that have no end. */
  readonly answersWanted?: number;
  /** Milliseconds that nothing is read. */
  readonly readLateMs?: number;
  /** Leaves the client's side open. */
  readonly halfOpen?: boolean;
}

/** A request that has no answer within this time hangs. */
export const patienceMs = 120_000;

export interface Wire {
  send(sending: Sending): Promise<Answer>;
  close(): void;
}

const identity = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export function openWire(port: number): Wire {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
    'grpc.use_local_subchannel_pool': 1,
  });
  return { send: (sending) => send(client, sending), close: () => client.close() };
}

function send(client: Client, sending: Sending): Promise<Answer> {
  const { path, messages, deadlineMs, cancelAfterMs, answersWanted = Infinity, readLateMs, halfOpen } = sending;
  return new Promise((resolve) => {
    const received: Uint8Array[] = [];
    const timers: NodeJS.Timeout[] = [];
    const settle = (code: string, details: string): void => {
      timers.forEach(clearTimeout);
      resolve({ code, details, messages: received });
    };
    const options: CallOptions = deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs };
    const call = client.makeBidiStreamRequest(path, identity, (bytes) => bytes, options);
    timers.push(setTimeout(() => (settle('HANG', `no answer within ${patienceMs} ms`), call.cancel()), patienceMs));
    if (cancelAfterMs !== undefined) timers.push(setTimeout(() => call.cancel(), cancelAfterMs));
    call.on('status', ({ code, details }) => settle(status[code], details));
    call.on('error', () => undefined);
    const read = (): void => {
      call.on('data', (message: Uint8Array) => {
        received.push(message);
        if (received.length >= answersWanted) call.cancel();
      });
    };
    if (readLateMs === undefined) read();
    else timers.push(setTimeout(read, readLateMs));
    for (const message of messages) call.write(message);
    if (!halfOpen) call.end();
  });
}
