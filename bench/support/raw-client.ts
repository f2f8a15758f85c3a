/** gRPC as bare as grpc-js has it: messages are the bytes that they are, so that both sides of a comparison pay the same for them. */
import { Client, credentials, Metadata, Server, ServerCredentials, type ServiceError, status } from '@grpc/grpc-js';

const whole = (bytes: Buffer): Buffer => bytes;
const large = 256 * 1024 * 1024;
const limits = { 'grpc.max_receive_message_length': large, 'grpc.max_send_message_length': large };

export interface Reply {
  readonly ms: number;
  /** Of gRPC. */
  readonly code: status;
  readonly bytes: Buffer | undefined;
}

export interface RawClient {
  /** One call; a failure is a reply with its code. */
  call(path: string, request: Buffer): Promise<Reply>;
  close(): void;
}

export function rawClient(address: string): RawClient {
  const client = new Client(address, credentials.createInsecure(), limits);
  return {
    call: (path, request) =>
      new Promise((resolve) => {
        const begun = performance.now();
        const answered = (error: ServiceError | null, bytes?: Buffer): void =>
          resolve({ ms: performance.now() - begun, code: error?.code ?? status.OK, bytes });
        client.makeUnaryRequest(path, whole, whole, request, new Metadata(), answered);
      }),
    close: () => client.close(),
  };
}

export const echoPath = '/bench.Bare/Echo';
export const refusePath = '/bench.Bare/Refuse';

/** A server of grpc-js alone that sends back what it gets, or refuses it. Resolves to its port. */
export function startBareServer(): Promise<number> {
  const server = new Server(limits);
  const method = (path: string) => ({
    path,
    requestStream: false,
    responseStream: false,
    requestSerialize: whole,
    requestDeserialize: whole,
    responseSerialize: whole,
    responseDeserialize: whole,
  });
  server.addService(
    { echo: method(echoPath), refuse: method(refusePath) },
    {
      echo: (call: { request: Buffer }, done: (error: null, reply: Buffer) => void) => done(null, call.request),
      refuse: (_call: unknown, done: (error: { code: number; details: string }) => void) =>
        done({ code: status.RESOURCE_EXHAUSTED, details: 'refused' }),
    },
  );
  return new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    );
  });
}
