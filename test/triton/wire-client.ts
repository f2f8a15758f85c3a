/** A client made of the table in contract.ts alone, by protobufjs and grpc-js: it shares no code with the server or its generated messages. */
import { type ClientDuplexStream, Client, credentials, type ServiceError } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { contractProto } from './contract-proto.js';
import { calls, streamCall } from './contract.js';

/** The messages of the contract in the package `inference`. */
export function contractRoot(): protobuf.Root {
  const { root } = protobuf.parse(contractProto(), new protobuf.Root(), { keepCase: true });
  root.resolveAll();
  return root;
}

/** Fields by their names in the contract; integers of 64 bits as text. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- messages of a contract that is read at run time have no type
export type Message = Record<string, any>;

export class WireClient {
  readonly #root = contractRoot();
  readonly #client: Client;

  constructor(address: string) {
    this.#client = new Client(address, credentials.createInsecure());
  }

  /** Rejects with grpc-js's ServiceError. */
  call(name: string, request: Message = {}): Promise<Message> {
    const { path, write, read } = this.#codec(name, `${name}Request`, `${name}Response`);
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(path, write, read, request, (error: ServiceError | null, answer?: Message) =>
        error ? reject(error) : resolve(answer ?? {}),
      );
    });
  }

  /** Sends all the requests, then collects the answers. */
  async stream(requests: readonly Message[]): Promise<Message[]> {
    const { path, write, read } = this.#codec(streamCall.name, streamCall.request, streamCall.response);
    const stream: ClientDuplexStream<Message, Message> = this.#client.makeBidiStreamRequest(path, write, read);
    for (const request of requests) stream.write(request);
    stream.end();
    const answers: Message[] = [];
    for await (const answer of stream) answers.push(answer as Message);
    return answers;
  }

  close(): void {
    this.#client.close();
  }

  #codec(name: string, request: string, response: string) {
    if (!calls.includes(name)) throw new Error(`the contract has no call ${name}`);
    const requestType = this.#root.lookupType(`inference.${request}`);
    const responseType = this.#root.lookupType(`inference.${response}`);
    const write = (message: Message): Buffer => {
      const wrong = requestType.verify(message);
      if (wrong !== null) throw new Error(`${request}: ${wrong}`);
      return Buffer.from(requestType.encode(requestType.fromObject(message)).finish());
    };
    const read = (bytes: Buffer): Message =>
      responseType.toObject(responseType.decode(bytes), { longs: String, enums: String, defaults: true, oneofs: true });
    return { path: `/inference.GRPCInferenceService/${name}`, write, read };
  }
}
