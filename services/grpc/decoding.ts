import type { DescMessage } from '@bufbuild/protobuf';
import { type CallContext, ServerError, type ServerMiddlewareCall, Status } from 'nice-grpc';
import { contracts } from './contracts.js';
import { NotText, weightOf } from './message-weight.js';

/** What a message is decoded to that is refused. */
class Undecodable {
  constructor(
    readonly code: Status,
    readonly details: string,
  ) {}
}

interface MessageType {
  decode(bytes: Uint8Array): unknown;
}

interface ServiceDefinition {
  readonly fullName: string;
  readonly methods: Readonly<Record<string, { readonly name: string; readonly requestType: unknown }>>;
}

/**
 * The definition with requests that are decoded with care: what is no message of its kind is INVALID_ARGUMENT, where grpc-js says
 * INTERNAL as of a defect of the server's; what would take more than `maxDecodedBytes` of memory is RESOURCE_EXHAUSTED, undecoded.
 * Goes together with {@link refuseUndecodable}.
 */
export function decodedWithCare<Definition extends ServiceDefinition>(
  definition: Definition,
  maxDecodedBytes: number,
): Definition {
  const service = contracts.getService(definition.fullName);
  const methods = Object.entries(definition.methods).map(([key, method]) => {
    const kind = service?.methods.find(({ name }) => name === method.name)?.input;
    const requestType = method.requestType as MessageType;
    const decode = (bytes: Uint8Array): unknown => decodeRequest(requestType, bytes, kind, maxDecodedBytes);
    return [key, { ...method, requestType: { ...requestType, decode } }] as const;
  });
  return { ...definition, methods: Object.fromEntries(methods) };
}

function decodeRequest(type: MessageType, bytes: Uint8Array, kind: DescMessage | undefined, limit: number): unknown {
  try {
    if (kind !== undefined && weightOf(bytes, kind, limit) > limit) {
      const details = `the request would take more than ${limit} bytes of memory once decoded: send raw contents, and fewer fields`;
      return new Undecodable(Status.RESOURCE_EXHAUSTED, details);
    }
    return type.decode(bytes);
  } catch (thrown) {
    if (thrown instanceof NotText)
      return new Undecodable(Status.INVALID_ARGUMENT, `field ${thrown.field}: bytes that are not UTF-8 text`);
    // protobuf's own words tell of offsets and of the code; nobody who sends a message by hand is helped by them.
    return new Undecodable(Status.INVALID_ARGUMENT, `the request is no ${kind?.typeName ?? 'message of its type'}`);
  }
}

/**
 * Server middleware of nice-grpc: a call whose request could not be decoded ends by that. In a stream the handler learns of it where it
 * reads, as of any error of the stream: a status that is sent beside a handler that goes on answering may never reach the client.
 */
export function refuseUndecodable<Request, Response>(
  call: ServerMiddlewareCall<Request, Response>,
  context: CallContext,
): AsyncGenerator<Response, Response | void, undefined> {
  if (call.requestStream) return call.next(decodable(call.request), context);
  return call.next(checked(call.request), context);
}

/** No generator: its `return` would wait for a message that is being waited for. */
function decodable<Request>(requests: AsyncIterable<Request>): AsyncIterable<Request> {
  return {
    [Symbol.asyncIterator]() {
      const iterator = requests[Symbol.asyncIterator]();
      return {
        async next() {
          const read = await iterator.next();
          if (read.done !== true) checked(read.value);
          return read;
        },
        async return() {
          await iterator.return?.();
          return { done: true, value: undefined };
        },
      };
    },
  };
}

function checked<Request>(request: Request): Request {
  if (request instanceof Undecodable) throw new ServerError(request.code, request.details);
  return request;
}
