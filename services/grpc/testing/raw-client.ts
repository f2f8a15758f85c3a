import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { once } from 'node:events';

/** A client that speaks gRPC's frames by hand, since no proper one misbehaves as it can. */
export interface RawClient {
  readonly session: ClientHttp2Session;
  /** Opens a call; what is written to the stream goes out as it is. */
  open(path: string, headers?: Readonly<Record<string, string>>): ClientHttp2Stream;
  close(): void;
}

/** @param window bytes that the server may send before it is read; with 0 nothing is ever read */
export async function rawClient(address: string, window = 65_535): Promise<RawClient> {
  const session = connect(`http://${address}`, { settings: { initialWindowSize: window } });
  session.on('error', () => undefined);
  await once(session, 'remoteSettings');
  return {
    session,
    open: (path, headers = {}) => {
      const stream = session.request({
        [constants.HTTP2_HEADER_METHOD]: 'POST',
        [constants.HTTP2_HEADER_PATH]: path,
        [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
        te: 'trailers',
        ...headers,
      });
      stream.on('error', () => undefined);
      return stream;
    },
    close: () => session.destroy(),
  };
}

/** A message as gRPC frames it. */
export function framed(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** The number of the status that a call ends with; undefined for one that is cut off without. */
export function statusOf(stream: ClientHttp2Stream): Promise<number | undefined> {
  return new Promise((resolve) => {
    const note = (headers: Record<string, unknown>): void => {
      if (headers['grpc-status'] !== undefined) resolve(Number(headers['grpc-status']));
    };
    stream.on('response', note).on('trailers', note);
    stream.on('close', () => resolve(undefined));
    stream.resume();
  });
}
