import type { DescMessage } from '@bufbuild/protobuf';
import { ServerInterceptingCall, status } from '@grpc/grpc-js';
import type { CallLayer } from './call-layer.js';
import { contracts } from './contracts.js';
import { weightOf } from './message-weight.js';

/** What a message is decoded to that is refused. */
class Undecodable {
  constructor(
    readonly code: status,
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
      return new Undecodable(status.RESOURCE_EXHAUSTED, details);
    }
    return type.decode(bytes);
  } catch {
    // protobuf's own words tell of offsets and of the code; nobody who sends a message by hand is helped by them.
    return new Undecodable(status.INVALID_ARGUMENT, `the request is no ${kind?.typeName ?? 'message of its type'}`);
  }
}

/** Ends calls whose request could not be decoded; above it no handler sees one. */
export const refuseUndecodable: CallLayer = (call) =>
  new ServerInterceptingCall(call, {
    start: (next) =>
      next({
        onReceiveMessage: (message: unknown, pass) => {
          if (message instanceof Undecodable) call.sendStatus({ code: message.code, details: message.details });
          else pass(message);
        },
      }),
  });
